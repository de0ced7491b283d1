//! Waiting until something changes in the directories of pods. Source: inotify(7).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{OsContext, Result};

/// Directories that are being watched.
///
/// Look at what is there after watching it, not before: what changes in between is then reported.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

/// What a wait has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something is different: look again.
    Seen,
    /// The time was up first.
    TimedOut,
}

impl Watch {
    /// Watches directories: their files being written, replaced, made and removed, and they
    /// themselves being removed. One that does not exist is passed over.
    ///
    /// # Errors
    /// As [`Watch::add`]; `EMFILE` if the user has too many.
    pub fn new<P: AsRef<Path>>(dirs: impl IntoIterator<Item = P>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .os("inotify_init", || "the pods' directories")?;
        let watch = Self { inotify };
        for dir in dirs {
            watch.add(dir.as_ref())?;
        }
        Ok(watch)
    }

    /// Watches one more; adding a directory again changes nothing. Returns whether it exists.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`]: `ENOSPC` if the user watches too many.
    pub fn add(&self, dir: &Path) -> Result<bool> {
        let what = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(dir, what) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            other => other.os("watch", || dir.display()).map(|_| true),
        }
    }

    /// Sleeps until something changes, `timeout` at most; all that has changed until then is one
    /// change.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if poll(2) fails.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Change> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.drain()? {
                return Ok(Change::Seen);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Change::TimedOut);
            }
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left.map_or(PollTimeout::NONE, in_millis)) {
                Err(Errno::EINTR) => {}
                other => other.os("poll", || "inotify").map(drop)?,
            }
        }
    }

    /// For a loop that waits for other things too: after the descriptor was readable, takes what
    /// there is and returns whether something has changed.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if it cannot be read.
    pub fn drain(&self) -> Result<bool> {
        let mut seen = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => seen |= !events.is_empty(),
                Err(Errno::EAGAIN) => return Ok(seen),
                Err(Errno::EINTR) => {}
                other => other.os("read", || "inotify").map(drop)?,
            }
        }
    }
}

impl AsFd for Watch {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Rounded up: a wait that ends early would be followed by one of no length.
fn in_millis(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_and_silence_times_out() {
        let dir = std::env::temp_dir().join(format!("carob-watch-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let watch = Watch::new([dir.as_path(), Path::new("/nonexistent")]).unwrap();
        let (soon, long) = (Some(Duration::from_millis(20)), Some(Duration::from_secs(20)));
        assert_eq!(watch.next(soon).unwrap(), Change::TimedOut);
        std::fs::write(dir.join("new"), "x").unwrap();
        assert_eq!(watch.next(long).unwrap(), Change::Seen);
        std::fs::rename(dir.join("new"), dir.join("status.json")).unwrap();
        assert_eq!(watch.next(long).unwrap(), Change::Seen);
        assert!(watch.add(&dir).unwrap());
        assert_eq!(watch.next(soon).unwrap(), Change::TimedOut);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(watch.next(long).unwrap(), Change::Seen);
        assert!(!watch.add(&dir).unwrap());
    }
}
