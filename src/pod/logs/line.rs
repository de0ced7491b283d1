//! One line of a log file, as the CRI has it: `<RFC 3339 time> <stream> <tag> <text>\n`.

use std::fmt::Write as _;

use jiff::Timestamp;

/// Longest text of a line, bytes; longer ones are split. containerd's number.
pub(super) const TEXT_BYTES: usize = 16 << 10;
/// `2026-11-20T15:33:26.123456789Z stdout F `.
pub(super) const HEADER_BYTES: usize = TIME_BYTES + " stdout F ".len();
/// Longest line in a file that we write.
pub(super) const LINE_BYTES: usize = HEADER_BYTES + TEXT_BYTES + 1;
const TIME_BYTES: usize = "2026-11-20T15:33:26.123456789Z".len();

/// Where a container has written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its descriptor 1, or its terminal.
    Stdout,
    /// Its descriptor 2.
    Stderr,
}

impl Stream {
    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Whether a newline follows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `F`: it does.
    Full,
    /// `P`: the text goes on in the next line of the same stream.
    Partial,
}

impl Tag {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "F",
            Self::Partial => "P",
        }
    }
}

/// The time of all lines of one chunk: formatted once, always of the same length, in UTC.
#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) wall: Timestamp,
    text: String,
}

impl Time {
    pub(super) fn new(wall: Timestamp) -> Self {
        let mut text = String::with_capacity(TIME_BYTES);
        // Years beyond 9999 do not exist for jiff.
        let _infallible = write!(text, "{wall:.9}");
        Self { wall, text }
    }
}

/// Appends the header of a line.
pub(super) fn header(batch: &mut Vec<u8>, time: &Time, stream: Stream, tag: Tag) {
    for part in [&time.text, " ", stream.name(), " ", tag.name(), " "] {
        batch.extend_from_slice(part.as_bytes());
    }
}

/// Bytes of a container's output in lines that we have made; a newline it has written counts.
pub(super) fn output_bytes(lines: &[u8]) -> u64 {
    let bytes = |line: &[u8]| match line.get(HEADER_BYTES - 2) {
        Some(b'P') => line.len() - HEADER_BYTES - 1,
        Some(_) => line.len() - HEADER_BYTES,
        None => 0,
    };
    lines.split_inclusive(|byte| *byte == b'\n').map(|line| bytes(line) as u64).sum()
}

/// A line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// As it is in the file, RFC 3339.
    pub time: &'a str,
    /// Where it was written to.
    pub stream: Stream,
    /// Whether a newline follows.
    pub tag: Tag,
    /// Without the newline.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line apart; the newline at its end may be missing. Nothing if it is none of the CRI.
    #[must_use]
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let (time, rest) = word(raw)?;
        let (stream, rest) = word(rest)?;
        let (tags, text) = word(rest)?;
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let tag = match tags.split(|byte| *byte == b':').next()? {
            b"F" => Tag::Full,
            b"P" => Tag::Partial,
            _ => return None,
        };
        let time = std::str::from_utf8(time).ok().filter(|time| looks_like_time(time))?;
        Some(Self { time, stream, tag, text })
    }

    /// When it was written; nothing if that is no time.
    #[must_use]
    pub fn when(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Cheap, for every line: what else a broken file may hold does not begin with a date.
fn looks_like_time(time: &str) -> bool {
    time.len() >= 20 && time.as_bytes()[4] == b'-' && time.as_bytes()[10] == b'T'
}

/// The bytes before the first space, and those after it.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // No word of a header is longer than a time with its zone.
    let end = bytes.iter().take(48).position(|byte| *byte == b' ')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_one_length() {
        for (wall, text) in [
            ("2026-11-20T15:33:26Z", "2026-11-20T15:33:26.000000000Z stderr P "),
            ("2026-11-20T15:33:26.12Z", "2026-11-20T15:33:26.120000000Z stderr P "),
            ("1969-01-01T00:00:00.000000001Z", "1969-01-01T00:00:00.000000001Z stderr P "),
        ] {
            let mut batch = Vec::new();
            header(&mut batch, &Time::new(wall.parse().unwrap()), Stream::Stderr, Tag::Partial);
            assert_eq!(String::from_utf8_lossy(&batch), text);
            assert_eq!(batch.len(), HEADER_BYTES);
        }
    }

    #[test]
    fn lines_are_taken_apart() {
        let line = Line::parse(b"2026-11-20T15:33:26.5+02:00 stdout F a b\r\n").unwrap();
        assert_eq!(line.time, "2026-11-20T15:33:26.5+02:00");
        assert_eq!((line.stream, line.tag, line.text), (Stream::Stdout, Tag::Full, &b"a b\r"[..]));
        assert_eq!(line.when(), Some("2026-11-20T13:33:26.5Z".parse().unwrap()));
        let line = Line::parse(b"2026-11-20T15:33:26Z stderr P:x ").unwrap();
        assert_eq!((line.stream, line.tag, line.text), (Stream::Stderr, Tag::Partial, &b""[..]));
    }

    #[test]
    fn what_is_no_line_is_nothing() {
        for raw in [
            &b""[..],
            b"\n",
            b"2026-11-20T15:33:26Z stdout F",
            b"2026-11-20T15:33:26Z stdin F x",
            b"2026-11-20T15:33:26Z stdout X x",
            b"today stdout F x",
            b"\xff\xff26-11-20T15:33:26Z stdout F x",
        ] {
            assert_eq!(Line::parse(raw), None, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn output_is_counted_without_headers() {
        let mut lines = Vec::new();
        let time = Time::new(Timestamp::UNIX_EPOCH);
        header(&mut lines, &time, Stream::Stdout, Tag::Partial);
        lines.extend_from_slice(b"abc\n");
        header(&mut lines, &time, Stream::Stdout, Tag::Full);
        lines.extend_from_slice(b"de\n");
        assert_eq!(output_bytes(&lines), 6);
    }
}
