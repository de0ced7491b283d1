//! Logs that are being shown, until their end or for as long as their containers run.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::super::follow::SILENCE;
use super::super::record::{ContainerState, PodRecord};
use super::super::store::{PodDirs, STATUS_FILE};
use super::print::Printer;
use super::reader::LogReader;
use crate::error::{OsContext, Result};

/// Shown text is handed on in portions of about this many bytes.
const PORTION_BYTES: usize = 64 << 10;

/// The log of one instance, being shown.
#[derive(Debug)]
pub struct Shown {
    container: String,
    restart_count: u32,
    reader: LogReader,
    printer: Printer,
}

impl Shown {
    /// Opens the log of an instance, at its last `tail` lines if that is given.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the file.
    pub fn open(
        dirs: &PodDirs,
        (container, restart_count): (&str, u32),
        printer: Printer,
        tail: Option<u64>,
    ) -> Result<Self> {
        let mut reader = LogReader::open(dirs.log(container, restart_count))?;
        if let Some(lines) = tail {
            reader.seek_tail(lines)?;
        }
        Ok(Self { container: container.to_owned(), restart_count, reader, printer })
    }

    /// Shows what there is.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] of reading, and what `output` returns.
    pub fn show(&mut self, output: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.show_file(output)?;
        while let Some(next) = self.reader.successor()? {
            // What was written between the end we have seen and the rotation.
            self.show_file(output)?;
            self.reader = next;
            self.show_file(output)?;
        }
        Ok(())
    }

    fn show_file(&mut self, output: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut text = Vec::new();
        while !self.printer.is_done()
            && let Some(line) = self.reader.next_line()?
        {
            self.printer.show(&line, &mut text);
            if text.len() >= PORTION_BYTES {
                output(&text)?;
                text.clear();
            }
        }
        if text.is_empty() { Ok(()) } else { output(&text) }
    }

    /// As [`Shown::show`], when nothing more is waited for.
    ///
    /// # Errors
    /// As [`Shown::show`].
    pub fn show_rest(mut self, output: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.show(output)?;
        let mut text = Vec::new();
        self.printer.finish(&mut text);
        if text.is_empty() { Ok(()) } else { output(&text) }
    }

    /// Whether there may be more. What an instance has printed is in its log before the record says
    /// that it has ended.
    fn goes_on(&self, record: Option<&PodRecord>) -> bool {
        let Some(record) = record.filter(|_| !self.printer.is_done()) else { return false };
        let mut all = record.init.iter().chain(&record.apps);
        all.any(|known| {
            known.name == self.container
                && known.restart_count == self.restart_count
                && matches!(known.state, ContainerState::Running(_))
        })
    }
}

/// Shows logs as they grow, until the last of their instances has ended, or whoever reads `screen`
/// has left. `look` reads the record of the pod, after [`Waited::Silence`] that of a pod that is
/// supervised; there is none any more if the pod was removed.
///
/// # Errors
/// [`crate::error::Error::Os`] of reading and watching, and what `look` and `output` return.
pub fn follow(
    mut logs: Vec<Shown>,
    dirs: &PodDirs,
    screen: impl AsFd,
    mut look: impl FnMut(Waited) -> Result<Option<PodRecord>>,
    mut output: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut watch = Watch::new(&dirs.state)?;
    for log in &logs {
        watch.add(log.reader.path().parent().unwrap_or(Path::new("/")))?;
    }
    let mut seen = Waited::Status;
    let mut record = None;
    while seen != Waited::ReaderLeft {
        // First the record: what was printed before it was written is then in the logs.
        if seen != Waited::Logs {
            record = look(seen)?;
        }
        for log in &mut logs {
            log.show(&mut output)?;
        }
        for log in logs.extract_if(.., |log| !log.goes_on(record.as_ref())) {
            log.show_rest(&mut output)?;
        }
        if logs.is_empty() {
            break;
        }
        seen = watch.wait(&screen)?;
    }
    Ok(())
}

/// Directories in which something may happen: those of the logs, and that of the pod's record.
struct Watch {
    inotify: Inotify,
    state: WatchDescriptor,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something beside a log.
    Logs,
    /// The record has changed.
    Status,
    /// Nothing, for [`SILENCE`]; some changes escape inotify, as on a network file system.
    Silence,
    /// Nobody reads what we print any more.
    ReaderLeft,
}

impl Watch {
    fn new(state: &Path) -> Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).os("inotify_init1", || "for the log")?;
        let changes = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF;
        let state = inotify.add_watch(state, changes).os("watch", || state.display())?;
        Ok(Self { inotify, state })
    }

    fn add(&mut self, directory: &Path) -> Result<()> {
        let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        self.inotify.add_watch(directory, changes).os("watch", || directory.display()).map(drop)
    }

    /// Waits until something has happened since the last call.
    fn wait(&mut self, screen: impl AsFd) -> Result<Waited> {
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            // Errors are always reported; of the end of a pipe this is how one learns.
            PollFd::new(screen.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::try_from(SILENCE).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Ok(Waited::Silence),
            Err(Errno::EINTR) => return Ok(Waited::Status),
            Ok(_) => {}
            Err(errno) => return Err(errno).os("poll", || "for the log"),
        }
        if fds[1].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
            return Ok(Waited::ReaderLeft);
        }
        let events = match self.inotify.read_events() {
            Err(Errno::EAGAIN) => Vec::new(),
            other => other.os("read", || "inotify")?,
        };
        let is_status = events.iter().any(|event| {
            let of_logs =
                event.wd != self.state && !event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            let of_others =
                event.name.as_deref().is_some_and(|name| name != OsStr::new(STATUS_FILE));
            !of_logs && !of_others
        });
        Ok(if is_status { Waited::Status } else { Waited::Logs })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::super::super::clock::{Moment, Stamp};
    use super::super::super::record::{Backoff, ContainerRecord, FORMAT, HookState, Running};
    use super::super::place::tests::Root;
    use super::super::print::Style;
    use super::super::{Limits, LogWriter, Stream};
    use super::*;

    fn record(restart_count: u32) -> PodRecord {
        let stamp = Stamp { at: Moment::from_nanos(0), wall: Timestamp::UNIX_EPOCH };
        let running = Running {
            id: "default_web_main_0".into(),
            pid: 1,
            since: stamp,
            post_start: HookState::None,
            stopping: None,
            startup_done: true,
            oom_killed: false,
        };
        let main = ContainerRecord {
            name: "main".into(),
            state: ContainerState::Running(running),
            last: None,
            restart_count,
            backoff: Backoff::default(),
            pulling: false,
            started: true,
            ready: true,
        };
        PodRecord {
            format: FORMAT,
            boot: String::new(),
            created: stamp,
            started: None,
            sandbox: None,
            sandbox_attempt: 0,
            network: None,
            refusal: None,
            sandbox_error: None,
            sandbox_retry: None,
            stop: None,
            ended: None,
            init: vec![],
            apps: vec![main],
            conditions: BTreeMap::new(),
            oom_kills: 0,
        }
    }

    fn dirs(root: &Root) -> PodDirs {
        let state = root.0.join("state");
        std::fs::create_dir(&state).unwrap();
        let logs = root.0.join("default_web_uid");
        PodDirs { data: state.clone(), cgroup: state.clone(), state, logs }
    }

    fn shown(dirs: &PodDirs, tail: Option<u64>) -> Shown {
        let printer = Printer::new("main", Style::Text, None);
        Shown::open(dirs, ("main", 0), printer, tail).unwrap()
    }

    #[test]
    fn what_comes_is_shown_across_rotations_until_the_instance_has_ended() {
        let root = Root::new("follow");
        let dirs = dirs(&root);
        let mut log = LogWriter::open(root.log(), Limits { bytes: 100, files: 3 });
        log.write(Stream::Stdout, b"0\n1\n", Timestamp::now());
        let restart_count = RefCell::new(0);
        let mut all = Vec::new();
        // Each line that is shown makes the container print the next one.
        let output = |text: &[u8]| {
            all.extend_from_slice(text);
            let next = all.iter().filter(|byte| **byte == b'\n').count() + 1;
            match next {
                2..10 => {
                    log.write(Stream::Stdout, format!("{next}\n").as_bytes(), Timestamp::now())
                }
                10 => {
                    log.write(Stream::Stdout, b"last\n", Timestamp::now());
                    *restart_count.borrow_mut() = 1;
                    let status = dirs.state.join(STATUS_FILE);
                    std::fs::write(status.with_extension("new"), "").unwrap();
                    std::fs::rename(status.with_extension("new"), status).unwrap();
                }
                _ => {}
            }
            Ok(())
        };
        let (_reader, screen) = nix::unistd::pipe().unwrap();
        let look = |_| Ok(Some(record(*restart_count.borrow())));
        follow(vec![shown(&dirs, Some(1))], &dirs, screen, look, output).unwrap();
        assert!(log.take_rotated());
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("1\n2\n3\n") && text.ends_with("9\nlast\n"), "{text}");
    }

    #[test]
    fn nobody_waits_for_what_has_ended_or_for_a_reader_that_has_left() {
        let root = Root::new("ended");
        let dirs = dirs(&root);
        let mut log = LogWriter::open(root.log(), Limits::default());
        log.write(Stream::Stdout, b"all\n", Timestamp::now());
        for look in [Some(record(1)), None, Some(record(0))] {
            let mut all = Vec::new();
            let (reader, screen) = nix::unistd::pipe().unwrap();
            drop(reader);
            let output = |text: &[u8]| {
                all.extend_from_slice(text);
                Ok(())
            };
            follow(vec![shown(&dirs, None)], &dirs, screen, |_| Ok(look.clone()), output).unwrap();
            assert_eq!(all, b"all\n");
        }
    }
}
