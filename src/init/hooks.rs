//! Running hooks: the specification's six points, one way to run each.
//!
//! Source: runtime-spec, config.md, POSIX-platform Hooks.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, fchdir};
use oci_spec::runtime::{Hook as HookSpec, Hooks};

use super::sync::{FromChild, ToChild};
use super::{Init, Task};
use crate::error::{Error, OsContext, Result};
use crate::sys::process;

/// How much of a failed hook's output is worth repeating.
const OUTPUT_BYTES: u64 = 4096;

/// The points at which hooks run, by the names of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Deprecated, still used by Docker.
    Prestart,
    /// In carob's namespaces, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, before the program.
    StartContainer,
    /// In carob's namespaces, after the program was started.
    Poststart,
    /// In carob's namespaces, after the container was deleted.
    Poststop,
}

impl Hook {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// The key in `hooks`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The hooks of this kind.
    #[must_use]
    #[allow(deprecated, reason = "prestart is deprecated, and Docker's network depends on it")]
    pub fn of(self, hooks: &Hooks) -> &[HookSpec] {
        match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        }
        .as_deref()
        .unwrap_or_default()
    }
}

/// The points before pivot_root: the parent's first, then our own. The parent uses its point also
/// to move network devices.
pub(super) fn before_pivot(init: &mut Init) -> Result<()> {
    let hooks = &init.plan.hooks;
    if init.plan.net_devices.is_empty()
        && Hook::Prestart.of(hooks).is_empty()
        && Hook::CreateRuntime.of(hooks).is_empty()
        && Hook::CreateContainer.of(hooks).is_empty()
    {
        return Ok(());
    }
    init.task.parent.tell_parent(&FromChild::RunHooks)?;
    let ToChild::HooksDone(state) = init.task.parent.hear_state()? else {
        return Err(Error::Invalid("the parent did not answer about its hooks".into()));
    };
    if !Hook::CreateContainer.of(hooks).is_empty() {
        fchdir(init.rootfs()?.fd()).os("fchdir", || "the rootfs")?;
    }
    let ours = umask(Mode::from_bits_truncate(0o022));
    let done = run_hooks(Hook::CreateContainer, hooks, &state, Surroundings::default());
    umask(ours);
    done
}

/// The point before the program, inside. A hook that brings no environment has the program's.
pub(super) fn start_container(hooks: &Hooks, task: &Task, state: &[u8]) -> Result<()> {
    if Hook::StartContainer.of(hooks).is_empty() {
        return Ok(());
    }
    let env: Vec<CString> = task.process.env.iter().chain(&task.home).cloned().collect();
    run_hooks(Hook::StartContainer, hooks, state, Surroundings { env: &env, directory: None })
}

/// What a hook finds around it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// For a hook that brings no environment.
    pub env: &'a [CString],
    /// Its working directory, if that is not ours.
    pub directory: Option<&'a Path>,
}

/// Runs all hooks of one kind, in order, with the container's state on their standard input. The
/// first that fails ends it.
///
/// # Errors
/// [`Error::Invalid`] with the hook's number and path, its status or timeout, and what it printed.
pub fn run_hooks(
    kind: Hook,
    hooks: &Hooks,
    state: &[u8],
    surroundings: Surroundings,
) -> Result<()> {
    for (number, hook) in kind.of(hooks).iter().enumerate() {
        run_hook(hook, state, surroundings).map_err(|error| {
            Error::Invalid(format!("error running {} hook #{number}: {error}", kind.name()))
        })?;
    }
    Ok(())
}

fn run_hook(hook: &HookSpec, state: &[u8], surroundings: Surroundings) -> Result<()> {
    let name = || hook.path().display();
    let mut input = memory_file().os("make the input of", name)?;
    input.write_all(state).and_then(|()| input.rewind()).os("write the input of", name)?;
    let mut output = memory_file().os("make the output of", name)?;
    let mut command = Command::new(hook.path());
    if let Some((first, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(first).args(rest);
    }
    match hook.env() {
        Some(own) => {
            let pairs = own.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            command.env_clear().envs(pairs)
        }
        None => {
            let pairs = surroundings.env.iter().map(|pair| key_and_value(pair));
            command.env_clear().envs(pairs)
        }
    };
    if let Some(directory) = surroundings.directory {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output.try_clone().os("duplicate", name)?))
        .stderr(Stdio::from(output.try_clone().os("duplicate", name)?));
    // Hooks expect what every program does, and not the mask of whoever reads signals by descriptor.
    process::unblock_signals_in(&mut command);
    let child = command.spawn().os("run", name)?;
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let outcome = wait(child, limit.map(Duration::from_secs)).os("wait for", name)?;
    if outcome == Outcome::Success {
        return Ok(());
    }
    let mut printed = String::new();
    let said =
        output.rewind().and_then(|()| (&output).take(OUTPUT_BYTES).read_to_string(&mut printed));
    let printed = said.map_or("", |_| printed.trim());
    let colon = if printed.is_empty() { "" } else { ": " };
    Err(Error::Invalid(format!("{} {outcome}{colon}{printed}", name())))
}

fn key_and_value(pair: &CStr) -> (&OsStr, &OsStr) {
    let bytes = pair.to_bytes();
    let key = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let value = bytes.get(key + 1..).unwrap_or_default();
    (OsStr::from_bytes(&bytes[..key]), OsStr::from_bytes(value))
}

fn memory_file() -> nix::Result<File> {
    memfd_create("hook", MFdFlags::MFD_CLOEXEC).map(File::from)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failed(std::process::ExitStatus),
    TimedOut(Duration),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Success => f.write_str("succeeded"),
            Self::Failed(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with exit status {code}"),
                // A seccomp profile that is too narrow for its hooks is the usual cause.
                (None, Some(libc::SIGSYS)) => f.write_str("was killed by SIGSYS (bad system call)"),
                (None, Some(signal)) => write!(f, "was killed by signal {signal}"),
                (None, None) => write!(f, "ended with {status}"),
            },
            Self::TimedOut(limit) => write!(f, "did not end within {} s", limit.as_secs()),
        }
    }
}

fn wait(mut child: Child, limit: Option<Duration>) -> std::io::Result<Outcome> {
    if let Some(limit) = limit {
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let pidfd = process::pidfd_open(Pid::from_raw(pid))?;
        if !ends_by(&pidfd, Instant::now() + limit)? {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::TimedOut(limit));
        }
    }
    let status = child.wait()?;
    Ok(if status.success() { Outcome::Success } else { Outcome::Failed(status) })
}

fn ends_by(pidfd: impl AsFd, deadline: Instant) -> nix::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}
