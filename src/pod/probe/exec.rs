//! `exec`, of probes and hooks: waits for a program that the caller has started in the container.
//!
//! The caller makes a [`pipe`], starts the program with its end as stdout and stderr, in a
//! sub-cgroup of the container's, and hands both to [`wait`], which always reaps the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::net::unix::pipe::Receiver;

use super::{Health, OUTPUT_BYTES, go_duration};
use crate::error::{OsContext, Result};
use crate::sys::poll;
use crate::sys::process::{self, Exit};

/// What is thrown away without a pause, bytes: a program that only writes must not keep the one
/// thread of the supervisor from everything else.
const GULP: usize = 64 << 10;
/// The pause.
const PAUSE: Duration = Duration::from_millis(1);

/// A program that runs in a container.
#[derive(Debug)]
pub struct Program {
    /// Its pidfd; it is our child.
    pub child: OwnedFd,
    /// Our end of the pipe that is its stdout and stderr.
    pub output: OwnedFd,
}

/// How a program has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit; after a timeout that of being killed.
    pub exit: Exit,
    /// Whether it was killed because its time was up.
    pub timed_out: bool,
    /// The first 10 KiB of what it wrote.
    pub output: String,
}

/// The pipe for a program's output: our end and the program's, both close-on-exec.
///
/// # Errors
/// `EMFILE`, `ENFILE`. Source: pipe(2).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).os("pipe2", || "output of a probe")
}

/// Waits until the program itself has exited; whatever else still holds the pipe is not waited for.
///
/// When the time is up, `kill` is called once, to kill the program with all that it has started
/// (its sub-cgroup); the program is sent SIGKILL in any case. The wait goes on until it is gone,
/// which takes as long as the container is paused. Drive this to its end: dropped before, it
/// leaves a zombie. To end it early kill the program.
///
/// # Errors
/// [`crate::error::Error::Os`] if the program cannot be waited for; `ECHILD` if somebody else has
/// reaped it.
pub async fn wait(
    program: Program,
    timeout: Option<Duration>,
    kill: impl FnOnce(),
) -> Result<Ended> {
    let context = || "a program in the container";
    let child = match poll::readable(program.child) {
        Ok(child) => child,
        Err(error) => {
            let (child, source) = error.into_parts();
            kill();
            end(&child);
            process::wait(&child).os("waitid", context)?;
            return Err(source).os("epoll_ctl", context);
        }
    };
    let mut output = Output::new(program.output);
    let timed_out = tokio::select! {
        biased;
        exited = child.readable() => exited.map(|_ready| false).os("epoll_wait", context)?,
        () = expired(timeout) => true,
        () = output.collect() => false,
    };
    if timed_out {
        kill();
        end(child.get_ref());
        tokio::select! {
            exited = child.readable() => drop(exited.os("epoll_wait", context)?),
            () = output.collect() => {}
        }
    }
    let exit = process::wait(child.get_ref()).os("waitid", context)?;
    Ok(Ended { exit, timed_out, output: output.into_text() })
}

/// What the end of a probe's program says; `argv` and `timeout` are those it was run with.
#[must_use]
pub fn health(ended: &Ended, argv: &[String], timeout: Duration) -> Health {
    if ended.timed_out {
        let command = argv.join(" ");
        let timeout = go_duration(timeout);
        return Health::Failure(format!(
            "command timed out: {command:?} timed out after {timeout}"
        ));
    }
    match ended.exit {
        Exit::Status(0) => Health::Success,
        Exit::Status(_) | Exit::Signal(_) => Health::Failure(ended.output.clone()),
    }
}

async fn expired(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

fn end(child: impl AsFd) {
    // It may be gone already.
    process::pidfd_send_signal(child, nix::libc::SIGKILL).unwrap_or(());
}

/// What a program writes: the beginning is kept, the rest thrown away.
struct Output {
    pipe: Option<Receiver>,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: OwnedFd) -> Self {
        // Without its output the program can still be waited for.
        Self { pipe: Receiver::from_owned_fd(pipe).ok(), kept: Vec::new() }
    }

    /// Reads for as long as it is polled; never ends.
    async fn collect(&mut self) {
        let mut thrown_away = 0;
        while let Some(pipe) = &self.pipe {
            if pipe.readable().await.is_err() {
                break;
            }
            match self.read() {
                Read::Some(bytes) => thrown_away += bytes,
                Read::NotNow => {}
                Read::End => self.pipe = None,
            }
            if thrown_away >= GULP {
                thrown_away = 0;
                tokio::time::sleep(PAUSE).await;
            }
        }
        std::future::pending().await
    }

    fn read(&mut self) -> Read {
        let mut buffer = [0; 4096];
        let Some(pipe) = &self.pipe else { return Read::End };
        match pipe.try_read(&mut buffer) {
            Ok(0) => Read::End,
            Ok(bytes) => {
                let room = OUTPUT_BYTES - self.kept.len();
                self.kept.extend_from_slice(&buffer[..bytes.min(room)]);
                Read::Some(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::NotNow,
            Err(_broken) => Read::End,
        }
    }

    /// With what is in the pipe, without waiting for whoever still holds it.
    fn into_text(mut self) -> String {
        while self.kept.len() < OUTPUT_BYTES {
            let Read::Some(_) = self.read() else { break };
        }
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

enum Read {
    /// Bytes.
    Some(usize),
    /// The pipe is empty.
    NotNow,
    /// Nobody holds the other end.
    End,
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
