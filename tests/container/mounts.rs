//! mounts: types, options, propagation, missing targets, hostile destinations.

use crate::support::{Container, Host, Peer, peer, push};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

fn mount(spec: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let entry =
        json!({"destination": destination, "type": kind, "source": source, "options": options});
    push(spec, "/mounts", entry);
}

fn bind(spec: &mut Value, source: &Path, destination: &str, options: &[&str]) {
    mount(spec, destination, "bind", source.to_str().unwrap(), options);
}

/// A directory with the file `name`, for bind mounts.
fn source(host: &Host) -> std::path::PathBuf {
    let dir = host.dir().join("source");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("name"), "content\n").unwrap();
    dir
}

/// The line of /proc/self/mountinfo for `at`, as seen inside.
fn line<'a>(table: &'a str, at: &str) -> &'a str {
    let mut lines = table.lines().rev();
    lines.find(|l| l.split(' ').nth(4) == Some(at)).unwrap_or_else(|| panic!("{at}: {table}"))
}

fn show(host: &Host, edit: impl FnOnce(&mut Value)) -> String {
    host.sh_with("cat /proc/self/mountinfo", edit).run().ok().stdout
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_default_mounts_are_there_with_their_options() {
    let host = Host::new();
    let table = show(&host, |_| {});
    for (at, words) in [
        ("/proc", &[" - proc "][..]),
        ("/dev", &["nosuid", " - tmpfs ", "mode=755", "size=65536k"]),
        ("/dev/pts", &["noexec", " - devpts ", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", &["nodev", " - tmpfs "]),
        ("/dev/mqueue", &[" - mqueue "]),
        ("/sys", &["ro,", " - sysfs "]),
    ] {
        for word in words {
            assert!(line(&table, at).contains(word), "{word}: {}", line(&table, at));
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_tmpfs_has_its_size_mode_and_flags() {
    let host = Host::new();
    let script = "df -k /mnt | tail -1; stat -c %a /mnt; dd if=/dev/zero of=/mnt/f bs=64k count=64";
    let c = host.sh_with(script, |s| {
        mount(s, "/mnt", "tmpfs", "tmpfs", &["size=1m", "mode=1711", "noexec", "noatime"]);
    });
    let out = c.run();
    assert_ne!(out.code, 0, "4 MiB do not fit in 1 MiB: {out:?}");
    assert!(out.stderr.contains("No space left"), "{out:?}");
    assert!(out.stdout.contains("1024 "), "{out:?}");
    // runc puts the mode of the directory below back on.
    let mode = if peer() == Peer::Runc { "\n755" } else { "\n1711" };
    assert!(out.stdout.contains(mode), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_noexec_mount_runs_nothing() {
    let host = Host::new();
    let c = host.sh_with("cp /bin/busybox /mnt/true && /mnt/true", |s| {
        mount(s, "/mnt", "tmpfs", "tmpfs", &["noexec"]);
    });
    assert_eq!(c.run().code, 126);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_bind_mount_shows_and_changes_the_source() {
    let host = Host::new();
    let dir = source(&host);
    let c =
        host.sh_with("cat /mnt/name; echo new > /mnt/out", |s| bind(s, &dir, "/mnt", &["bind"]));
    assert_eq!(c.run().ok().stdout, "content\n");
    assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), "new\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_bind_mount_of_a_file_works() {
    let host = Host::new();
    let file = source(&host).join("name");
    let c = host.sh_with("cat /etc/passwd", |s| bind(s, &file, "/etc/passwd", &["bind", "ro"]));
    assert_eq!(c.run().ok().stdout, "content\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_bind_mount_refuses_writes() {
    let host = Host::new();
    let dir = source(&host);
    let c = host.sh_with("echo x > /mnt/out", |s| bind(s, &dir, "/mnt", &["bind", "ro"]));
    let out = c.run();
    assert!(out.code != 0 && out.stderr.contains("Read-only file system"), "{out:?}");
    assert!(!dir.join("out").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn bind_mount_flags_are_applied() {
    let host = Host::new();
    let dir = source(&host);
    let flags = ["bind", "nosuid", "nodev", "noexec", "noatime", "ro"];
    let table = show(&host, |s| bind(s, &dir, "/mnt", &flags));
    let options = line(&table, "/mnt").split(' ').nth(5).unwrap().to_owned();
    assert_eq!(options, "ro,nosuid,nodev,noexec,noatime");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_bind_needs_no_type_and_rbind_takes_submounts() {
    let host = Host::new();
    let dir = source(&host);
    // The last is how CRI-O writes every volume.
    let cases =
        [(&["bind"][..], "no\n"), (&["rbind"], "yes\n"), (&["rbind", "ro", "bind"], "yes\n")];
    for (words, seen) in cases {
        let outer = host.sh_with("[ -e /mnt/sub/in ] && echo yes || echo no", |s| {
            push(s, "/mounts", json!({"destination": "/mnt", "source": dir, "options": words}));
        });
        let out = outer.bundle_verb("run", &[]).after(&private_tmpfs(&dir.join("sub"))).output();
        assert_eq!(out.ok().stdout, seen, "{words:?}");
    }
}

/// Shell text: from here on in a mount namespace of its own with a tmpfs (holding `in`) on `at`.
fn private_tmpfs(at: &Path) -> String {
    let at = at.display();
    format!(
        "exec unshare -m sh -c 'mount -t tmpfs t {at}; touch {at}/in; \
         exec \"$@\"' sh \"$@\""
    )
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ro_is_for_one_mount_and_rro_for_all_below() {
    let Some(host) = Host::only_carob("runc 1.1 knows no recursive mount attributes") else {
        return;
    };
    let dir = source(&host);
    for (words, code) in [(["rbind", "ro"], 0), (["rbind", "rro"], 1)] {
        let c = host.sh_with("echo x > /mnt/sub/f", |s| bind(s, &dir, "/mnt", &words));
        let prelude = private_tmpfs(&dir.join("sub"));
        let out = c.bundle_verb("run", &[]).after(&prelude).output();
        assert_eq!(out.code, code, "{words:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn propagation_words_are_applied() {
    let host = Host::new();
    let dir = source(&host);
    for (word, tag) in
        [("private", None), ("shared", Some("shared:")), ("unbindable", Some("unbindable"))]
    {
        let table = show(&host, |s| bind(s, &dir, "/mnt", &["bind", word]));
        let fields = line(&table, "/mnt").split(" - ").next().unwrap();
        let optional: Vec<&str> = fields.split(' ').skip(6).collect();
        match tag {
            None => assert!(optional.is_empty(), "{word}: {optional:?}"),
            Some(tag) => {
                assert!(optional.iter().any(|o| o.starts_with(tag)), "{word}: {optional:?}")
            }
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn missing_targets_are_made_in_the_rootfs() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let dir = source(&host);
    let c = host.sh_with("cat /new/deep/dir/name /new/file; ls -d /new/tmpfs", |s| {
        s["root"]["path"] = json!(rootfs);
        bind(s, &dir, "/new/deep/dir", &["bind"]);
        bind(s, &dir.join("name"), "/new/file", &["bind"]);
        mount(s, "/new/tmpfs", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(c.run().ok().stdout, "content\ncontent\n/new/tmpfs\n");
    assert!(rootfs.join("new/file").is_file() && rootfs.join("new/deep/dir").is_dir());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_bind_source_is_an_error_that_names_it() {
    let host = Host::new();
    let c = host.sleeper_with(|s| bind(s, Path::new("/nowhere/src"), "/mnt", &["bind"]));
    c.create_call(&[]).output().fails(1, &["/nowhere/src"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_unknown_filesystem_is_an_error_that_names_the_mount() {
    let host = Host::new();
    let c = host.sleeper_with(|s| mount(s, "/mnt", "nosuchfs", "none", &[]));
    let out = c.create_call(&[]).output();
    assert!(out.code == 1 && out.stderr.contains("/mnt"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn tmpcopyup_brings_the_content_below() {
    let host = Host::new();
    let c = host.sh_with("cat /etc/plain; echo more > /etc/more", |s| {
        mount(s, "/etc", "tmpfs", "tmpfs", &["tmpcopyup"]);
    });
    assert_eq!(c.run().ok().stdout, "not executable\n");
    assert!(!crate::support::rootfs().join("etc/more").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_relative_destination_is_below_the_root() {
    let host = Host::new();
    let dir = source(&host);
    let c = host.sh_with("cat /mnt/name", |s| bind(s, &dir, "mnt", &["bind"]));
    assert_eq!(c.run().ok().stdout, "content\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_destination_with_the_path_of_the_rootfs_is_in_the_rootfs() {
    let Some(host) = Host::only_carob("runc 1.1 shows the source as it was before the mounts")
    else {
        return;
    };
    let (rootfs, dir) = (host.own_rootfs(), source(&host));
    // What is mounted there shows what was mounted before, by its path on the host.
    let c = host.sh_with("cat /second/name; ls -d /tmp/*", |s| {
        s["root"]["path"] = json!(rootfs);
        bind(s, &dir, "/mnt", &["bind"]);
        let second = rootfs.join("second");
        bind(s, &rootfs.join("mnt"), second.to_str().unwrap(), &["rbind"]);
    });
    assert_eq!(c.run().stdout, "content\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn mounts_are_made_in_their_order() {
    let host = Host::new();
    let dir = source(&host);
    let c = host.sh_with("ls /mnt; cat /mnt/a/name", |s| {
        mount(s, "/mnt", "tmpfs", "tmpfs", &[]);
        bind(s, &dir, "/mnt/a", &["bind"]);
    });
    assert_eq!(c.run().ok().stdout, "a\ncontent\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_destination_through_a_link_stays_in_the_rootfs() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let outside = host.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, rootfs.join("absolute")).unwrap();
    symlink("../../../../../../../mnt", rootfs.join("upwards")).unwrap();
    let dir = source(&host);
    let c = host.sh_with("cat /absolute/deep/name /mnt/name", |s| {
        s["root"]["path"] = json!(rootfs);
        bind(s, &dir, "/absolute/deep", &["bind"]);
        bind(s, &dir, "/upwards", &["bind"]);
    });
    assert_eq!(c.run().ok().stdout, "content\ncontent\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "made on the host");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_destination_with_dots_stays_in_the_rootfs() {
    let host = Host::new();
    let dir = source(&host);
    let c = host.sh_with("cat /mnt/name", |s| bind(s, &dir, "/../../../mnt", &["bind"]));
    assert_eq!(c.run().ok().stdout, "content\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_over_proc_is_refused() {
    let host = Host::new();
    let dir = source(&host);
    for destination in ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/1/attr"] {
        let c = host.sleeper_with(|s| bind(s, &dir, destination, &["bind"]));
        let out = c.create_call(&[]).output();
        assert_eq!(out.code, 1, "{destination}: {out:?}");
        assert!(out.stderr.contains("/proc"), "{destination}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_of_proc_that_tools_fake_may_be_mounted_over() {
    let host = Host::new();
    let file = source(&host).join("name");
    let c = host.sh_with("cat /proc/uptime", |s| bind(s, &file, "/proc/uptime", &["bind"]));
    assert_eq!(c.run().ok().stdout, "content\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_cgroup_mount_shows_only_the_containers_cgroup() {
    let host = Host::new();
    let c = host.sh("cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs | sort -u");
    let out = c.run();
    let pids: Vec<&str> = out.stdout.lines().collect();
    assert!(pids.contains(&"1") && pids.len() <= 4, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_cgroup_mount_is_read_only_as_asked() {
    let host = Host::new();
    let c = host.sh("mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x; ls /sys/fs/cgroup");
    let out = c.run();
    assert!(out.stderr.contains("Read-only file system"), "{out:?}");
    assert!(!host.cgroup("pids", c.id()).join("x").exists());
}

fn slave_sees_later_mounts(host: &Host, propagation: &str) -> bool {
    let dir = source(host);
    let c: Container<'_> = host.sh_with("echo up; read x < /mnt/go; ls /mnt/sub", |s| {
        bind(s, &dir, "/mnt", &["rbind", propagation]);
        s["linux"]["rootfsPropagation"] = json!(propagation);
    });
    let fifo = dir.join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let prelude = format!(
        "exec unshare -m --propagation private sh -c '\
         mount --bind {0} {0}; mount --make-shared {0}; \
         \"$@\" & runtime=$!; \
         while ! grep -q up {1} 2>/dev/null; do sleep 0.02; done; \
         mount -t tmpfs t {0}/sub; touch {0}/sub/later; echo go > {0}/go; wait $runtime' sh \"$@\"",
        dir.display(),
        host.dir().join("seen").display(),
    );
    let seen = fs::File::options().append(true).create(true).open(host.dir().join("seen")).unwrap();
    let stdio = [std::process::Stdio::null(), seen.into(), std::process::Stdio::inherit()];
    c.bundle_verb("run", &[]).stdio(stdio).after(&prelude).output().ok();
    fs::remove_file(fifo).unwrap();
    fs::read_to_string(host.dir().join("seen")).unwrap().contains("later")
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_slave_mount_receives_what_the_host_mounts_later() {
    assert!(slave_sees_later_mounts(&Host::new(), "rslave"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_private_mount_does_not() {
    assert!(!slave_sees_later_mounts(&Host::new(), "rprivate"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_mounted_inside_reaches_the_host() {
    let host = Host::new();
    let c = host.sleeper_with(|s| mount(s, "/mnt", "tmpfs", "tmpfs", &[]));
    c.run_detached();
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(host.marker()), "{after}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_id_mapped_bind_mount_shows_mapped_owners() {
    if crate::support::lacks("mount_setattr") {
        return;
    }
    let Some(host) = Host::only_carob("runc 1.1 knows no id-mapped mounts") else {
        return;
    };
    let dir = source(&host);
    let c = host.sh_with("stat -c %u:%g /mnt/name; touch /mnt/made", |s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        push(
            s,
            "/mounts",
            json!({
                "destination": "/mnt", "type": "bind", "source": dir, "options": ["bind", "idmap"],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            }),
        );
    });
    let out = c.run();
    if out.stderr.ends_with("map the ids of the mount: Invalid argument (os error 22)\n") {
        return crate::support::skip("the file system of the temporary directory has no id maps");
    }
    assert_eq!(out.ok().text(), "1000:1000");
    let made = fs::metadata(dir.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0), "what is made inside belongs to the host's ids");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_dev_is_complete_first() {
    let host = Host::new();
    let c = host.sh_with("echo x >/dev/null && ! touch /dev/new 2>/dev/null && echo ok", |s| {
        let mounts = s["mounts"].as_array_mut().unwrap();
        let dev = mounts.iter_mut().find(|m| m["destination"] == "/dev").unwrap();
        dev["options"].as_array_mut().unwrap().push(json!("ro"));
    });
    assert_eq!(c.run().ok().stdout, "ok\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_tmpfs_can_start_with_what_it_hides() {
    let host = Host::new();
    let c = host.sh_with("ls /etc/passwd && ! touch /etc/new 2>/dev/null", |s| {
        let options = ["ro", "tmpcopyup"];
        let mount = json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
            "options": options});
        push(s, "/mounts", mount);
    });
    c.run().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_tmpfs_on_a_directory_made_for_it_is_for_everybody() {
    let Some(host) = Host::only_carob("runc 1.1 gives it the mode of the directory") else {
        return;
    };
    let rootfs = host.own_rootfs();
    let c = host.sh_with("stat -c %a /made/for/it", |s| {
        s["root"]["path"] = json!(rootfs);
        s["root"]["readonly"] = json!(false);
        let mount = json!({"destination": "/made/for/it", "type": "tmpfs", "source": "tmpfs"});
        push(s, "/mounts", mount);
    });
    assert_eq!(c.run().ok().stdout, "1777\n");
}

/// Where the root is the host's, a source is a path of the host, whatever the container mounts there.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_source_below_the_hosts_root_as_root_is_the_hosts() {
    let Some(host) = Host::only_carob("runc 1.1 cannot pivot into the host's own root") else {
        return;
    };
    let (source, out) = (host.dir().join("source"), host.dir().join("out"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(source.join("file"), "of the host").unwrap();
    let c = host.sh_with(&format!("cat {}/file", out.display()), |s| {
        s["root"] = json!({"path": "/"});
        let cover = json!({"destination": source, "type": "tmpfs", "source": "tmpfs"});
        push(s, "/mounts", cover);
        let bind = json!({"destination": out, "type": "bind", "source": source,
            "options": ["rbind"]});
        push(s, "/mounts", bind);
    });
    assert_eq!(c.run().ok().stdout, "of the host");
}
