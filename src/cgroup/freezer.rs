//! Stops and continues all processes of a cgroup.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::controller::{Controller, Version};
use super::dir::{Dir, gone};
use super::layout::{Hierarchy, Tree};
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// A process in an uninterruptible sleep can hold a freeze up; after this it is given up.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);
/// A v1 freeze that fork keeps running away from gets done when begun afresh.
const ROUNDS_BEFORE_THAW: u32 = 50;

#[derive(Debug)]
pub(super) struct Freezer {
    dir: Dir,
    version: Version,
}

/// The v1 controller if there is one; the unified tree can freeze without a controller.
fn chosen(hierarchies: &[Hierarchy]) -> Result<&Hierarchy> {
    let v1 = hierarchies.iter().find(|h| h.has_v1(Controller::Freezer));
    let unified = || hierarchies.iter().find(|h| h.tree == Tree::Unified);
    v1.or_else(unified).ok_or_else(|| {
        Error::Unsupported(
            "this host cannot freeze processes: no cgroup hierarchy has the freezer".to_owned(),
        )
    })
}

/// Lets the processes run again. See [`Freezer::thaw`].
pub(super) fn thaw(hierarchies: &[Hierarchy]) -> Result<()> {
    match Freezer::open(hierarchies) {
        Err(error) if gone(error.errno()) => Ok(()),
        freezer => freezer?.thaw(),
    }
}

/// Whether the processes are frozen. Every `exec` asks, and `list` for each container.
pub(super) fn is_frozen(hierarchies: &[Hierarchy]) -> Result<bool> {
    let hierarchy = chosen(hierarchies)?;
    match hierarchy.version() {
        Version::V1 => {
            let path = hierarchy.dir().join("freezer.state");
            let state = fd::read_record(&path).os("read", || path.display())?;
            Ok(state.trim() == "FROZEN")
        }
        Version::V2 => Freezer::open(hierarchies)?.is_frozen(),
    }
}

impl Freezer {
    pub(super) fn open(hierarchies: &[Hierarchy]) -> Result<Self> {
        let hierarchy = chosen(hierarchies)?;
        Ok(Self { dir: Dir::open(hierarchy.dir())?, version: hierarchy.version() })
    }

    pub(super) fn freeze(&self) -> Result<()> {
        let result = match self.version {
            Version::V1 => self.freeze_v1(),
            Version::V2 => self.freeze_v2(),
        };
        if result.is_err() {
            // Half frozen is worse than not frozen; the first error is the one to report.
            drop(self.thaw());
        }
        result
    }

    fn freeze_v1(&self) -> Result<()> {
        let start = Instant::now();
        for round in 1_u32.. {
            if round % ROUNDS_BEFORE_THAW == 0 {
                self.dir.write("freezer.state", "THAWED")?;
                std::thread::sleep(PAUSE);
            }
            // Again each time: it also catches what was forked since.
            self.dir.write("freezer.state", "FROZEN")?;
            if self.is_frozen()? {
                return Ok(());
            }
            if start.elapsed() > FREEZE_LIMIT {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Err(self.timed_out())
    }

    fn freeze_v2(&self) -> Result<()> {
        let target = || format!("{}/cgroup.events", self.dir.path().display());
        let events = self.dir.open_file("cgroup.events", OFlag::O_RDONLY).os("open", target)?;
        self.dir.write("cgroup.freeze", "1")?;
        let start = Instant::now();
        loop {
            // The read arms the notification that the poll waits for.
            let mut text = [0; 256];
            let length = nix::sys::uio::pread(&events, &mut text, 0).os("read", target)?;
            if has_line(&String::from_utf8_lossy(&text[..length]), "frozen 1") {
                return Ok(());
            }
            let left = FREEZE_LIMIT.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(self.timed_out());
            }
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, limit) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).os("poll", target),
            }
        }
    }

    fn timed_out(&self) -> Error {
        Error::Os {
            op: "freeze cgroup",
            target: format!("{} within {FREEZE_LIMIT:?}", self.dir.path().display()),
            source: nix::errno::Errno::EBUSY.into(),
        }
    }

    /// In a cgroup that has gone nobody is frozen: systemd removes that of a unit as soon as the last
    /// process has ended, and on v2 a frozen one can be killed.
    pub(super) fn thaw(&self) -> Result<()> {
        let thawed = match self.version {
            Version::V1 => self.dir.write("freezer.state", "THAWED"),
            Version::V2 => self.dir.write("cgroup.freeze", "0"),
        };
        match thawed {
            Err(error) if gone(error.errno()) => Ok(()),
            other => other,
        }
    }

    pub(super) fn is_frozen(&self) -> Result<bool> {
        match self.version {
            Version::V1 => Ok(self.dir.read("freezer.state")?.trim() == "FROZEN"),
            // The event comes a moment after a thaw, the setting at once.
            Version::V2 => Ok(self.dir.read("cgroup.freeze")?.trim() == "1"
                && has_line(&self.dir.read("cgroup.events")?, "frozen 1")),
        }
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}
