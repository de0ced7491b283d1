//! linux.netDevices: devices of the host, here of a network namespace of the test, that a container
//! gets for itself.

use crate::support::call::Output;
use crate::support::{Container, Host, push};
use serde_json::{Value, json};

fn host() -> Option<Host> {
    Host::only_carob("runc 1.1 has no netDevices")
}

/// Runs the container in a network namespace that has `d0` with two addresses, and `d1`; says
/// afterwards what is left there, on standard error.
fn run(c: &Container) -> Output {
    let shell = "
        ip() { busybox ip \"$@\"; }
        ip link add d0 type veth peer name ignored
        ip link add d1 type veth peer name ignored
        ip addr add 192.0.2.1/24 dev d0
        ip -6 addr add 2001:db8::1/64 dev d0
        ip link set d0 up
        \"$@\"; status=$?
        ip addr >&2
        exit $status";
    c.bundle_verb("run", &[])
        .after(&format!("set -- unshare -n bash -c '{shell}' sh \"$@\""))
        .output()
}

fn shows<'h>(host: &'h Host, edit: impl FnOnce(&mut Value)) -> Container<'h> {
    host.sh_with("ip addr", edit)
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_device_moves_in_with_its_addresses_and_is_up() {
    let Some(host) = host() else { return };
    for user in [false, true] {
        let c = shows(&host, |s| {
            s["linux"]["netDevices"] = json!({"d0": {"name": "inside"}, "d1": {}});
            if user {
                push(s, "/linux/namespaces", json!({"type": "user"}));
                for map in ["uidMappings", "gidMappings"] {
                    s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                }
            }
        });
        let out = run(&c).ok();
        let (_, inside) = out.stdout.split_once(": inside@").unwrap();
        for seen in ["UP", "inet 192.0.2.1/24 ", "inet6 2001:db8::1/64 "] {
            assert!(inside.contains(seen), "{seen}: {out:?}");
        }
        let (_, second) = out.stdout.split_once(": d1@").unwrap();
        assert!(second.lines().next().unwrap().contains("UP"), "{out:?}");
        assert!(!out.stderr.contains(": d0@") && !out.stderr.contains(": d1@"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_kernel_completes_the_name_of_a_device() {
    let Some(host) = host() else { return };
    let c = shows(&host, |s| {
        s["linux"]["netDevices"] = json!({"d0": {"name": "eth%d"}, "d1": {"name": "eth%d"}});
    });
    let out = run(&c).ok();
    assert!(out.stdout.contains(": eth0@") && out.stdout.contains(": eth1@"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_device_of_a_container_that_is_not_made_is_back_as_it_was() {
    let Some(host) = host() else { return };
    let moved = json!({"d0": {"name": "inside"}, "d1": {}});
    let cases = [
        ("linux.netDevices.nosuch", json!({"d0": {}, "nosuch": {}}), None),
        (
            "linux.netDevices.d1: the container has a lo already",
            json!({"d0": {}, "d1": {"name": "lo"}}),
            None,
        ),
        ("linux.netDevices.lo: ", json!({"d0": {}, "lo": {"name": "mine"}}), None),
        // Long after the devices have moved.
        ("error running createRuntime hook #0", moved.clone(), Some("/hooks/createRuntime")),
        ("nosuchprogram", moved, None),
    ];
    for (said, devices, hook) in cases {
        let c = shows(&host, |s| {
            s["linux"]["netDevices"] = devices;
            if let Some(at) = hook {
                push(s, at, json!({"path": "/bin/false"}));
            } else if said == "nosuchprogram" {
                s["process"]["args"] = json!(["/nosuchprogram"]);
            }
        });
        let out = run(&c).fails(1, &[said]);
        let (_, back) = out.stderr.split_once(": d0@").unwrap_or_else(|| panic!("{said}: {out:?}"));
        for seen in ["UP", "inet 192.0.2.1/24 ", "inet6 2001:db8::1/64 "] {
            assert!(back.contains(seen), "{said}: {seen}: {out:?}");
        }
        let (_, second) = out.stderr.split_once(": d1@").unwrap();
        assert!(!second.lines().next().unwrap().contains("UP"), "{said}: {out:?}");
    }
}
