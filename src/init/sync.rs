//! What the parent and init say to each other, over one pair of message sockets.
//!
//! ```text
//! parent (create, run, exec)            init
//!   |  clone3                             |
//!   | <------ Sibling(pidfd, pid) ------- |   only from stage 1: init is another process
//!   |  writes uid_map, gid_map            |   not for exec
//!   | ------- IdMapped -----------------> |   after Sibling, or with a new user namespace
//!   |  makes the cgroups of v1            |   beside the unified tree, while init makes namespaces
//!   | <------ Place --------------------- |   only then, or where systemd makes the cgroup
//!   |  makes a unit around it, or adds it |
//!   | ------- Placed -------------------> |
//!   | <------ MapIds(tree, index) ------- |   for some id-mapped mounts in a user namespace
//!   |  maps the ids of the detached tree  |
//!   | ------- IdsMapped ----------------> |
//!   | <------ RunHooks ------------------ |   mounts are there, root not yet switched
//!   |  prestart, createRuntime            |
//!   | ------- HooksDone(state) ---------> |   init runs createContainer
//!   | <------ Console(master) ----------- |   only for a foreground terminal
//!   | <------ Ready --------------------- |   nothing left but to be started
//!   |  rlimits, state                    |
//!   | ------- Start(state) -------------> |   `create`: from `start`, see `gate`
//!   | <------ Listener(number) ---------- |   only with seccomp notify
//!   | ------- ListenerTaken ------------> |
//!   |                                     |   execve closes the socket: EOF is success
//!   | <------ Failed(step, cause) ------- |   instead of any of the above; init exits 1
//! ```
//!
//! EOF before `Ready` is an error, never a wait: each side holds only its own end.
//!
//! Between `start` and init there are two fifos instead: a stream, in which the messages to init
//! have a length. Those from init need none: none is longer than what a fifo takes as a whole, and
//! the next one comes after an answer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::{Error, OsContext, Result};
use crate::sys::socket;

/// Longest message that carries a state with its annotations.
const STATE_BYTES: usize = 256 * 1024;
/// Longest of the others; an error's text is cut off there. Small: what init touches is charged to
/// the container.
const MESSAGE_BYTES: usize = 4096;

/// From init to its parent.
#[derive(Debug)]
pub enum FromChild {
    /// The real init, cloned by stage 1, and its pid as stage 1 and the parent see it.
    Sibling(OwnedFd, Pid),
    /// Wait for `Placed` while the parent has it put into its cgroup, or makes all of that.
    Place,
    /// Wait for `IdsMapped` while the parent maps the ids of this detached tree as this mount of the
    /// Plan wants it.
    MapIds(OwnedFd, usize),
    /// Wait for `HooksDone` while the parent runs hooks.
    RunHooks,
    /// The master of the terminal.
    Console(OwnedFd),
    /// Waiting to be started.
    Ready,
    /// The number of a seccomp notify descriptor in init.
    Listener(i32),
    /// The step that failed, and why.
    Failed {
        /// A row of `init::STEPS`.
        step: String,
        /// The error's text.
        cause: String,
    },
    /// The socket was closed: init has executed the program, or died.
    Gone,
}

/// From the parent to init.
#[derive(Debug)]
pub enum ToChild {
    /// The maps of the user namespace are written, and the parent knows who init is.
    IdMapped,
    /// It is in its cgroup, or all of that is made and it can enter.
    Placed,
    /// The ids are mapped.
    IdsMapped,
    /// The parent's hooks have run; with the container's state for init's own.
    HooksDone(Vec<u8>),
    /// A starter is there: should it end before `Start`, so does init.
    Knock,
    /// Go; with the container's state for hooks that run inside.
    Start(Vec<u8>),
    /// The parent holds the listener.
    ListenerTaken,
}

/// One end of the conversation.
#[derive(Debug)]
pub struct End(Channel);

#[derive(Debug)]
enum Channel {
    Socket(OwnedFd),
    Fifos { from: OwnedFd, to: OwnedFd },
}

/// Makes the two ends: the parent's, the child's.
///
/// # Errors
/// [`Error::Os`] for `EMFILE`, `ENFILE`.
pub fn pair() -> Result<(End, End)> {
    let (parent, child) = socket::message_pair().os("socketpair", || "to init")?;
    Ok((End(Channel::Socket(parent)), End(Channel::Socket(child))))
}

impl End {
    /// Uses one of a pair of message sockets made by other means.
    #[must_use]
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self(Channel::Socket(socket))
    }

    /// Hears through one fifo and tells through another.
    #[must_use]
    pub fn from_fifos(from: OwnedFd, to: OwnedFd) -> Self {
        Self(Channel::Fifos { from, to })
    }

    /// What it hears through.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Channel::Socket(fd) | Channel::Fifos { from: fd, .. } => fd.as_fd(),
        }
    }

    /// Parent side: bounds how long [`End::hear_child`] waits.
    ///
    /// # Errors
    /// [`Error::Os`], in practice never.
    pub fn limit_waits(&self, limit: Duration) -> Result<()> {
        socket::limit_waits(self.fd(), limit).os("setsockopt", || "the socket to init")
    }

    /// Child side: tells the parent something.
    ///
    /// # Errors
    /// [`Error::Os`] with `EPIPE` if the parent has died.
    pub fn tell_parent(&self, message: &FromChild) -> Result<()> {
        let (tag, text, fd) = match message {
            FromChild::Sibling(fd, pid) => (b'S', pid.to_string(), Some(fd)),
            FromChild::Place => (b'P', String::new(), None),
            FromChild::MapIds(tree, index) => (b'M', index.to_string(), Some(tree)),
            FromChild::RunHooks => (b'H', String::new(), None),
            FromChild::Console(fd) => (b'C', String::new(), Some(fd)),
            FromChild::Ready => (b'R', String::new(), None),
            FromChild::Listener(number) => (b'L', number.to_string(), None),
            FromChild::Failed { step, cause } => {
                let mut text = format!("{step}\0{cause}");
                text.truncate(text.floor_char_boundary(MESSAGE_BYTES - 1));
                (b'F', text, None)
            }
            FromChild::Gone => return Ok(()),
        };
        self.send(tag, text.as_bytes(), fd.map(AsFd::as_fd))
    }

    /// Parent side: tells init something.
    ///
    /// # Errors
    /// [`Error::Os`] with `EPIPE` if init has died.
    pub fn tell_child(&self, message: &ToChild) -> Result<()> {
        match message {
            ToChild::IdMapped => self.tell(b'i', &[]),
            ToChild::Placed => self.tell(b'p', &[]),
            ToChild::IdsMapped => self.tell(b'm', &[]),
            ToChild::HooksDone(state) => self.tell(b'h', state),
            ToChild::Knock => self.tell(b'k', &[]),
            ToChild::Start(state) => self.tell(b's', state),
            ToChild::ListenerTaken => self.tell(b'l', &[]),
        }
    }

    /// Parent side: waits for init's next message.
    ///
    /// # Errors
    /// [`Error::Os`] if the socket fails; [`Error::Init`] for a message that makes no sense, and
    /// for none within the time of [`End::limit_waits`].
    pub fn hear_child(&self) -> Result<FromChild> {
        let mut buffer = [0; MESSAGE_BYTES];
        let received = match &self.0 {
            Channel::Socket(socket) => socket::receive(socket, &mut buffer),
            Channel::Fifos { from, .. } => socket::read(from, &mut buffer).map(|n| (n, None)),
        };
        if received.as_ref().is_err_and(|errno| *errno == Errno::EAGAIN) {
            let cause = "init does not go on; is it being stopped (SIGSTOP)?".to_owned();
            return Err(Error::Init { step: "handshake".into(), cause });
        }
        let (length, fd) = received.os("receive", || "from init")?;
        let Some((tag, text)) = buffer[..length].split_first() else { return Ok(FromChild::Gone) };
        let text = String::from_utf8_lossy(text);
        match (tag, fd) {
            (b'S', Some(fd)) if text.parse::<i32>().is_ok() => {
                Ok(FromChild::Sibling(fd, Pid::from_raw(text.parse().unwrap_or_default())))
            }
            (b'M', Some(fd)) if text.parse::<usize>().is_ok() => {
                Ok(FromChild::MapIds(fd, text.parse().unwrap_or_default()))
            }
            (b'C', Some(fd)) => Ok(FromChild::Console(fd)),
            (b'P', None) => Ok(FromChild::Place),
            (b'H', None) => Ok(FromChild::RunHooks),
            (b'R', None) => Ok(FromChild::Ready),
            (b'L', None) if text.parse::<i32>().is_ok() => {
                Ok(FromChild::Listener(text.parse().unwrap_or_default()))
            }
            (b'F', None) => {
                let (step, cause) = text.split_once('\0').unwrap_or(("init", &text));
                Ok(FromChild::Failed { step: step.to_owned(), cause: cause.to_owned() })
            }
            _ => Err(unexpected(&text)),
        }
    }

    /// Child side: waits for the parent's next message; without the state that comes with some.
    ///
    /// # Errors
    /// [`Error::Init`] if the parent has died or says what makes no sense.
    pub fn hear_parent(&self) -> Result<ToChild> {
        self.hear(&mut [0; MESSAGE_BYTES])
    }

    /// As [`End::hear_parent`], with the state.
    ///
    /// # Errors
    /// As [`End::hear_parent`].
    pub fn hear_state(&self) -> Result<ToChild> {
        self.hear(&mut vec![0; STATE_BYTES])
    }

    fn hear(&self, buffer: &mut [u8]) -> Result<ToChild> {
        let length = match &self.0 {
            Channel::Socket(socket) => socket::read(socket, buffer),
            Channel::Fifos { from, .. } => read_from_stream(from, buffer),
        };
        let length = length.os("receive", || "from carob")?;
        match buffer[..length].split_first() {
            Some((b'i', [])) => Ok(ToChild::IdMapped),
            Some((b'p', [])) => Ok(ToChild::Placed),
            Some((b'm', [])) => Ok(ToChild::IdsMapped),
            Some((b'h', state)) => Ok(ToChild::HooksDone(state.to_vec())),
            Some((b'k', [])) => Ok(ToChild::Knock),
            Some((b's', state)) => Ok(ToChild::Start(state.to_vec())),
            Some((b'l', [])) => Ok(ToChild::ListenerTaken),
            Some(_) => Err(unexpected("from carob")),
            None => Err(Error::Init {
                step: "handshake".into(),
                cause: "carob has died before init was told to go on".into(),
            }),
        }
    }

    /// Tells init something: in a stream after its length.
    fn tell(&self, tag: u8, text: &[u8]) -> Result<()> {
        let Channel::Fifos { to, .. } = &self.0 else { return self.send(tag, text, None) };
        let length = u32::try_from(1 + text.len()).unwrap_or(u32::MAX);
        let message = [&length.to_ne_bytes()[..], &[tag], text].concat();
        let mut left = &message[..];
        while !left.is_empty() {
            let written = socket::write(to, left).os("send", || "to init")?;
            left = left.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn send(&self, tag: u8, text: &[u8], fd: Option<BorrowedFd>) -> Result<()> {
        let mut message = Vec::with_capacity(1 + text.len());
        message.push(tag);
        message.extend_from_slice(text);
        let sent = match (&self.0, fd) {
            // By write(2), the one call that every seccomp profile of use lets through.
            (Channel::Socket(to) | Channel::Fifos { to, .. }, None) => {
                socket::write(to, &message).map(drop)
            }
            (Channel::Socket(socket), Some(fd)) => socket::send(socket, &message, Some(fd)),
            (Channel::Fifos { .. }, Some(_)) => Err(Errno::EOPNOTSUPP),
        };
        sent.os("send", || "to the other side of init's socket")
    }
}

/// One message out of a fifo into `buffer`; 0 if the writer has gone.
fn read_from_stream(fifo: &OwnedFd, buffer: &mut [u8]) -> nix::Result<usize> {
    let mut length = [0; 4];
    if !fill(fifo, &mut length)? {
        return Ok(0);
    }
    let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
    let message = buffer.get_mut(..length).ok_or(Errno::EMSGSIZE)?;
    Ok(if fill(fifo, message)? { length } else { 0 })
}

/// Whether the writer was there until the end.
fn fill(fifo: &OwnedFd, mut buffer: &mut [u8]) -> nix::Result<bool> {
    while !buffer.is_empty() {
        match socket::read(fifo, buffer)? {
            0 => return Ok(false),
            read => buffer = buffer.get_mut(read..).unwrap_or_default(),
        }
    }
    Ok(true)
}

fn unexpected(text: &str) -> Error {
    Error::Init { step: "handshake".into(), cause: format!("unexpected message {text:?}") }
}
