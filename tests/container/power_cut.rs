//! A verb, or init, killed at any of its system calls: `delete --force` leaves nothing, and the id
//! can be used again. `CAROB_TEST_LONG=1` kills at each of them.

use crate::host_mounts::without_namespace;
use crate::support::{Call, Container, Host, leaks, rounds};
use crate::tracer::{Point, follow};
use std::fs;

/// How many moments of a process are tried, at most.
const MOMENTS: [usize; 2] = [5, 100_000];

/// What a verb is done to, and how.
struct Case {
    /// Makes the container as the verb finds it.
    before: fn(&Container),
    verb: fn(&Container) -> Call,
    /// What must hold before the container is deleted.
    after: fn(&Container),
}

/// Kills at moments spread over what the verb does when nobody disturbs it.
fn cut(case: &Case) {
    let Some(host) = Host::only_carob("crash safety is carob's own") else { return };
    cut_of(&host, &host.sleeper(), case);
}

fn cut_of(host: &Host, c: &Container, case: &Case) {
    (case.before)(c);
    let calm = follow((case.verb)(c), None);
    calm.out.clone().ok();
    host.adopt_orphans();
    remove(host, c);
    for (who, calls) in calm.calls.iter().enumerate() {
        let stride = calls.len().div_ceil(rounds(MOMENTS)).max(1);
        for (turn, call) in (0..calls.len()).step_by(stride).enumerate() {
            // Alone, and as when the machine's memory is full, with all that belong to it.
            let point = Point { who, call: call + stride / 2, all: turn % 3 == 2 };
            (case.before)(c);
            let trace = follow((case.verb)(c), Some(point));
            assert!(!trace.out.stderr.contains("panicked"), "{point:?}: {trace:?}");
            host.adopt_orphans();
            (case.after)(c);
            remove(host, c);
            nothing_is_left(host, &format!("{point:?} {trace:?}"));
        }
    }
    c.create();
    c.start();
    c.delete_force().ok();
}

fn remove(host: &Host, c: &Container) {
    // An init ends only after orphans of the verb, which are ours now, are reaped.
    let delete = c.verb("delete", &["--force"]).spawn();
    delete.wait_while(|| host.reap()).ok();
    host.adopt_orphans();
    fs::remove_file(c.bundle().join("pid")).ok();
}

fn nothing_is_left(host: &Host, what: &str) {
    let left = leaks::find(host, || host.reap());
    assert!(left.is_empty(), "{what}: {left:#?}");
}

fn nothing(_: &Container) {}

fn create(c: &Container) {
    c.create();
}

fn run(c: &Container) {
    c.run_detached();
}

/// It is the same as before, whatever became of the verb.
fn runs(c: &Container) {
    assert_eq!(c.status(), "running");
    c.exec(&["true"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn create_and_its_init_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.create_call(&[]);
    cut(&Case { before: nothing, verb, after: nothing });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_and_its_init_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.bundle_verb("run", &["--detach"]);
    cut(&Case { before: nothing, verb, after: nothing });
}

/// What is mounted among the host's mounts goes, too.
#[test]
#[ignore = "needs root: run scripts/test"]
fn create_without_a_mount_namespace_can_be_killed_at_any_moment() {
    let Some(host) = Host::only_carob("crash safety is carob's own") else { return };
    let rootfs = host.own_rootfs();
    let c = host.sleeper_with(|s| without_namespace(s, &rootfs));
    let verb = |c: &Container| c.create_call(&[]);
    cut_of(&host, &c, &Case { before: nothing, verb, after: nothing });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_without_a_mount_namespace_can_be_killed_at_any_moment() {
    let Some(host) = Host::only_carob("crash safety is carob's own") else { return };
    let rootfs = host.own_rootfs();
    let c = host.sleeper_with(|s| without_namespace(s, &rootfs));
    let verb = |c: &Container| c.verb("delete", &["--force"]);
    cut_of(&host, &c, &Case { before: run, verb, after: nothing });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn start_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.verb("start", &[]);
    cut(&Case { before: create, verb, after: nothing });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_and_its_process_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.exec_call(&[], &["true"]);
    cut(&Case { before: run, verb, after: runs });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_can_be_killed_at_any_moment() {
    let verb = |c: &Container| {
        c.verb("update", &["--memory", "100000000", "--cpu-quota", "50000", "--pids-limit", "50"])
    };
    cut(&Case { before: run, verb, after: runs });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pause_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.verb("pause", &[]);
    cut(&Case {
        before: run,
        verb,
        after: |c| {
            c.verb("resume", &[]).output();
            runs(c);
        },
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.verb("delete", &["--force"]);
    cut(&Case { before: run, verb, after: nothing });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.kill_call("KILL");
    cut(&Case {
        before: run,
        verb,
        after: |c| assert!(["running", "stopped"].contains(&c.status().as_str())),
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn resume_can_be_killed_at_any_moment() {
    let verb = |c: &Container| c.verb("resume", &[]);
    cut(&Case {
        before: |c| {
            c.run_detached();
            c.verb("pause", &[]).output().ok();
        },
        verb,
        // What is still frozen must be possible to delete.
        after: |c| assert!(["running", "paused"].contains(&c.status().as_str())),
    });
}
