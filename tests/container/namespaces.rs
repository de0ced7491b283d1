//! linux.namespaces: new, joined by path, or the caller's.

use crate::support::{Container, Host, Peer, peer, push, skip};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Type in config.json and name below /proc/self/ns, of those in the default bundle.
const DEFAULT: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn own(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned()
}

fn set_path(spec: &mut Value, kind: &str, path: &str) {
    let all = spec["linux"]["namespaces"].as_array_mut().unwrap();
    all.retain(|n| n["type"] != kind);
    all.push(json!({"type": kind, "path": path}));
}

fn remove(spec: &mut Value, kind: &str) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
}

fn with_user_namespace(spec: &mut Value) {
    push(spec, "/linux/namespaces", json!({"type": "user"}));
    for map in ["uidMappings", "gidMappings"] {
        spec["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
}

fn holder(host: &Host) -> Container<'_> {
    let c = host.sleeper();
    c.run_detached();
    c
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn each_listed_namespace_is_new() {
    let host = Host::new();
    let c = host.sh("for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done");
    let out = c.run().ok();
    for ((_, name), seen) in DEFAULT.iter().zip(out.stdout.lines()) {
        assert_ne!(seen, own(name));
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_namespace_that_is_not_listed_is_the_callers() {
    let host = Host::new();
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let c = host.sh_with(&format!("readlink /proc/self/ns/{name}"), |s| {
            remove(s, kind);
            if kind == "uts" {
                s.as_object_mut().unwrap().remove("hostname");
            }
        });
        let out = c.run().ok();
        assert_eq!(out.text(), own(name), "{kind}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn each_namespace_is_joined_by_path() {
    let host = Host::new();
    let other = holder(&host);
    for (kind, name) in DEFAULT {
        if kind == "mount" || (kind == "cgroup" && peer() == Peer::Runc) {
            continue; // a mount namespace has its own root; runc 1.1 joins no cgroup namespace
        }
        let path = format!("/proc/{}/ns/{name}", other.pid());
        let c = host.sh_with(&format!("readlink /proc/self/ns/{name}"), |s| {
            set_path(s, kind, &path);
            if kind == "uts" {
                s.as_object_mut().unwrap().remove("hostname");
            }
        });
        let there = fs::read_link(&path).unwrap();
        assert_eq!(c.run().ok().text(), there.to_str().unwrap(), "{kind}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_member_of_a_pod_joins_several_namespaces_of_one_process() {
    let host = Host::new();
    let pause = holder(&host);
    let c = host.sh_with("cd /proc/self/ns; for n in net ipc uts; do readlink $n; done", |s| {
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
            set_path(s, kind, &format!("/proc/{}/ns/{name}", pause.pid()));
        }
        s.as_object_mut().unwrap().remove("hostname");
    });
    let out = c.run().ok();
    for (seen, name) in out.stdout.lines().zip(["net", "ipc", "uts"]) {
        let there = fs::read_link(format!("/proc/{}/ns/{name}", pause.pid())).unwrap();
        assert_eq!(seen, there.to_str().unwrap());
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_joined_pid_namespace_shows_its_processes() {
    let host = Host::new();
    let other = holder(&host);
    let c = host.sh_with("cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$", |s| {
        set_path(s, "pid", &format!("/proc/{}/ns/pid", other.pid()));
    });
    let out = c.run().ok();
    let (first, own_pid) = out.text().split_once('\n').unwrap();
    assert_eq!(first.trim(), "sleep 1000");
    assert_ne!(own_pid, "1");
}

/// runc 1.1 makes the container's root that of everything in it.
#[test]
#[ignore = "needs root: run scripts/test"]
fn the_hosts_mount_namespace_by_path_is_refused() {
    let Some(host) = Host::only_carob("runc replaces the root of the host") else { return };
    // In a mount namespace of its own, carob's is not that of process 1.
    for path in ["/proc/self/ns/mnt", "/proc/1/ns/mnt"] {
        let c = host.sleeper_with(|s| {
            set_path(s, "mount", path);
            s["root"]["path"] = json!(host.own_rootfs());
        });
        let out = c.create_call(&[]).after("set -- unshare -m \"$@\"").output();
        // Process 1 may be out of root's reach.
        let is_told =
            ["would be the host's", "denied"].iter().any(|text| out.stderr.contains(text));
        assert!(is_told, "{out:?}");
        out.fails(1, &["linux.namespaces[5].path", path]);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.marker()), "{mounts}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn in_a_joined_mount_namespace_no_mount_appears_on_the_host() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let dir = rootfs.display();
    let c = host.sh_with("grep -c ' / / ' /proc/self/mountinfo; ls /", |s| {
        set_path(s, "mount", "/proc/HOLDER/ns/mnt");
        s["root"]["path"] = json!(rootfs);
    });
    let config = c.bundle().join("config.json");
    // A host on which everything is shared, and somebody's namespace that is a peer of it.
    let shell = format!(
        "mount --bind {dir} {dir}; mount --make-rshared /
         unshare -m --propagation unchanged sleep 1000 &
         while [ $(readlink /proc/$!/ns/mnt) = $(readlink /proc/self/ns/mnt) ]; do sleep 0.01; done
         sed -i s/HOLDER/$!/ {}
         before=$(wc -l </proc/self/mountinfo)
         \"$@\" >&2; code=$?
         echo $(($(wc -l </proc/self/mountinfo) - before)) $(nsenter -t $! -m cat /proc/self/mountinfo | wc -l)
         kill $!; wait $!; exit $code",
        config.display()
    );
    let script = host.dir().join("script");
    fs::write(&script, shell).unwrap();
    let call = c.bundle_verb("run", &[]);
    let out = call.after(&format!("set -- unshare -m bash {} \"$@\"", script.display())).output();
    assert!(out.stdout.starts_with("0 "), "{out:?}");
    assert!(out.code == 0 && out.stderr.contains("proc"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_path_of_another_kind_of_namespace_is_refused() {
    let host = Host::new();
    let c = host.sleeper_with(|s| set_path(s, "network", "/proc/self/ns/uts"));
    assert_eq!(c.create_call(&[]).output().code, 1);
    let c = host.sleeper_with(|s| set_path(s, "network", "/nowhere/net"));
    c.create_call(&[]).output().fails(1, &["/nowhere/net"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn init_is_pid_1_and_sees_only_its_own_processes() {
    let host = Host::new();
    let out = host.sh("echo $$; ls -d /proc/[0-9]* | wc -l").run().ok();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1].trim().parse::<u32>().unwrap() <= 3, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_new_network_namespace_has_loopback_up_and_nothing_else() {
    let host = Host::new();
    let out = host.sh("ls /sys/class/net; ip addr show lo; ping -c1 -w5 127.0.0.1").run();
    assert!(out.stdout.starts_with("lo\n"), "{out:?}");
    assert!(out.stdout.contains("127.0.0.1") && out.code == 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_hostname_is_the_containers_only() {
    let host = Host::new();
    let before = nix::unistd::gethostname().unwrap();
    let c = host.sh_with("hostname; hostname changed; hostname", |s| {
        s["hostname"] = json!("inside");
        push(s, "/process/capabilities/bounding", json!("CAP_SYS_ADMIN"));
        push(s, "/process/capabilities/effective", json!("CAP_SYS_ADMIN"));
        push(s, "/process/capabilities/permitted", json!("CAP_SYS_ADMIN"));
    });
    assert_eq!(c.run().ok().stdout, "inside\nchanged\n");
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_has_the_given_maps() {
    let host = Host::new();
    let c = host.sh_with("id -u; cat /proc/self/uid_map /proc/self/gid_map", |s| {
        with_user_namespace(s);
        s["root"]["path"] = json!(mapped_rootfs(&host));
    });
    let out = c.run().ok();
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0", "100000", "65536"]);
}

/// A rootfs that uid 100000 can reach.
fn mapped_rootfs(host: &Host) -> std::path::PathBuf {
    let rootfs = host.own_rootfs();
    let mut chown = std::process::Command::new("chown");
    assert!(chown.args(["-hR", "100000:100000"]).arg(&rootfs).status().unwrap().success());
    rootfs
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_can_be_entered_by_exec_and_leaves_nothing() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        with_user_namespace(s);
        s["root"]["path"] = json!(mapped_rootfs(&host));
    });
    c.run_detached();
    assert_eq!(c.exec(&["id", "-u"]).ok().text(), "0");
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_without_maps_is_refused() {
    let host = Host::new();
    let c = host.sleeper_with(|s| push(s, "/linux/namespaces", json!({"type": "user"})));
    assert_eq!(c.create_call(&[]).output().code, 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_is_joined_by_path() {
    let Some(host) = Host::only_carob("runc 1.1 demands id maps for a joined user namespace")
    else {
        return;
    };
    let rootfs = mapped_rootfs(&host);
    let other = host.sleeper_with(|s| {
        with_user_namespace(s);
        s["root"]["path"] = json!(rootfs);
    });
    other.run_detached();
    let path = format!("/proc/{}/ns/user", other.pid());
    let c = host.sh_with("readlink /proc/self/ns/user; id -u", |s| {
        s["root"]["path"] = json!(rootfs);
        set_path(s, "user", &path);
    });
    let out = c.run().ok();
    let there = fs::read_link(&path).unwrap();
    assert_eq!(out.stdout, format!("{}\n0\n", there.to_str().unwrap()));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_namespace_hides_the_path_of_the_cgroup() {
    let host = Host::new();
    let hidden = host.sh("cat /proc/self/cgroup").run().ok();
    assert!(hidden.stdout.lines().all(|line| line.ends_with(":/")), "{hidden:?}");
    let c = host.sh_with("cat /proc/self/cgroup", |s| remove(s, "cgroup"));
    let shown = c.run().ok();
    let path = host.cgroup_below(c.id());
    assert!(shown.stdout.contains(path.to_str().unwrap()), "{shown:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_time_namespace_has_the_given_offsets() {
    let Some(host) = Host::only_carob("runc 1.1 knows no time namespace") else {
        return;
    };
    let c = host.sh_with("cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time", |s| {
        push(s, "/linux/namespaces", json!({"type": "time"}));
        s["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 500}});
    });
    let out = c.run().ok();
    let (uptime, ns) = out.text().split_once('\n').unwrap();
    assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{out:?}");
    assert_ne!(ns, own("time"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn time_offsets_hold_for_exec() {
    let Some(host) = Host::only_carob("runc 1.1 knows no time namespace") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        push(s, "/linux/namespaces", json!({"type": "time"}));
        s["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    });
    c.run_detached();
    let out = c.exec_sh("cut -d. -f1 /proc/uptime").ok();
    assert!(out.text().parse::<u64>().unwrap() >= 1_000_000, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_joins_the_namespaces_that_init_was_given_by_path() {
    let host = Host::new();
    let other = holder(&host);
    let c = host.sleeper_with(|s| set_path(s, "network", &format!("/proc/{}/ns/net", other.pid())));
    c.run_detached();
    let there = fs::read_link(format!("/proc/{}/ns/net", other.pid())).unwrap();
    assert_eq!(c.exec(&["readlink", "/proc/self/ns/net"]).ok().text(), there.to_str().unwrap());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn time_offsets_hold_in_a_user_namespace() {
    let Some(host) = Host::only_carob("runc 1.1 knows no time namespace") else {
        return;
    };
    let c = host.sh_with("cut -d. -f1 /proc/uptime", |s| {
        with_user_namespace(s);
        push(s, "/linux/namespaces", json!({"type": "time"}));
        s["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    });
    let out = c.run().ok();
    assert!(out.text().parse::<u64>().unwrap() >= 1_000_000, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn in_a_user_namespace_a_source_may_be_where_only_root_can_go() {
    if crate::support::lacks("mount_setattr") {
        return;
    }
    let host = Host::new();
    let closed = host.dir().join("closed");
    fs::create_dir_all(closed.join("data")).unwrap();
    fs::write(closed.join("data/file"), "inside\n").unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let c = host.sh_with("cat /data/file", |s| {
        with_user_namespace(s);
        let data = json!({"destination": "/data", "type": "bind", "source": closed.join("data"),
            "options": ["bind", "ro"]});
        push(s, "/mounts", data);
    });
    assert_eq!(c.run().ok().stdout, "inside\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn in_a_user_namespace_ids_of_a_mount_can_be_mapped() {
    if crate::support::lacks("mount_setattr") {
        return;
    }
    let Some(host) = Host::only_carob("runc 1.1 maps no ids of mounts") else {
        return;
    };
    let data = host.dir().join("data");
    fs::create_dir(&data).unwrap();
    for maps in [json!({}), json!([{"containerID": 0, "hostID": 100_000, "size": 65536}])] {
        let c = host.sh_with("stat -c %u:%g /data", |s| {
            with_user_namespace(s);
            let mut mount = json!({"destination": "/data", "type": "bind", "source": data,
                "options": ["bind", "idmap"]});
            if maps.is_array() {
                (mount["uidMappings"], mount["gidMappings"]) = (maps.clone(), maps.clone());
            }
            push(s, "/mounts", mount);
        });
        let out = c.run();
        if out.stderr.ends_with("map the ids of the mount: Invalid argument (os error 22)\n") {
            return skip("the file system of the temporary directory has no id maps");
        }
        assert_eq!(out.ok().stdout, "0:0\n", "{maps}");
    }
}

/// The source is itself mounted by the configuration: only init can see it, only carob may map it.
#[test]
#[ignore = "needs root: run scripts/test"]
fn in_a_user_namespace_ids_of_what_is_mounted_in_the_rootfs_can_be_mapped() {
    if crate::support::lacks("mount_setattr") {
        return;
    }
    let Some(host) = Host::only_carob("runc 1.1 maps no ids of mounts") else {
        return;
    };
    let data = host.dir().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    let more = host.dir().join("more");
    fs::create_dir(&more).unwrap();
    let rootfs = mapped_rootfs(&host);
    let c = host.sh_with("stat -c %u:%g /data /data/sub /one /one/sub /all /all/sub /own", |s| {
        with_user_namespace(s);
        s["root"]["path"] = json!(rootfs);
        let inside = |path: &str| format!("{}{path}", rootfs.display());
        for (source, destination, options) in [
            (data.display().to_string(), "/data", ["rbind", "rw"]),
            (more.display().to_string(), "/data/sub", ["rbind", "rw"]),
            (inside("/data"), "/all", ["rbind", "ridmap"]),
            (inside("/data"), "/one", ["rbind", "idmap"]),
            (inside("/etc"), "/own", ["bind", "idmap"]),
        ] {
            let mount = json!({"destination": destination, "type": "bind", "source": source,
                "options": options});
            push(s, "/mounts", mount);
        }
    });
    let out = c.run();
    if out.stderr.ends_with("map the ids of the mount: Invalid argument (os error 22)\n") {
        return skip("the file system of the temporary directory has no id maps");
    }
    let nobody = "65534:65534";
    // What is in the rootfs belongs to the container already: mapped once more it is nobody's.
    let expected = [nobody, nobody, "0:0", nobody, "0:0", "0:0", nobody];
    assert_eq!(out.ok().stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_namespace_is_joined_by_path_and_exec_stays_in_the_rootfs() {
    let host = Host::new();
    // A namespace that has the host's tree.
    let holder = std::process::Command::new("unshare").args(["-m", "sleep", "1000"]).spawn();
    let mut holder = holder.unwrap();
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let own_ns = fs::read_link("/proc/self/ns/mnt").unwrap();
    crate::support::wait_until("the namespace", || match fs::read_link(&path) {
        Ok(theirs) if theirs != own_ns => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let c = host.sleeper_with(|s| set_path(s, "mount", &path));
    c.run_detached();
    let theirs = fs::read_link(&path).unwrap();
    assert_eq!(fs::read_link(format!("/proc/{}/ns/mnt", c.pid())).unwrap(), theirs);
    if peer() == Peer::Carob {
        let marker = c.exec_sh("ls /; test -e /bin/busybox && test ! -e /usr/bin/apt-get").ok();
        assert!(marker.stdout.contains("proc"), "{marker:?}");
    }
    c.delete_force().ok();
    holder.kill().unwrap();
    holder.wait().unwrap();
}
