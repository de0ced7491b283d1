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
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>> {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::place::tests::Root;
    use super::*;

    const TIME: &str = "2026-11-20T15:33:26.000000000Z";

    fn log(test: &str, content: &str) -> Root {
        let root = Root::new(test);
        drop(place::directory(&root.log(), Missing::Make).unwrap());
        fs::write(root.log(), content).unwrap();
        root
    }

    fn rest(reader: &mut LogReader) -> String {
        let mut text = String::new();
        while let Some(line) = reader.next_line().unwrap() {
            text += &String::from_utf8_lossy(line.text);
            text += if line.tag == Tag::Full { "$" } else { "" };
        }
        text
    }

    #[test]
    fn the_tail_is_found_across_chunks_and_pieces() {
        let long = "y".repeat(TEXT);
        let mut content = String::new();
        for number in 0..3000 {
            content += &format!("{TIME} stdout F {number}\n");
        }
        content += &format!("{TIME} stdout P {long}\n{TIME} stdout P {long}\n");
        content += &format!("{TIME} stdout F end\n{TIME} stderr F last\n");
        let root = log("tail", &format!("{content}{TIME} std"));
        let joined = format!("{long}{long}end$last$");
        for (lines, text) in [
            (0, String::new()),
            (1, "last$".into()),
            (2, joined.clone()),
            (3, format!("2999${joined}")),
            (4, format!("2998$2999${joined}")),
        ] {
            let mut reader = LogReader::open(root.log()).unwrap();
            reader.seek_tail(lines).unwrap();
            assert!(rest(&mut reader) == text, "{lines}");
        }
        for lines in [2500, 3002, 3003, u64::MAX] {
            let mut reader = LogReader::open(root.log()).unwrap();
            reader.seek_tail(lines).unwrap();
            let expected = lines.min(3002);
            assert_eq!(rest(&mut reader).matches('$').count() as u64, expected, "{lines}");
        }
    }

    const TEXT: usize = super::super::line::TEXT_BYTES;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_tail_is_the_end_of_the_whole(
            pieces in prop::collection::vec((any::<bool>(), 0..40_000_usize), 0..30),
            lines in 0..12_u64,
        ) {
            let mut content = String::new();
            for (is_partial, length) in &pieces {
                let tag = if *is_partial { "P" } else { "F" };
                content += &format!("{TIME} stdout {tag} {}\n", "x".repeat(*length));
            }
            let root = log("any-tail", &content);
            let mut reader = LogReader::open(root.log()).unwrap();
            let whole = rest(&mut reader);
            reader.seek_tail(lines).unwrap();
            let tail = rest(&mut reader);
            prop_assert!(whole.ends_with(&tail));
            let ends = |text: &str| {
                let unended = !text.is_empty() && !text.ends_with('$');
                text.matches('$').count() as u64 + u64::from(unended)
            };
            // A last piece without text is a line that cannot be seen here.
            let is_hidden = pieces.last() == Some(&(true, 0));
            prop_assert!(is_hidden || ends(&tail) == lines.min(ends(&whole)));
            let before = whole.strip_suffix(tail.as_str()).unwrap_or_default();
            prop_assert!(before.is_empty() || before.ends_with('$') || lines == 0);
        }

        #[test]
        fn whatever_is_in_a_file_is_no_reason_to_fail(
            content in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..2000),
            lines in 0..5_u64,
        ) {
            let root = log("noise", "");
            fs::write(root.log(), &content).unwrap();
            let mut reader = LogReader::open(root.log()).unwrap();
            reader.seek_tail(lines).unwrap();
            rest(&mut reader);
            prop_assert!(last_lines(&root.log(), 3, 100).len() <= 300);
        }
    }

    #[test]
    fn a_line_is_seen_once_it_is_complete() {
        let root = log("growing", &format!("{TIME} stdout F a\n{TIME} stdout F b"));
        let mut reader = LogReader::open(root.log()).unwrap();
        assert_eq!(rest(&mut reader), "a$");
        let mut file = fs::OpenOptions::new().append(true).open(root.log()).unwrap();
        file.write_all(b"c").unwrap();
        assert_eq!(rest(&mut reader), "");
        write!(file, "d\nno line\n{TIME} stdout F e\n").unwrap();
        assert_eq!(rest(&mut reader), "bcd$e$");
        assert!(reader.successor().unwrap().is_none());
        fs::rename(root.log(), root.0.join("away")).unwrap();
        assert!(reader.successor().unwrap().is_none());
        fs::write(root.log(), format!("{TIME} stdout F f\n")).unwrap();
        assert_eq!(rest(&mut reader.successor().unwrap().unwrap()), "f$");
    }

    #[test]
    fn a_file_without_newlines_takes_no_memory() {
        let root = log("no-newlines", &"z".repeat(3 * FOREIGN_LINE_BYTES));
        let mut file = fs::OpenOptions::new().append(true).open(root.log()).unwrap();
        write!(file, "\n{TIME} stdout F a\n").unwrap();
        let mut reader = LogReader::open(root.log()).unwrap();
        assert_eq!(rest(&mut reader), "a$");
        assert!(reader.line.capacity() <= 4 * FOREIGN_LINE_BYTES);
    }

    #[test]
    fn the_last_lines_are_bounded_both_ways() {
        let mut content = String::new();
        for number in 0..500 {
            content += &format!("{TIME} stdout F {number}\n");
        }
        let root = log("last", &content);
        assert_eq!(last_lines(&root.log(), 2, 2048), "498\n499\n");
        assert_eq!(last_lines(&root.log(), 80, 6), "8\n499\n");
        assert_eq!(last_lines(&root.log(), 80, 2048).lines().count(), 80);
        assert_eq!(last_lines(&root.log(), 1000, 1 << 20).lines().count(), 500);
        assert_eq!(last_lines(&root.log(), 1, 0), "");
        assert_eq!(last_lines(&root.log().with_file_name("1.log"), 80, 2048), "");

        let long = "y".repeat(TEXT);
        let pieces = format!("{TIME} stdout P {long}\n").repeat(4);
        fs::write(root.log(), format!("{content}{pieces}{TIME} stdout F äöü\n")).unwrap();
        let text = last_lines(&root.log(), 80, 2048);
        assert!(text.len() == 2048 && text.ends_with("yäöü\n"), "{}", text.len());
        assert_eq!(last_lines(&root.log(), 1, 6), "öü\n".to_owned());
        assert_eq!(last_lines(&root.log(), 80, 4), "ü\n");
    }
}
