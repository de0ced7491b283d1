//! Every step that makes or opens something in a rootfs, raced.

use crate::race::{MANY, Race, SOME};
use crate::support::{lacks, push};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// Nothing on `/dev` and below: devices and the console are made in the rootfs itself.
fn bare_dev(spec: &mut Value) {
    let is_dev = |m: &Value| m["destination"].as_str().unwrap().starts_with("/dev");
    spec["mounts"].as_array_mut().unwrap().retain(|m| !is_dev(m));
}

/// CVE-2021-30465, CVE-2024-45310: mount points, present and to be made, of every kind.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_destination_that_flips_never_lands_on_the_host() {
    let Some(race) = Race::new() else { return };
    let source = race.host.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "mine").unwrap();
    let flippers = [race.directory_and_link(&race.volume)];
    let make = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let bind = |destination: &str, source: &std::path::Path| {
        json!({"destination": destination, "type": "bind", "source": source,
               "options": ["rbind", "ro", "nosuid"]})
    };
    for mount in [
        make("/vol/a", "tmpfs", &[]),
        make("/vol/a/dir", "tmpfs", &["ro"]),
        make("/vol/a/dir", "tmpfs", &["tmpcopyup"]),
        make("/vol/a/dir", "tmpfs", &["tmpcopyup", "ro"]),
        make("/vol/a/new/and/newer", "tmpfs", &[]),
        make("/vol/a/queue", "mqueue", &[]),
        make("/vol/a/cgroup", "cgroup", &["ro"]),
        make("/vol/a/sys", "sysfs", &["ro"]),
        make("/vol/a/proc", "proc", &[]),
        bind("/vol/a/dir", &source),
        bind("/vol/a/file", &source.join("file")),
        bind("/vol/a/new/file", &source.join("file")),
    ] {
        let c = race.container("ls -lR /vol/ | head -50; cat /vol/a/file", |s| {
            push(s, "/mounts", mount);
        });
        race.run(&c, &flippers, SOME);
    }
}

/// As above, in the root file system itself, which two containers may share as well.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_destination_that_flips_in_the_rootfs_never_lands_on_the_host() {
    let Some(race) = Race::new() else { return };
    let flippers = [race.directory_and_link(&race.rootfs.join("data"))];
    let c = race.container("cat /data/a/file", |s| {
        let tmpfs = json!({"destination": "/data/a/deep/er", "type": "tmpfs", "source": "t"});
        push(s, "/mounts", tmpfs);
    });
    race.run(&c, &flippers, MANY);
}

/// As above, where the mounts of the container are among the host's: it has no mount namespace.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_destination_that_flips_without_a_mount_namespace_never_lands_outside() {
    let Some(race) = Race::new() else { return };
    let places = [&race.volume, &race.rootfs.join("data")];
    let flippers = places.map(|place| race.directory_and_link_elsewhere(place));
    let c = race.container("cat /vol/a/file /data/a/file", |s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
        for (destination, kind) in [("/vol/a/dir", "tmpfs"), ("/data/a/deep/er", "tmpfs")] {
            push(s, "/mounts", json!({"destination": destination, "type": kind, "source": "t"}));
        }
        let source = race.volume.join("file");
        fs::write(&source, "mine").unwrap();
        let bind = json!({"destination": "/vol/a/file", "type": "bind", "source": source,
                          "options": ["rbind", "ro"]});
        push(s, "/mounts", bind);
        push(s, "/linux/maskedPaths", json!("/data/a/file"));
    });
    race.run(&c, &flippers, MANY);
}

/// The source of an id-mapped mount lies in the rootfs, and flips to what the container has from the
/// host without any map: mapped, it would be its root's own.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_source_in_the_rootfs_that_flips_maps_no_ids_of_the_host() {
    if lacks("mount_setattr") {
        return;
    }
    let Some(race) = Race::new() else { return };
    for name in ["out", "secret", "vol", "data"] {
        fs::create_dir_all(race.rootfs.join(name)).unwrap();
    }
    fs::create_dir_all(race.rootfs.join("data/a")).unwrap();
    symlink("/secret", race.rootfs.join("data/b")).unwrap();
    let (a, b) = (race.rootfs.join("data/a"), race.rootfs.join("data/b"));
    let flippers = [crate::race::Flipper::new(a.clone(), b)];
    let c = race.container("cat /out/file /secret/file; echo >/out/deep/file", |s| {
        push(s, "/linux/namespaces", json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
        for (source, destination, options) in
            [(race.canary.path(), "/secret", ["rbind", "rw"]), (&a, "/out", ["rbind", "idmap"])]
        {
            let mount = json!({"destination": destination, "type": "bind", "source": source,
                               "options": options});
            push(s, "/mounts", mount);
        }
    });
    race.run(&c, &flippers, MANY);
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: `/proc` and `/sys` of the rootfs flip.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_proc_or_sys_that_flips_takes_no_sysctl_and_no_mount_elsewhere() {
    let Some(race) = Race::new() else { return };
    for name in ["proc", "sys"] {
        // What would be written if the real one were mounted elsewhere.
        let fake = race.rootfs.join("data").join(name);
        fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
        symlink("/proc/sys/kernel/core_pattern", fake.join("sys/net/ipv4/ip_default_ttl")).unwrap();
        let link = race.rootfs.join(format!("{name}-link"));
        symlink(format!("/data/{name}"), &link).unwrap();
        let flippers = [crate::race::Flipper::new(race.rootfs.join(name), link)];
        let c = race.container("cat /proc/sys/kernel/core_pattern", |s| {
            s["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "33"});
        });
        race.run(&c, &flippers, SOME);
    }
}

/// CVE-2025-31133: what is masked flips, and so does the null device of the rootfs.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_masked_path_that_flips_masks_nothing_of_the_host() {
    let Some(race) = Race::new() else { return };
    let flippers = [
        race.directory_and_link(&race.volume),
        race.file_and_link(&race.rootfs.join("dev"), "null"),
    ];
    let c = race.container("cat /vol/a/file /vol/a/dir/file /dev/null", |s| {
        bare_dev(s);
        for path in ["/vol/a/file", "/vol/a/dir", "/vol/a", "/vol/b/file", "/proc/kcore"] {
            push(s, "/linux/maskedPaths", json!(path));
        }
    });
    race.run(&c, &flippers, MANY);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_path_that_flips_changes_nothing_of_the_host() {
    let Some(race) = Race::new() else { return };
    let flippers = [race.directory_and_link(&race.volume)];
    let c = race.container("cat /vol/a/file", |s| {
        for path in ["/vol/a/file", "/vol/a/dir", "/vol/a", "/vol/b/deep"] {
            push(s, "/linux/readonlyPaths", json!(path));
        }
    });
    race.run(&c, &flippers, MANY);
}

/// CVE-2026-41579, CVE-2026-47766: `/dev`, a directory below it, and a node flip.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_dev_that_flips_gets_no_node_on_the_host() {
    let Some(race) = Race::new() else { return };
    let device = |path: &str| {
        json!({"path": path, "type": "c", "major": 1, "minor": 5,
                                     "uid": 5, "gid": 5})
    };
    symlink(race.canary.climb(), race.rootfs.join("dev-link")).unwrap();
    let whole = [crate::race::Flipper::new(race.rootfs.join("dev"), race.rootfs.join("dev-link"))];
    let c = race.container("ls -l /dev/", |s| {
        bare_dev(s);
        s["linux"]["devices"] = json!([device("/dev/mine"), device("/dev/dir/mine")]);
    });
    race.run(&c, &whole, MANY);
    drop(whole);
    let part = [race.directory_and_link(&race.rootfs.join("data"))];
    let c = race.container("ls -l /data/", |s| {
        s["linux"]["devices"] =
            json!([device("/data/a/mine"), device("/data/a/file"), device("/data/a/x/mine")]);
    });
    race.run(&c, &part, MANY);
}

/// CVE-2024-21626 by time: the working directory flips, also to a descriptor of the runtime.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_working_directory_that_flips_stays_inside() {
    let Some(race) = Race::new() else { return };
    let flippers = [race.directory_and_link(&race.volume)];
    let script = "cat file passwd; pwd -P";
    for cwd in ["/vol/a", "/vol/a/dir", "/vol/a/new/dir"] {
        let c = race.container(script, |s| s["process"]["cwd"] = json!(cwd));
        race.run(&c, &flippers, SOME);
    }
    fs::create_dir(race.volume.join("wd")).unwrap();
    for number in [3, 5, 7, 9] {
        let link = race.volume.join(format!("fd-{number}"));
        symlink(format!("/proc/self/fd/{number}"), &link).unwrap();
        let flippers = [crate::race::Flipper::new(race.volume.join("wd"), link)];
        let c = race.container("cat file ../file", |s| s["process"]["cwd"] = json!("/vol/wd"));
        let leak = format!("exec {number}<{}", race.canary.path().join("deep").display());
        race.repeat(&flippers, SOME, || c.bundle_verb("run", &[]).after(&leak).output());
        drop(flippers);
        // The directory may have ended under the other name.
        fs::remove_dir_all(race.volume.join("wd")).ok();
        fs::remove_file(race.volume.join("wd")).ok();
        fs::create_dir_all(race.volume.join("wd")).unwrap();
    }
}

/// CVE-2025-52565, CVE-2026-88264: the console, its terminal and `/dev` flip.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_console_that_flips_is_not_made_on_the_host() {
    let Some(race) = Race::new() else { return };
    let dev = race.rootfs.join("dev");
    fs::create_dir(dev.join("pts")).unwrap();
    let socket = race.host.dir().join("console");
    let _listener = crate::support::socket::listen(&socket);
    let flippers = [race.file_and_link(&dev, "console")];
    for bare in [true, false] {
        let c = race.container("cat /dev/console < /dev/null", |s| {
            s["process"]["terminal"] = json!(true);
            if bare {
                bare_dev(s);
                let options = ["newinstance", "ptmxmode=0666", "mode=0620"];
                push(
                    s,
                    "/mounts",
                    json!({"destination": "/dev/pts", "type": "devpts",
                                           "source": "devpts", "options": options}),
                );
            }
        });
        race.repeat(&flippers, SOME, || {
            let out = c.create_call(&["--console-socket", socket.to_str().unwrap()]).output();
            if out.code == 0 {
                race.host.adopt(c.pid());
                c.delete_force().ok();
            }
            out
        });
    }
}

/// CVE-2026-88265: the null device that the standard streams are opened again by.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_null_device_that_flips_gives_no_file_of_the_host_away() {
    let Some(race) = Race::new() else { return };
    let file = race.canary.path().join("null");
    let flippers = [race.file_and_link(&race.rootfs.join("dev"), "null")];
    let c = race.container("cat; ls -l /proc/self/fd/0", |s| {
        bare_dev(s);
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        push(
            s,
            "/mounts",
            json!({"destination": "/host", "type": "bind", "source": file,
                                  "options": ["bind"]}),
        );
    });
    race.run(&c, &flippers, MANY);
}

/// What carob reads in a container that runs: its user's home, the program, the directory.
#[test]
#[ignore = "needs root: run scripts/test"]
fn what_exec_looks_up_flips_and_stays_inside() {
    let Some(race) = Race::new() else { return };
    let etc = race.rootfs.join("etc");
    let flippers = [race.file_and_link(&etc, "passwd"), race.directory_and_link(&race.volume)];
    let c = race.container("sleep 1000", |_| {});
    c.run_detached();
    race.repeat(&flippers, MANY, || {
        c.exec_call(&["--cwd", "/vol/a"], &["sh", "-c", "echo $HOME; cat file passwd"]).output()
    });
}
