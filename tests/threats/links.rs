//! Links in a rootfs, where carob makes or opens something.

use crate::canary::Canary;
use crate::support::{Host, push};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

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
    let canary = Canary::new(&host);
    let rootfs = host.own_rootfs();
    fs::remove_dir(rootfs.join("dev")).unwrap();
    symlink(canary.path(), rootfs.join("dev")).unwrap();
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
    canary.is_untouched(&out);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_console_that_is_a_link_makes_nothing_outside() {
    let host = Host::new();
    let canary = Canary::new(&host);
    let rootfs = host.own_rootfs();
    symlink(format!("{}/made", canary.climb()), rootfs.join("dev/console")).unwrap();
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
    canary.is_untouched(&out);
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
