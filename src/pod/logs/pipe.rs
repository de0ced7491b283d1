//! The pipes between a container and the supervisor.
//!
//! They are FIFOs in a directory that only root can enter, and a container holds its end open for
//! reading too. So when the supervisor dies, the container gets no SIGPIPE and keeps what it has
//! printed in the pipe, and the next supervisor opens the other end again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{mkfifo, read, unlink};

use super::super::store::PodDirs;
use super::{LogWriter, Stream};
use crate::error::{OsContext, Result};

/// What a container can print while the supervisor is busy, bytes. The kernel's default is 64 KiB;
/// memory is taken only for what is in the pipe.
const PIPE_BYTES: i32 = 256 << 10;

/// A buffer for [`drain`]; one for all pipes of a pod. As large as one read is worth.
pub type Buffer = [u8; 32 << 10];

/// Both ends of a new pipe.
#[derive(Debug)]
pub struct LogPipe {
    /// The supervisor's end: reading does not block.
    pub reader: OwnedFd,
    /// The container's end, for its descriptor 1 or 2. The supervisor closes its copy once the
    /// container has one: without that it never learns of the end.
    pub container: OwnedFd,
}

/// What [`drain`] has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing, for now: wait until the pipe is readable.
    Empty,
    /// Perhaps something: call again after having looked after others.
    More,
    /// Nothing ever: nobody has the other end any more. The stream has been ended.
    Closed,
}

/// Makes a pipe for a new instance of a container. A pipe that is there is replaced: whoever
/// still has it open writes into the void.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the path.
pub fn make(dirs: &PodDirs, container: &str, stream: Stream) -> Result<LogPipe> {
    let path = path(dirs, container, stream);
    replace(&path).os("make fifo", || path.display())?;
    // This end first: without it the other would be at its end.
    let container = open_fifo(&path, OFlag::O_RDWR).os("open", || path.display())?;
    let reader = open_fifo(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    let reader = reader.os("open", || path.display())?;
    // A smaller pipe does as well.
    let _enlarged = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    Ok(LogPipe { reader, container })
}

/// Opens the supervisor's end of the pipe of an instance that an earlier supervisor has started.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the path.
pub fn reopen(dirs: &PodDirs, container: &str, stream: Stream) -> Result<OwnedFd> {
    let path = path(dirs, container, stream);
    open_fifo(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).os("open", || path.display())
}

/// Feeds a log with what is in a pipe, or comes from the master of a terminal, at most about
/// `budget_bytes` of it. The descriptor must not block.
pub fn drain(
    reader: impl AsFd,
    stream: Stream,
    writer: &mut LogWriter,
    buffer: &mut Buffer,
    budget_bytes: usize,
) -> Drained {
    let mut budget = budget_bytes;
    while budget > 0 {
        match read(&reader, buffer) {
            Ok(0) => return ended(stream, writer),
            Ok(count) => {
                writer.write(stream, &buffer[..count], Timestamp::now());
                budget = budget.saturating_sub(count);
            }
            // Only this tells that the pipe is empty: a container can set O_DIRECT on its end, and
            // then each read gives one packet.
            Err(Errno::EAGAIN) => return Drained::Empty,
            Err(Errno::EINTR) => {}
            // EIO: the last slave of a terminal was closed.
            Err(_) => return ended(stream, writer),
        }
    }
    Drained::More
}

fn ended(stream: Stream, writer: &mut LogWriter) -> Drained {
    writer.end(stream, Timestamp::now());
    Drained::Closed
}

fn path(dirs: &PodDirs, container: &str, stream: Stream) -> PathBuf {
    let ending = match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    };
    dirs.state.join("fifos").join(format!("{container}.{ending}"))
}

fn replace(path: &Path) -> nix::Result<()> {
    match unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => {}
        other => return other,
    }
    match (mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR), path.parent()) {
        (Err(Errno::ENOENT), Some(parent)) => {
            nix::unistd::mkdir(parent, Mode::S_IRWXU)?;
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)
        }
        (made, _) => made,
    }
}

fn open_fifo(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let fifo = open(path, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = fstat(&fifo)?.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFIFO.bits() { Ok(fifo) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use nix::unistd::write;

    use super::super::{Limits, place::tests::Root};
    use super::*;

    fn dirs(root: &Root) -> PodDirs {
        PodDirs {
            state: root.0.clone(),
            data: PathBuf::new(),
            logs: root.0.join("default_web_uid"),
            cgroup: PathBuf::new(),
        }
    }

    #[test]
    fn a_pipe_is_drained_and_ends() {
        let root = Root::new("pipe");
        let dirs = dirs(&root);
        let mut log = LogWriter::open(dirs.log("main", 0), Limits::default());
        let pipe = make(&dirs, "main", Stream::Stdout).unwrap();
        let mut buffer: Buffer = [0; _];
        let mut drain = |budget| drain(&pipe.reader, Stream::Stdout, &mut log, &mut buffer, budget);
        assert_eq!(drain(100), Drained::Empty);
        write(&pipe.container, b"one\ntwo").unwrap();
        assert_eq!(drain(1), Drained::More);
        assert_eq!(drain(1), Drained::Empty);
        drop(pipe.container);
        assert_eq!(drain(100), Drained::Closed);
        let text = std::fs::read_to_string(root.log()).unwrap();
        let texts: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(texts, ["one", "two"]);
    }

    #[test]
    fn what_was_printed_without_a_supervisor_is_there_for_the_next() {
        let root = Root::new("orphan");
        let dirs = dirs(&root);
        let LogPipe { reader, container } = make(&dirs, "main", Stream::Stderr).unwrap();
        drop(reader);
        write(&container, b"alone\n").unwrap();
        let reader = reopen(&dirs, "main", Stream::Stderr).unwrap();
        let mut log = LogWriter::open(dirs.log("main", 0), Limits::default());
        let mut buffer: Buffer = [0; _];
        assert_eq!(drain(&reader, Stream::Stderr, &mut log, &mut buffer, 100), Drained::Empty);
        assert!(std::fs::read_to_string(root.log()).unwrap().ends_with(" stderr F alone\n"));
    }

    #[test]
    fn a_flood_fills_no_more_than_the_limits() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

        use super::super::{Compressor, Step, last_lines};
        const MEGABYTE: u64 = 1 << 20;
        let root = Root::new("flood");
        let dirs = dirs(&root);
        let limits = Limits { bytes: MEGABYTE, files: 4 };
        let mut log = LogWriter::open(dirs.log("main", 0), limits);
        let pipe = make(&dirs, "main", Stream::Stdout).unwrap();
        let mut yes = std::process::Command::new("yes")
            .arg("x".repeat(60))
            .stdout(pipe.container)
            .spawn()
            .unwrap();
        let mut compressor = Compressor::default();
        let mut buffer: Buffer = [0; _];
        let mut rotations = 0;
        while rotations < 8 {
            let drained = drain(&pipe.reader, Stream::Stdout, &mut log, &mut buffer, 64 << 10);
            assert_ne!(drained, Drained::Closed);
            if log.take_rotated() {
                rotations += 1;
                compressor.add(log.path());
            }
            compressor.step();
            if drained == Drained::Empty {
                let mut ready = [PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN)];
                poll(&mut ready, PollTimeout::from(5000_u16)).unwrap();
            }
        }
        yes.kill().unwrap();
        yes.wait().unwrap();
        while drain(&pipe.reader, Stream::Stdout, &mut log, &mut buffer, 1 << 20) != Drained::Closed
        {
        }
        while compressor.step() == Step::More {}
        let files: Vec<_> = std::fs::read_dir(root.log().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
            })
            .collect();
        assert!(files.iter().all(|(_, size)| *size <= MEGABYTE), "{files:?}");
        assert!(
            files.len() == 4 && files.iter().any(|(name, _)| name.ends_with(".gz")),
            "{files:?}"
        );
        assert!(last_lines(log.path(), 2, 1000).starts_with(&"x".repeat(60)));
    }

    #[test]
    fn a_pipe_of_before_is_replaced_and_nothing_else_is_opened() {
        let root = Root::new("replace");
        let dirs = dirs(&root);
        let old = make(&dirs, "main", Stream::Stdout).unwrap();
        let new = make(&dirs, "main", Stream::Stdout).unwrap();
        write(&old.container, b"old").unwrap();
        assert_eq!(read(&new.reader, &mut [0; 8]), Err(Errno::EAGAIN));
        let path = path(&dirs, "main", Stream::Stdout);
        unlink(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(reopen(&dirs, "main", Stream::Stdout).unwrap_err().errno(), Some(Errno::EPERM));
    }
}
