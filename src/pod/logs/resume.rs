//! Going on with a log whose writer was killed: what had got into it, to the byte.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::unistd::ftruncate;

use super::line::{LINE_BYTES, Line, Stream, Tag};
use super::place::{self, Missing};

/// How far a log has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Of the file; 0 if there is none.
    pub inode: u64,
    /// Its length, bytes.
    pub length: u64,
}

/// Takes the half line away that a writer that was killed has left at the end: its bytes come
/// again, from where they are kept until they are in the log.
///
/// # Errors
/// [`std::io::Error`]; a log that is not there is none.
pub fn cut_half_line(log: &Path) -> std::io::Result<()> {
    let Ok((dir, name)) = place::directory(log, Missing::Refuse) else { return Ok(()) };
    let Ok((file, length)) = place::open_to_append(&dir, name) else { return Ok(()) };
    let from = length.saturating_sub(LINE_BYTES as u64);
    let mut tail = vec![0; LINE_BYTES];
    let read = file.read_at(&mut tail, from)?;
    let whole = memchr::memrchr(b'\n', &tail[..read]).map_or(0, |newline| newline + 1);
    if whole < read {
        let length = i64::try_from(from + whole as u64).unwrap_or(i64::MAX);
        ftruncate(&file, length)?;
    }
    Ok(())
}

/// Bytes of a stream that a log has got since it was at a position. If it was rotated meanwhile,
/// what is in the new file.
///
/// # Errors
/// [`std::io::Error`].
pub fn stored_since(log: &Path, position: Position, stream: Stream) -> std::io::Result<usize> {
    if position.inode == 0 {
        return Ok(0);
    }
    let (dir, name) = place::directory(log, Missing::Refuse)?;
    let file = place::open_to_read(&dir, name)?;
    let metadata = file.metadata()?;
    let from = if metadata.ino() == position.inode { position.length } else { 0 };
    let length = usize::try_from(metadata.len().saturating_sub(from)).unwrap_or(usize::MAX);
    let mut lines = vec![0; length];
    let read = file.read_at(&mut lines, from)?;
    let bytes = |line: &[u8]| match Line::parse(line) {
        Some(line) if line.stream == stream => line.text.len() + usize::from(line.tag == Tag::Full),
        _ => 0,
    };
    Ok(lines[..read].split_inclusive(|byte| *byte == b'\n').map(bytes).sum())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::super::place::tests::Root;
    use super::super::{Limits, LogWriter};
    use super::*;

    #[test]
    fn what_has_got_into_a_log_is_counted_by_stream() {
        let root = Root::new("resume");
        let log = root.log();
        let mut writer = LogWriter::open(log.clone(), Limits { bytes: 400, files: 3 });
        let now = Timestamp::UNIX_EPOCH;
        writer.write(Stream::Stdout, b"before\n", now);
        let position = writer.position();
        assert_eq!(stored_since(&log, position, Stream::Stdout).unwrap(), 0);
        writer.write(Stream::Stderr, b"error\n", now);
        writer.write(Stream::Stdout, b"one\n\nhalf", now);
        assert_eq!(writer.pending_bytes(Stream::Stdout), 4);
        assert_eq!(stored_since(&log, position, Stream::Stdout).unwrap(), 5);
        assert_eq!(stored_since(&log, position, Stream::Stderr).unwrap(), 6);
        assert_eq!(stored_since(&log, Position::default(), Stream::Stdout).unwrap(), 0);
        // Rotated by the other stream: only the new file counts.
        writer.write(Stream::Stderr, &[b'x'; 300], now);
        writer.write(Stream::Stderr, b"\n", now);
        writer.write(Stream::Stdout, b"s\n", now);
        assert_eq!(stored_since(&log, position, Stream::Stdout).unwrap(), 6);
    }

    #[test]
    fn half_a_line_is_cut_and_whole_ones_stay() {
        let root = Root::new("cut");
        let log = root.log();
        drop(LogWriter::open(log.clone(), Limits::default()));
        let line = "2026-11-20T15:33:26.000000000Z stdout F text\n";
        for half in ["", "2026", "2026-11-20T15:33:26.000000000Z stdout F te"] {
            fs::write(&log, format!("{line}{half}")).unwrap();
            cut_half_line(&log).unwrap();
            assert_eq!(fs::read_to_string(&log).unwrap(), line);
        }
        fs::write(&log, "te").unwrap();
        cut_half_line(&log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        cut_half_line(&log.with_file_name("missing")).unwrap();
    }
}
