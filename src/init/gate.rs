//! What holds init back between `create` and `start`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{OsContext, Result};
use crate::sys::{process, socket};

use super::Task;
use super::sync::{End, ToChild};

/// How the start reaches init.
#[derive(Debug)]
pub enum Gate {
    /// `create`: a later `start` connects to this listening socket.
    Socket(Option<OwnedFd>),
    /// `run` and `exec`: the parent is still there and says it.
    Parent,
    /// Nothing: it says that it is ready, which tells its end from a failure, and goes on.
    Told,
    /// Nothing: it goes on at once, and the parent only hears how that went.
    Open,
}

impl Gate {
    /// Whether the parent has a say before the program runs.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Parent)
    }

    /// What the start comes through, if it is a socket of the gate's own.
    pub(super) fn listener(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(listener) => listener.as_ref().map(AsFd::as_fd),
            Self::Parent | Self::Told | Self::Open => None,
        }
    }
}

/// Waits for the start and returns the container's state, as the starter sent it, to a task that
/// wants it.
pub(super) fn wait(task: &mut Task) -> Result<Vec<u8>> {
    match &mut task.gate {
        Gate::Parent => {}
        Gate::Told | Gate::Open => return Ok(Vec::new()),
        Gate::Socket(listener) => {
            let Some(listener) = listener.take() else { return Ok(Vec::new()) };
            // The kernel spares a namespace's first process all signals that it has no handler
            // for, but a container that was never started must end at SIGTERM.
            process::exit_on_termination_signals();
            let starter = socket::accept(&listener).os("accept", || "the start socket")?;
            task.parent = End::from_connection(starter);
        }
    }
    let heard = if task.wants_state { task.parent.hear_state() } else { task.parent.hear_parent() };
    match heard? {
        ToChild::Start(state) => Ok(state),
        other => Err(crate::error::Error::Init {
            step: "start".into(),
            cause: format!("unexpected message {other:?}"),
        }),
    }
}
