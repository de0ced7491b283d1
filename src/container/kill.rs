//! `kill`, `pause`, `resume`.

use nix::errno::Errno;

use super::state::Status;
use super::{KillTarget, Runtime};
use crate::error::{Error, OsContext, Result};
use crate::sys::process;
use crate::sys::signal::Signal;

impl Runtime {
    /// Signals the container's init, or all of its processes.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is not running; with [`KillTarget::All`] that is no error.
    pub fn kill(&self, id: &str, signal: Signal, target: KillTarget) -> Result<()> {
        let container = self.container(id)?;
        let state = &container.state;
        if target == KillTarget::All {
            return state.signal_all(signal.number());
        }
        let stopped = || Error::WrongState { reason: "container not running".into() };
        let init = container.init()?;
        if signal == Signal::KILL && state.shares_pids {
            // Its processes do not end with init, and may be there without it.
            if init.is_none() && state.processes()?.is_empty() {
                return Err(stopped());
            }
            return state.signal_all(signal.number());
        }
        let init = init.ok_or_else(stopped)?;
        match process::pidfd_send_signal(&init, signal.number()) {
            Err(Errno::ESRCH) => return Err(stopped()),
            other => other.os("signal", || format!("{signal} to {}", state.pid))?,
        }
        // A frozen process of a v1 freezer does not die of it before it is thawed.
        if signal == Signal::KILL && state.cgroup.is_frozen().unwrap_or(false) {
            state.cgroup.thaw()?;
        }
        Ok(())
    }

    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is not running or paused already.
    pub fn pause(&self, id: &str) -> Result<()> {
        let (container, _lock) = self.locked(id)?;
        match container.status()? {
            Status::Running | Status::Created => container.state.cgroup.freeze(),
            _ => Err(Error::WrongState { reason: "container not running".into() }),
        }
    }

    /// Thaws a paused container.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is not paused.
    pub fn resume(&self, id: &str) -> Result<()> {
        let (container, _lock) = self.locked(id)?;
        match container.status()? {
            Status::Paused => container.state.cgroup.thaw(),
            _ => Err(Error::WrongState { reason: "container not paused".into() }),
        }
    }
}
