//! SELinux, with the small policy of the virtual machines: `scripts/vm --lsm selinux`.

use crate::support::selinux::{self, label_of_file, trimmed};
use crate::support::{Container, Host, Peer, peer, push};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;

const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const OTHER: &str = "system_u:system_r:spc_t:s0";
const MOUNTS: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// A host that has it; `None` (skip) otherwise.
fn host() -> Option<Host> {
    selinux::is_there().then(Host::new)
}

fn labelled(process: &str, mounts: &str) -> impl FnOnce(&mut Value) {
    move |spec| {
        spec["process"]["selinuxLabel"] = json!(process);
        spec["linux"]["mountLabel"] = json!(mounts);
        push(spec, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    }
}

const OWN: &[&str] = &["cat", "/proc/self/attr/current"];

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_has_its_selinux_label_whether_or_not_it_may_gain_privileges() {
    let Some(host) = host() else { return };
    for no_new_privileges in [true, false] {
        let c = host.container(|spec| {
            spec["process"]["args"] = json!(OWN);
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            labelled(LABEL, MOUNTS)(spec);
        });
        let out = c.run().ok();
        assert_eq!(trimmed(&out.stdout), LABEL, "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_has_the_containers_selinux_label_or_its_own() {
    let Some(host) = host() else { return };
    let c = host.sleeper_with(labelled(LABEL, MOUNTS));
    c.run_detached();
    let of_init = fs::read_to_string(format!("/proc/{}/attr/current", c.pid())).unwrap();
    assert_eq!(trimmed(&of_init), LABEL);
    assert_eq!(trimmed(&c.exec(OWN).ok().stdout), LABEL);
    let out = c.exec_call(&["--process-label", OTHER], OWN).output().ok();
    assert_eq!(trimmed(&out.stdout), OTHER);
    let mut process =
        json!({"args": OWN, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    assert_eq!(trimmed(&c.exec_process(&[], &process).output().ok().stdout), LABEL);
    process["selinuxLabel"] = json!(OTHER);
    assert_eq!(trimmed(&c.exec_process(&[], &process).output().ok().stdout), OTHER);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_mounted_has_the_mount_label() {
    let Some(host) = host() else { return };
    let c = host.sleeper_with(|spec| {
        labelled(LABEL, MOUNTS)(spec);
        let options = ["ro", "tmpcopyup"];
        push(
            spec,
            "/mounts",
            json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options}),
        );
    });
    c.run_detached();
    let paths = ["/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp", "/etc"];
    for path in paths.iter().chain(&["/etc/passwd", "/sys/firmware"]) {
        assert_eq!(label_of_file(c.pid(), path), MOUNTS, "{path}");
    }
    // What all containers share is labelled by the policy alone.
    for path in ["/proc", "/sys", "/bin"] {
        assert_eq!(label_of_file(c.pid(), path), "system_u:object_r:host_file_t:s0", "{path}");
    }
    assert_eq!(label_of_file(Pid::this(), "/dev/mqueue"), "system_u:object_r:host_file_t:s0");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_whose_options_have_a_label_keeps_that() {
    let Some(host) = host() else { return };
    let own = "system_u:object_r:private_t:s0:c0,c1";
    let c = host.sleeper_with(|spec| {
        labelled(LABEL, MOUNTS)(spec);
        let options = [format!("context=\"{own}\"")];
        let mount = json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"});
        push(spec, "/mounts", mount);
        spec["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"] = json!(options);
    });
    c.run_detached();
    assert_eq!(label_of_file(c.pid(), "/mnt"), own);
    assert_eq!(label_of_file(c.pid(), "/tmp"), MOUNTS);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_selinux_policy_holds_for_what_a_container_does() {
    let Some(host) = host() else { return };
    for (label, mounts, may) in [
        (LABEL, MOUNTS, true),
        (LABEL, "system_u:object_r:private_t:s0", false),
        ("system_u:system_r:container_t:s0:c1", "system_u:object_r:container_file_t:s0:c1", true),
        ("system_u:system_r:container_t:s0:c1", "system_u:object_r:container_file_t:s0:c2", false),
    ] {
        let c = host.sh_with("echo a >/tmp/file", labelled(label, mounts));
        let out = c.run();
        assert_eq!(out.code == 0, may, "{label} {mounts}: {out:?}");
        assert_eq!(out.stderr.contains("Permission denied"), !may, "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_selinux_label_that_no_process_can_have_is_an_error_that_names_it() {
    let Some(host) = host() else { return };
    let refused = |c: &Container, words: &[&str]| {
        c.bundle_verb("run", &[]).output().fails(1, words);
        assert!(!host.state_root().join(c.id()).exists());
    };
    let unknown = "system_u:system_r:nobodys_t:s0";
    let words = ["process.selinuxLabel", unknown, "policy"];
    refused(&host.sleeper_with(labelled(unknown, MOUNTS)), &words);
    refused(&host.sleeper_with(labelled(LABEL, unknown)), &["linux.mountLabel", unknown, "policy"]);
    // Known, but not for whom carob runs as.
    let barred = "system_u:system_r:barred_t:s0";
    refused(&host.sleeper_with(labelled(barred, MOUNTS)), &["permission denied", barred, "policy"]);

    let c = host.sleeper_with(labelled(LABEL, MOUNTS));
    c.run_detached();
    c.exec_call(&["--process-label", unknown], OWN).output().fails(255, &words);
    let out = c.exec_call(&["--process-label", barred], OWN).output();
    out.fails(255, &["permission denied", barred]);
    assert_eq!(c.status(), "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_session_keyring_is_one_that_the_labelled_process_may_use() {
    let Some(host) = host() else { return };
    let c = host.sleeper_with(|spec| {
        labelled(LABEL, MOUNTS)(spec);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["process"]["args"] = json!(["sh", "-c", "cat /proc/keys; echo up; exec sleep 1000"]);
    });
    c.run_detached().wait_output("up");
    let name = format!("_ses.{}", c.id());
    assert!(c.output().contains(&name), "{}", c.output());
    for flags in [&[][..], &["--process-label", OTHER]] {
        let out = c.exec_call(flags, &["cat", "/proc/keys"]).output().ok();
        assert!(out.stdout.contains(&name), "{flags:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_selinux_a_process_label_is_an_error_and_a_mount_label_is_not() {
    let host = Host::new();
    if fs::metadata("/sys/fs/selinux/enforce").is_ok() {
        crate::support::skip("SELinux is enabled here");
        return;
    }
    let c = host.sh_with("true", |spec| spec["process"]["selinuxLabel"] = json!(LABEL));
    let words: &[&str] = match peer() {
        Peer::Carob => &["process.selinuxLabel", "SELinux is not enabled"],
        Peer::Runc => &["selinux"],
    };
    c.create_call(&[]).output().fails(1, words);
    // runc 1.1 passes it on, to a kernel that does not know it.
    if peer() == Peer::Carob {
        host.sh_with("true", |spec| spec["linux"]["mountLabel"] = json!(MOUNTS)).run().ok();
    }
}
