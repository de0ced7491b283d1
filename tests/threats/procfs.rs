//! What is written through `/proc`: sysctls and labels.

use crate::canary::Canary;
use crate::support::{Host, Peer, peer, push};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
#[ignore = "needs root: run scripts/test"]
fn sysctl_names_cannot_climb() {
    let host = Host::new();
    for name in ["net.ipv4.../../../kernel/core_pattern", "net/../kernel.core_pattern"] {
        let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
        let c = host.sleeper_with(|s| s["linux"]["sysctl"] = json!({ name: "x" }));
        let out = c.create_call(&[]).output();
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before, "{name}");
        if peer() == Peer::Carob {
            assert_eq!(out.code, 1, "{name}: {out:?}");
        } else if out.code == 0 {
            host.adopt(c.pid());
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_joined_namespace_that_is_the_hosts_takes_no_sysctl() {
    let host = Host::new();
    let key = "net.ipv4.ip_local_port_range";
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    let before = fs::read(file).unwrap();
    let c = host.sleeper_with(|s| {
        let list = s["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "network");
        list.push(json!({"type": "network", "path": "/proc/self/ns/net"}));
        s["linux"]["sysctl"] = json!({key: "1024 2048"});
    });
    c.create_call(&[]).output().fails(1, &["ip_local_port_range"]);
    assert_eq!(fs::read(file).unwrap(), before);
}

/// CVE-2019-16884: what is written through `/proc` later would go to the fake.
#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_but_procfs_is_mounted_on_proc() {
    let Some(host) = Host::only_carob("runc 1.1.5 takes more") else { return };
    let volume = host.dir().join("volume");
    fs::create_dir_all(volume.join("self/attr")).unwrap();
    fs::write(volume.join("self/attr/exec"), "").unwrap();
    let rootfs = host.own_rootfs();
    symlink("/proc", rootfs.join("data/alias")).unwrap();
    symlink("../proc/self", rootfs.join("data/relative")).unwrap();
    for destination in [
        "/proc",
        "/proc/self/attr",
        "/proc/1",
        "/proc/sys/kernel",
        "/data/../proc",
        "/data/alias",
        "/data/alias/sys",
        "/data/relative/attr",
    ] {
        for kind in ["bind", "tmpfs"] {
            let c = host.sleeper_with(|s| {
                s["root"]["path"] = json!(rootfs);
                let options = if kind == "bind" { json!(["bind"]) } else { json!([]) };
                push(
                    s,
                    "/mounts",
                    json!({"destination": destination, "type": kind,
                                          "source": volume, "options": options}),
                );
            });
            c.create_call(&[]).output().fails(1, &["/proc"]);
        }
    }
}

/// CVE-2025-52881, CVE-2025-62596: sysctls (and labels, by the same descriptor) of a container in
/// a mount namespace of others, whose `/proc` is whatever they have made of it.
#[test]
#[ignore = "needs root: run scripts/test"]
fn sysctls_are_not_written_through_the_proc_of_others() {
    let Some(host) = Host::only_carob("runc 1.1.5 writes where the fake leads") else { return };
    let canary = Canary::new(&host);
    // The first container hides its /proc behind files of its own.
    let first = host.sh_with(
        "mkdir -p /tmp/p/sys/net/ipv4 /tmp/p/self/fd && touch /tmp/p/sys/net/ipv4/ip_default_ttl && \
         mount -t tmpfs fake /proc && cp -r /tmp/p/* /proc/ && echo hidden; exec sleep 1000",
        |s| {
            s["root"]["readonly"] = json!(false);
            s["root"]["path"] = json!(host.own_rootfs());
            let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            s["process"]["capabilities"] =
                json!({"bounding": all, "permitted": all, "effective": all});
        },
    );
    first.run_detached().wait_output("hidden");
    let root = format!("/proc/{}/root", first.pid());
    let second = host.sh_with("true", |s| {
        s["linux"]["namespaces"] = json!([
            {"type": "mount", "path": format!("/proc/{}/ns/mnt", first.pid())},
            {"type": "network"}, {"type": "uts"}, {"type": "ipc"}, {"type": "pid"},
        ]);
        s["root"] = json!({"path": "/"});
        s["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
        s["mounts"] = json!([]);
        s["linux"]["maskedPaths"] = json!([]);
        s["linux"]["readonlyPaths"] = json!([]);
    });
    let out = second.run();
    let fake = format!("{root}/proc/sys/net/ipv4/ip_default_ttl");
    assert_eq!(fs::read_to_string(&fake).unwrap(), "", "written into the fake: {out:?}");
    canary.is_untouched(&out);
}
