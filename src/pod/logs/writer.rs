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
use super::{Limits, Position, rotate};

/// One write(2) stores at most this much, bytes.
const BATCH_BYTES: usize = 64 << 10;
/// What a buffer keeps while it is empty, bytes.
const IDLE_BYTES: usize = 4 << 10;
/// How often it is looked whether somebody has removed or cut the file.
const CHECK: Duration = Duration::from_secs(10);
/// How long after a failure it is tried again: a full file system can take its time to say so.
const RETRY: Duration = Duration::from_millis(200);
/// How much a log that cannot be rotated grows before that is tried again, bytes.
const ROTATE_AGAIN_BYTES: u64 = 64 << 10;

/// The log of one instance, open for writing.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    limits: Limits,
    file: Option<OpenLog>,
    /// The failure that output is being lost by, and when it was last met.
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
    inode: u64,
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
        // A supervisor that was killed may have left something to compress.
        writer.has_rotated = writer.file.as_ref().is_some_and(|open| open.size > 0);
        writer
    }

    /// How far it has got.
    #[must_use]
    pub fn position(&self) -> Position {
        let open = self.file.as_ref();
        open.map(|open| Position { inode: open.inode, length: open.size }).unwrap_or_default()
    }

    /// Bytes of a stream that wait for a newline.
    #[must_use]
    pub fn pending_bytes(&self, stream: Stream) -> usize {
        match stream {
            Stream::Stdout => self.pending_out.len(),
            Stream::Stderr => self.pending_err.len(),
        }
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

    /// Whether files were rotated since it was last asked, or the log was there when it was opened:
    /// then there may be something for [`super::Compressor::add`].
    pub fn take_rotated(&mut self) -> bool {
        std::mem::take(&mut self.has_rotated)
    }

    /// Stores what a container has printed; `wall` is the time of these lines. What follows the
    /// last newline waits for the next call, at most 16 KiB of it.
    pub fn write(&mut self, stream: Stream, mut output: &[u8], wall: Timestamp) {
        let time = Time::new(wall);
        if output.len() > IDLE_BYTES {
            self.batch.reserve(BATCH_BYTES.min(2 * output.len()));
        }
        loop {
            let room = TEXT_BYTES - self.pending(stream).len();
            let within_reach = &output[..output.len().min(room + 1)];
            let (text, next, tag) = match memchr::memchr(b'\n', within_reach) {
                Some(newline) => (newline, newline + 1, Tag::Full),
                None if output.len() > room => (room, room, Tag::Partial),
                None => break,
            };
            self.add_line(&time, stream, tag, &output[..text]);
            output = &output[next..];
        }
        self.pending(stream).extend_from_slice(output);
        self.store(wall);
    }

    /// A stream has ended: what has no newline becomes a line nevertheless.
    pub fn end(&mut self, stream: Stream, wall: Timestamp) {
        // There may be no other occasion to say that something was lost.
        if let Some((_, met)) = &mut self.trouble {
            *met = Timestamp::MIN;
        }
        if !self.pending(stream).is_empty() {
            self.add_line(&Time::new(wall), stream, Tag::Full, &[]);
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
    fn add_line(&mut self, time: &Time, stream: Stream, tag: Tag, text: &[u8]) {
        let bytes = HEADER_BYTES + self.pending(stream).len() + text.len() + 1;
        if self.batch.len() + bytes > BATCH_BYTES {
            self.store(time.wall);
        }
        self.make_room(bytes, time.wall);
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
                self.has_rotated |= rotated.is_ok();
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
        match &mut self.file {
            Some(open) if has_passed(CHECK, open.checked, wall) => {
                open.checked = wall;
                match fstat(&open.file) {
                    Ok(stat) if stat.st_nlink > 0 => {
                        open.size = u64::try_from(stat.st_size).unwrap_or(0);
                    }
                    _ => self.reopen(wall),
                }
            }
            Some(_) => {}
            None => self.reopen(wall),
        }
    }

    /// Writes the batch; what does not get through is lost, and counted.
    fn store(&mut self, wall: Timestamp) {
        if self.batch.is_empty() && self.lost_bytes == 0 {
            return;
        }
        match self.trouble {
            Some((_, met)) if !has_passed(RETRY, met, wall) => {
                self.lost_bytes += line::output_bytes(&self.batch);
            }
            _ => {
                self.check(wall);
                if let Err((stored, errno)) = self.try_to_store(wall) {
                    self.lost_bytes += line::output_bytes(&self.batch[stored..]);
                    self.trouble = Some((errno, wall));
                }
            }
        }
        self.batch.clear();
        if self.batch.capacity() > IDLE_BYTES {
            self.batch = Vec::new();
        }
    }

    /// On failure tells how many bytes of the batch are in the file.
    fn try_to_store(&mut self, wall: Timestamp) -> Result<(), (usize, Errno)> {
        self.confess(wall)?;
        match &mut self.file {
            Some(open) => open.append(&self.batch),
            None => Err((0, self.trouble().unwrap_or(Errno::EIO))),
        }
    }

    /// Says in the log that output was lost, once it can be written again.
    fn confess(&mut self, wall: Timestamp) -> Result<(), (usize, Errno)> {
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
        open.append(&text).map_err(|(_, errno)| (0, errno))?;
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
        let inode = fstat(&file)?.st_ino;
        let mut open = Self { file, inode, size, rotate_at, checked: wall, is_torn: false };
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
        if bytes == 0 {
            return;
        }
        // Somebody else may have cut the file meanwhile.
        let size = fstat(&self.file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
        let cut = size.and_then(|size| self.cut(size.saturating_sub(bytes)));
        self.is_torn = cut.is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::place::tests::Root;
    use super::super::reader::LogReader;
    use super::*;

    fn wall(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 5).unwrap()
    }

    fn open(root: &Root, bytes: u64) -> LogWriter {
        let mut log = LogWriter::open(root.log(), Limits { bytes, files: 3 });
        if let Some(open) = &mut log.file {
            open.checked = wall(0);
        }
        log
    }

    /// What a container has printed, as its log has it; `<` before what went to stderr.
    fn read_back(path: &Path) -> Vec<u8> {
        let mut log = LogReader::open(path.to_owned()).unwrap();
        let mut text = Vec::new();
        while let Some(line) = log.next_line().unwrap() {
            text.extend((line.stream == Stream::Stderr).then_some(b'<'));
            text.extend_from_slice(line.text);
            text.extend((line.tag == Tag::Full).then_some(b'\n'));
        }
        text
    }

    fn text(root: &Root) -> String {
        String::from_utf8(read_back(&root.log())).unwrap()
    }

    #[test]
    fn streams_are_interleaved_by_line() {
        let root = Root::new("interleaved");
        let mut log = open(&root, 1 << 20);
        log.write(Stream::Stdout, b"a", wall(0));
        log.write(Stream::Stderr, b"b\nc", wall(1));
        log.write(Stream::Stdout, b"d\n\n", wall(2));
        log.end(Stream::Stderr, wall(3));
        log.end(Stream::Stdout, wall(3));
        let stored = fs::read_to_string(root.log()).unwrap();
        assert_eq!(
            stored,
            "2027-01-15T08:00:01.000000005Z stderr F b\n\
             2027-01-15T08:00:02.000000005Z stdout F ad\n\
             2027-01-15T08:00:02.000000005Z stdout F \n\
             2027-01-15T08:00:03.000000005Z stderr F c\n"
        );
    }

    #[test]
    fn long_lines_are_split_where_containerd_splits_them() {
        for (bytes, pieces) in [
            (TEXT_BYTES - 1, vec![TEXT_BYTES - 1]),
            (TEXT_BYTES, vec![TEXT_BYTES]),
            (TEXT_BYTES + 1, vec![TEXT_BYTES, 1]),
            (2 * TEXT_BYTES, vec![TEXT_BYTES; 2]),
        ] {
            let root = Root::new("split");
            let mut log = open(&root, 1 << 20);
            log.write(Stream::Stdout, &vec![b'x'; bytes], wall(0));
            log.write(Stream::Stdout, b"\n", wall(0));
            let stored = fs::read(root.log()).unwrap();
            let lines = stored.split_inclusive(|byte| *byte == b'\n');
            let lengths: Vec<_> = lines.map(|raw| Line::parse(raw).unwrap().text.len()).collect();
            assert_eq!(lengths, pieces, "{bytes}");
            assert_eq!(read_back(&root.log()).len(), bytes + 1);
        }
    }

    #[test]
    fn ten_megabytes_without_a_newline_take_no_memory() {
        let root = Root::new("endless");
        let mut log = LogWriter::open(root.log(), Limits { bytes: 64 << 20, files: 3 });
        for _ in 0..320 {
            log.write(Stream::Stdout, &[b'x'; 32 << 10], wall(0));
            let held = log.pending_out.capacity() + log.pending_err.capacity();
            assert!(held <= 64 << 10, "{held}");
            assert!(log.batch.capacity() <= IDLE_BYTES);
        }
        log.end(Stream::Stdout, wall(0));
        assert_eq!(read_back(&root.log()).len(), (10 << 20) + 1);
    }

    #[test]
    fn no_file_exceeds_the_limit_and_the_oldest_go() {
        let root = Root::new("rotation");
        let mut log = open(&root, 200);
        for number in 0..20 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), wall(number / 8));
            assert!(fs::metadata(root.log()).unwrap().len() <= 200);
        }
        assert!(log.take_rotated() && !log.take_rotated());
        let mut names: Vec<_> = fs::read_dir(root.log().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.20270115-080001-1", "0.log.20270115-080002"]);
        assert_eq!(text(&root), "line 16\nline 17\nline 18\nline 19\n");
    }

    #[test]
    fn half_a_line_is_mended() {
        let whole = "2027-01-15T08:00:01.000000005Z stdout F one\n";
        for (half, text) in [
            ("", "one\ntwo\n"),
            ("2027-01-15T08:0", "one\ntwo\n"),
            ("2027-01-15T08:00:01.000000005Z stderr F", "one\ntwo\n"),
            ("2027-01-15T08:00:01.000000005Z stderr F ha", "one\n<ha\ntwo\n"),
        ] {
            let root = Root::new("half");
            drop(open(&root, 1 << 20));
            fs::write(root.log(), format!("{whole}{half}")).unwrap();
            open(&root, 1 << 20).write(Stream::Stdout, b"two\n", wall(2));
            assert_eq!(String::from_utf8(read_back(&root.log())).unwrap(), text, "{half:?}");
        }
    }

    #[test]
    fn a_planted_link_gets_nothing() {
        let root = Root::new("link");
        drop(open(&root, 1 << 20));
        let outside = root.0.join("outside");
        fs::write(&outside, "precious").unwrap();
        fs::remove_file(root.log()).unwrap();
        symlink(&outside, root.log()).unwrap();
        let mut log = open(&root, 1 << 20);
        assert_eq!(log.trouble(), Some(Errno::ELOOP));
        log.trouble = Some((Errno::ELOOP, wall(0)));
        log.write(Stream::Stdout, b"lost\n", wall(0));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        fs::remove_file(root.log()).unwrap();
        log.write(Stream::Stdout, b"kept\n", wall(2));
        let reason = Errno::ELOOP.desc();
        assert_eq!(text(&root), format!("<carob: 5 bytes of output lost: {reason}\nkept\n"));
        assert_eq!(log.trouble(), None);
    }

    #[test]
    fn a_deleted_directory_comes_back() {
        let root = Root::new("deleted");
        let mut log = open(&root, 1 << 20);
        log.write(Stream::Stdout, b"one\n", wall(0));
        fs::remove_dir_all(root.log().parent().unwrap().parent().unwrap()).unwrap();
        log.write(Stream::Stdout, b"into the void\n", wall(1));
        log.write(Stream::Stdout, b"two\n", wall(11));
        assert_eq!(text(&root), "two\n");
    }

    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_full_disk_loses_whole_lines_and_the_log_says_how_much() {
        use nix::mount::{MsFlags, mount};
        let root = Root::new("full");
        let none = None::<&str>;
        mount(Some("tmpfs"), &root.0, Some("tmpfs"), MsFlags::empty(), Some("size=32k")).unwrap();
        let mounted = Mounted(root.0.clone());
        let mut log = open(&root, 1 << 20);
        let line = [&[b'x'; 99][..], b"\n"].concat();
        for _ in 0..400 {
            log.write(Stream::Stdout, &line, wall(0));
        }
        assert_eq!(log.trouble(), Some(Errno::ENOSPC));
        let stored = read_back(&root.log()).len();
        assert!(fs::read(root.log()).unwrap().ends_with(b"x\n"));
        mount(none, &root.0, none, MsFlags::MS_REMOUNT, Some("size=64k")).unwrap();
        log.write(Stream::Stdout, b"again\n", wall(1));
        let text = text(&root);
        drop((log, mounted));
        let lost = 400 * line.len() - stored;
        assert!(lost > 0);
        let end =
            format!("x\n<carob: {lost} bytes of output lost: No space left on device\nagain\n");
        assert!(text.ends_with(&end), "{lost} {}", &text[stored..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_written_is_read_back(
            chunks in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), 1..200_usize),
                0..20,
            ),
        ) {
            let root = Root::new("arbitrary");
            let mut log = open(&root, u64::MAX);
            let mut printed = [Vec::new(), Vec::new()];
            for (is_err, bytes, times) in &chunks {
                let bytes = bytes.repeat(*times);
                let stream = if *is_err { Stream::Stderr } else { Stream::Stdout };
                printed[usize::from(*is_err)].extend_from_slice(&bytes);
                log.write(stream, &bytes, wall(0));
            }
            log.end(Stream::Stdout, wall(0));
            log.end(Stream::Stderr, wall(0));
            let mut read = [Vec::new(), Vec::new()];
            let mut reader = LogReader::open(root.log()).unwrap();
            while let Some(line) = reader.next_line().unwrap() {
                prop_assert!(line.text.len() <= TEXT_BYTES);
                let read = &mut read[usize::from(line.stream == Stream::Stderr)];
                read.extend_from_slice(line.text);
                read.extend((line.tag == Tag::Full).then_some(b'\n'));
            }
            for (printed, read) in printed.iter_mut().zip(read) {
                if printed.last().is_some_and(|byte| *byte != b'\n') {
                    printed.push(b'\n');
                }
                prop_assert!(*printed == read);
            }
        }
    }
}
