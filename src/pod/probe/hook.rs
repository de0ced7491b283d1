//! Lifecycle hooks that need no process: `httpGet` and `sleep`.

use std::os::fd::BorrowedFd;

use super::Trouble;
use super::http::{Asker, get};
use super::target::{Action, HttpTarget, Scheme};
use crate::error::Result;

/// Runs a hook to its end; it has no timeout of its own. The inner error is the hook's failure,
/// in words for an event.
///
/// An `httpGet` hook succeeds on any answer, whatever its status; over HTTPS it is tried again in
/// clear if the server does not speak TLS. [`Action::Exec`] is not for this function: the caller
/// starts the program and `exec.rs` waits for it.
///
/// # Errors
/// As [`super::check`]: only if the process must end.
pub async fn run(
    action: &Action,
    netns: Option<BorrowedFd<'_>>,
) -> Result<std::result::Result<(), String>> {
    let outcome = match action {
        Action::Http(target) => Box::pin(http(target, netns)).await,
        Action::Sleep(duration) => {
            tokio::time::sleep(*duration).await;
            Ok(())
        }
        Action::Exec(_) | Action::Tcp(_) | Action::Grpc { .. } => {
            Err(Trouble::Failure("not a hook that is run without a process".to_owned()))
        }
    };
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(Trouble::Stranded(error)) => Err(error),
        Err(Trouble::Failure(text) | Trouble::PlainServer(text) | Trouble::Unknown(text)) => {
            Ok(Err(text))
        }
    }
}

async fn http(
    target: &HttpTarget,
    netns: Option<BorrowedFd<'_>>,
) -> std::result::Result<(), Trouble> {
    let answer = get(target, netns, Asker::Lifecycle).await;
    let Err(Trouble::PlainServer(_)) = answer else { return answer.map(drop) };
    // What was meant to be encrypted must not be sent in clear.
    let is_secret = |name: &str| name.eq_ignore_ascii_case("authorization");
    let mut plain = HttpTarget { scheme: Scheme::Http, ..target.clone() };
    plain.headers.retain(|(name, _)| !is_secret(name));
    get(&plain, netns, Asker::Lifecycle).await.map(drop)
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;
