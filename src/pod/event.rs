//! What has happened to a pod: one JSON object a line in `events.jsonl`.
//!
//! The supervisor appends ([`EventLog`]), everybody else reads ([`EventTail`]).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use crate::error::{OsContext, Result};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Normal, Warning, or a mere transition.
    pub kind: EventKind,
    /// A reason of the kubelet (`Started`, `BackOff`, …), or of a transition (`Exited`, `Ready`).
    pub reason: String,
    /// The container it is about; absent for the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// For people, in the kubelet's words.
    pub message: String,
}

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// As the kubelet reports it, `Normal`.
    Normal,
    /// As the kubelet reports it, `Warning`.
    Warning,
    /// Not an event of Kubernetes: only for `pod timeline` and the foreground of `pod run`.
    /// Reasons: `SandboxStarted`, `Running`, `StartupDone`, `Ready`, `NotReady`, `PostStart`,
    /// `PostStartDone`, `PreStop`, `PreStopDone`, `Signalled`, `Killed`, `Exited` (the message is
    /// `exit code N`, or `exit code N (OOMKilled)`), `PodReady`, `PodNotReady`, `Stopping`, `Ended`
    /// (the message is the phase), `Recovered` (of the supervisor).
    Transition,
}

impl Event {
    /// Something that happens now; without a container it is about the pod.
    #[must_use]
    pub fn now(
        kind: EventKind,
        container: Option<&str>,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            stamp: Stamp::now(),
            kind,
            reason: reason.to_owned(),
            container: container.map(str::to_owned),
            message: message.into(),
        }
    }
}

impl EventKind {
    /// As kubectl prints it in the column TYPE.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
            Self::Transition => "Transition",
        }
    }
}

/// The file's name in the pod's state directory.
pub const EVENTS_FILE: &str = "events.jsonl";
/// Longer files lose their older half, bytes.
const LIMIT_BYTES: u64 = 512 << 10;
/// Longest message that is kept, bytes: the API's limit.
const MESSAGE_BYTES: usize = 1024;
const NEW_FILE: &str = "events.jsonl.new";

/// Where the supervisor writes a pod's events.
///
/// Nothing here fails the caller: a full disk costs events, not pods.
#[derive(Debug)]
pub struct EventLog {
    dir: PathBuf,
    limit_bytes: u64,
    file: Option<Written>,
}

#[derive(Debug)]
struct Written {
    file: File,
    length: u64,
    /// The last line has no end: a write was cut short.
    torn: bool,
}

impl EventLog {
    /// The log in a pod's state directory. Touches nothing yet.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { dir: state.to_owned(), limit_bytes: LIMIT_BYTES, file: None }
    }

    /// Appends an event; a message longer than the API allows is cut.
    pub fn append(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(&bounded(event)) else { return };
        line.push(b'\n');
        if self.file.is_none() {
            self.file = Written::open(&self.dir.join(EVENTS_FILE)).ok();
        }
        let Some(written) = &mut self.file else { return };
        if written.length > self.limit_bytes {
            match halve(&self.dir, self.limit_bytes / 2) {
                Ok(newer) => *written = newer,
                // It must not grow without bounds, also if it cannot be replaced.
                Err(_) if written.length > 2 * self.limit_bytes => return,
                Err(_) => {}
            }
        }
        written.append(line);
    }
}

impl Written {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { file, length, torn: last != *b"\n" })
    }

    /// One write, so that readers see whole lines.
    fn append(&mut self, mut line: Vec<u8>) {
        if self.torn {
            line.insert(0, b'\n');
        }
        // If nothing was written, nothing is torn that was not.
        if let Ok(count) = self.file.write(&line) {
            self.length += u64::try_from(count).unwrap_or(u64::MAX);
            self.torn = count < line.len();
        }
    }
}

/// Replaces the file by its newer lines, `keep` bytes of them at most.
fn halve(dir: &Path, keep: u64) -> std::io::Result<Written> {
    let (old, new) = (dir.join(EVENTS_FILE), dir.join(NEW_FILE));
    let mut lines = BufReader::new(File::open(&old)?);
    let length = lines.get_ref().metadata()?.len();
    lines.seek(SeekFrom::Start(length.saturating_sub(keep)))?;
    // The rest of a line whose beginning is dropped.
    lines.read_until(b'\n', &mut Vec::new())?;
    let replaced = write_new(&new, &mut lines).and_then(|()| std::fs::rename(&new, &old));
    if let Err(error) = replaced {
        drop(std::fs::remove_file(&new));
        return Err(error);
    }
    Written::open(&old)
}

fn write_new(path: &Path, content: &mut impl Read) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::copy(content, &mut file).map(drop)
}

fn bounded(event: &Event) -> Event {
    let mut event = event.clone();
    if event.message.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES - 3).rev().find(|at| event.message.is_char_boundary(*at));
        event.message.truncate(end.unwrap_or(0));
        event.message += "...";
    }
    event
}

/// Reads events as they come, across the replacement of the file.
#[derive(Debug)]
pub struct EventTail {
    path: PathBuf,
    inode: u64,
    offset: u64,
    last: Option<Event>,
}

impl EventTail {
    /// A reader of the log in a pod's state directory, from its beginning.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { path: state.join(EVENTS_FILE), inode: 0, offset: 0, last: None }
    }

    /// What has been written since the last call, oldest first. A half-written line comes with a
    /// later call; without a file there is nothing.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if the file cannot be read.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.os("open", || self.path.display())?,
        };
        let about = file.metadata().os("stat", || self.path.display())?;
        let replaced = about.ino() != self.inode || about.len() < self.offset;
        if replaced {
            (self.inode, self.offset) = (about.ino(), 0);
        }
        file.seek(SeekFrom::Start(self.offset)).os("seek", || self.path.display())?;
        let mut text = Vec::new();
        file.take(4 * LIMIT_BYTES).read_to_end(&mut text).os("read", || self.path.display())?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.offset += u64::try_from(whole).unwrap_or(0);
        let mut events: Vec<Event> = text[..whole]
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        if replaced {
            self.skip_known(&mut events);
        }
        if let Some(last) = events.last() {
            self.last = Some(last.clone());
        }
        Ok(events)
    }

    /// Drops what was returned before the file was replaced.
    fn skip_known(&self, events: &mut Vec<Event>) {
        let Some(last) = &self.last else { return };
        match events.iter().rposition(|event| event == last) {
            Some(known) => drop(events.drain(..=known)),
            None => events.retain(|event| event.stamp.at > last.stamp.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Moment;
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("carob-{name}-{}", std::process::id()));
            drop(std::fs::remove_dir_all(&dir));
            std::fs::create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn event(number: u64) -> Event {
        Event {
            stamp: Stamp {
                at: Moment::from_nanos(number / 2),
                wall: "2026-11-20T10:00:00Z".parse().unwrap(),
            },
            kind: EventKind::Normal,
            reason: "Started".into(),
            container: Some("web".into()),
            message: format!("number {number}"),
        }
    }

    #[test]
    fn a_long_log_loses_its_older_half_and_readers_miss_nothing() {
        let dir = Scratch::new("events-halve");
        let mut log = EventLog { limit_bytes: 4096, ..EventLog::new(&dir.0) };
        let mut tail = EventTail::new(&dir.0);
        let mut seen = Vec::new();
        for number in 0..200 {
            log.append(&event(number));
            seen.extend(tail.read().unwrap());
        }
        assert_eq!(seen, (0..200).map(event).collect::<Vec<_>>());
        let about = std::fs::metadata(dir.0.join(EVENTS_FILE)).unwrap();
        assert!(about.len() < 4096 + 200, "{}", about.len());
        assert_eq!(about.mode() & 0o777, 0o600);
        let kept = EventTail::new(&dir.0).read().unwrap();
        assert_eq!(kept.last(), Some(&event(199)));
        assert!(kept.len() > 10, "{}", kept.len());
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = Scratch::new("events-torn");
        let path = dir.0.join(EVENTS_FILE);
        std::fs::write(&path, "{\"at\":1,\"wa").unwrap();
        let mut tail = EventTail::new(&dir.0);
        assert_eq!(tail.read().unwrap(), []);
        let mut log = EventLog::new(&dir.0);
        log.append(&event(1));
        log.append(&event(2));
        assert_eq!(tail.read().unwrap(), [event(1), event(2)]);
        assert_eq!(tail.read().unwrap(), []);
    }

    #[test]
    fn a_log_without_a_place_is_silent() {
        let mut log = EventLog::new(Path::new("/dev/null/nowhere"));
        log.append(&event(1));
        assert_eq!(EventTail::new(Path::new("/nonexistent")).read().unwrap(), []);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let mut long = event(1);
        long.message = "é".repeat(600);
        let message = bounded(&long).message;
        assert_eq!(message.len(), 1023);
        assert!(message.ends_with("é..."));
        assert_eq!(bounded(&event(1)), event(1));
    }
}
