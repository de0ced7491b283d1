//! AppArmor, with profiles of the tests' own: where it runs, and there is a parser for them.

use crate::support::apparmor::{self, Profile};
use crate::support::{Container, Host, Peer, lacks, peer, push};
use serde_json::{Value, json};
use std::fs;

/// A host that has it; `None` (skip) otherwise.
fn host() -> Option<Host> {
    apparmor::is_there().then(Host::new)
}

fn load(host: &Host, forbidden: &str) -> Profile {
    Profile::load(host.dir(), host.marker(), forbidden)
}

const OWN: &str = "cat /proc/self/attr/apparmor/current";

fn with_profile(name: &str) -> impl FnOnce(&mut Value) {
    move |spec| {
        spec["process"]["apparmorProfile"] = json!(name);
        with_tmp(spec);
    }
}

fn with_tmp(spec: &mut Value) {
    push(spec, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_is_confined_by_its_apparmor_profile() {
    let Some(host) = host() else { return };
    let profile = load(&host, "forbidden");
    for no_new_privileges in [true, false] {
        let script = format!(
            "{OWN}; echo a >/tmp/other && echo other; echo a >/tmp/forbidden && echo forbidden; true"
        );
        let c = host.sh_with(&script, |spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            with_profile(&profile.name)(spec);
        });
        let out = c.run().ok();
        assert_eq!(out.text(), format!("{}\nother", profile.seen()), "{out:?}");
        assert!(out.stderr.contains("Permission denied"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_has_the_containers_apparmor_profile_or_its_own() {
    let Some(host) = host() else { return };
    let (one, other) = (load(&host, "one"), load(&host, "other"));
    let c = host.sleeper_with(with_profile(&one.name));
    c.run_detached();
    let own = ["sh", "-c", OWN];
    assert_eq!(c.exec(&own).ok().text(), one.seen());
    assert_ne!(c.exec_sh("echo >/tmp/one").code, 0);
    let flags = ["--apparmor", &other.name];
    assert_eq!(c.exec_call(&flags, &own).output().ok().text(), other.seen());
    assert_eq!(c.exec_call(&flags, &["sh", "-c", "echo >/tmp/one"]).output().code, 0);
    let mut process =
        json!({"args": own, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    assert_eq!(c.exec_process(&[], &process).output().ok().text(), one.seen());
    process["apparmorProfile"] = json!(other.name);
    assert_eq!(c.exec_process(&[], &process).output().ok().text(), other.seen());

    let free = host.sleeper();
    free.run_detached();
    assert_eq!(free.exec(&own).ok().text(), "unconfined");
    assert_eq!(free.exec_call(&flags, &own).output().ok().text(), other.seen());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_apparmor_profile_that_is_not_loaded_is_an_error_that_names_it() {
    let Some(host) = host() else { return };
    let words = ["process.apparmorProfile", "\"nobody's\" is not loaded", "apparmor_parser"];
    let c = host.sleeper_with(with_profile("nobody's"));
    c.create_call(&[]).output().fails(1, &words);
    assert!(!host.state_root().join(c.id()).exists());
    let c = host.sleeper();
    c.run_detached();
    c.exec_call(&["--apparmor", "nobody's"], &["true"]).output().fails(255, &words);
    assert_eq!(c.status(), "running");
}

/// CVE-2019-16884, CVE-2025-52881: the label goes to the kernel, whatever the container's `/proc` is.
#[test]
#[ignore = "needs root: run scripts/test"]
fn an_apparmor_profile_is_not_written_into_a_proc_that_others_have_made() {
    let Some(host) = host() else { return };
    let profile = load(&host, "forbidden");
    let confined = |c: &Container| {
        let label = fs::read_to_string(format!("/proc/{}/attr/apparmor/current", c.pid())).unwrap();
        assert_eq!(label.trim(), profile.seen());
    };
    const FAKE: &[&str] = &["self/attr/exec", "self/attr/current", "self/attr/apparmor/exec"];

    // A root file system that brings files instead of a directory to mount procfs on.
    let rootfs = host.own_rootfs();
    fs::create_dir_all(rootfs.join("proc/self/attr/apparmor")).unwrap();
    FAKE.iter().for_each(|file| fs::write(rootfs.join("proc").join(file), "").unwrap());
    let c = host.sleeper_with(|spec| {
        with_profile(&profile.name)(spec);
        spec["root"]["path"] = json!(rootfs);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
    });
    c.run_detached();
    confined(&c);

    // A container that hides its procfs, before a process enters it, and another container.
    let script = format!(
        "mount -t tmpfs fake /proc && cd /proc && mkdir -p self/attr/apparmor self/fd && touch {} \
         && echo hidden; exec sleep 1000",
        FAKE.join(" ")
    );
    let first = host.sh_with(&script, |spec| {
        with_tmp(spec);
        let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        spec["process"]["capabilities"] =
            json!({"bounding": all, "permitted": all, "effective": all});
    });
    first.run_detached().wait_output("hidden");
    let flags = ["--apparmor", &profile.name];
    let out =
        first.exec_call(&flags, &["sh", "-c", "echo >/dev/shm/x; echo >/tmp/forbidden"]).output();
    assert!(out.stderr.contains("Permission denied"), "{out:?}");
    let untouched = || {
        for file in FAKE {
            let fake = format!("/proc/{}/root/proc/{file}", first.pid());
            assert_eq!(fs::read_to_string(&fake).unwrap(), "", "{fake}");
            assert_eq!(fs::read_to_string(rootfs.join("proc").join(file)).unwrap(), "", "{file}");
        }
    };
    untouched();
    // Without it such a container is refused, there being no procfs to name its mounts by.
    if lacks("mount_setattr") {
        return;
    }
    let second = host.sleeper_with(|spec| {
        spec["process"]["apparmorProfile"] = json!(profile.name);
        spec["linux"]["namespaces"] = json!([
            {"type": "mount", "path": format!("/proc/{}/ns/mnt", first.pid())},
            {"type": "network"}, {"type": "uts"}, {"type": "ipc"}, {"type": "pid"},
        ]);
        spec["root"] = json!({"path": "/"});
        spec["mounts"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    second.run_detached();
    confined(&second);
    untouched();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_apparmor_a_profile_is_an_error() {
    let host = Host::new();
    if apparmor::is_enabled() {
        crate::support::skip("AppArmor is enabled here");
        return;
    }
    let c = host.sleeper_with(|spec| spec["process"]["apparmorProfile"] = json!("any"));
    let words: &[&str] = match peer() {
        Peer::Carob => &["process.apparmorProfile", "AppArmor is not enabled"],
        Peer::Runc => &["apparmor"],
    };
    c.create_call(&[]).output().fails(1, words);
}
