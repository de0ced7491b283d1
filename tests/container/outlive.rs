//! Processes that go on when init has exited: those of a container in a shared pid namespace.

use crate::support::container::exit_code;
use crate::support::{Container, Host, Peer, cgroup, peer, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};

fn without_pid_namespace(host: &Host) -> Container<'_> {
    let c = host.sleeper_with(|s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    c.run_detached();
    let pid_file = host.dir().join("exec.pid");
    let flags = ["-d", "--pid-file", pid_file.to_str().unwrap()];
    c.exec_call(&flags, &["sleep", "1000"]).output().ok();
    host.adopt(Pid::from_raw(fs::read_to_string(pid_file).unwrap().parse().unwrap()));
    kill(c.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(c.exit_code(), 137);
    c
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn processes_that_outlive_init_are_killed_by_kill() {
    let Some(host) = Host::only_carob("runc 1.1 finds nothing to kill once init has exited") else {
        return;
    };
    let c = without_pid_namespace(&host);
    if peer() == Peer::Carob {
        c.kill("TERM").fails(1, &["container not running"]);
    }
    c.kill("KILL").ok();
    if peer() == Peer::Carob {
        // They die on their own time.
        let over = wait_until("nothing left to kill", || {
            let again = c.kill("KILL");
            if again.code == 0 { Err(format!("{again:?}")) } else { Ok(again) }
        });
        over.fails(1, &["container not running"]);
    }
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn processes_that_outlive_init_are_killed_by_delete() {
    let Some(host) = Host::only_carob("runc 1.1 waits for them to go") else {
        return;
    };
    without_pid_namespace(&host).delete().ok();
}

/// A cgroup in which no process can be before it has processors.
fn needs_cpus(dir: &Path) -> bool {
    !cgroup::is_v2() && dir.join("cpuset.cpus").exists()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_finds_what_outlives_init_in_cgroups_below_and_frozen() {
    let Some(host) = Host::only_carob("runc 1.1 waits for them to go") else {
        return;
    };
    for (flags, frozen) in [(&[][..], false), (&["--force"][..], false), (&["--force"][..], true)] {
        let c = without_pid_namespace(&host);
        let pid = fs::read_to_string(host.dir().join("exec.pid")).unwrap();
        let path = host.cgroup("pids", c.id());
        let path = path.strip_prefix(cgroup::hierarchy("pids")).unwrap();
        let all = cgroup::hierarchies();
        let all: Vec<PathBuf> = all.iter().map(|root| root.join(path)).collect();
        // As a service manager in the container does.
        for dir in all.iter().filter(|dir| dir.is_dir() && !needs_cpus(dir)) {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("sub/cgroup.procs"), &pid).unwrap();
        }
        let freezer = host.cgroup("freezer", c.id());
        if frozen && freezer.join("freezer.state").exists() {
            fs::write(freezer.join("freezer.state"), "FROZEN").unwrap();
        } else if frozen {
            fs::write(freezer.join("cgroup.freeze"), "1").unwrap();
        }
        assert_eq!(c.status(), "stopped");
        c.verb("delete", flags).output().ok();
        let pid = Pid::from_raw(pid.parse().unwrap());
        assert_eq!(exit_code(pid), 137, "{flags:?} frozen: {frozen}");
        assert!(all.iter().all(|dir| !dir.exists()), "{flags:?} frozen: {frozen}");
    }
}
