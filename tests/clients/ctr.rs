//! containerd's own command line: every step goes through its shim.

use crate::containerd::Containerd;
use crate::image::BUSYBOX;
use crate::support::{Output, Peer, peer, skip};
use crate::yard::wait;

const CAROB: &str = "/usr/local/bin/carob";

/// `ctr run flags… --runc-binary carob busybox id args…`
fn run(on: &Containerd, flags: &[&str], id: &str, args: &[&str]) -> Output {
    let binary = ["--runc-binary", CAROB, BUSYBOX, id];
    on.ctr(&[&["run"], flags, &binary, args].concat())
}

/// A container that runs until it is killed.
fn sleeper(on: &Containerd, id: &str) {
    run(on, &["--detach"], id, &["sleep", "1000"]).ok();
}

/// The status that `ctr task ls` shows; empty without a task.
fn status(on: &Containerd, id: &str) -> String {
    let list = on.ctr(&["task", "ls"]).ok().stdout;
    let row = list.lines().find(|row| row.split_whitespace().next() == Some(id));
    row.and_then(|row| row.split_whitespace().nth(2)).unwrap_or_default().to_owned()
}

fn wait_for(on: &Containerd, id: &str, wanted: &str) {
    wait(&format!("{id} to be {wanted:?}"), || match status(on, id) {
        now if now == wanted => Ok(()),
        now => Err(now),
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_gives_output_and_exit_status_and_leaves_nothing() {
    let on = Containerd::start();
    run(&on, &["--rm"], "first", &["true"]).ok();
    let before = on.yard.contents();
    let out = run(&on, &["--rm"], "said", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((out.code, out.text(), out.stderr.trim()), (7, "out", "err"));
    let out = run(&on, &["--rm"], "missing", &["/nonexistent"]);
    assert_ne!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains("no such file or directory"), "{out:?}");
    on.ctr(&["containers", "rm", "missing"]);
    let flags = ["--rm", "--read-only", "--env", "A=b", "--cwd", "/tmp"];
    let out = run(&on, &flags, "told", &["sh", "-c", "echo $A; pwd; touch /x"]);
    assert_eq!((out.code, out.text()), (1, "b\n/tmp"), "{out:?}");
    assert!(out.stderr.contains("Read-only"), "{out:?}");
    let limits = ["--rm", "--seccomp", "--memory-limit", "8388608"];
    let out = run(&on, &limits, "greedy", &["sh", "-c", "head -c 60000000 /dev/zero | tail"]);
    assert_ne!(out.code, 0, "{out:?}");
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_terminal_reaches_the_container_and_an_exec() {
    let on = Containerd::start();
    let run = format!("ctr run --rm --tty --runc-binary {CAROB} {BUSYBOX} t sh -c 'tty; exit 5'");
    let out = on.yard.on_terminal(&run);
    assert!(out.code == 5 && out.stdout.contains("/dev/pts/0"), "{out:?}");
    sleeper(&on, "t");
    let out = on.yard.on_terminal("ctr task exec --tty --exec-id e t sh -c 'tty; exit 6'");
    assert!(out.code == 6 && out.stdout.contains("/dev/pts/0"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_task_goes_through_its_life() {
    let on = Containerd::start();
    run(&on, &["--rm"], "first", &["true"]).ok();
    let before = on.yard.contents();
    sleeper(&on, "web");
    assert_eq!(status(&on, "web"), "RUNNING");
    let exec = |id: &str, script: &str| {
        on.ctr(&["task", "exec", "--exec-id", id, "web", "sh", "-c", script])
    };
    let out = exec("e1", "echo in; exit 3");
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    let out = on.ctr(&["task", "exec", "--exec-id", "e2", "web", "/nonexistent"]);
    assert!(out.code != 0 && out.stderr.contains("no such file or directory"), "{out:?}");
    let pids = on.ctr(&["task", "ps", "web"]).ok();
    assert_eq!(pids.stdout.lines().count(), 2, "a header and one process: {pids:?}");

    on.ctr(&["task", "pause", "web"]).ok();
    assert_eq!(status(&on, "web"), "PAUSED");
    on.ctr(&["task", "resume", "web"]).ok();
    assert_eq!(status(&on, "web"), "RUNNING");

    let out = on.ctr(&["task", "kill", "--signal", "SIGUSR1", "web"]).ok();
    assert_eq!(out.stderr, "", "PID 1 without a handler ignores it");
    on.ctr(&["task", "kill", "--signal", "SIGKILL", "web"]).ok();
    wait_for(&on, "web", "STOPPED");
    let out = on.ctr(&["task", "rm", "web"]);
    // ctr ends with the status of the task that it removes.
    assert!([0, 137].contains(&out.code), "{out:?}");
    on.ctr(&["containers", "rm", "web"]).ok();
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn metrics_are_those_of_the_containers_cgroup() {
    let on = Containerd::start();
    run(&on, &["--detach", "--memory-limit", "33554432"], "web", &["sleep", "1000"]).ok();
    let out = on.ctr(&["task", "metrics", "web"]).ok();
    let row = |name: &str| {
        let row = out.stdout.lines().find(|row| row.starts_with(name));
        row.and_then(|row| row.split_whitespace().nth(1)?.parse::<u64>().ok())
    };
    assert_eq!(row("memory.limit_in_bytes"), Some(33_554_432), "{out:?}");
    assert_eq!(row("pids.current"), Some(1), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_checkpoint_is_refused_and_the_task_goes_on() {
    if peer() == Peer::Runc {
        return skip("runc has checkpoints, given criu");
    }
    let on = Containerd::start();
    sleeper(&on, "web");
    let out = on.ctr(&["task", "checkpoint", "--image-path", "/tmp/image", "web"]);
    assert!(out.code != 0 && out.stderr.contains("not support"), "{out:?}");
    assert_eq!(status(&on, "web"), "RUNNING");
    on.ctr(&["task", "exec", "--exec-id", "e", "web", "true"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_shim_that_is_killed_takes_its_container_along() {
    let on = Containerd::start();
    run(&on, &["--rm"], "first", &["true"]).ok();
    let before = on.yard.contents();
    sleeper(&on, "web");
    on.yard.kill(&["/usr/bin/containerd-shim-runc-v2", "-id", "web"]);
    // containerd notices it and calls `delete --force`.
    wait_for(&on, "web", "");
    on.ctr(&["containers", "rm", "web"]).ok();
    on.yard.returns_to(&before);
    // The id is free.
    sleeper(&on, "web");
    assert_eq!(status(&on, "web"), "RUNNING");
}
