//! `pod exec` and `pod attach`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::choice::{ContainerChoice, PodChoice};
use crate::cli::{Context, Failure, Verb};
use crate::container::{Attach as Mode, ExecArgs, ExecOptions, ExecProcess};
use crate::error::{Error, OsContext, Result};
use crate::log;
use crate::pod::control::{Connection, Frame, MESSAGE_BYTES, Reply, Request};
use crate::pod::store::StoredPod;
use crate::sys::tty::{self, RawMode};
use crate::sys::{process, socket};

/// Run a command in a container of a pod and exit with its status
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "carob pod exec [OPTIONS] POD [--] COMMAND [ARG]...",
    after_help = EXEC_EXAMPLES
)]
pub(super) struct Exec {
    #[command(flatten)]
    container: ContainerChoice,
    /// Pass standard input on; without it the command has none
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    pod: PodChoice,
    /// The command and its arguments, as they are
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., trailing_var_arg = true)]
    command: Vec<String>,
}

const EXEC_EXAMPLES: &str = "\
Examples:
  carob pod exec web -- ps -ef
  carob pod exec -i web -- sh < script
  carob pod exec -it web -c nginx -- sh";

impl Verb for Exec {
    const FAILURE: Failure = Failure { code: 255, prefix: "exec failed: " };

    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let name = self.container.of(&pod)?;
        let running = pod.record.as_ref().and_then(|r| r.container(&name)?.running());
        let Some(running) = running else {
            return Err(Error::WrongState { reason: format!("container {name:?} is not running") });
        };
        if !self.stdin && !self.tty {
            // Else it would eat the input of the script that runs it, e.g. of a `while read`.
            let null = std::fs::File::open("/dev/null").os("open", || "/dev/null")?;
            nix::unistd::dup2_stdin(null).os("dup2", || "/dev/null")?;
        }
        context.runtime.exec(&ExecOptions {
            id: running.id.clone(),
            process: ExecProcess::Args(Box::new(ExecArgs {
                args: self.command,
                tty: self.tty,
                ..ExecArgs::default()
            })),
            attach: Mode::Foreground,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            preserve_fds: 0,
            ignore_paused: false,
            sub_cgroups: Vec::new(),
            no_subreaper: false,
        })
    }
}

/// Join the standard streams of a running container
///
/// Output from now on is shown (`pod logs` has what was before); with --stdin, input goes to a
/// container that has `stdin: true`. Ctrl-P Ctrl-Q detaches from a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod attach web\n  carob pod attach -i web -c shell")]
pub(super) struct Attach {
    #[command(flatten)]
    container: ContainerChoice,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Accepted as kubectl has it: the container has a terminal or not
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    pod: PodChoice,
}

impl Verb for Attach {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let container = self.container.of(&pod)?;
        let Some(connection) = Connection::open(&pod.file.dirs)? else {
            let name = pod.file.name();
            return Err(Error::WrongState { reason: format!("pod {name:?} is not running") });
        };
        let stdin = self.stdin && self.has_stdin(&pod, &container);
        let reply = connection.ask(&Request::Attach { container: container.clone(), stdin })?;
        let terminal = reply == Reply::Attached { terminal: true };
        if self.tty && !terminal {
            // kubectl's words.
            log::warn(format!("Unable to use a TTY - container {container} did not allocate one"));
        }
        Session::new(connection.into_socket(), stdin, terminal)?.relay()?;
        Ok(0)
    }
}

impl Attach {
    /// Whether anybody would read what is typed; says so if not.
    fn has_stdin(&self, pod: &StoredPod, container: &str) -> bool {
        let spec = pod.file.manifest.pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref());
        let all = init.into_iter().chain(spec.map(|spec| spec.containers.as_slice())).flatten();
        let has = all.filter(|c| c.name == container).any(|c| c.stdin == Some(true));
        if !has {
            log::warn(format!("container {container:?} has no stdin: input is not passed on"));
        }
        has
    }
}

/// The keys that detach: Ctrl-P, then Ctrl-Q.
const DETACH: [u8; 2] = [0x10, 0x11];

/// An attached terminal or pipe.
struct Session {
    socket: OwnedFd,
    input: bool,
    /// Held for its end, which gives our terminal back.
    raw: Option<RawMode>,
    resized: Option<SignalFd>,
    /// The last byte was the first of [`DETACH`].
    half_detached: bool,
}

impl Session {
    fn new(socket: OwnedFd, input: bool, terminal: bool) -> Result<Self> {
        let ours = nix::unistd::isatty(process::STDIN).unwrap_or(false);
        let raw = (terminal && input && ours).then(|| RawMode::enter(process::STDIN));
        let raw = raw.transpose().os("make raw", || "the terminal")?;
        let mut session = Self { socket, input, raw, resized: None, half_detached: false };
        if terminal && ours {
            let mut wanted = SigSet::empty();
            wanted.add(Signal::SIGWINCH);
            wanted.thread_block().os("block", || "SIGWINCH")?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let signals = SignalFd::with_flags(&wanted, flags).os("signalfd", || "SIGWINCH")?;
            session.resized = Some(signals);
            session.send_size();
        }
        Ok(session)
    }

    fn send_size(&self) {
        if let Ok(size) = tty::window_size(process::STDIN) {
            let frame = Frame::Size(size.rows, size.columns).encode();
            let _gone = socket::send(&self.socket, &frame, None);
        }
    }

    fn relay(mut self) -> Result<()> {
        let mut buffer = vec![0; MESSAGE_BYTES];
        loop {
            let mut fds = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if self.input {
                fds.push(PollFd::new(process::STDIN, PollFlags::POLLIN));
            }
            if let Some(resized) = &self.resized {
                fds.push(PollFd::new(resized.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.os("poll", || "the container")?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let input = self.input && ready[1];
            if let Some(resized) = &self.resized
                && let Ok(Some(_)) = resized.read_signal()
            {
                self.send_size();
            }
            if ready[0] && !self.show(&mut buffer)? {
                return Ok(());
            }
            if input && !self.send(&mut buffer)? {
                return Ok(());
            }
        }
    }

    /// Shows one frame; whether there may be more.
    fn show(&self, buffer: &mut [u8]) -> Result<bool> {
        let length = socket::read(&self.socket, buffer).os("hear", || "the supervisor")?;
        match Frame::decode(&buffer[..length]) {
            Some(Frame::Stdout(bytes)) => write(&mut std::io::stdout().lock(), bytes),
            Some(Frame::Stderr(bytes)) => write(&mut std::io::stderr().lock(), bytes),
            _ => Ok(length > 0),
        }
    }

    /// Passes on what was typed; whether there may be more.
    fn send(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let length =
            nix::unistd::read(process::STDIN, &mut buffer[..4096]).os("read", || "stdin")?;
        let mut bytes = buffer[..length].to_vec();
        let detaches = self.raw.is_some() && self.detaches(&mut bytes);
        // No bytes at all would be the end of the input.
        let sent = if bytes.is_empty() && length > 0 {
            Ok(())
        } else {
            socket::send(&self.socket, &Frame::Stdin(&bytes).encode(), None)
        };
        if length == 0 {
            self.input = false;
        }
        Ok(sent.is_ok() && !detaches)
    }

    /// Whether the keys are among what was typed; leaves what is for the container: not the first
    /// key before it is known that the second does not follow.
    fn detaches(&mut self, typed: &mut Vec<u8>) -> bool {
        let mut passed_on = Vec::with_capacity(typed.len() + 1);
        let mut found = false;
        for &byte in typed.iter() {
            if std::mem::take(&mut self.half_detached) {
                if byte == DETACH[1] {
                    found = true;
                    break;
                }
                passed_on.push(DETACH[0]);
            }
            if byte == DETACH[0] {
                self.half_detached = true;
            } else {
                passed_on.push(byte);
            }
        }
        *typed = passed_on;
        found
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> Result<bool> {
    to.write_all(bytes).and_then(|()| to.flush()).os("write to", || "stdout")?;
    Ok(true)
}
