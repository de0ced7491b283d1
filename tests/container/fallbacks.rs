//! Kernels, and profiles around carob, that lack a system call. With those that there is a way
//! around, `scripts/test` runs whole files of tests (`CAROB_TEST_WITHOUT`); here are the others.

use crate::support::{Host, leaks};
use nix::sys::signal::{Signal, kill};

/// There since Linux 5.9 or longer, and a way around would bring back races that they ended.
const REQUIRED: &[&str] =
    &["fsopen", "fsconfig", "fsmount", "open_tree", "move_mount", "pidfd_open", "close_range"];

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_required_call_that_is_missing_is_named_and_nothing_is_left() {
    let Some(host) = Host::only_carob("runc 1.1 makes other calls") else { return };
    for call in REQUIRED {
        let c = host.sleeper();
        let out = c.bundle_verb("run", &["--detach"]).without(&[call]).output();
        if out.code == 0 {
            // Not every call is needed for every verb.
            let out = host.call(&["kill", c.id(), "KILL"]).without(&[call]).output();
            out.fails(1, &[call, "Function not implemented", "carob needs Linux 5.10"]);
            assert_eq!(c.status(), "running", "{call}");
            host.adopt_orphans();
            c.delete_force().ok();
            continue;
        }
        assert!(out.stderr.contains("carob needs Linux 5.10"), "{call}: {out:?}");
        let left = leaks::find(&host, || host.reap());
        assert!(left.is_empty(), "{call}: {left:#?}");
    }
}

/// `cgroup.kill` came with Linux 5.14; before, processes are frozen and signalled one by one.
#[test]
#[ignore = "needs root: run scripts/test"]
fn without_cgroup_kill_every_process_of_a_container_is_killed_all_the_same() {
    let Some(host) = Host::only_carob("runc 1.1 does not know of it") else { return };
    let script = "for i in 1 2 3 4 5; do sleep 1000 & done; echo up; wait";
    let c = host.sh_with(script, |s| {
        // A pid namespace would end with its first process.
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    c.run_detached().wait_output("up");
    let all = leaks::processes(host.marker());
    assert_eq!(all.len(), 6, "{all:?}");
    all.iter().for_each(|pid| host.adopt(*pid));
    // Whether or not this machine has the file, carob does not find it.
    let hide = "strace -f -qq -o /dev/null -P cgroup.kill -e inject=openat:error=ENOENT";
    let delete = c.verb("delete", &["--force"]).after(&format!("set -- {hide} \"$@\"")).spawn();
    delete.wait_while(|| host.reap()).ok();
    for pid in all {
        let gone = kill(pid, None::<Signal>).is_err();
        assert!(gone || crate::support::container::exit_code(pid) == 137, "{pid} lives");
    }
}
