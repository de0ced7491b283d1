//! Things that die or vanish at the wrong moment: delete still removes everything.

use crate::support::{Host, leaks, wait_until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::path::Path;

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_init_killed_from_outside_is_stopped_and_can_be_deleted() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    kill(c.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(c.exit_code(), 137);
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_created_init_killed_from_outside_cannot_be_started() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    kill(c.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(c.exit_code(), 137);
    let out = c.verb("start", &[]).output();
    out.fails(1, &["cannot start a container that has stopped"]);
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_bundle_is_not_needed_after_create() {
    let host = Host::new();
    let c = host.sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    c.run_detached().wait_output("ready");
    let pid = c.pid();
    fs::remove_dir_all(c.bundle()).unwrap();
    assert_eq!(c.status(), "running");
    c.verb("pause", &[]).output().ok();
    c.verb("resume", &[]).output().ok();
    c.verb("ps", &["--format", "json"]).output().ok();
    c.kill("TERM").ok();
    assert_eq!(crate::support::container::exit_code(pid), 3);
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_create_killed_half_way_is_removed_by_delete_force() {
    let Some(host) = Host::only_carob("runc writes its state only after the hooks") else {
        return;
    };
    let mark = host.dir().join("in-hook");
    let c = host.sleeper_with(|s| {
        let script = format!("touch {}; exec sleep 1000", mark.display());
        s["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [host.env_mark()]}]);
    });
    let create = c.create_call(&[]).spawn();
    wait_until("the hook", || if mark.exists() { Ok(()) } else { Err("not run".to_owned()) });
    let procs = fs::read_to_string(host.cgroup("pids", c.id()).join("cgroup.procs")).unwrap();
    host.adopt(Pid::from_raw(procs.trim().parse().unwrap()));
    create.signal(Signal::SIGKILL);
    create.wait();
    // The hook and init are orphans of ours now; what of them is the container's must go.
    let orphans = host.adopt_orphans();
    c.delete_force().ok();
    for pid in orphans {
        kill(pid, Signal::SIGKILL).ok();
    }
    assert!(!host.state_root().join(c.id()).exists());
    assert!(!host.cgroup("memory", c.id()).exists());
}

/// Of the harness itself: an orphan that is dying just then has neither arguments nor environment any
/// more, and is no zombie yet; much memory keeps it so for a while.
#[test]
#[ignore = "needs root: run scripts/test"]
fn an_orphan_that_is_just_dying_is_found() {
    let script = "dd if=/dev/zero bs=256M count=1 2>/dev/null | \
                  { head -c 1 >/dev/null; echo full; exec sleep 1000; } & wait";
    for _ in 0..5 {
        let host = Host::new();
        let call = host.call(&["--version"]).env("CAROB_TEST", host.marker()).after(script).spawn();
        call.wait_stdout("full");
        let is_dd =
            |pid: &Pid| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"dd\n");
        let dd = leaks::processes(host.marker()).into_iter().find(is_dd).unwrap();
        kill(dd, Signal::SIGKILL).unwrap();
        while fs::read(format!("/proc/{dd}/cmdline")).is_ok_and(|text| !text.is_empty()) {}
        killpg(call.pid(), Signal::SIGKILL).unwrap();
        call.wait();
        // Whom this misses, the end of the host finds.
        host.adopt_orphans();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_foreground_run_killed_leaves_a_container_that_can_be_deleted() {
    let host = Host::new();
    let c = host.sh("echo up; sleep 1000");
    let pid_file = host.dir().join("run.pid");
    let run = c.bundle_verb("run", &["--pid-file", pid_file.to_str().unwrap()]).spawn();
    run.wait_stdout("up");
    // It may be written after the program has begun.
    let pid: i32 = wait_until("the pid file", || {
        let text = fs::read_to_string(&pid_file).unwrap_or_default();
        text.parse().map_err(|e| format!("{text:?}: {e}"))
    });
    run.signal(Signal::SIGKILL);
    run.wait();
    host.adopt(Pid::from_raw(pid));
    c.delete_force().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_state_file_that_is_damaged_is_an_error_and_force_removes_it() {
    let Some(host) = Host::only_carob("runc 1.1 leaves the entry") else {
        return;
    };
    let c = host.sleeper();
    c.create();
    let dir = host.state_root().join(c.id());
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".json") {
            fs::write(entry.path(), "{").unwrap();
        }
    }
    assert_ne!(c.verb("state", &[]).output().code, 0);
    // Neither pid nor cgroup is known any more, but the id is free again afterwards.
    kill(c.pid(), Signal::SIGKILL).unwrap();
    c.exit_code();
    c.delete_force().ok();
    assert!(!dir.exists());
    leaks::sweep(host.marker(), || {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_entry_without_state_is_removed_by_delete_force() {
    let host = Host::new();
    let dir = host.state_root().join("half");
    fs::create_dir(&dir).unwrap();
    host.runtime(&["delete", "--force", "half"]).ok();
    assert!(!dir.exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_entry_that_cannot_be_read_does_not_hide_the_others_from_list() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    fs::create_dir(host.state_root().join("half")).unwrap();
    let out = host.runtime(&["list", "-q"]);
    assert!(out.stdout.contains(c.id()), "{out:?}");
    fs::remove_dir(host.state_root().join("half")).unwrap();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn processes_left_in_the_cgroup_of_a_stopped_container_are_killed_by_force() {
    let host = Host::new();
    let c = host.sh_with("sleep 1000 & echo $! > /dev/stderr; exit 0", |s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    c.run_detached();
    assert_eq!(c.exit_code(), 0);
    let procs = host.cgroup("pids", c.id()).join("cgroup.procs");
    let left: i32 = fs::read_to_string(procs).unwrap().trim().parse().unwrap();
    host.adopt(Pid::from_raw(left));
    c.delete_force().ok();
    assert_eq!(crate::support::container::exit_code(Pid::from_raw(left)), 137);
}

/// Since Linux 6.14 the kernel kills what is cloned from such a cgroup into another one.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_caller_in_a_cgroup_that_was_killed_once_can_run_and_exec() {
    let host = Host::new();
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let Some(root) = unified.into_iter().find(|dir| dir.join("cgroup.procs").exists()) else {
        return;
    };
    let caller = root.join(format!("{}-caller", host.marker()));
    fs::create_dir(&caller).unwrap();
    if fs::write(caller.join("cgroup.kill"), "1").is_ok() {
        let enter = format!("echo $$ > {}/cgroup.procs", caller.display());
        let container = host.sleeper();
        container.create_call(&[]).after(&enter).output().ok();
        host.adopt(container.pid());
        let out = container.exec_call(&[], &["echo", "inside"]).after(&enter).output();
        assert_eq!(out.ok().text(), "inside");
        container.start();
        container.delete_force().ok();
        let out = host.sh("echo run").bundle_verb("run", &[]).after(&enter).output();
        assert_eq!(out.ok().text(), "run");
    }
    fs::remove_dir(&caller).unwrap();
}
