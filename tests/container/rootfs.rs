//! root: read-only, masked and read-only paths, pivot_root, propagation; and /dev.

use crate::support::{Host, Output, Peer, peer, push};
use serde_json::json;
use std::fs;

fn refused(out: &Output, word: &str) {
    assert!(out.code != 0 && out.stderr.contains(word), "no {word:?}: {out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_root_refuses_writes() {
    let host = Host::new();
    refused(&host.sh("echo x > /x").run(), "Read-only file system");
    assert!(!crate::support::rootfs().join("x").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_writable_root_takes_them() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let c = host.sh_with("echo x > /x", |s| s["root"] = json!({"path": rootfs}));
    c.run().ok();
    assert_eq!(fs::read_to_string(rootfs.join("x")).unwrap(), "x\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_relative_root_path_is_below_the_bundle() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let c = host.sh_with("echo here", |s| s["root"]["path"] = json!("rootfs"));
    fs::rename(rootfs, c.bundle().join("rootfs")).unwrap();
    assert_eq!(c.run().ok().stdout, "here\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_or_plain_file_rootfs_is_an_error_that_names_it() {
    let host = Host::new();
    let file = host.dir().join("plain-file");
    fs::write(&file, "").unwrap();
    for path in ["/nowhere/rootfs", file.to_str().unwrap()] {
        let c = host.sleeper_with(|s| s["root"]["path"] = json!(path));
        // runc's error about the file does not name it.
        let named = peer() == Peer::Carob || path.starts_with("/nowhere");
        c.create_call(&[]).output().fails(1, &[if named { path } else { "" }]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_old_root_is_out_of_reach() {
    let host = Host::new();
    let marker = host.dir().join("on-host");
    fs::write(&marker, "").unwrap();
    let script = format!("cd /; ls ../../..{0} {0}; cat /proc/self/mountinfo", marker.display());
    let out = host.sh(&script).run();
    assert!(!out.stdout.contains("on-host"), "{out:?}");
    assert_eq!(out.stderr.matches("No such file").count(), 2, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_pivot_moves_the_root_instead() {
    let host = Host::new();
    let c = host.sh("ls /; ls /etc/recipe");
    let out = c.bundle_verb("run", &["--no-pivot"]).output().ok();
    assert!(out.stdout.contains("/etc/recipe"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn masked_files_are_empty_and_masked_directories_too() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    fs::write(rootfs.join("data/file"), "secret").unwrap();
    let script = "cat /data/file; ls /home; cat /proc/timer_list; touch /home/x";
    let c = host.sh_with(script, |s| {
        s["root"]["path"] = json!(rootfs);
        push(s, "/linux/maskedPaths", json!("/data/file"));
        push(s, "/linux/maskedPaths", json!("/home"));
        push(s, "/linux/maskedPaths", json!("/not/there"));
    });
    let out = c.run();
    assert_eq!(out.stdout, "");
    refused(&out, "Read-only file system");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn read_only_paths_refuse_writes_and_stay_readable() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let c =
        host.sh_with("cat /etc/plain; echo x > /etc/x; echo y > /y && echo root-writable", |s| {
            s["root"] = json!({"path": rootfs});
            push(s, "/linux/readonlyPaths", json!("/etc"));
            push(s, "/linux/readonlyPaths", json!("/not/there"));
        });
    let out = c.run().ok();
    assert_eq!(out.stdout, "not executable\nroot-writable\n");
    assert!(out.stderr.contains("Read-only file system"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn proc_sys_cannot_be_written_by_default() {
    let host = Host::new();
    refused(&host.sh("echo x > /proc/sys/kernel/hostname").run(), "Read-only file system");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_root_mount_has_the_given_propagation() {
    let host = Host::new();
    for (word, tag) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        if peer() == Peer::Runc && word != "private" {
            continue; // runc loses it when the rootfs is no mount of its own
        }
        let c = host.sh_with("cat /proc/self/mountinfo", |s| {
            s["linux"]["rootfsPropagation"] = json!(word);
        });
        let out = c.run().ok();
        let root = out.stdout.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        let optional = root.split(" - ").next().unwrap().split(' ').skip(6).collect::<String>();
        assert!(optional.starts_with(tag), "{word}: {root}");
        assert_eq!(optional.is_empty(), tag.is_empty(), "{word}: {root}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_propagation_lets_mounts_appear_on_the_host() {
    let host = Host::new();
    let rootfs = crate::support::rootfs().canonicalize().unwrap();
    let dir = rootfs.parent().unwrap().display();
    for word in ["private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared"] {
        let c = host.sh_with("true", |s| s["linux"]["rootfsPropagation"] = json!(word));
        // As on most hosts, where everything is shared; in a mount namespace of its own, and with
        // the rootfs in another mount than the host's root.
        let look = "\"$@\"; grep -cF /busybox/rootfs /proc/self/mountinfo";
        let shell = format!("mount --bind {dir} {dir}; mount --make-rshared /; {look}");
        let shared = format!("set -- unshare -m bash -c '{shell}' sh \"$@\"");
        let out = c.create_call(&[]).after(&shared).output();
        assert_eq!(fs::read_to_string(&out.stdout_file).unwrap().trim(), "0", "{word}: {out:?}");
        host.adopt(c.pid());
        c.delete_force().ok();
    }
}

const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_default_devices_and_links_are_there() {
    let host = Host::new();
    let script =
        "for d in null zero full random urandom tty; do stat -c '%n %t %T %a' /dev/$d; done
                  for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done";
    let out = host.sh(script).run().ok();
    for (name, major, minor) in DEFAULT_DEVICES {
        let line = format!("/dev/{name} {major:x} {minor:x} 666");
        assert!(out.stdout.contains(&line), "{line}: {out:?}");
    }
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert!(out.stdout.ends_with(links), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_default_devices_work() {
    let host = Host::new();
    let script =
        "echo x > /dev/null; head -c4 /dev/zero | od -An -tx1; head -c1 /dev/urandom | wc -c
                  echo x > /dev/full";
    let out = host.sh(script).run();
    assert_eq!(out.stdout.split_whitespace().collect::<String>(), "000000001");
    refused(&out, "No space left");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_listed_device_has_its_mode_and_owner_and_works_when_allowed() {
    let host = Host::new();
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"});
    let c = host.sh_with("stat -c '%t %T %a %u %g' /dev/mine; head -c2 /dev/mine | wc -c", |s| {
        s["linux"]["devices"] = json!([{
            "path": "/dev/mine", "type": "c", "major": 1, "minor": 5,
            "fileMode": 0o640, "uid": 12, "gid": 34,
        }]);
        push(s, "/linux/resources/devices", rule);
    });
    assert_eq!(c.run().ok().stdout, "1 5 640 12 34\n2\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_listed_fifo_and_a_device_in_a_new_directory_are_made() {
    let host = Host::new();
    let c = host.sh_with("stat -c %F /dev/pipe /dev/dir/zero", |s| {
        s["linux"]["devices"] = json!([
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/dir/zero", "type": "c", "major": 1, "minor": 5},
        ]);
    });
    assert_eq!(c.run().ok().stdout, "fifo\ncharacter special file\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    let host = Host::new();
    // 1:1 is /dev/mem. Making a node is allowed, as with other runtimes; opening it is not.
    let c = host.sh_with("mknod /dev/mine c 1 1; cat /dev/mine; cat /dev/kmsg", |s| {
        s["linux"]["devices"] =
            json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    });
    let out = c.run();
    assert_ne!(out.code, 0);
    assert_eq!(out.stderr.matches("Operation not permitted").count(), 2, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_is_made_in_a_dev_that_comes_from_the_host() {
    let host = Host::new();
    let dev = host.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    // Without it no runtime can give the process its standard streams.
    let mut copy = std::process::Command::new("cp");
    assert!(copy.args(["-a", "/dev/null"]).arg(&dev).status().unwrap().success());
    let c = host.sh_with("ls /dev", |s| {
        let mounts = s["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({
            "destination": "/dev", "type": "bind", "source": dev, "options": ["bind"],
        }));
    });
    c.run().ok();
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 1);
}
