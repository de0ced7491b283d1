//! Mounts that would reach the host.

use crate::support::{Host, lacks, push};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_cannot_mount_on_the_host_through_a_bind() {
    if lacks("mount_setattr") {
        return; // This kernel changes no propagation of a detached mount otherwise.
    }
    let Some(host) = Host::only_carob("runc 1.1 maps no ids of mounts") else {
        return;
    };
    let data = host.dir().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    for options in [&["rbind", "rw"][..], &["rbind", "idmap"]] {
        let c = host.sh_with("mount -t tmpfs leak /data/sub && echo done; sleep 1000", |s| {
            push(s, "/linux/namespaces", json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            }
            let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            s["process"]["capabilities"] =
                json!({"bounding": all, "permitted": all, "effective": all});
            push(
                s,
                "/mounts",
                json!({"destination": "/data", "type": "bind", "source": data,
                "options": options}),
            );
        });
        // As on most hosts, where everything is shared; in a mount namespace of its own.
        let dir = data.display();
        let look = "sleep 0.5; grep -c leak /proc/self/mountinfo >&2";
        let shell = format!(
            "chmod 700 {dir}/..; mount --bind {dir} {dir}; mount --make-rshared /; \"$@\"; {look}"
        );
        let shared = format!("set -- unshare -m bash -c '{shell}' sh \"$@\"");
        let out = c.bundle_verb("run", &["--detach"]).after(&shared).output();
        assert!(out.stderr.ends_with("0\n"), "{options:?}: {out:?}");
        if !out.stderr.contains("map the ids of the mount: Invalid argument") {
            let pid = i32::try_from(c.state()["pid"].as_i64().unwrap()).unwrap();
            host.adopt(nix::unistd::Pid::from_raw(pid));
            assert_eq!(out.stdout.trim(), "done", "{options:?}: {out:?}");
        }
        c.delete_force().ok();
    }
}

/// The source of a bind mount lies in the rootfs: a link there means what the container sees in it, and
/// what the configuration has mounted elsewhere gets no other owners through one.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_source_in_the_rootfs_that_is_a_link_leads_nowhere_else() {
    let Some(host) = Host::only_carob("runc 1.1 follows links of the rootfs on the host") else {
        return;
    };
    let secret = host.dir().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "of the host").unwrap();
    let rootfs = host.own_rootfs();
    for name in ["out", "host"] {
        fs::create_dir(rootfs.join(name)).unwrap();
    }
    symlink(&secret, rootfs.join("direct")).unwrap();
    symlink(format!("../../../../../../../..{}", secret.display()), rootfs.join("climb")).unwrap();
    symlink("/host", rootfs.join("mounted")).unwrap();
    let bind = |source: &Path, destination: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": source, "options": options});
    for name in ["direct", "climb"] {
        let c = host.sh_with("cat /out/*", |s| {
            s["root"] = json!({"path": rootfs});
            push(s, "/mounts", bind(&rootfs.join(name), "/out", &["rbind"]));
        });
        let source = format!("/{name}: No such file");
        c.run().fails(1, &["mounts[7].source", &source]);
    }
    if lacks("mount_setattr") {
        return;
    }
    let with_user_namespace = |s: &mut Value| {
        push(s, "/linux/namespaces", json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
    };
    let c = host.sh_with("cat /out/*", |s| {
        s["root"] = json!({"path": rootfs});
        with_user_namespace(s);
        push(s, "/mounts", bind(&secret, "/host", &["rbind"]));
        push(s, "/mounts", bind(&rootfs.join("mounted"), "/out", &["rbind", "idmap"]));
    });
    c.run().fails(1, &["mounts[8].source", "ids of others are not mapped"]);
    // Nor by being mounted in what is mapped as a whole.
    fs::create_dir_all(rootfs.join("data/x")).unwrap();
    symlink("/data/x", rootfs.join("into")).unwrap();
    let c = host.sh_with("cat /out/x/*", |s| {
        s["root"] = json!({"path": rootfs});
        with_user_namespace(s);
        push(s, "/mounts", bind(&secret, "/into", &["rbind"]));
        push(s, "/mounts", bind(&rootfs.join("data"), "/out", &["rbind", "ridmap"]));
    });
    c.run().fails(1, &["mounts[8].source", "ridmap", "/into"]);
}

/// CVE-2021-43784: lengths that a narrow field would cut off.
#[test]
#[ignore = "needs root: run scripts/test"]
fn long_sources_and_many_mounts_arrive_whole_or_are_refused() {
    let Some(host) = Host::only_carob("runc 1.1.5 says it in other words") else { return };
    for length in [4096, 65_535, 65_536, 70_000, 200_000] {
        let source = format!("/{}", "x".repeat(length));
        let c = host.sleeper_with(|s| {
            push(
                s,
                "/mounts",
                json!({"destination": "/data", "type": "bind", "source": source,
                                      "options": ["bind"]}),
            );
        });
        let out = c.create_call(&[]).output().fails(1, &["mounts[7].source", "at most 4095"]);
        assert!(!out.stderr.contains("panicked"));
    }
    // Altogether far more than 64 KiB.
    let long = "many".repeat(60);
    let c = host.sh_with("grep -c manymany /proc/self/mountinfo", |s| {
        for number in 0..200 {
            push(
                s,
                "/mounts",
                json!({"destination": format!("/tmp/{long}{number}"),
                                      "type": "tmpfs", "source": long}),
            );
        }
        s["root"] = json!({"path": host.own_rootfs()});
    });
    assert_eq!(c.run().ok().text(), "200");
}

/// As above, for what goes to hooks: the state, with annotations of any length.
#[test]
#[ignore = "needs root: run scripts/test"]
fn long_annotations_reach_hooks_whole_or_are_refused() {
    let Some(host) = Host::only_carob("runc 1.1.5 has other limits") else { return };
    for length in [60_000, 70_000, 150_000, 300_000, 2_000_000] {
        let c = host.sh_with("cat /tmp/state | wc -c", |s| {
            s["annotations"] = json!({"long": "x".repeat(length)});
            let rootfs = host.own_rootfs();
            let hook = |to: String| {
                json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {to}")]}])
            };
            // The first still sees the host's files.
            s["hooks"] = json!({
                "createContainer": hook(format!("{}/tmp/state", rootfs.display())),
                "startContainer": hook("/tmp/state".into()),
            });
            s["root"] = json!({"path": rootfs});
        });
        let out = c.run();
        if out.code == 0 {
            let seen: usize = out.text().parse().unwrap();
            assert!(seen > length, "{length}: {seen} bytes only");
        } else {
            assert!(
                out.stderr.contains("annotations") || out.stderr.contains("too long"),
                "{out:?}"
            );
        }
    }
}

/// CVE-2023-25809: without a cgroup namespace the host's own cgroups are in sight.
#[test]
#[ignore = "needs root: run scripts/test"]
fn cgroups_that_are_mounted_read_only_cannot_be_written_without_a_namespace_either() {
    let reason = "runc 1.1 leaves the directory above the hierarchies writable";
    let Some(host) = Host::only_carob(reason) else { return };
    for namespaced in [true, false] {
        let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -d $d ] || continue; \
                      mkdir $d/made 2>/dev/null && echo made $d/made; \
                      echo 0 2>/dev/null > $d/cgroup.procs && echo moved to $d; done; ls /sys/fs/cgroup";
        let c = host.sh_with(script, |s| {
            let list = s["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|namespace| namespaced || namespace["type"] != "cgroup");
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "cgroup");
            push(
                s,
                "/mounts",
                json!({"destination": "/sys/fs/cgroup", "type": "cgroup",
                "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}),
            );
        });
        let out = c.run().ok();
        assert!(!out.stdout.contains("made") && !out.stdout.contains("moved"), "{out:?}");
        assert!(!out.text().is_empty(), "no cgroup in sight: {out:?}");
    }
}
