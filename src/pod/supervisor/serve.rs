//! The control socket: verbs that ask for something or attach to a container.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Unix, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;

use super::{Signal, Supervisor};
use crate::error::{OsContext, Result};
use crate::pod::control::{self, Frame, MESSAGE_BYTES, Reply, Request};
use crate::pod::store::{PodFile, StoredPod};
use crate::pod::volume;
use crate::sys::{poll, socket, tty};

/// Connections that may wait for their request at the same time.
const MOST_SILENT: usize = 64;

impl Supervisor {
    /// Opens the control socket.
    pub(super) fn listen(&self) -> Result<()> {
        let listener = control::listen(&self.file.dirs)?;
        fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).os("fcntl", || "O_NONBLOCK")?;
        let listener = poll::readable(listener).os("epoll", || "the control socket")?;
        let inbox = self.inbox.clone();
        tokio::task::spawn_local(async move {
            let mut latest = VecDeque::new();
            loop {
                let Ok(mut ready) = listener.readable().await else { return };
                while let Ok(connection) = socket::accept(listener.get_ref()) {
                    let task = tokio::task::spawn_local(converse(connection, inbox.clone()));
                    latest.push_back(task.abort_handle());
                    // Most are done long ago; who has not asked by now never may.
                    if latest.len() > MOST_SILENT
                        && let Some(oldest) = latest.pop_front()
                    {
                        oldest.abort();
                    }
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
                Some(member) if member.sink.borrow().is_full() => {
                    Reply::Refused(format!("too many are attached to container {container:?}"))
                }
                Some(member) => Reply::Attached { terminal: member.streams.terminal.is_some() },
                None if self.record.container(&container).is_some() => {
                    Reply::Refused(format!("container {container:?} is not running"))
                }
                None => Reply::Refused(format!("container {container:?} not found in pod")),
            },
        }
    }

    /// The manifest's data has changed, or may have: all of it is applied, or nothing.
    pub(super) fn apply_data(&mut self) -> Result<(), String> {
        let stored = StoredPod::read(&self.file.dirs.state).map_err(|error| error.to_string())?;
        let Some(StoredPod { file, .. }) = stored else { return Ok(()) };
        let applied = self.fill_volumes(&file);
        if applied.is_ok() {
            self.file = file;
        } else {
            // Volumes before the one that failed.
            let _as_they_were = self.fill_volumes(&self.file);
        }
        applied
    }

    fn fill_volumes(&self, file: &PodFile) -> Result<(), String> {
        let Some(sandbox) = &self.record.sandbox else { return Ok(()) };
        let place = volume::Place {
            manifest: &file.manifest,
            dirs: &file.dirs,
            node: &self.node,
            ips: &sandbox.ips,
            network: sandbox.network.as_deref(),
            user_namespace_base: sandbox.user_namespace_base,
        };
        volume::prepare(&place).map_err(|failure| failure.message)
    }

    /// Joins a connection to the streams of a container.
    fn attach(&mut self, container: &str, stdin: bool, socket: Rc<OwnedFd>) {
        let once = self.manifest_container(container).is_some_and(|c| c.stdin_once == Some(true));
        let Some(member) = self.members.get_mut(container) else { return };
        let sink = Rc::clone(&member.sink);
        sink.borrow_mut().attach(Rc::clone(&socket));
        let terminal = member.streams.terminal.clone();
        // A descriptor of its own: one can wait in the event loop only once.
        let input = member.streams.input().filter(|_| stdin);
        let input = input.and_then(|fd| fd.try_clone().ok()).map(Rc::new);
        let (inbox, name) = (self.inbox.clone(), container.to_owned());
        let task = tokio::task::spawn_local(async move {
            let input_ended = || {
                if once && stdin {
                    let _ending = inbox.send(Signal::InputEnded { container: name.clone() });
                }
            };
            feed(&socket, input, terminal, &input_ended).await;
            input_ended();
            sink.borrow_mut().detach(&socket);
        });
        member.also(task.abort_handle());
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
    next_message(&poll::readable(Rc::clone(connection)).ok()?).await
}

/// Memory is taken only when there is something to hear: many may be attached.
async fn next_message(connection: &AsyncFd<Rc<OwnedFd>>) -> Option<Vec<u8>> {
    loop {
        let mut ready = connection.readable().await.ok()?;
        let mut buffer = vec![0; MESSAGE_BYTES];
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
async fn feed(
    connection: &Rc<OwnedFd>,
    mut input: Option<Rc<OwnedFd>>,
    terminal: Option<Rc<OwnedFd>>,
    input_ended: &impl Fn(),
) {
    let Ok(connection) = poll::readable(Rc::clone(connection)) else { return };
    while let Some(message) = next_message(&connection).await {
        match Frame::decode(&message) {
            // Output goes on.
            Some(Frame::Stdin([])) => {
                input = None;
                input_ended();
            }
            Some(Frame::Stdin(bytes)) => {
                let Some(to) = &input else { continue };
                if write_all(to, bytes).await.is_none() {
                    input = None;
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
