//! What `run` and `exec` may cost, in system calls: their number is the same on a busy machine.
//!
//! A guard against creeping growth. What fails here needs a reason, and then a new bound and a line
//! in docs/performance.md.

use crate::support::call::Call;
use crate::support::driver::{self, Driver};
use crate::support::without::is_unknown_to_kernel;
use crate::support::{Host, cgroup, skip};
use std::fs;

/// Each hierarchy is looked for, made, opened, entered, mounted and removed. Counted with ten hierarchies:
/// 446 or 449. With glibc, which made ten more of them: 332 on v2 alone, 516 with fourteen.
const RUN: usize = 320;
const RUN_PER_HIERARCHY: usize = 14;
/// Two connections: for the unit, and to stop it. systemd also tells of other units meanwhile.
const RUN_BY_SYSTEMD: usize = 100;
/// With ten hierarchies 177 or 180. With glibc on the same hosts 165 or 168, 185 or 188, 188 or 191.
const EXEC: usize = 168;
const EXEC_PER_HIERARCHY: usize = 2;

fn hierarchies() -> usize {
    let all = cgroup::hierarchies();
    // An empty directory beside them costs nothing.
    all.iter().filter(|hierarchy| hierarchy.join("cgroup.procs").exists()).count()
}

fn system_calls(host: &Host, call: Call) -> usize {
    let trace = host.dir().join("trace");
    // Not fcntl: a debug build asks whether a descriptor is open before it closes it.
    let options = "-f -qq -e trace=!fcntl -e signal=none";
    call.after(&format!("set -- strace {options} -o '{}' \"$@\"", trace.display())).output().ok();
    let trace = fs::read_to_string(trace).unwrap();
    // A call that another process has interrupted takes two lines.
    trace.lines().filter(|line| !line.contains(" resumed>")).count()
}

/// As `carob spec` writes it, with a program that does next to nothing.
fn host() -> Option<Host> {
    if is_unknown_to_kernel("mount_setattr") {
        skip("without mount_setattr (before Linux 5.12) mounts take more calls");
        return None;
    }
    Host::only_carob("the bounds are carob's")
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_run_makes_few_system_calls() {
    let Some(host) = host() else { return };
    let c = host.container(|s| s["process"]["args"] = serde_json::json!(["/bin/true"]));
    // Nothing is said twice.
    let _alone = driver::present();
    // The first one makes the cgroups above its own, which stay.
    c.run().ok();
    let calls = system_calls(&host, c.bundle_verb("run", &[]));
    let systemd = if Driver::chosen() == Driver::Systemd { RUN_BY_SYSTEMD } else { 0 };
    let most = RUN + RUN_PER_HIERARCHY * hierarchies() + systemd;
    assert!(calls <= most, "{calls} system calls, at most {most}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_exec_makes_few_system_calls() {
    let Some(host) = host() else { return };
    let c = host.sleeper();
    c.run_detached();
    let calls = system_calls(&host, c.exec_call(&[], &["/bin/true"]));
    let most = EXEC + EXEC_PER_HIERARCHY * hierarchies();
    assert!(calls <= most, "{calls} system calls, at most {most}");
}
