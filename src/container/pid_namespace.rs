//! The pid namespace of carob's next child.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};

use crate::error::{OsContext, Result};

/// This process's children go to another pid namespace while this is held.
///
/// A process that is cloned meanwhile does not come back: it never drops this.
#[derive(Debug)]
pub(super) struct PidNamespace {
    own: Option<OwnedFd>,
}

impl PidNamespace {
    /// Nothing changes.
    pub(super) fn stay() -> Self {
        Self { own: None }
    }

    /// `join` makes the change.
    pub(super) fn enter(join: impl FnOnce() -> Result<()>) -> Result<Self> {
        const OWN: &str = "/proc/self/ns/pid";
        let own = File::open(OWN).os("open", || OWN)?;
        join()?;
        Ok(Self { own: Some(own.into()) })
    }

    /// Goes back, for hooks and whatever else carob starts.
    pub(super) fn leave(mut self) -> Result<()> {
        self.go_back()
    }

    fn go_back(&mut self) -> Result<()> {
        let Some(own) = self.own.take() else { return Ok(()) };
        setns(&own, CloneFlags::CLONE_NEWPID).os("setns", || "carob's own pid namespace")
    }
}

impl Drop for PidNamespace {
    /// On the way out with another error, which is the one that is told.
    fn drop(&mut self) {
        if let Err(error) = self.go_back() {
            crate::log::warn(error);
        }
    }
}
