//! One call of a plugin: a program that reads JSON, writes JSON, and ends.
//!
//! It runs as root and was put there by the administrator, but it may hang, or talk without end:
//! its time and its output have bounds, and if it has to be killed what it has started goes with
//! it. Source: CNI specification, section 2.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, OsContext, Result};
use crate::sys::{command, process};

/// Longest result, bytes.
const RESULT_BYTES: usize = 1 << 20;
/// What is kept of its standard error, and of what it says went wrong, bytes.
const SAID_BYTES: usize = 1024;
/// For programs that plugins call: `iptables` is not in every user's path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// `ADD`, `DEL` and so on.
    pub(super) command: &'static str,
    /// Name of the program.
    pub(super) kind: &'a str,
    /// Where programs are; it is told as well, for those that it calls.
    pub(super) dirs: &'a [PathBuf],
    /// More variables of its environment.
    pub(super) env: &'a [(&'static str, String)],
    /// Its standard input.
    pub(super) input: &'a [u8],
    /// When it is killed.
    pub(super) deadline: Instant,
    /// Readable as soon as nobody wants it any more: it is killed then.
    pub(super) stop: Option<BorrowedFd<'a>>,
}

/// What a plugin says when it fails.
#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// The program of a plugin.
#[must_use]
pub(super) fn find(kind: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|is| is.is_file() && is.permissions().mode() & 0o111 != 0)
    };
    dirs.iter().map(|dir| dir.join(kind)).find(is_program)
}

impl Call<'_> {
    /// Runs the plugin to its end; what it has written, if that is an object.
    ///
    /// # Errors
    /// One sentence: what the plugin says, or that it has not ended in time.
    pub(super) fn run(&self) -> Result<Option<Value>> {
        let program = find(self.kind, self.dirs).ok_or_else(|| missing(self.kind, self.dirs))?;
        let begun = Instant::now();
        let stopped = || Error::Invalid("was stopped: nobody waits for it any more".into());
        if self.is_stopped() {
            return Err(stopped());
        }
        let ended = self.execute(&program)?;
        let text = String::from_utf8_lossy(&ended.output);
        let Some(status) = ended.status else {
            if self.is_stopped() {
                return Err(stopped());
            }
            let seconds = self.deadline.saturating_duration_since(begun).as_secs_f32();
            let more = sentence(&ended.errors);
            let colon = if more.is_empty() { "" } else { ": " };
            return Err(Error::Invalid(format!("did not end within {seconds:.1} s{colon}{more}")));
        };
        if ended.output.len() > RESULT_BYTES {
            return Err(Error::Invalid(format!("printed more than {RESULT_BYTES} bytes")));
        }
        if !status.success() {
            return Err(Error::Invalid(refusal(&text, &ended.errors, status)));
        }
        Ok(serde_json::from_str(&text).ok().filter(Value::is_object))
    }

    fn execute(&self, program: &Path) -> Result<Ended> {
        let name = || program.display();
        let input = memfd_create("cni", MFdFlags::MFD_CLOEXEC).os("memfd_create", name)?;
        let mut input = File::from(input);
        input.write_all(self.input).and_then(|()| input.rewind()).os("write the input of", name)?;
        let (output, its_output) = pipe().os("pipe", name)?;
        let (errors, its_errors) = pipe().os("pipe", name)?;
        let paths = std::env::join_paths(self.dirs).unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", search_path())
            .env("CNI_COMMAND", self.command)
            .env("CNI_PATH", paths)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(input)
            .stdout(Stdio::from(its_output))
            .stderr(Stdio::from(its_errors))
            .process_group(0);
        process::unblock_signals_in(&mut command);
        command::die_with_parent(&mut command);
        let child = command.spawn().os("run", name)?;
        // It holds our copies of the other ends.
        drop(command);
        self.follow(child, output, errors).os("wait for", name)
    }

    /// Until it has ended or its time is up; whoever still holds its pipes is not waited for.
    fn follow(&self, mut child: Child, output: OwnedFd, errors: OwnedFd) -> std::io::Result<Ended> {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let pidfd = process::pidfd_open(pid)?;
        let mut output = Stream::new(output, RESULT_BYTES + 1);
        let mut errors = Stream::new(errors, SAID_BYTES);
        let is_over = loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || output.kept.len() > RESULT_BYTES || self.is_stopped() {
                break false;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let pipes = [&output, &errors].map(|stream| stream.pipe.as_ref().map(AsFd::as_fd));
            let all = [Some(pidfd.as_fd()), pipes[0], pipes[1], self.stop].into_iter().flatten();
            let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = fds[0].any() == Some(true);
            output.read();
            errors.read();
            if ended {
                break true;
            }
        };
        if !is_over {
            let _ends_just_now = killpg(pid, Signal::SIGKILL);
        }
        let status = child.wait()?;
        let status = (is_over || output.kept.len() > RESULT_BYTES).then_some(status);
        Ok(Ended { status, output: output.kept, errors: errors.kept })
    }

    fn is_stopped(&self) -> bool {
        let Some(stop) = self.stop else { return false };
        let mut fds = [PollFd::new(stop, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// How a call has ended.
struct Ended {
    /// `None` if it had to be killed.
    status: Option<ExitStatus>,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// One of its pipes: the beginning is kept, the rest thrown away.
struct Stream {
    pipe: Option<File>,
    kept: Vec<u8>,
    limit: usize,
}

impl Stream {
    fn new(pipe: OwnedFd, limit: usize) -> Self {
        Self { pipe: Some(pipe.into()), kept: Vec::new(), limit }
    }

    /// What there is now, but no more than a gulp: others are to be looked at as well.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(bytes) => {
                    let room = self.limit - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..bytes.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_broken) => self.pipe = None,
            }
        }
    }
}

/// Our end, which never waits, and the plugin's.
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(PATH);
    path
}

/// For a program that is nowhere.
pub(super) fn missing(kind: &str, dirs: &[PathBuf]) -> Error {
    let dirs = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
    Error::Unsupported(format!("there is no CNI plugin {kind:?} in {dirs}"))
}

fn refusal(output: &str, errors: &[u8], status: ExitStatus) -> String {
    match serde_json::from_str::<Refusal>(output) {
        Ok(Refusal { code, msg, details }) if !msg.is_empty() || !details.is_empty() => {
            let parts = [msg, details].map(|part| sentence(part.as_bytes()));
            let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            // Codes from 100 on are the plugin's own, and say nothing to anybody else.
            let code =
                if (1..100).contains(&code) { format!(" (code {code})") } else { String::new() };
            format!("{}{code}", text.join("; "))
        }
        _ => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => format!("ended with {status}"),
            };
            let said = [errors, output.as_bytes()].map(sentence);
            let said = said.into_iter().find(|said| !said.is_empty());
            said.map_or(how.clone(), |said| format!("{how}: {said}"))
        }
    }
}

/// One line without control characters, not too long.
fn sentence(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_BYTES)]).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
