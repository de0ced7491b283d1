//! The standard streams of a member: into its log, and to whoever is attached.
//!
//! Each output has a task that reads what there is, through a journal so that nothing is lost with
//! this process, and never waits for anybody: a log that cannot be written loses lines (and says
//! so), an attached reader that does not keep up too.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::sync::Notify;

use super::journal::{Failure, Journal, Left};
use super::parking::Role;
use crate::container::Stdio;
use crate::error::{OsContext, Result};
use crate::pod::clock::Stamp;
use crate::pod::control::Frame;
use crate::pod::logs::{self, Compressor, LogWriter, Step, Stream};
use crate::sys::{poll, socket};

/// Read at once, bytes; also what a stream may take before the others have their turn.
const READ_BYTES: usize = 32 << 10;
/// Connections to one instance; the descriptors of a process are limited.
const MOST_ATTACHED: usize = 64;

/// Our ends of a member's streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Ends to read from, with the role they are parked under.
    pub(super) outputs: Vec<(Role, Rc<OwnedFd>)>,
    /// The write end of standard input.
    pub(super) stdin: Option<Rc<OwnedFd>>,
    /// The master of the terminal: output and input.
    pub(super) terminal: Option<Rc<OwnedFd>>,
}

/// Compresses rotated logs in small steps, between other work.
#[derive(Debug, Default)]
pub(super) struct Compress {
    compressor: RefCell<Compressor>,
    more: Notify,
}

impl Compress {
    fn add(&self, log: &std::path::Path) {
        self.compressor.borrow_mut().add(log);
        self.more.notify_one();
    }

    /// Goes on for as long as the pod.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            self.more.notified().await;
            while self.compressor.borrow_mut().step() == Step::More {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Where output goes.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) log: LogWriter,
    journals: Journals,
    /// Where rotated files are compressed.
    compressor: Rc<Compress>,
    attached: Vec<Attached>,
}

/// What keeps output that is not in the log yet.
#[derive(Debug)]
pub(super) struct Journals {
    base: PathBuf,
    /// Of the standard output, and of the standard error.
    open: [Option<Journal>; 2],
    /// They cannot be written, and it has to go without.
    given_up: bool,
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Journals {
    /// Those of an instance, if it has any already; others are made when there is output.
    pub(super) fn open(base: PathBuf) -> Self {
        let mut journals = Self { base, open: [None, None], given_up: false };
        for (stream, place) in STREAMS.iter().zip(0..) {
            let path = journals.path(*stream);
            if path.exists() {
                journals.open[place] = Journal::open(path).ok();
            }
        }
        journals
    }

    /// Before a log is opened of which they have something: only whole lines count.
    pub(super) fn prepare(&self, log: &Path) {
        if self.open.iter().any(Option::is_some)
            && let Err(error) = logs::cut_half_line(log)
        {
            crate::log::warn(error);
        }
    }

    fn path(&self, stream: Stream) -> PathBuf {
        self.base.with_added_extension(stream.name())
    }

    fn of(&mut self, stream: Stream) -> Option<&mut Journal> {
        let place = usize::from(stream == Stream::Stderr);
        if self.open[place].is_none() && !self.given_up {
            let path = self.path(stream);
            let opened = Journal::open(path.clone()).or_else(|_| {
                let _there_already = std::fs::create_dir(path.parent().unwrap_or(&path));
                Journal::open(path)
            });
            self.given_up = opened.is_err();
            self.open[place] = opened.ok();
        }
        self.open[place].as_mut()
    }

    fn close(&mut self, stream: Stream) {
        if let Some(journal) = self.open[usize::from(stream == Stream::Stderr)].take() {
            journal.remove();
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
        STREAMS.into_iter().for_each(|stream| self.close(stream));
    }
}

#[derive(Debug)]
struct Attached {
    socket: Rc<OwnedFd>,
    /// Bytes that it was too slow for.
    missed: usize,
}

impl Sink {
    /// Goes on with what another supervisor has left.
    pub(super) fn new(log: LogWriter, journals: Journals, compressor: Rc<Compress>) -> Self {
        let mut sink = Self { log, journals, compressor, attached: Vec::new() };
        for (stream, place) in STREAMS.into_iter().zip(0..) {
            if let Some(left) = sink.journals.open[place].as_ref().map(Journal::left) {
                match left {
                    Ok(left) => sink.take_left(stream, &left),
                    Err(_) => sink.journals.close(stream),
                }
            }
        }
        sink.compress_rotated();
        sink
    }

    fn take_left(&mut self, stream: Stream, left: &Left) {
        if !left.bytes.is_empty() {
            let stored = logs::stored_since(self.log.path(), left.log, stream).unwrap_or(0);
            self.take(stream, &left.bytes[stored.min(left.bytes.len())..]);
        }
        self.settle(stream);
    }

    /// Takes what there is of a stream; returns how much it was.
    fn receive(&mut self, fd: &OwnedFd, stream: Stream) -> nix::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        let taken = self.journals.of(stream).map(|journal| journal.take(fd, &mut buffer));
        let length = match taken {
            Some(Ok(length)) => length,
            Some(Err(Failure::Stream(errno))) => return Err(errno),
            Some(Err(Failure::Journal)) => {
                self.journals.give_up();
                read(fd, &mut buffer)?
            }
            None => read(fd, &mut buffer)?,
        };
        if length > 0 {
            self.take(stream, &buffer[..length]);
            self.settle(stream);
        }
        Ok(length)
    }

    /// Whatever is in the log now need not be kept.
    fn settle(&mut self, stream: Stream) {
        let (position, pending) = (self.log.position(), self.log.pending_bytes(stream));
        let journal = self.journals.open[usize::from(stream == Stream::Stderr)].as_mut();
        if journal.is_some_and(|journal| journal.settle(position, pending).is_err()) {
            self.journals.give_up();
        }
    }

    /// There will be no more of a stream.
    fn end(&mut self, stream: Stream) {
        self.log.end(stream, Stamp::now().wall);
        self.journals.close(stream);
    }

    fn compress_rotated(&mut self) {
        if self.log.take_rotated() {
            self.compressor.add(self.log.path());
        }
    }

    /// Shows all further output to a connection as well.
    pub(super) fn attach(&mut self, socket: Rc<OwnedFd>) {
        self.attached.push(Attached { socket, missed: 0 });
    }

    /// Whether nobody else may be attached.
    pub(super) fn is_full(&self) -> bool {
        self.attached.len() >= MOST_ATTACHED
    }

    /// Forgets who has left.
    pub(super) fn detach(&mut self, socket: &Rc<OwnedFd>) {
        self.attached.retain(|attached| !Rc::ptr_eq(&attached.socket, socket));
    }

    /// Forgets all who are attached; their connections end with the instance.
    pub(super) fn detach_all(&mut self) {
        self.attached.clear();
    }

    /// Stores also what has no newline yet.
    pub(super) fn end_lines(&mut self) {
        for stream in STREAMS {
            self.log.end(stream, Stamp::now().wall);
            self.settle(stream);
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        self.log.write(stream, bytes, Stamp::now().wall);
        self.compress_rotated();
        self.attached.retain_mut(|attached| attached.send(stream, bytes));
    }
}

impl Attached {
    /// Whether it is still there.
    fn send(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        if self.missed > 0 {
            let text = format!("\r\n[{} bytes were skipped]\r\n", self.missed);
            match socket::send_many(&self.socket, &Frame::Stderr(text.as_bytes()).encode(), &[]) {
                Ok(()) => self.missed = 0,
                Err(Errno::EAGAIN) => {
                    self.missed += bytes.len();
                    return true;
                }
                Err(_) => return false,
            }
        }
        let frame = match stream {
            Stream::Stdout => Frame::Stdout(bytes),
            Stream::Stderr => Frame::Stderr(bytes),
        };
        match socket::send_many(&self.socket, &frame.encode(), &[]) {
            Ok(()) => true,
            Err(Errno::EAGAIN) => {
                self.missed += bytes.len();
                true
            }
            Err(_) => false,
        }
    }
}

impl Streams {
    /// Pipes for a new instance: our ends, and what the container gets.
    pub(super) fn pipes(stdin: bool) -> Result<(Self, Stdio)> {
        let mut ours = Self::default();
        let input = if stdin {
            let (read, write) = pipe()?;
            nonblocking(&write)?;
            ours.stdin = Some(Rc::new(write));
            read
        } else {
            std::fs::File::open("/dev/null").os("open", || "/dev/null")?.into()
        };
        let mut output = |role| -> Result<OwnedFd> {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            ours.outputs.push((role, Rc::new(read)));
            Ok(write)
        };
        let (out, err) = (output(Role::Stdout)?, output(Role::Stderr)?);
        Ok((ours, Stdio::Fds([input, out, err])))
    }

    /// The master of a terminal.
    pub(super) fn terminal(master: OwnedFd) -> Result<Self> {
        nonblocking(&master)?;
        let master = Rc::new(master);
        Ok(Self {
            outputs: vec![(Role::Terminal, Rc::clone(&master))],
            stdin: None,
            terminal: Some(master),
        })
    }

    /// What another supervisor had parked.
    pub(super) fn parked(fds: Vec<(Role, OwnedFd)>) -> Self {
        let mut ours = Self::default();
        for (role, fd) in fds {
            let fd = Rc::new(fd);
            match role {
                Role::Init => {}
                Role::Stdin => ours.stdin = Some(fd),
                Role::Stdout | Role::Stderr => ours.outputs.push((role, fd)),
                Role::Terminal => {
                    ours.outputs.push((role, Rc::clone(&fd)));
                    ours.terminal = Some(fd);
                }
            }
        }
        ours
    }

    /// All of them, to be parked.
    pub(super) fn to_park(&self) -> impl Iterator<Item = (Role, BorrowedFd<'_>)> {
        let outputs = self.outputs.iter().map(|(role, fd)| (*role, fd.as_fd()));
        outputs.chain(self.stdin.iter().map(|fd| (Role::Stdin, fd.as_fd())))
    }

    /// Where standard input is written to.
    pub(super) fn input(&self) -> Option<Rc<OwnedFd>> {
        self.terminal.clone().or_else(|| self.stdin.clone())
    }

    /// Reads what is left after the end of the instance.
    pub(super) fn drain(&self, sink: &mut Sink) {
        for (role, fd) in &self.outputs {
            let stream = stream_of(*role);
            // What a pipe can hold, and not what a survivor goes on writing.
            for _ in 0..64 {
                if !matches!(sink.receive(fd, stream), Ok(1..)) {
                    break;
                }
            }
        }
        STREAMS.into_iter().for_each(|stream| sink.end(stream));
    }
}

/// Copies one output until its end.
pub(super) async fn pump(role: Role, fd: Rc<OwnedFd>, sink: Rc<RefCell<Sink>>) {
    let stream = stream_of(role);
    let Ok(fd) = poll::readable(fd) else { return };
    loop {
        let Ok(mut ready) = fd.readable().await else { return };
        loop {
            match sink.borrow_mut().receive(fd.get_ref(), stream) {
                Ok(0) => return,
                Ok(_) => {}
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // EIO: nobody has the terminal open, now or any more.
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    }
}

fn read(fd: &OwnedFd, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn stream_of(role: Role) -> Stream {
    if role == Role::Stderr { Stream::Stderr } else { Stream::Stdout }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).os("pipe", || "for a container")
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).os("fcntl", || "O_NONBLOCK").map(drop)
}
