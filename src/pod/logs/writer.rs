//! Output of one instance of a container, turned into lines of its log.
//!
//! Whoever prints never learns of a full disk: what cannot be stored is counted and dropped, and
//! the log says so as soon as it can be written again. Memory stays below two unfinished lines
//! and one batch, whatever is printed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{ftruncate, write};

use super::line::{self, HEADER_BYTES, LINE_BYTES, Line, Stream, TEXT_BYTES, Tag, Time};
use super::place::{self, Missing};
use super::{Limits, rotate};

/// One write(2) stores at most this much, bytes.
const BATCH_BYTES: usize = 32 << 10;
/// What a buffer keeps while it is empty, bytes.
const IDLE_BYTES: usize = 4 << 10;
/// How often it is looked whether somebody has removed or cut the file.
const CHECK: Duration = Duration::from_secs(10);
/// How long after a failure the file is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// How much a log that cannot be rotated grows before that is tried again, bytes.
const ROTATE_AGAIN_BYTES: u64 = 64 << 10;

/// The log of one instance, open for writing.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    limits: Limits,
    file: Option<OpenLog>,
    /// The failure that output is being lost by, and when the file was last tried to be opened.
    trouble: Option<(Errno, Timestamp)>,
    lost_bytes: u64,
    pending_out: Vec<u8>,
    pending_err: Vec<u8>,
    batch: Vec<u8>,
    has_rotated: bool,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    size: u64,
    rotate_at: u64,
    checked: Timestamp,
    /// It ends within a line.
    is_torn: bool,
}

impl LogWriter {
    /// Opens a log, or goes on with it; makes its directories.
    ///
    /// The path is `<root>/<pod>/<container>/<restart count>.log`. If it cannot be opened, output
    /// is lost until it can; [`LogWriter::trouble`] tells.
    #[must_use]
    pub fn open(path: PathBuf, limits: Limits) -> Self {
        let mut writer = Self {
            path,
            limits,
            file: None,
            trouble: None,
            lost_bytes: 0,
            pending_out: Vec::new(),
            pending_err: Vec::new(),
            batch: Vec::new(),
            has_rotated: false,
        };
        writer.reopen(Timestamp::now());
        writer
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why output is being lost, if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<Errno> {
        self.trouble.map(|(errno, _)| errno)
    }

    /// Whether files were rotated since it was last asked: then there may be something for
    /// [`super::Compressor::add`].
    pub fn take_rotated(&mut self) -> bool {
        std::mem::take(&mut self.has_rotated)
    }

    /// Stores what a container has printed; `wall` is the time of these lines. What follows the
    /// last newline waits for the next call, at most 16 KiB of it.
    pub fn write(&mut self, stream: Stream, mut output: &[u8], wall: Timestamp) {
        let time = Time::new(wall);
        loop {
            let room = TEXT_BYTES - self.pending(stream).len();
            let within_reach = &output[..output.len().min(room + 1)];
            let (text, next, tag) = match memchr::memchr(b'\n', within_reach) {
                Some(newline) => (newline, newline + 1, Tag::Full),
                None if output.len() > room => (room, room, Tag::Partial),
                None => break,
            };
            self.add_line(&time, stream, tag, &output[..text], wall);
            output = &output[next..];
        }
        self.pending(stream).extend_from_slice(output);
        self.store(wall);
    }

    /// A stream has ended: what has no newline becomes a line nevertheless.
    pub fn end(&mut self, stream: Stream, wall: Timestamp) {
        if !self.pending(stream).is_empty() {
            self.add_line(&Time::new(wall), stream, Tag::Full, &[], wall);
        }
        self.store(wall);
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.pending_out,
            Stream::Stderr => &mut self.pending_err,
        }
    }

    /// Puts what was pending and `text` into the batch as one line.
    fn add_line(&mut self, time: &Time, stream: Stream, tag: Tag, text: &[u8], wall: Timestamp) {
        let bytes = HEADER_BYTES + self.pending(stream).len() + text.len() + 1;
        if self.batch.len() + bytes > BATCH_BYTES {
            self.store(wall);
        }
        self.make_room(bytes, wall);
        let mut batch = std::mem::take(&mut self.batch);
        line::header(&mut batch, time, stream, tag);
        let pending = self.pending(stream);
        batch.append(pending);
        if pending.capacity() > IDLE_BYTES {
            *pending = Vec::new();
        }
        batch.extend_from_slice(text);
        batch.push(b'\n');
        self.batch = batch;
    }

    /// Rotates if a line would make the file too large.
    fn make_room(&mut self, bytes: usize, wall: Timestamp) {
        let Some(open) = &self.file else { return };
        let size = open.size + self.batch.len() as u64;
        if size == 0 || size + bytes as u64 <= open.rotate_at {
            return;
        }
        self.store(wall);
        if self.file.as_ref().is_some_and(|open| open.size > 0) {
            self.rotate(wall);
        }
    }

    fn rotate(&mut self, wall: Timestamp) {
        let rotated = place::directory(&self.path, Missing::Refuse)
            .and_then(|(dir, name)| rotate::rotate(&dir, name, self.limits, wall));
        match (rotated, &mut self.file) {
            // Somebody has removed the file or its directory.
            (Ok(()) | Err(Errno::ENOENT), _) => {
                self.has_rotated = rotated.is_ok();
                self.reopen(wall);
            }
            (Err(_), Some(open)) => open.rotate_at = open.size + ROTATE_AGAIN_BYTES,
            (Err(_), None) => {}
        }
    }

    fn reopen(&mut self, wall: Timestamp) {
        let opened = place::directory(&self.path, Missing::Make)
            .and_then(|(dir, name)| place::open_to_append(&dir, name))
            .and_then(|(file, size)| OpenLog::new(file, size, self.limits, wall));
        match opened {
            Ok(file) => {
                self.file = Some(file);
                if self.lost_bytes == 0 {
                    self.trouble = None;
                }
            }
            Err(errno) => {
                self.file = None;
                self.trouble = Some((errno, wall));
            }
        }
    }

    /// Makes sure that the file is the one that readers see, if it has been a while.
    fn check(&mut self, wall: Timestamp) {
        match (&mut self.file, self.trouble) {
            (Some(open), _) if has_passed(CHECK, open.checked, wall) => {
                open.checked = wall;
                match fstat(&open.file) {
                    Ok(stat) if stat.st_nlink > 0 => {
                        open.size = u64::try_from(stat.st_size).unwrap_or(0);
                    }
                    _ => self.reopen(wall),
                }
            }
            (Some(_), _) => {}
            (None, Some((_, tried))) if !has_passed(REOPEN, tried, wall) => {}
            (None, _) => self.reopen(wall),
        }
    }

    /// Writes the batch; what does not get through is lost, and counted.
    fn store(&mut self, wall: Timestamp) {
        if self.batch.is_empty() && self.lost_bytes == 0 {
            return;
        }
        self.check(wall);
        let stored = self.confess(wall).and_then(|()| match &mut self.file {
            Some(open) => open.append(&self.batch).map_err(|(stored, errno)| (Some(stored), errno)),
            None => Err((None, self.trouble().unwrap_or(Errno::EIO))),
        });
        if let Err((stored, errno)) = stored {
            self.lost_bytes += line::output_bytes(&self.batch[stored.unwrap_or(0)..]);
            let tried = self.trouble.map_or(wall, |(_, tried)| tried);
            self.trouble = Some((errno, tried));
        }
        self.batch.clear();
        if self.batch.capacity() > IDLE_BYTES {
            self.batch = Vec::new();
        }
    }

    /// Says in the log that output was lost, once it can be written again.
    fn confess(&mut self, wall: Timestamp) -> Result<(), (Option<usize>, Errno)> {
        let (Some(open), Some((errno, _))) = (&mut self.file, self.trouble) else {
            return Ok(());
        };
        let mut text = Vec::new();
        if open.is_torn {
            text.push(b'\n');
        }
        line::header(&mut text, &Time::new(wall), Stream::Stderr, Tag::Full);
        let lost = self.lost_bytes;
        let message = format!("carob: {lost} bytes of output lost: {}\n", errno.desc());
        text.extend_from_slice(message.as_bytes());
        open.append(&text).map_err(|(_, errno)| (None, errno))?;
        open.is_torn = false;
        self.lost_bytes = 0;
        self.trouble = None;
        Ok(())
    }
}

/// Also if the clock was set back.
fn has_passed(time: Duration, since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since).unsigned_abs() >= time
}

impl OpenLog {
    fn new(file: File, size: u64, limits: Limits, wall: Timestamp) -> nix::Result<Self> {
        let rotate_at = limits.bytes.max(1);
        let mut open = Self { file, size, rotate_at, checked: wall, is_torn: false };
        open.mend()?;
        Ok(open)
    }

    /// A process that dies while it writes can leave half a line behind: it is ended, so that the
    /// next one begins where a line begins; or cut off if it has not got as far as its text.
    fn mend(&mut self) -> nix::Result<()> {
        let from = self.size.saturating_sub(LINE_BYTES as u64);
        let mut end = [0];
        if self.size == 0 || self.read(&mut end, self.size - 1)? == 1 && end == *b"\n" {
            return Ok(());
        }
        let mut tail = vec![0; LINE_BYTES];
        let length = self.read(&mut tail, from)?;
        let tail = &tail[..length];
        let half = &tail[memchr::memrchr(b'\n', tail).map_or(0, |newline| newline + 1)..];
        if Line::parse(half).is_some() {
            return self.append(b"\n").map_err(|(_, errno)| errno);
        }
        self.cut(self.size - half.len() as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> nix::Result<usize> {
        let read = self.file.read_at(buffer, offset);
        read.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    fn cut(&mut self, size: u64) -> nix::Result<()> {
        ftruncate(&self.file, i64::try_from(size).or(Err(Errno::EFBIG))?)?;
        self.size = size;
        Ok(())
    }

    /// Writes lines. On failure tells how many bytes of them are in the file: whole lines only.
    fn append(&mut self, lines: &[u8]) -> Result<(), (usize, Errno)> {
        let mut written = 0;
        while written < lines.len() {
            match write(&self.file, &lines[written..]) {
                Ok(count) => {
                    written += count;
                    self.size += count as u64;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let whole =
                        memchr::memrchr(b'\n', &lines[..written]).map_or(0, |newline| newline + 1);
                    self.drop_half((written - whole) as u64);
                    return Err((whole, errno));
                }
            }
        }
        Ok(())
    }

    /// Takes the last bytes away again; where that fails, the next line has to begin with a
    /// newline.
    fn drop_half(&mut self, bytes: u64) {
        if bytes > 0 && self.cut(self.size - bytes).is_err() {
            self.is_torn = true;
        }
    }
}
