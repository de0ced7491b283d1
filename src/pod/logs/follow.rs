//! Waiting for more of a log.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{OsContext, Result};

/// Directories in which something may happen: those of logs, and that of the pod's status.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something in one of the directories, or a while has passed: look again.
    Look,
    /// Nobody reads what we print any more.
    ReaderLeft,
}

/// For what may escape inotify, as a log on a network file system: milliseconds.
const AT_MOST_MILLIS: u16 = 10_000;

impl Watch {
    /// Begins to watch: what happens from now on is not missed.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`], e.g. `EMFILE` if the user has too many watchers.
    pub fn new() -> Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).os("inotify_init1", || "for the log")?;
        Ok(Self { inotify })
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming it.
    pub fn add(&self, directory: &Path) -> Result<()> {
        let changes = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(directory, changes).os("watch", || directory.display()).map(drop)
    }

    /// Waits until something has happened since the last call.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if it cannot.
    pub fn wait(&self, output: impl AsFd) -> Result<Waited> {
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            // Errors are always reported; of the end of a pipe this is how one learns.
            PollFd::new(output.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::from(AT_MOST_MILLIS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).os("poll", || "for the log"),
        }
        let gone = PollFlags::POLLERR | PollFlags::POLLNVAL;
        if fds[1].revents().is_some_and(|events| events.intersects(gone)) {
            return Ok(Waited::ReaderLeft);
        }
        match self.inotify.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(Waited::Look),
            Err(errno) => Err(errno).os("read", || "inotify"),
        }
    }
}
