//! The processes of a container: those of its cgroup, or, where it has none, those that /proc shows
//! to be its.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Runtime;
use super::state::State;
use crate::error::{OsContext, Result};
use crate::sys::process;

/// Rounds over processes that fork while they are being signalled.
const MAX_ROUNDS: u32 = 100;

impl Runtime {
    /// Pids of all processes of the container, as carob sees them; empty when stopped.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`]; [`crate::error::Error::Os`] if the cgroup cannot be read.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>> {
        self.container(id)?.state.processes()
    }
}

impl State {
    /// Pids of all processes of the container, as carob sees them, sorted.
    ///
    /// Without a cgroup: init, what is in its pid namespace if that is the container's own, and
    /// what these have started.
    pub(super) fn processes(&self) -> Result<Vec<i32>> {
        if self.cgroup.is_missing() { self.relatives() } else { self.cgroup.processes() }
    }

    /// Signals all processes of the container.
    pub(super) fn signal_all(&self, signal: i32) -> Result<()> {
        if !self.cgroup.is_missing() {
            return self.cgroup.kill_all(signal);
        }
        let mut done = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let mut held = Vec::new();
            for pid in self.relatives()?.into_iter().filter(|pid| !done.contains(pid)) {
                match process::pidfd_open(Pid::from_raw(pid)) {
                    Err(Errno::ESRCH) => {}
                    other => held.push((pid, other.os("pidfd_open", || pid)?)),
                }
            }
            if held.is_empty() {
                break;
            }
            // A pid may have gone to a stranger since it was listed; a pidfd is of who has it now.
            let still = self.relatives()?;
            for (pid, pidfd) in held {
                done.insert(pid);
                if !still.contains(&pid) {
                    continue;
                }
                match process::pidfd_send_signal(&pidfd, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno).os("send signal to", || pid),
                }
            }
        }
        Ok(())
    }

    fn relatives(&self) -> Result<Vec<i32>> {
        let alive = |stat: process::Stat| stat.is_alive() && stat.start_time == self.start_time;
        if self.pid == 0 || !process::stat(Pid::from_raw(self.pid))?.is_some_and(alive) {
            return Ok(Vec::new());
        }
        let namespace =
            |pid: i32| nix::fcntl::readlink(format!("/proc/{pid}/ns/pid").as_str()).ok();
        let shared = if self.shares_pids { None } else { namespace(self.pid) };
        let mut found = BTreeSet::from([self.pid]);
        let mut parents = BTreeMap::new();
        for pid in all_pids()? {
            let Some(stat) = process::stat(Pid::from_raw(pid))? else { continue };
            if !stat.is_alive() {
                continue;
            }
            parents.insert(pid, stat.parent);
            if shared.is_some() && namespace(pid) == shared {
                found.insert(pid);
            }
        }
        // Children may have lower pids than their parents.
        while let Some(more) = with_children(&found, &parents) {
            found = more;
        }
        Ok(found.into_iter().collect())
    }
}

/// `found` and the children of its members, if there are any that it does not have.
fn with_children(found: &BTreeSet<i32>, parents: &BTreeMap<i32, i32>) -> Option<BTreeSet<i32>> {
    let children = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
    let more: BTreeSet<i32> = found.iter().copied().chain(children).collect();
    (more.len() > found.len()).then_some(more)
}

fn all_pids() -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").os("list", || "/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_in_any_order_of_pids() {
        let parents = BTreeMap::from([(2, 9), (9, 5), (5, 1), (7, 1), (3, 2)]);
        let mut found = BTreeSet::from([5]);
        while let Some(more) = with_children(&found, &parents) {
            found = more;
        }
        assert_eq!(found, BTreeSet::from([2, 3, 5, 9]));
    }
}
