//! Whether the OOM killer has taken a process of an instance that has ended.
//!
//! Its cgroup has counted that. But systemd takes the cgroup of a scope away as soon as the last process
//! has ended, and the count with it. The pod's cgroup has counted, too (on v2): what that has beyond all that
//! is known of others.

use super::Supervisor;
use crate::pod::sandbox;
use crate::sys::process::Exit;

/// 128 + SIGKILL: what a shell ends with whose child was killed.
const KILLED_STATUS: i32 = 137;

impl Supervisor {
    /// To be asked once about each instance, before it is deleted and its end is in the record.
    pub(super) fn has_oom_kills(&mut self, id: &str, exit: Option<Exit>) -> bool {
        let kills = self.oom_kills(id).unwrap_or_else(|| self.unexplained(id, exit));
        self.record.oom_kills += kills;
        kills > 0
    }

    fn oom_kills(&self, id: &str) -> Option<u64> {
        self.runtime.oom_kills(id).ok().flatten()
    }

    fn unexplained(&self, id: &str, exit: Option<Exit>) -> u64 {
        let running = self.record.containers().filter_map(|container| container.running());
        let others = running.filter(|running| running.id != id);
        let others: Vec<Option<u64>> = others.map(|other| self.oom_kills(&other.id)).collect();
        let is_killed =
            matches!(exit, Some(Exit::Signal(libc::SIGKILL) | Exit::Status(KILLED_STATUS)));
        if !is_killed && others.contains(&None) {
            // That one has ended as well, and is about to be asked about.
            return 0;
        }
        let living: u64 = others.into_iter().flatten().sum();
        let all = sandbox::oom_kills(&self.file.dirs).unwrap_or(0);
        all.saturating_sub(living + self.record.oom_kills)
    }
}
