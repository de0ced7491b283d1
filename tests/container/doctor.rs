//! `carob doctor`: says what is there, changes nothing, needs no rights.

use crate::support::user::UID;
use crate::support::{Cgroups, Host, Ids, User, push, runtime};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The check of this name.
fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["checks"].as_array().unwrap();
    all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_report_has_a_shape_that_programs_can_rely_on() {
    let Some(host) = Host::only_carob("runc has no doctor") else { return };
    let report = host.runtime(&["doctor", "--format", "json"]).ok().json();
    assert_eq!(report["usable"], true, "{report}");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    for check in report["checks"].as_array().unwrap() {
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warn", "missing"].contains(&status), "{check}");
        let texts = ["section", "name", "found"];
        assert!(texts.iter().all(|key| !check[key].as_str().unwrap().is_empty()), "{check}");
        let is_told = status == "ok" || check["advice"].is_string();
        assert!(is_told, "what is not as it should be comes with advice: {check}");
    }
    for name in ["kernel", "layout", "controllers", "clone3", "openat2", "seccomp", "systemd"] {
        check(&report, name);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_table_names_each_check_and_ends_with_a_verdict() {
    let Some(host) = Host::only_carob("runc has no doctor") else { return };
    let report = host.runtime(&["doctor", "--format", "json"]).ok().json();
    let table = host.runtime(&["doctor"]).ok().stdout;
    for check in report["checks"].as_array().unwrap() {
        assert!(table.contains(check["name"].as_str().unwrap()), "{check}: {table}");
    }
    assert!(table.ends_with("\ncarob can run containers here\n"), "{table}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_is_told_about_its_ids_and_cgroups_and_nothing_is_left() {
    let Some(_) = Host::only_carob("runc has no doctor") else { return };
    let host = Host::of(User::new(Ids::Granted, Cgroups::None));
    let call = host.bare_call(&["doctor", "--format", "json"]);
    let report = call.env("HOME", host.dir().join("run")).output().ok().json();
    assert_eq!(report["usable"], true, "{report}");
    assert_eq!(check(&report, "/etc/subuid")["found"], "700000-765535");
    assert_eq!(check(&report, "newuidmap")["status"], "ok");
    assert_eq!(check(&report, "user namespaces")["status"], "ok");
    assert_eq!(check(&report, "your rights")["status"], "missing");
    let state = check(&report, "state")["found"].as_str().unwrap();
    assert!(Path::new(state).starts_with(host.dir().join("run")), "{state}");
    let left: Vec<_> = fs::read_dir(host.dir().join("run")).unwrap().collect();
    assert!(left.is_empty(), "uid {UID} has left {left:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_without_a_place_for_state_is_told_so() {
    let Some(_) = Host::only_carob("runc has no doctor") else { return };
    let host = Host::of(User::new(Ids::Own, Cgroups::None));
    let call = host.bare_call(&["doctor"]).env("XDG_RUNTIME_DIR", "");
    let out = call.output();
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stdout.contains("set XDG_RUNTIME_DIR"), "{out:?}");
    assert!(out.stdout.contains("carob cannot run containers here"), "{out:?}");
}

/// The doctor in a container whose filter hides system calls.
fn without(host: &Host, calls: &[&str]) -> (i32, Value) {
    let container = host.container(|spec| {
        spec["process"]["args"] = json!(["/mnt/carob", "doctor", "--format", "json"]);
        let options = ["bind", "ro"];
        let (from, to) = (runtime(), "/mnt");
        let from = from.parent().unwrap();
        push(spec, "/mounts", json!({"destination": to, "source": from, "options": options}));
        let hidden = json!({"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": 38});
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [hidden]});
        let tmpfs = json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"});
        push(spec, "/mounts", tmpfs);
    });
    let out = container.run();
    (out.code, out.json())
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hidden_system_call_is_reported_with_what_carob_does_instead() {
    let Some(host) = Host::only_carob("runc has no doctor") else { return };
    let (code, report) = without(&host, &["openat2", "mount_setattr", "close_range"]);
    assert_eq!(code, 0, "{report}");
    let openat2 = check(&report, "openat2");
    assert_eq!(openat2["status"], "warn", "{openat2}");
    assert_eq!(openat2["found"], "ENOSYS: instead, paths are walked one component at a time");
    assert!(openat2["advice"].as_str().unwrap().contains("Linux 5.6"), "{openat2}");
    assert_eq!(check(&report, "mount_setattr")["status"], "warn");
    assert_eq!(check(&report, "close_range")["status"], "warn");
    assert_eq!(check(&report, "clone3")["status"], "ok");

    let (code, report) = without(&host, &["clone3"]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["usable"], false);
    assert_eq!(check(&report, "clone3")["status"], "fatal");
}
