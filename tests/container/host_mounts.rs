//! A container without a mount namespace: its mounts are the host's, for as long as it is there.

use crate::support::{Container, Host, Peer, peer, push};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// In the caller's mount namespace, on a root file system that no other test has.
pub fn without_namespace(spec: &mut Value, rootfs: &Path) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
    spec["root"]["path"] = json!(rootfs);
    if peer() == Peer::Runc {
        // It refuses them here.
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    }
}

fn sleeper<'a>(host: &'a Host, edit: impl FnOnce(&mut Value)) -> Container<'a> {
    let rootfs = host.own_rootfs();
    host.sleeper_with(|spec| {
        without_namespace(spec, &rootfs);
        edit(spec);
    })
}

/// Mount points of this test.
fn mounts(host: &Host) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rows = table.lines().filter(|row| row.contains(&format!("{}/", host.marker())));
    rows.map(|row| row.split(' ').nth(4).unwrap().to_owned()).collect()
}

fn rootfs_of(c: &Container) -> String {
    c.state()["rootfs"].as_str().unwrap().to_owned()
}

fn mount(args: &[&str]) {
    let done = Command::new(args[0]).args(&args[1..]).status().unwrap();
    assert!(done.success(), "{args:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_is_in_the_callers_namespace_and_its_mounts_go_with_it() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let c = sleeper(&host, |s| {
        push(s, "/linux/maskedPaths", json!("/etc/passwd"));
        s["root"]["readonly"] = json!(true);
    });
    c.run_detached();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(fs::read_link(format!("/proc/{}/ns/mnt", c.pid())).unwrap(), own);
    let rootfs = rootfs_of(&c);
    assert!(mounts(&host).contains(&format!("{rootfs}/proc")), "{:?}", mounts(&host));
    let script =
        "ls -d /*; cat /etc/passwd; touch /made; readlink /proc/self/ns/mnt; cat /proc/1/comm";
    let out = c.exec_sh(script).ok();
    assert!(out.stdout.contains("/proc\n") && !out.stdout.contains("/boot"), "{out:?}");
    assert!(!out.stdout.contains("root:") && out.stderr.contains("Read-only"), "{out:?}");
    assert!(out.stdout.ends_with(&format!("{}\nsleep\n", own.display())), "{out:?}");
    c.delete_force().ok();
    assert_eq!(mounts(&host), [""; 0]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn one_that_runs_to_its_end_leaves_no_mount() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let rootfs = host.own_rootfs();
    let c = host
        .sh_with("grep -c rootfs /proc/self/mountinfo; exit 3", |s| without_namespace(s, &rootfs));
    assert_eq!(c.run().code, 3);
    assert_eq!(mounts(&host), [""; 0]);
    let c = sleeper(&host, |_| {});
    c.create();
    assert!(!mounts(&host).is_empty());
    c.delete_force().ok();
    assert_eq!(mounts(&host), [""; 0]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn one_that_is_not_made_after_all_leaves_no_mount() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let wrong: [fn(&mut Value); 3] = [
        |s| s["process"]["args"] = json!(["/nowhere"]),
        |s| push(s, "/mounts", json!({"destination": "/x", "type": "nofs", "source": "x"})),
        |s| s["hooks"]["createContainer"] = json!([{"path": "/bin/false"}]),
    ];
    for edit in wrong {
        let c = sleeper(&host, edit);
        for call in [c.create_call(&[]), c.bundle_verb("run", &[])] {
            assert_ne!(call.output().code, 0);
            assert_eq!(mounts(&host), [""; 0]);
        }
    }
}

/// The mounts of the host stay as they are, and so do those of namespaces that share them.
#[test]
#[ignore = "needs root: run scripts/test"]
fn where_everything_is_shared_nothing_stays_and_nothing_changes() {
    let Some(host) = Host::only_carob("runc makes the mounts of the host slaves") else { return };
    let rootfs = host.own_rootfs();
    let data = host.dir().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    let c = host.sh_with("echo inside $(ls /data/sub)", |s| {
        without_namespace(s, &rootfs);
        push(
            s,
            "/mounts",
            json!({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]}),
        );
        push(s, "/mounts", json!({"destination": "/data/sub", "type": "tmpfs", "source": "leak"}));
        s["hooks"]["poststart"] = json!([{"path": "/bin/bash", "args": ["bash", "-c",
            "grep -c 'data/sub .* leak ' /proc/self/mountinfo >$PLACE/seen"],
            "env": [format!("PLACE={}", host.dir().display())]}]);
    });
    let shell = format!(
        "cd {}
         mount -t tmpfs under {}/tmp
         mount --make-rshared /
         unshare -m --propagation unchanged sleep 1000 & peer=$!
         unshare -m --propagation slave sleep 1000 & slave=$!
         for p in $peer $slave; do
           while [ $(readlink /proc/$p/ns/mnt) = $(readlink /proc/self/ns/mnt) ]; do sleep 0.01; done
         done
         look() {{ for p in self $peer $slave; do cat /proc/$p/mountinfo >$1-$p; done; }}
         look before
         \"$@\"; code=$?
         look after
         for p in self $peer $slave; do diff before-$p after-$p >&2 || code=99; done
         kill $peer $slave; wait $peer $slave; umount {}/tmp; exit $code",
        host.dir().display(),
        rootfs.display(),
        rootfs.display()
    );
    let script = host.dir().join("script");
    fs::write(&script, shell).unwrap();
    let call = c.bundle_verb("run", &[]);
    let out = call.after(&format!("set -- unshare -m bash {} \"$@\"", script.display())).output();
    assert_eq!(out.ok().stdout, "inside\n");
    // The container's own, and not one in the directory that it has from the host.
    assert_eq!(fs::read_to_string(host.dir().join("seen")).unwrap(), "1\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_leaves_what_others_have_mounted_there() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let c = sleeper(&host, |_| {});
    c.run_detached();
    let rootfs = rootfs_of(&c);
    let old = numbers(&rootfs);
    mount(&["umount", "-l", &rootfs]);
    mount(&["umount", "-l", &rootfs]);
    // Until one has a number that was the container's: the kernel gives them out again.
    let mut others = 0;
    while others < 50 && !numbers(&rootfs).iter().any(|number| old.contains(number)) {
        mount(&["mount", "-t", "tmpfs", "others", &rootfs]);
        others += 1;
    }
    c.delete_force().ok();
    assert_eq!(mounts(&host), vec![rootfs.as_str(); others]);
    for _ in 0..others {
        mount(&["umount", &rootfs]);
    }
}

/// Of the mounts at this place.
fn numbers(point: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rows = table.lines().map(|row| row.split(' ').collect::<Vec<_>>());
    rows.filter(|row| row[4] == point).map(|row| row[0].to_owned()).collect()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_root_that_others_have_covered_is_told_and_can_be_deleted_after_that() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let c = sleeper(&host, |_| {});
    c.run_detached();
    let rootfs = rootfs_of(&c);
    mount(&["mount", "-t", "tmpfs", "others", &rootfs]);
    c.delete_force().fails(1, &[&rootfs, "something else is mounted on the root"]);
    mount(&["umount", &rootfs]);
    c.delete_force().ok();
    assert_eq!(mounts(&host), [""; 0]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn two_on_one_root_are_deleted_from_the_top() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let rootfs = host.own_rootfs();
    let [below, above] = [(); 2].map(|()| host.sleeper_with(|s| without_namespace(s, &rootfs)));
    below.run_detached();
    above.run_detached();
    below.delete_force().fails(1, &["something else is mounted on the root"]);
    assert_eq!(above.exec(&["ls", "/proc/self/ns/mnt"]).ok().text(), "/proc/self/ns/mnt");
    above.delete_force().ok();
    below.delete_force().ok();
    assert_eq!(mounts(&host), [""; 0]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_in_another_namespace_says_where_to_delete() {
    let Some(host) = Host::only_carob("runc leaves the mounts") else { return };
    let c = sleeper(&host, |_| {});
    c.run_detached();
    let elsewhere = c.verb("delete", &["--force"]).after("set -- unshare -m \"$@\"").output();
    elsewhere.fails(1, &[&rootfs_of(&c), "nsenter -t "]);
    c.delete_force().ok();
    assert_eq!(mounts(&host), [""; 0]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_cannot_be_undone_or_mounted_is_refused() {
    let Some(host) = Host::only_carob("runc says it in other words") else { return };
    let link = host.dir().join("link");
    std::os::unix::fs::symlink("/", &link).unwrap();
    for path in [Path::new("/"), &link] {
        let c = sleeper(&host, |s| s["root"]["path"] = json!(path));
        c.create_call(&[]).output().fails(1, &["root.path", "host's own root"]);
    }
    let c = sleeper(&host, |s| {
        push(s, "/linux/namespaces", json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
    });
    c.create_call(&[]).output().fails(1, &["linux.namespaces", "\"mount\" is missing"]);
}
