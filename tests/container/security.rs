//! Known escapes, each with the rootfs or the caller that made it work elsewhere.

use crate::support::{Host, Peer, copy_program, peer, push, runtime};
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

fn sum(path: &Path) -> Vec<u8> {
    std::process::Command::new("sha256sum").arg(path).output().unwrap().stdout
}

/// A directory on the host that a container must not change.
fn canary(host: &Host) -> std::path::PathBuf {
    let dir = host.dir().join("canary");
    fs::create_dir(&dir).unwrap();
    dir
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_leaked_directory_cannot_become_the_working_directory() {
    let host = Host::new();
    let leak = "exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ 10</";
    for fd in 3..=16 {
        let cwd = format!("/proc/self/fd/{fd}");
        let c = host.sh_with("ls", |s| s["process"]["cwd"] = json!(cwd));
        let out = c.bundle_verb("run", &[]).after(leak).output();
        assert_ne!(out.code, 0, "{fd}: {out:?}");
        assert!(!out.stdout.contains("sbin"), "{fd}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_leaked_directory_cannot_become_the_working_directory_of_exec() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    for fd in 3..=16 {
        let cwd = format!("/proc/self/fd/{fd}");
        let call = c.exec_call(&["--cwd", &cwd], &["ls"]);
        let out = call.after("exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ 10</").output();
        assert_ne!(out.code, 0, "{fd}: {out:?}");
        assert!(!out.stdout.contains("sbin"), "{fd}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_hosts_runtime_cannot_be_overwritten_through_proc_self_exe() {
    let host = Host::new();
    let before = sum(&runtime());
    let rootfs = host.own_rootfs();
    let attack = rootfs.join("bin/attack");
    fs::write(&attack, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&attack, fs::Permissions::from_mode(0o755)).unwrap();
    let c = host.container(|s| {
        s["root"] = json!({"path": rootfs});
        s["process"]["args"] = json!(["/bin/attack"]);
    });
    c.run();
    assert_eq!(sum(&runtime()), before);
    // exec of the same, while the container tries to write whatever is behind its processes.
    let script = "while :; do for e in /proc/[0-9]*/exe; do [ $e = /proc/1/exe ] || \
                  echo overwritten 2>/dev/null > $e; done; done 2>/dev/null";
    let c = host.sh_with(script, |s| {
        s["root"] = json!({"path": rootfs});
        let all = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
        s["process"]["capabilities"] = json!({"bounding": all, "permitted": all, "effective": all});
    });
    c.run_detached();
    for _ in 0..10 {
        c.exec(&["/bin/attack"]);
        c.exec(&["true"]);
    }
    assert_eq!(sum(&runtime()), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_proc_that_is_a_link_is_refused() {
    let host = Host::new();
    for (name, target) in [("proc", "x"), ("proc", "/tmp"), ("sys", "/tmp")] {
        let rootfs = host.own_rootfs();
        fs::remove_dir(rootfs.join(name)).unwrap();
        symlink(target, rootfs.join(name)).unwrap();
        let c = host.sleeper_with(|s| s["root"]["path"] = json!(rootfs));
        let out = c.create_call(&[]).output();
        assert_eq!(out.code, 1, "{name} -> {target}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_dev_that_is_a_link_stays_in_the_rootfs() {
    let Some(host) = Host::only_carob("runc 1.1.5 follows the link: CVE-2026-41579") else {
        return;
    };
    let canary = canary(&host);
    let rootfs = host.own_rootfs();
    fs::remove_dir(rootfs.join("dev")).unwrap();
    symlink(&canary, rootfs.join("dev")).unwrap();
    let c = host.sleeper_with(|s| {
        s["root"] = json!({"path": rootfs});
        // Without a mount on /dev its nodes would be made in the link's target.
        let is_dev = |m: &serde_json::Value| m["destination"].as_str().unwrap().starts_with("/dev");
        s["mounts"].as_array_mut().unwrap().retain(|m| !is_dev(m));
    });
    let out = c.create_call(&[]).output();
    if out.code == 0 {
        host.adopt(c.pid());
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_console_that_is_a_link_makes_nothing_outside() {
    let host = Host::new();
    let canary = canary(&host);
    let rootfs = host.own_rootfs();
    let target = format!("../../../../../../../../..{}/console", canary.display());
    symlink(target, rootfs.join("dev/console")).unwrap();
    let c = host.sleeper_with(|s| {
        s["root"] = json!({"path": rootfs});
        s["process"]["terminal"] = json!(true);
        let is_dev = |m: &serde_json::Value| m["destination"].as_str().unwrap() == "/dev";
        s["mounts"].as_array_mut().unwrap().retain(|m| !is_dev(m));
    });
    let socket = host.dir().join("console");
    let _listener = crate::support::socket::listen(&socket);
    let out = c.create_call(&["--console-socket", socket.to_str().unwrap()]).output();
    if out.code == 0 {
        host.adopt(c.pid());
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_null_that_is_a_link_masks_nothing_and_opens_nothing() {
    let Some(host) = Host::only_carob("runc 1.1.5 follows the link: CVE-2025-31133") else {
        return;
    };
    let secret = host.dir().join("secret");
    fs::write(&secret, "secret").unwrap();
    let rootfs = host.own_rootfs();
    fs::write(rootfs.join("data/masked"), "masked").unwrap();
    symlink("/data/writable", rootfs.join("dev/null")).unwrap();
    fs::write(rootfs.join("data/writable"), "attacker").unwrap();
    let c = host.sh_with("cat /data/masked", |s| {
        s["root"] = json!({"path": rootfs});
        push(s, "/linux/maskedPaths", json!("/data/masked"));
        let is_dev = |m: &serde_json::Value| m["destination"].as_str().unwrap().starts_with("/dev");
        s["mounts"].as_array_mut().unwrap().retain(|m| !is_dev(m));
    });
    let out = c.run();
    assert!(!out.stdout.contains("attacker") && !out.stdout.contains("masked"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_sees_no_inheritable_capability() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let flags = ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_TIME", "--user", "1000"];
    let out = c.exec_call(&flags, &["grep", "CapInh", "/proc/self/status"]).output().ok();
    assert!(out.text().ends_with("0000000000000000"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_socket_of_the_caller_is_not_in_the_container() {
    let host = Host::new();
    let c = host.sh("ls -l /proc/self/fd/ | grep -v pipe");
    let call = c.bundle_verb("run", &[]).after("exec 20<>/dev/null 21</proc 22</");
    let out = call.output().ok();
    assert!(!out.stdout.contains(" 2") || !out.stdout.contains("-> /proc\n"), "{out:?}");
    assert!(!out.stdout.contains("20 ->") && !out.stdout.contains("21 ->"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn while_exec_starts_no_descriptor_of_the_host_can_be_reached() {
    let host = Host::new();
    // Looks into every process but itself, as root with all it may have here.
    let script = "while :; do for f in /proc/[0-9]*/fd/*; do \
                  l=$(readlink $f) && case $l in /proc/*|/sys/*|*canary*) echo FOUND $f $l;; esac; \
                  done; [ -e $(readlink -f /proc/1/root)/stop ] && exit; done 2>/dev/null";
    let c = host.sh(script);
    fs::create_dir(host.dir().join("canary")).unwrap();
    c.run_detached();
    for _ in 0..15 {
        let prelude = format!("exec 9<{}", host.dir().join("canary").display());
        c.exec_call(&[], &["true"]).after(&prelude).output().ok();
    }
    let leaks: Vec<String> =
        c.output().lines().filter(|l| l.contains("canary")).map(str::to_owned).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_destination_that_flips_never_lands_on_the_host() {
    let Some(host) = Host::only_carob("runc 1.1.5 makes directories on the host: CVE-2024-45310")
    else {
        return;
    };
    let rootfs = host.own_rootfs();
    let canary = canary(&host);
    fs::create_dir_all(rootfs.join("data/a")).unwrap();
    let exit = rootfs.join("data/b");
    symlink(format!("../../../../../../../..{}", canary.display()), &exit).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b, t) = (rootfs.join("data/a"), exit.clone(), rootfs.join("data/t"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&a, &t).and_then(|()| fs::rename(&b, &a)).ok();
                fs::rename(&t, &b).ok();
            }
        });
        for _ in 0..20 {
            let c = host.sh_with("true", |s| {
                s["root"] = json!({"path": rootfs});
                let tmpfs = json!({"destination": "/data/a/deep", "type": "tmpfs", "source": "t"});
                push(s, "/mounts", tmpfs);
            });
            c.run();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
}

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
fn the_state_directory_is_closed_to_others() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let mode = fs::metadata(host.state_root().join(c.id())).unwrap().permissions().mode();
    assert_eq!(mode & 0o066, 0, "{mode:o}");
    for entry in fs::read_dir(host.state_root().join(c.id())).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        // The start fifo may be written by the container's user.
        let is_file = entry.file_type().unwrap().is_file();
        assert!(!is_file || mode & 0o022 == 0, "{}: {mode:o}", entry.path().display());
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_passwd_that_is_a_fifo_or_a_link_to_a_device_does_not_hang() {
    let Some(host) = Host::only_carob("runc 1.1 opens the container's passwd whatever it is")
    else {
        return;
    };
    for kind in ["fifo", "zero"] {
        let rootfs = host.own_rootfs();
        let passwd = rootfs.join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        if kind == "fifo" {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
            nix::unistd::mkfifo(&passwd, mode).unwrap();
        } else {
            symlink("/dev/zero", &passwd).unwrap();
        }
        let c = host.sh_with("echo $HOME", |s| s["root"]["path"] = json!(rootfs));
        assert_eq!(c.run().ok().text(), "/", "{kind}");
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

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_binary_is_protected_whatever_the_kernel_refuses() {
    let Some(host) = Host::only_carob("the ways to do it are carob's own") else {
        return;
    };
    for refused in [
        "nothing",
        "mremap:error=ENOMEM:when=1",
        "mremap:error=ENOMEM:when=2",
        "prctl:error=EPERM:when=1..2",
        "mount_setattr:error=ENOSYS:when=1",
        "open_tree:error=ENOSYS:when=1",
        "close_range:error=EINVAL:when=1", // before Linux 5.11
    ] {
        let c = host.sleeper();
        // A copy, which no other test executes: an executed file cannot be written anyhow.
        let copy = host.dir().join("copy");
        copy_program(&runtime(), &copy);
        let copy = copy.display();
        let strace = match refused {
            "nothing" => format!("shift; set -- {copy} \"$@\""),
            call => {
                format!("shift; set -- strace -qq -o /dev/null -e inject={call} {copy} \"$@\"")
            }
        };
        c.create_call(&[]).after(&strace).output().ok();
        host.adopt(c.pid());
        // As a process of the container would: take hold of the file, and write when it is idle.
        let exe = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(format!("/proc/{}/exe", c.pid()))
            .unwrap();
        c.delete_force().ok();
        let written = fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{}", exe.as_raw_fd()))
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"x"));
        let errno = written.expect_err("written").raw_os_error();
        let refusals = [Some(libc::EROFS), Some(libc::EPERM)];
        assert!(refusals.contains(&errno), "{refused}: {errno:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_cannot_mount_on_the_host_through_a_bind() {
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
