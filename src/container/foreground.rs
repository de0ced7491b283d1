//! `run` and `exec` in the foreground: signals go to the process, its terminal to ours.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};

use super::notify::Notify;
use crate::error::{OsContext, Result};
use crate::sys::process::{self, Child, Exit, Prctl};
use crate::sys::signal;
use crate::sys::tty::{self, RawMode};

/// What has to be in place before the process is cloned: no signal may be lost.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Blocks all signals; from here on they are read. The child unblocks them for itself.
    /// A subreaper gets the orphans of the container as its children.
    pub(super) fn new(is_subreaper: bool) -> Result<Self> {
        if is_subreaper {
            process::prctl(Prctl::ChildSubreaper(true)).os("prctl", || "PR_SET_CHILD_SUBREAPER")?;
        }
        let all = signal::all();
        all.thread_block().os("block", || "signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags).os("signalfd", || "all signals")?;
        Ok(Self { signals })
    }

    /// Forwards signals and the terminal until the process exits; reaps it.
    pub(super) fn wait(
        &self,
        child: &Child,
        console: Option<OwnedFd>,
        mut notify: Option<Notify>,
    ) -> Result<Exit> {
        let mut relay = console.map(Relay::new).transpose()?;
        if let Some(relay) = &relay {
            relay.resize();
        }
        loop {
            let ready = self.poll(child, relay.as_ref(), notify.as_ref())?;
            if ready.signal {
                self.forward(child, relay.as_ref())?;
            }
            if let Some(relay) = &mut relay {
                relay.pump(ready.master, ready.input);
            }
            if ready.notify
                && let Some(talk) = &notify
                && talk.forward(child.pid)?
            {
                notify = None;
            }
            if ready.exited {
                break;
            }
        }
        if let Some(relay) = &mut relay {
            relay.drain();
        }
        process::wait(&child.pidfd).os("wait for", || child.pid)
    }

    fn poll(&self, child: &Child, relay: Option<&Relay>, notify: Option<&Notify>) -> Result<Ready> {
        let input = PollFlags::POLLIN;
        let mut fds: [Option<PollFd>; 5] = Default::default();
        fds[SIGNALS] = Some(PollFd::new(self.signals.as_fd(), input));
        fds[PIDFD] = Some(PollFd::new(child.pidfd.as_fd(), input));
        if let Some(relay) = relay {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::POLLIN, relay.is_open);
            wanted.set(PollFlags::POLLOUT, !relay.typed.is_empty());
            // Closed at the other end it would report that for ever.
            fds[MASTER] = relay.is_open.then(|| PollFd::new(relay.master.as_fd(), wanted));
            fds[INPUT] = relay.reads_input().then(|| PollFd::new(STDIN, input));
        }
        fds[NOTIFY] = notify.map(|notify| PollFd::new(notify.fd(), input));
        let used: Vec<usize> = (0..fds.len()).filter(|&place| fds[place].is_some()).collect();
        let mut list: Vec<PollFd> = fds.into_iter().flatten().collect();
        loop {
            match poll(&mut list, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                other => {
                    other.os("poll", || "signals and terminal")?;
                    break;
                }
            }
        }
        let ready = |place: usize| {
            let index = used.iter().position(|&used| used == place);
            index.and_then(|index| list[index].any()).unwrap_or(false)
        };
        Ok(Ready {
            signal: ready(SIGNALS),
            exited: ready(PIDFD),
            master: ready(MASTER),
            input: ready(INPUT),
            notify: ready(NOTIFY),
        })
    }

    fn forward(&self, child: &Child, relay: Option<&Relay>) -> Result<()> {
        while let Some(info) = self.signals.read_signal().os("read", || "a signal")? {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                // Ours: a child of ours, or an orphan of the container's, has exited.
                Ok(Signal::SIGCHLD) => process::reap_others(child.pid),
                Ok(Signal::SIGURG) => {}
                Ok(Signal::SIGWINCH) => {
                    if let Some(relay) = relay {
                        relay.resize();
                    }
                }
                // It may have exited meanwhile.
                _ => drop(process::pidfd_send_signal(&child.pidfd, number)),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Ready {
    signal: bool,
    exited: bool,
    master: bool,
    input: bool,
    notify: bool,
}

// Places of the sources in one poll.
const SIGNALS: usize = 0;
const PIDFD: usize = 1;
const MASTER: usize = 2;
const INPUT: usize = 3;
const NOTIFY: usize = 4;

const STDIN: std::os::fd::BorrowedFd<'static> = process::STDIN;
const STDOUT: std::os::fd::BorrowedFd<'static> = process::STDOUT;

/// Copies between our terminal and the container's; ours is raw meanwhile and restored on drop.
#[derive(Debug)]
struct Relay {
    master: OwnedFd,
    _raw: Option<RawMode>,
    /// Typed but not yet taken by the container.
    typed: Vec<u8>,
    input_is_open: bool,
    is_open: bool,
}

/// Enough to be fast, small enough that a container that does not read holds up little.
const BUFFER_BYTES: usize = 16 * 1024;

impl Relay {
    fn new(master: OwnedFd) -> Result<Self> {
        let context = || "the container's terminal";
        // ENOTTY: our input is a pipe or a file, which needs no mode.
        let raw = RawMode::enter(STDIN).ok();
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .os("set non-blocking", context)?;
        Ok(Self { master, _raw: raw, typed: Vec::new(), input_is_open: true, is_open: true })
    }

    fn reads_input(&self) -> bool {
        self.input_is_open && self.is_open && self.typed.len() < BUFFER_BYTES
    }

    /// Gives the container's terminal the size of ours, if ours has one.
    fn resize(&self) {
        if let Ok(size) = tty::window_size(STDIN).or_else(|_| tty::window_size(STDOUT)) {
            let _gone = tty::set_window_size(&self.master, size);
        }
    }

    fn pump(&mut self, master: bool, input: bool) {
        let mut buffer = [0; BUFFER_BYTES];
        if input {
            match read(STDIN, &mut buffer) {
                Ok(length @ 1..) => self.typed.extend_from_slice(&buffer[..length]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(_) | Err(_) => self.input_is_open = false,
            }
        }
        while !self.typed.is_empty() {
            match write(&self.master, &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(_) => break,
            }
        }
        if master {
            self.show(&mut buffer);
        }
    }

    /// Shows one bufferful; returns whether there was any.
    fn show(&mut self, buffer: &mut [u8]) -> bool {
        match read(&self.master, buffer) {
            Ok(length @ 1..) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match write(STDOUT, rest) {
                        Ok(length) => rest = &rest[length..],
                        Err(Errno::EINTR) => {}
                        // Nobody looks any more; the container goes on.
                        Err(_) => break,
                    }
                }
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // EIO: the last holder of the slave has closed it.
            Ok(_) | Err(_) => {
                self.is_open = false;
                false
            }
        }
    }

    /// What was printed before the exit is still in the terminal.
    fn drain(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        while self.is_open && self.show(&mut buffer) {}
    }
}
