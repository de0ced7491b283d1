//! System calls that fail once: a full disk, no descriptor, no memory, a signal in between.
//! The verb succeeds, or says what failed and leaves nothing behind.

use crate::host_mounts::without_namespace;
use crate::support::without::is_unknown_to_kernel;
use crate::support::{Call, Container, Host, Output, leaks, push, rounds, wait_until};
use crate::tracer::follow;
use libseccomp::ScmpSyscall;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// How many occurrences of a call are made to fail, at most.
const OCCURRENCES: [usize; 2] = [1, 1000];

/// Which errors to expect of which calls.
const REFUSALS: &[(&str, &[&str])] = &[
    (
        "EMFILE",
        &[
            "dup",
            "epoll_create1",
            "fsmount",
            "fsopen",
            "memfd_create",
            "open_tree",
            "openat",
            "openat2",
            "pidfd_open",
            "pipe2",
            "socket",
            "socketpair",
        ],
    ),
    (
        "ENOSPC",
        &[
            "clone3",
            "fsconfig",
            "fsmount",
            "ftruncate",
            "mkdir",
            "mkdirat",
            "mknodat",
            "mount",
            "move_mount",
            "open_tree",
            "openat",
            "rename",
            "renameat2",
            "symlinkat",
            "unshare",
            "write",
        ],
    ),
    (
        "ENOMEM",
        &[
            "clone3",
            "execve",
            "fsopen",
            "getdents64",
            "ioctl",
            "keyctl",
            "mount_setattr",
            "move_mount",
            "newfstatat",
            "open_tree",
            "pidfd_open",
            "pivot_root",
            "poll",
            "prctl",
            "prlimit64",
            "readlink",
            "seccomp",
            "sendmsg",
            "setgroups",
            "setns",
            "setresuid",
            "socketpair",
            "umount2",
            "unlink",
            "unshare",
            "waitid",
        ],
    ),
    (
        "EINTR",
        &[
            "accept4", "connect", "fcntl", "flock", "openat", "openat2", "poll", "read", "recvmsg",
            "sendmsg", "sendto", "wait4", "waitid", "write",
        ],
    ),
];

/// A verb, what it is done to, and what must hold afterwards, whatever became of it.
struct Case {
    /// How many refusals there are to try, at least.
    least: usize,
    before: fn(&Container),
    verb: fn(&Container) -> Call,
    after: fn(&Host, &Container, &Output),
}

/// Makes each call of the verb fail that can, one at a time.
fn refuse(case: &Case, edit: fn(&mut Value)) {
    let Some(host) = Host::only_carob("the texts are carob's own") else { return };
    refuse_of(&host, &host.sleeper_with(edit), case);
}

fn refuse_of(host: &Host, c: &Container, case: &Case) {
    (case.before)(c);
    let calm = follow((case.verb)(c), None);
    let out = calm.out.ok();
    host.adopt_orphans();
    (case.after)(host, c, &out);
    let counts = counts(&calm.calls);
    let mut tried = 0;
    for (error, calls) in REFUSALS {
        for call in calls.iter().filter(|call| is_known(call)) {
            let count = counts.get(*call).copied().unwrap_or(0);
            // What cannot be opened is each time another thing.
            let most = if *call == "openat" { count } else { rounds(OCCURRENCES) };
            let stride = count.div_ceil(most.max(1)).max(1);
            for nth in (1 + stride / 2..=count).step_by(stride) {
                tried += 1;
                let refusal = format!("{call}:error={error}:when={nth}");
                (case.before)(c);
                let out = refused((case.verb)(c), host, &refusal);
                (case.after)(host, c, &out);
            }
        }
    }
    assert!(tried >= case.least, "{tried} calls of {counts:?}");
    delete(host, c);
}

/// Whether strace can be told of it: one that is as old as a kernel without it cannot.
fn is_known(call: &str) -> bool {
    call != "mount_setattr" || !is_unknown_to_kernel(call)
}

/// How often each call is made, by the process that makes it most: strace counts them apart.
fn counts(calls: &[Vec<i64>]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for calls in calls {
        let mut here: BTreeMap<String, usize> = BTreeMap::new();
        for call in calls.iter().filter_map(|number| name(*number)) {
            *here.entry(call).or_default() += 1;
        }
        for (call, count) in here {
            let most = counts.entry(call).or_default();
            *most = count.max(*most);
        }
    }
    counts
}

fn name(number: i64) -> Option<String> {
    ScmpSyscall::from_raw_syscall(i32::try_from(number).ok()?).get_name().ok()
}

/// Runs a verb with one call refused, in itself and in what it clones.
fn refused(verb: Call, host: &Host, refusal: &str) -> Output {
    let call = refusal.split(':').next().unwrap();
    // As a grandchild: it goes on to trace the container when the verb has ended.
    let strace = format!("strace -D -f -qq -o /dev/null -e trace={call} -e inject={refusal}");
    let out = verb.after(&format!("set -- {strace} \"$@\"")).output();
    assert!(!out.stderr.contains("panicked"), "{refusal}: {out:?}");
    assert!(out.code < 128 || out.code == 255, "{refusal}: {out:?}");
    let says = out.stderr.lines().any(|line| line.contains("error: ") && line.len() > 20);
    // Counted for each process apart, the refused write may also be the one of the message.
    let is_unheard = call == "write" && out.stderr.is_empty();
    assert!(out.code == 0 || says || is_unheard, "{refusal}: {out:?}");
    host.adopt_orphans();
    Output { stderr: format!("{refusal}: {}", out.stderr), ..out }
}

/// Nothing is left of the container, or it is there.
fn there_or_gone(host: &Host, c: &Container, out: &Output) {
    if out.code == 0 {
        assert!(["running", "created"].contains(&c.status().as_str()), "{out:?}");
        delete(host, c);
    }
    gone(host, out);
}

fn delete(host: &Host, c: &Container) {
    c.verb("delete", &["--force"]).spawn().wait_while(|| host.reap()).ok();
}

fn gone(host: &Host, out: &Output) {
    host.adopt_orphans();
    let left = leaks::find(host, || host.reap());
    assert!(left.is_empty(), "{out:?}: {left:#?}");
}

/// It is as before, whatever became of the verb.
fn runs(_: &Host, c: &Container, out: &Output) {
    assert_eq!(c.status(), "running", "{out:?}");
}

fn nothing(_: &Container) {}

fn created(c: &Container) {
    c.create();
}

fn running(c: &Container) {
    if c.verb("state", &[]).output().code != 0 {
        c.run_detached();
    }
}

fn with_hook(spec: &mut Value) {
    spec["hooks"]["createRuntime"] = json!([{"path": "/bin/true"}]);
    push(spec, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_succeeds_or_leaves_nothing_whichever_call_fails() {
    let verb = |c: &Container| c.bundle_verb("run", &["--detach"]);
    refuse(&Case { least: 20, before: nothing, verb, after: there_or_gone }, with_hook);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_succeeds_or_leaves_nothing_whichever_call_fails() {
    let before = running;
    let verb = |c: &Container| c.exec_call(&[], &["true"]);
    let after = |host: &Host, c: &Container, out: &Output| {
        assert_eq!(c.status(), "running", "{out:?}");
        let file = host.cgroup("pids", c.id()).join("cgroup.procs");
        wait_until("nobody but init", || {
            host.reap();
            let text = fs::read_to_string(&file).unwrap();
            if text.lines().count() == 1 { Ok(()) } else { Err(format!("{text:?} after {out:?}")) }
        });
    };
    refuse(&Case { least: 20, before, verb, after }, |_| {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn create_succeeds_or_leaves_nothing_whichever_call_fails() {
    let verb = |c: &Container| c.create_call(&[]);
    refuse(&Case { least: 20, before: nothing, verb, after: there_or_gone }, with_hook);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_without_a_mount_namespace_succeeds_or_leaves_nothing_whichever_call_fails() {
    let Some(host) = Host::only_carob("the texts are carob's own") else { return };
    let rootfs = host.own_rootfs();
    let c = host.sleeper_with(|s| without_namespace(s, &rootfs));
    let verb = |c: &Container| c.bundle_verb("run", &["--detach"]);
    refuse_of(&host, &c, &Case { least: 20, before: nothing, verb, after: there_or_gone });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn start_succeeds_or_can_be_tried_again_whichever_call_fails() {
    let verb = |c: &Container| c.verb("start", &[]);
    let after = |host: &Host, c: &Container, out: &Output| {
        // Of a starter that failed after its knock, init has died.
        wait_until("what became of it", || {
            host.reap();
            let status = c.status();
            match (out.code, status.as_str()) {
                (0, "running") | (_, "stopped") => Ok(()),
                (1.., "created") => {
                    c.start();
                    Ok(())
                }
                _ => Err(format!("{status} after {out:?}")),
            }
        });
        delete(host, c);
        gone(host, out);
    };
    refuse(&Case { least: 10, before: created, verb, after }, |_| {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_leaves_the_container_running_whichever_call_fails() {
    let verb = |c: &Container| {
        c.verb("update", &["--memory", "100000000", "--cpu-quota", "50000", "--pids-limit", "50"])
    };
    refuse(&Case { least: 10, before: running, verb, after: runs }, |_| {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_leaves_the_container_running_whichever_call_fails() {
    let verb = |c: &Container| c.kill_call("URG");
    refuse(&Case { least: 5, before: running, verb, after: runs }, |_| {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pause_and_resume_can_be_tried_again_whichever_call_fails() {
    let resumed = |host: &Host, c: &Container, out: &Output| {
        if c.status() == "paused" {
            c.verb("resume", &[]).output().ok();
        }
        runs(host, c, out);
    };
    let verb = |c: &Container| c.verb("pause", &[]);
    refuse(&Case { least: 5, before: running, verb, after: resumed }, |_| {});
    let paused = |c: &Container| {
        running(c);
        c.verb("pause", &[]).output().ok();
    };
    let verb = |c: &Container| c.verb("resume", &[]);
    refuse(&Case { least: 5, before: paused, verb, after: resumed }, |_| {});
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_leaves_nothing_or_can_be_tried_again_whichever_call_fails() {
    let verb = |c: &Container| c.verb("delete", &["--force"]);
    let after = |host: &Host, c: &Container, out: &Output| {
        if out.code != 0 {
            delete(host, c);
        }
        gone(host, out);
    };
    refuse(&Case { least: 10, before: running, verb, after }, |_| {});
}
