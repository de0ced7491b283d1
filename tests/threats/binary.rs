//! The runtime's own file, which every process of a container has been started from.

use crate::support::{Host, copy_program, lacks, runtime};
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

fn sum(path: &Path) -> Vec<u8> {
    std::process::Command::new("sha256sum").arg(path).output().unwrap().stdout
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
fn the_binary_is_protected_whatever_the_kernel_refuses() {
    let Some(host) = Host::only_carob("the ways to do it are carob's own") else {
        return;
    };
    if lacks("mount_setattr") {
        return; // Counted calls are others then; the refusals are in the list.
    }
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
