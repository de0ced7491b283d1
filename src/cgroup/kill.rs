//! Signals every process of a cgroup.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::dir::{Dir, gone};
use super::freezer::{self, Freezer};
use super::layout::{Hierarchy, Tree};
use super::walk;
use crate::error::{Error, OsContext, Result};
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Passes over a cgroup whose processes fork while they are being signalled.
const MAX_PASSES: u32 = 1000;

/// Sends `signal` to all processes in the cgroup and below it.
///
/// SIGKILL through the kernel's own `cgroup.kill` where there is one (Linux 5.14); for the rest
/// processes are frozen meanwhile if possible, so that none can fork away, and thawed after a
/// SIGKILL, because a frozen process of v1 does not die.
pub(super) fn all(hierarchies: &[Hierarchy], primary: &Hierarchy, signal: i32) -> Result<()> {
    let kill = signal == libc::SIGKILL;
    if kill && kernel_kill(hierarchies)? && primary.tree == Tree::Unified {
        // The dead leave a frozen cgroup behind, in which the next process would not run.
        return freezer::thaw(hierarchies);
    }
    if walk::processes(&primary.dir())?.is_empty() {
        return Ok(());
    }
    let freezer = Freezer::open(hierarchies).ok();
    let was_frozen = match &freezer {
        Some(freezer) => match freezer.is_frozen() {
            Err(error) if gone(error.errno()) => false,
            other => other?,
        },
        None => false,
    };
    let frozen = freezer.as_ref().filter(|freezer| was_frozen || freezer.freeze().is_ok());
    let result = signal_until_none_is_new(primary, signal);
    // Whoever was paused before stays paused, with the signal queued, unless it is to die.
    if let Some(freezer) = frozen.filter(|_| kill || !was_frozen) {
        freezer.thaw()?;
    }
    result
}

/// `cgroup.kill` of the unified tree; whether it was there.
fn kernel_kill(hierarchies: &[Hierarchy]) -> Result<bool> {
    let Some(unified) = hierarchies.iter().find(|h| h.tree == Tree::Unified) else {
        return Ok(false);
    };
    let Some(dir) = Dir::open_if_exists(unified.dir())? else { return Ok(false) };
    match dir.write_raw("cgroup.kill", "1") {
        Ok(()) => Ok(true),
        // Not there before Linux 5.14, not in a threaded cgroup, and not in one that has just gone.
        Err(errno) if errno == Errno::EOPNOTSUPP || gone(Some(errno)) => Ok(false),
        Err(errno) => Err(errno).os("write", || format!("{}/cgroup.kill", dir.path().display())),
    }
}

fn signal_until_none_is_new(primary: &Hierarchy, signal: i32) -> Result<()> {
    let path = primary.dir();
    let mut done = BTreeSet::new();
    for _ in 0..MAX_PASSES {
        let mut held = Vec::new();
        for pid in walk::processes(&path)? {
            // A pid of another pid namespace than ours is listed as 0: there is none to signal.
            if pid > 0 && !done.contains(&pid) {
                match pidfd_open(Pid::from_raw(pid)) {
                    Ok(pidfd) => held.push((pid, pidfd)),
                    Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno).os("pidfd_open", || pid),
                }
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        // Between the list and the pidfd the pid may have gone to a stranger: whoever is still
        // in the cgroup now is the one that the pidfd holds.
        let still: BTreeSet<i32> = walk::processes(&path)?.into_iter().collect();
        for (pid, pidfd) in held {
            if still.contains(&pid) {
                match pidfd_send_signal(&pidfd, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno).os("send signal to", || pid),
                }
                done.insert(pid);
            }
        }
    }
    Err(Error::Os {
        op: "signal all processes of",
        target: format!("{} (new ones keep coming)", path.display()),
        source: Errno::EAGAIN.into(),
    })
}
