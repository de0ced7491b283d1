//! Lifecycle hooks that need no process: `httpGet` and `sleep`.

use std::os::fd::BorrowedFd;

use super::target::Action;
use crate::error::Result;

/// Runs a hook to its end; it has no timeout of its own. The inner error is the hook's failure,
/// in words for an event.
///
/// An `httpGet` hook succeeds on any answer, whatever its status. [`Action::Exec`] is not for
/// this function: the caller starts the program and `exec.rs` waits for it.
///
/// # Errors
/// As [`super::check`]: only if the process must end.
pub async fn run(
    action: &Action,
    netns: Option<BorrowedFd<'_>>,
) -> Result<std::result::Result<(), String>> {
    let _ = netns;
    match action {
        Action::Sleep(duration) => tokio::time::sleep(*duration).await,
        _ => return Ok(Err("todo".to_owned())),
    }
    Ok(Ok(()))
}
