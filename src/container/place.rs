//! Who sets the resource limits of a process: it itself, or carob from outside.

use nix::unistd::Pid;

use super::state::State;
use crate::error::Result;
use crate::init;
use crate::oci::plan::ProcessPlan;

/// Where a process gets its resource limits from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It sets its own, while it has all rights.
    Host,
    /// It never has the right: carob, which owns the user namespace, sets them from outside.
    UserNamespace,
}

impl Place {
    pub(super) fn of_process_in(state: &State) -> Self {
        let user = state.namespaces & libc::CLONE_NEWUSER != 0;
        if user { Self::UserNamespace } else { Self::Host }
    }
}

/// What carob sets for a process that is ready.
pub(super) fn limit(pid: Pid, process: &ProcessPlan, place: Place) -> Result<()> {
    if place == Place::UserNamespace {
        init::set_rlimits(pid, process)?;
    }
    Ok(())
}
