//! Hands the notify descriptor of a process to the agent of its seccomp profile.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::State as OciState;

use super::state::{State, Status};
use crate::error::{Error, OsContext, Result};
use crate::seccomp::Listener;
use crate::sys::{process, seccomp};

/// Takes descriptor `number` out of the process and sends it with the container's state.
pub(super) fn hand_over(
    listener: &Listener,
    state: &State,
    status: Status,
    pidfd: &OwnedFd,
    number: i32,
) -> Result<()> {
    let fd = process::pidfd_getfd(pidfd, number).os("pidfd_getfd", || "the seccomp listener")?;
    let state_of_container: OciState = serde_json::from_slice(&state.oci_state(status))
        .map_err(|e| Error::Invalid(format!("state for the seccomp agent: {e}")))?;
    let message = listener.process_state(state.pid, state_of_container)?;
    seccomp::send_listener(&listener.path, fd.as_fd(), &message)
        .os("send the seccomp listener to", || listener.path.display())
}
