//! Descriptors of the host: none is left open in a container, none can be taken while it is made.

use crate::support::{Host, rounds};
use serde_json::json;
use std::fs;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_leaked_directory_cannot_become_the_working_directory() {
    let host = Host::new();
    let leak = "exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ 10</";
    for fd in 3..=32 {
        let cwd = format!("/proc/self/fd/{fd}");
        let c = host.sh_with("ls", |s| s["process"]["cwd"] = json!(cwd));
        let out = c.bundle_verb("run", &[]).after(leak).output();
        assert_ne!(out.code, 0, "{fd}: {out:?}");
        assert!(!out.stdout.contains("sbin"), "{fd}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_leaked_directory_cannot_become_the_working_directory_of_exec() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    for fd in 3..=32 {
        let cwd = format!("/proc/self/fd/{fd}");
        let call = c.exec_call(&["--cwd", &cwd], &["ls"]);
        let out = call.after("exec 3</ 4</ 5</ 6</ 7</ 8</ 9</ 10</").output();
        assert_ne!(out.code, 0, "{fd}: {out:?}");
        assert!(!out.stdout.contains("sbin"), "{fd}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_socket_of_the_caller_is_not_in_the_container() {
    let host = Host::new();
    let c = host.sh("ls -l /proc/self/fd/ | grep -v pipe");
    let call = c.bundle_verb("run", &[]).after("exec 20<>/dev/null 21</proc 22</");
    let out = call.output().ok();
    assert!(!out.stdout.contains(" 2") || !out.stdout.contains("-> /proc\n"), "{out:?}");
    assert!(!out.stdout.contains("20 ->") && !out.stdout.contains("21 ->"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn while_exec_starts_no_descriptor_of_the_host_can_be_reached() {
    let host = Host::new();
    // Looks into every process but itself, as root with all it may have here.
    let script = "while :; do for f in /proc/[0-9]*/fd/*; do \
                  l=$(readlink $f) && case $l in /proc/*|/sys/*|*canary*) echo FOUND $f $l;; esac; \
                  done; [ -e $(readlink -f /proc/1/root)/stop ] && exit; done 2>/dev/null";
    let c = host.sh(script);
    fs::create_dir(host.dir().join("canary")).unwrap();
    c.run_detached();
    for _ in 0..rounds([15, 1000]) {
        let prelude = format!("exec 9<{}", host.dir().join("canary").display());
        c.exec_call(&[], &["true"]).after(&prelude).output().ok();
    }
    let leaks: Vec<String> =
        c.output().lines().filter(|l| l.contains("canary")).map(str::to_owned).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}
