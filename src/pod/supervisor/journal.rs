//! Output that a container has written and that is not in its log yet: half a line, and what was
//! read when this process was killed.
//!
//! It takes its way through a file, one for each stream. splice(2) moves bytes from the pipe to the
//! end of the file, where they count as soon as they are no longer in the pipe. How far they have
//! got into the log since the last [`Journal::settle`] the log itself tells. So the next supervisor
//! finds every byte once.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, SpliceFFlags, fallocate, splice};
use nix::unistd::ftruncate;

use crate::pod::logs::Position;

/// Before the bytes: inode and length of the log, and where the bytes begin that were not in it.
const HEADER_BYTES: u64 = 24;
/// Settled bytes that are kept until they are given back to the file system.
const SETTLED_BYTES: u64 = 256 << 10;

/// The bytes of one stream on their way.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    /// Up to here the file system has got its pages back.
    punched: u64,
}

/// What another supervisor has left.
pub(super) struct Left {
    /// The log at its last [`Journal::settle`].
    pub(super) log: Position,
    /// What had come since then, or was only half a line.
    pub(super) bytes: Vec<u8>,
}

impl Journal {
    /// Opens the journal of a stream, or makes it.
    pub(super) fn open(path: PathBuf) -> nix::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(errno)?;
        let end = file.metadata().map_err(errno)?.len().max(HEADER_BYTES);
        Ok(Self { file, path, end, punched: 0 })
    }

    /// What is in it.
    pub(super) fn left(&self) -> nix::Result<Left> {
        let mut header = [0; 24];
        let length = self.file.read_at(&mut header, 0).map_err(errno)?;
        let word = |index: usize| {
            let bytes = header.get(index * 8..index * 8 + 8).and_then(|part| part.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        let log = Position { inode: word(0), length: word(1) };
        let begin = word(2).max(HEADER_BYTES);
        let mut bytes = Vec::new();
        if length == header.len() && begin < self.end {
            bytes.resize(usize::try_from(self.end - begin).or(Err(Errno::EFBIG))?, 0);
            self.file.read_exact_at(&mut bytes, begin).map_err(errno)?;
        }
        Ok(Left { log, bytes })
    }

    /// Takes what there is in a pipe, or in a terminal.
    pub(super) fn take(&mut self, from: impl AsFd, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut offset = i64::try_from(self.end).or(Err(Failure::Journal))?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        let moved = loop {
            match splice(&from, None, &self.file, Some(&mut offset), buffer.len(), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EINVAL) => return self.copy(from, buffer),
                Err(Errno::EAGAIN) => return Err(Failure::Stream(Errno::EAGAIN)),
                Err(_) => return Err(Failure::Journal),
                Ok(moved) => break moved,
            }
        };
        self.file.read_exact_at(&mut buffer[..moved], self.end).or(Err(Failure::Journal))?;
        self.end += moved as u64;
        Ok(moved)
    }

    /// Of a terminal: nothing can be spliced from it.
    fn copy(&mut self, from: impl AsFd, buffer: &mut [u8]) -> Result<usize, Failure> {
        let length = loop {
            match nix::unistd::read(&from, buffer) {
                Err(Errno::EINTR) => {}
                other => break other.map_err(Failure::Stream)?,
            }
        };
        // If it fails, the bytes are on their way without.
        if self.file.write_all_at(&buffer[..length], self.end).is_ok() {
            self.end += length as u64;
        }
        Ok(length)
    }

    /// All is in the log, which is so long now, but for the last bytes.
    pub(super) fn settle(&mut self, log: Position, pending: usize) -> nix::Result<()> {
        let begin = self.end.saturating_sub(pending as u64).max(HEADER_BYTES);
        if pending == 0 {
            // First: bytes that a header of later calls unsettled would come twice.
            if self.end > HEADER_BYTES {
                ftruncate(&self.file, HEADER_BYTES.cast_signed())?;
            }
            self.end = HEADER_BYTES;
            self.punched = 0;
        }
        let begin = begin.min(self.end);
        let words = [log.inode, log.length, begin].map(u64::to_ne_bytes);
        self.file.write_all_at(&words.concat(), 0).map_err(errno)?;
        if begin - self.punched.min(begin) > SETTLED_BYTES {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let length = (begin - HEADER_BYTES).cast_signed();
            fallocate(&self.file, hole, HEADER_BYTES.cast_signed(), length)?;
            self.punched = begin;
        }
        Ok(())
    }

    /// The stream has ended and all of it is in the log, or nothing can be kept any more.
    pub(super) fn remove(self) {
        remove(&self.path);
    }
}

/// Why nothing was taken.
pub(super) enum Failure {
    /// There is nothing to take.
    Stream(Errno),
    /// The file cannot be written: it has to go without.
    Journal,
}

/// Removes a journal that nobody has open.
pub(super) fn remove(path: &Path) {
    let _gone_with_the_pod = std::fs::remove_file(path);
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
