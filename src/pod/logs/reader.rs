//! The lines of a log file, from a place of choice on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::line::{HEADER_BYTES, LINE_BYTES, Line, Tag};
use super::place::{self, Missing};
use crate::error::{OsContext, Result};

const BUFFER_BYTES: usize = 64 << 10;
/// Longest line that is read; logs of other runtimes may have longer ones than ours.
const FOREIGN_LINE_BYTES: usize = 1 << 20;

/// A log that is being read. It sees what is appended, and finds what follows a rotation.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: BufReader<File>,
    /// A line as far as it is there.
    line: Vec<u8>,
}

impl LogReader {
    /// Opens a log at its beginning.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the path.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file = open(&path).os("open", || path.display())?;
        Ok(Self { file: BufReader::with_capacity(BUFFER_BYTES, file), path, line: Vec::new() })
    }

    /// Goes to where the last `lines` lines begin; pieces of one line count once.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the path.
    pub fn seek_tail(&mut self, lines: u64) -> Result<()> {
        let start = tail_start(self.file.get_ref(), lines);
        let sought = start.and_then(|start| self.file.seek(SeekFrom::Start(start)));
        self.line.clear();
        sought.os("seek", || self.path.display()).map(drop)
    }

    /// The next line that is complete; nothing at the end, where more may come. What is no line of
    /// the CRI is left out.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the path.
    pub fn next(&mut self) -> Result<Option<Line<'_>>> {
        loop {
            if self.line.ends_with(b"\n") || self.line.len() > FOREIGN_LINE_BYTES {
                self.line.clear();
            }
            let room = FOREIGN_LINE_BYTES + 1 - self.line.len();
            let mut limited = (&mut self.file).take(room as u64);
            let count = limited.read_until(b'\n', &mut self.line);
            let count = count.os("read", || self.path.display())?;
            if self.line.ends_with(b"\n") {
                if Line::parse(&self.line).is_some() {
                    return Ok(Line::parse(&self.line));
                }
            } else if count == 0 {
                return Ok(None);
            }
        }
    }

    /// Goes on in the file that has taken the place of this one, if there is another; to be asked
    /// once this one is at its end, and then read to its end once more.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the path.
    pub fn successor(&self) -> Result<Option<Self>> {
        let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let here = identity(self.file.get_ref()).os("stat", || self.path.display())?;
        let next = match open(&self.path) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.os("open", || self.path.display())?,
        };
        if identity(&next).os("stat", || self.path.display())? == here {
            return Ok(None);
        }
        let file = BufReader::with_capacity(BUFFER_BYTES, next);
        Ok(Some(Self { path: self.path.clone(), file, line: Vec::new() }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path) -> nix::Result<File> {
    let (dir, name) = place::directory(path, Missing::Refuse)?;
    place::open_to_read(&dir, name)
}

/// Offset of the last `lines` lines: reads backwards no further than it must.
fn tail_start(file: &File, lines: u64) -> std::io::Result<u64> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut chunk = vec![0; BUFFER_BYTES];
    let mut tail = Tail { missing: lines, begins: None, is_at_end: true };
    let mut from = end;
    while from > 0 {
        let length = usize::try_from(from).unwrap_or(usize::MAX).min(chunk.len());
        from -= length as u64;
        file.read_exact_at(&mut chunk[..length], from)?;
        let chunk = &chunk[..length];
        let starts = memchr::memrchr_iter(b'\n', chunk).map(|newline| newline + 1);
        for start in starts.chain((from == 0).then_some(0)) {
            let at = from + start as u64;
            let mut header = [0; 64];
            let header = match chunk.get(start..start + header.len()) {
                Some(header) => header,
                None => {
                    let count = file.read_at(&mut header, at)?;
                    &header[..count]
                }
            };
            if let Some(found) = tail.step_back(at, header) {
                return Ok(found);
            }
        }
    }
    Ok(0)
}

/// A search from the end of a file.
struct Tail {
    /// Lines to be found yet.
    missing: u64,
    /// Where the line begins that follows the one being looked at.
    begins: Option<u64>,
    /// Nothing complete was seen yet.
    is_at_end: bool,
}

impl Tail {
    /// A line of the file begins at `at`. Whether the one after it begins a line of output, or goes
    /// on with one, is told by the tag of this one.
    fn step_back(&mut self, at: u64, header: &[u8]) -> Option<u64> {
        if std::mem::take(&mut self.is_at_end) {
            return None;
        }
        let is_partial = Line::parse(header).is_some_and(|line| line.tag == Tag::Partial);
        if let Some(begins) = self.begins.replace(at).filter(|_| !is_partial) {
            self.missing -= 1;
            if self.missing == 0 {
                return Some(begins);
            }
        }
        None
    }
}

/// The end of a log as text: at most so many lines, and at most so many bytes of them. Empty if
/// there is no log. For a termination message; costs one read.
#[must_use]
pub fn last_lines(path: &Path, max_lines: usize, max_bytes: usize) -> String {
    let Ok(file) = open(path) else { return String::new() };
    let Ok(end) = file.metadata().map(|data| data.len()) else { return String::new() };
    // However short the lines are: nothing before this can belong to the end.
    let window = max_bytes + (max_lines + 1) * (HEADER_BYTES + 1) + LINE_BYTES;
    let from = end.saturating_sub(window as u64);
    let mut tail = vec![0; window];
    let Ok(count) = file.read_at(&mut tail, from) else { return String::new() };
    let mut raw = &tail[..count];
    if from > 0 {
        raw = memchr::memchr(b'\n', raw).map_or(&[], |newline| &raw[newline + 1..]);
    }
    let mut text = Vec::new();
    let mut ends = 0;
    let lines: Vec<_> =
        raw.split_inclusive(|byte| *byte == b'\n').filter_map(Line::parse).collect();
    for line in lines.iter().rev() {
        let is_end = line.tag == Tag::Full || text.is_empty();
        ends += usize::from(is_end);
        if ends > max_lines || text.len() >= max_bytes {
            break;
        }
        // Backwards.
        text.extend((line.tag == Tag::Full).then_some(b'\n'));
        text.extend(line.text.iter().rev());
    }
    text.truncate(max_bytes);
    text.reverse();
    // The cut may have gone through a character.
    let rest = text.iter().position(|byte| byte & 0xC0 != 0x80).unwrap_or(0).min(3);
    String::from_utf8_lossy(&text[rest..]).into_owned()
}
