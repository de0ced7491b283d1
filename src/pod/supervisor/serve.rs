//! The control socket: verbs that ask for something or attach to a container.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Unix, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::sync::mpsc::UnboundedSender;

use super::{Signal, Supervisor};
use crate::error::{OsContext, Result};
use crate::pod::control::{self, Frame, MESSAGE_BYTES, Reply, Request};
use crate::pod::store::StoredPod;
use crate::pod::volume;
use crate::sys::{poll, socket, tty};

impl Supervisor {
    /// Opens the control socket.
    pub(super) fn listen(&self) -> Result<()> {
        let listener = control::listen(&self.file.dirs)?;
        fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).os("fcntl", || "O_NONBLOCK")?;
        let listener = poll::readable(listener).os("epoll", || "the control socket")?;
        let inbox = self.inbox.clone();
        tokio::task::spawn_local(async move {
            loop {
                let Ok(mut ready) = listener.readable().await else { return };
                while let Ok(connection) = socket::accept(listener.get_ref()) {
                    tokio::task::spawn_local(converse(connection, inbox.clone()));
                }
                ready.clear_ready();
            }
        });
        Ok(())
    }

    /// SIGTERM and SIGINT end the pod as `pod stop` does.
    pub(super) fn watch_for_termination(&self) -> Result<()> {
        let mut wanted = SigSet::empty();
        wanted.add(Unix::SIGTERM);
        wanted.add(Unix::SIGINT);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&wanted), None).os("sigprocmask", || "")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags).os("signalfd", || "")?;
        let signals = poll::readable(signals).os("epoll", || "signals")?;
        let inbox = self.inbox.clone();
        tokio::task::spawn_local(async move {
            loop {
                let Ok(mut ready) = signals.readable().await else { return };
                while let Ok(Some(_)) = signals.get_ref().read_signal() {
                    let _ending = inbox.send(Signal::Terminate);
                }
                ready.clear_ready();
            }
        });
        Ok(())
    }

    /// Answers a verb, before anything else is done: it may be what ends this process.
    pub(super) fn asked(&mut self, request: Request, connection: Rc<OwnedFd>) {
        let attach = match &request {
            Request::Attach { container, stdin } => Some((container.clone(), *stdin)),
            Request::Stop { .. } | Request::Apply | Request::Yield => None,
        };
        let reply = self.answer(request);
        say(&connection, &reply);
        if let (Some((container, stdin)), Reply::Attached { .. }) = (attach, reply) {
            self.attach(&container, stdin, connection);
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Stop { grace_seconds } => {
                self.ask_to_stop(grace_seconds);
                // Whoever asked relies on it, also if we are killed.
                self.publish();
                Reply::Done
            }
            Request::Yield => {
                for member in self.members.values() {
                    member.sink.borrow_mut().end_lines();
                }
                self.publish();
                self.yields = true;
                Reply::Done
            }
            Request::Apply => match self.apply_data() {
                Ok(()) => Reply::Done,
                Err(why) => Reply::Refused(why),
            },
            Request::Attach { container, .. } => match self.members.get(&container) {
                Some(member) => Reply::Attached { terminal: member.streams.terminal.is_some() },
                None if self.record.container(&container).is_some() => {
                    Reply::Refused(format!("container {container:?} is not running"))
                }
                None => Reply::Refused(format!("container {container:?} not found in pod")),
            },
        }
    }

    /// The manifest's data has changed.
    fn apply_data(&mut self) -> Result<(), String> {
        let stored = StoredPod::read(&self.file.dirs.state).map_err(|error| error.to_string())?;
        if let Some(stored) = stored {
            self.file = stored.file;
        }
        let Some(sandbox) = &self.record.sandbox else { return Ok(()) };
        let place = volume::Place {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            node: &self.node,
            ips: &sandbox.ips,
            user_namespace_base: sandbox.user_namespace_base,
        };
        volume::prepare(&place).map_err(|failure| failure.message)
    }

    /// Joins a connection to the streams of a container.
    fn attach(&mut self, container: &str, stdin: bool, socket: Rc<OwnedFd>) {
        let Some(member) = self.members.get(container) else { return };
        member.sink.borrow_mut().attach(Rc::clone(&socket));
        let terminal = member.streams.terminal.clone();
        // A descriptor of its own: one can wait in the event loop only once.
        let input = member.streams.input().filter(|_| stdin);
        let input = input.and_then(|fd| fd.try_clone().ok()).map(Rc::new);
        let once = self.manifest_container(container).is_some_and(|c| c.stdin_once == Some(true));
        let (inbox, name) = (self.inbox.clone(), container.to_owned());
        tokio::task::spawn_local(async move {
            feed(&socket, input, terminal).await;
            if once && stdin {
                let _ending = inbox.send(Signal::InputEnded { container: name });
            }
        });
    }

    /// `stdinOnce`: the first who was attached has left.
    pub(super) fn close_input(&mut self, container: &str) {
        if let Some(member) = self.members.get_mut(container) {
            member.streams.stdin = None;
            self.park();
        }
    }
}

/// Hears one request and answers it; attached connections go on.
async fn converse(connection: OwnedFd, inbox: UnboundedSender<Signal>) {
    let connection = Rc::new(connection);
    let Some(text) = hear(&connection).await else { return };
    let request: Request = match serde_json::from_slice(&text) {
        Ok(request) => request,
        Err(error) => return say(&connection, &Reply::Refused(format!("request: {error}"))),
    };
    let _ending = inbox.send(Signal::Asked { request, connection });
}

fn say(connection: &OwnedFd, reply: &Reply) {
    if let Ok(text) = control::encode(reply) {
        // Who asked may have left.
        let _left = socket::send_many(connection, &text, &[]);
    }
}

/// The next message; `None` when there will be none.
async fn hear(connection: &Rc<OwnedFd>) -> Option<Vec<u8>> {
    let connection = poll::readable(Rc::clone(connection)).ok()?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let mut ready = connection.readable().await.ok()?;
        match socket::receive_many(connection.get_ref(), &mut buffer) {
            Ok(None) => ready.clear_ready(),
            Ok(Some((0, _))) | Err(_) => return None,
            Ok(Some((length, _))) => {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
    }
}

/// Passes frames on to the container until the connection ends.
async fn feed(connection: &Rc<OwnedFd>, input: Option<Rc<OwnedFd>>, terminal: Option<Rc<OwnedFd>>) {
    let Ok(connection) = poll::readable(Rc::clone(connection)) else {
        return;
    };
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let Ok(mut ready) = connection.readable().await else { return };
        let length = match socket::receive_many(connection.get_ref(), &mut buffer) {
            Ok(None) => {
                ready.clear_ready();
                continue;
            }
            Ok(Some((0, _))) | Err(_) => return,
            Ok(Some((length, _))) => length,
        };
        match Frame::decode(&buffer[..length]) {
            Some(Frame::Stdin([])) => return,
            Some(Frame::Stdin(bytes)) => {
                let Some(input) = &input else { continue };
                if write_all(input, bytes).await.is_none() {
                    return;
                }
            }
            Some(Frame::Size(rows, columns)) => {
                if let Some(terminal) = &terminal {
                    let size = tty::WindowSize { rows, columns };
                    let _gone = tty::set_window_size(terminal, size);
                }
            }
            Some(Frame::Stdout(_) | Frame::Stderr(_)) | None => {}
        }
    }
}

/// Writes all of it, waiting for the container to read; `None` when it will not.
async fn write_all(input: &Rc<OwnedFd>, mut bytes: &[u8]) -> Option<()> {
    let input = poll::writable(Rc::clone(input)).ok()?;
    while !bytes.is_empty() {
        let mut ready = input.writable().await.ok()?;
        match nix::unistd::write(input.get_ref(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}
