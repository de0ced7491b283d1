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

/// CVE-2019-18837, CVE-2025-24965: what is made in a rootfs, with a link at each place of its path.
#[test]
#[ignore = "needs root: run scripts/test"]
fn links_on_the_way_to_what_is_made_stay_inside() {
    let Some(host) = Host::only_carob("runc 1.1.5 refuses some of these") else { return };
    let canary = Canary::new(&host);
    let targets = [canary.path().display().to_string(), canary.climb()];
    for (number, target) in targets.iter().enumerate() {
        for link in ["l", "d/l", "d/d/l"] {
            let rootfs = host.own_rootfs();
            let base = rootfs.join("data");
            fs::create_dir_all(base.join("d/d")).unwrap();
            symlink(target, base.join(link)).unwrap();
            let c = host.sh_with("grep -c threat /proc/self/mountinfo", |s| {
                s["root"] = json!({"path": rootfs});
                s["process"]["cwd"] = json!(format!("/data/{link}/cwd"));
                let device = format!("/data/{link}/devices/mine");
                s["linux"]["devices"] =
                    json!([{"path": device, "type": "c", "major": 1, "minor": 5}]);
                for end in ["", "/deep", "/deep/made", "/made/made"] {
                    push(
                        s,
                        "/mounts",
                        json!({"destination": format!("/data/{link}{end}"),
                                               "type": "tmpfs", "source": "threat"}),
                    );
                }
                push(
                    s,
                    "/mounts",
                    json!({"destination": format!("/data/{link}/made-file"),
                    "type": "bind", "source": "/etc/hostname", "options": ["bind"]}),
                );
            });
            let out = c.run().ok();
            canary.is_untouched(&out);
            assert_eq!(out.text(), "4", "{number} {link}: {out:?}");
            // In the rootfs, where the link leads as the container sees it.
            assert!(rootfs.join(canary.path().strip_prefix("/").unwrap()).is_dir(), "{link}");
        }
    }
}

/// CVE-2026-88265: `/dev/null` leads to a file of the host that is mounted in the container.
#[test]
#[ignore = "needs root: run scripts/test"]
fn the_standard_streams_are_not_opened_through_a_link() {
    let Some(host) = Host::only_carob("runc 1.1.5 opens and chowns it") else { return };
    let canary = Canary::new(&host);
    let rootfs = host.own_rootfs();
    symlink("/host", rootfs.join("dev/null")).unwrap();
    fs::write(rootfs.join("host"), "").unwrap();
    let c = host.sh_with("cat; cat <&1; ls -lL /proc/self/fd/", |s| {
        s["root"] = json!({"path": rootfs});
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let is_dev = |m: &serde_json::Value| m["destination"].as_str().unwrap().starts_with("/dev");
        s["mounts"].as_array_mut().unwrap().retain(|m| !is_dev(m));
        push(
            s,
            "/mounts",
            json!({"destination": "/host", "type": "bind",
                                  "source": canary.path().join("file"), "options": ["bind"]}),
        );
    });
    let out = c.run();
    assert!(!out.stdout.contains(crate::canary::SECRET), "{out:?}");
    canary.is_untouched(&out);
}
