//! Stops and continues all processes of a cgroup.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::utsname::uname;
use serde::Deserialize;

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
    v1.or_else(unified).ok_or_else(no_freezer)
}

fn no_freezer() -> Error {
    let reason = "this host cannot freeze processes: no cgroup hierarchy has the freezer";
    Error::Unsupported(reason.to_owned())
}

/// Lets the processes run again. See [`Freezer::thaw`].
pub(super) fn thaw(hierarchies: &[Hierarchy]) -> Result<()> {
    match Freezer::open(hierarchies) {
        Err(error) if gone(error.errno()) => Ok(()),
        freezer => freezer?.thaw(),
    }
}

/// Whether the processes are frozen. Every `exec` asks.
pub(super) fn is_frozen(hierarchies: &[Hierarchy]) -> Result<bool> {
    let hierarchy = chosen(hierarchies)?;
    reads_frozen(&hierarchy.dir(), hierarchy.version())
}

/// By path: the directory need not be opened for a single file.
fn reads_frozen(dir: &Path, version: Version) -> Result<bool> {
    says_frozen(version, |name| {
        let path = dir.join(name);
        fd::read_record(&path).os("read", || path.display())
    })
}

fn says_frozen(version: Version, read: impl Fn(&str) -> Result<String>) -> Result<bool> {
    match version {
        Version::V1 => Ok(read("freezer.state")?.trim() == "FROZEN"),
        // The event comes a moment after a thaw, the setting at once.
        Version::V2 => {
            Ok(read("cgroup.freeze")?.trim() == "1"
                && has_line(&read("cgroup.events")?, "frozen 1"))
        }
    }
}

/// The freezer of a [`Cgroup`](super::Cgroup) that was written, read without a copy of anything:
/// `list` asks one for each container.
#[derive(Debug, Deserialize)]
pub struct WrittenFreezer<'a> {
    #[serde(borrow)]
    hierarchies: Vec<WrittenHierarchy<'a>>,
}

/// As [`Hierarchy`].
#[derive(Debug, Deserialize)]
struct WrittenHierarchy<'a> {
    #[serde(borrow)]
    tree: WrittenTree<'a>,
    #[serde(borrow)]
    mount: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
}

/// As [`Tree`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenTree<'a> {
    #[serde(borrow)]
    V1(Cow<'a, str>),
    Unified,
}

impl WrittenFreezer<'_> {
    /// As [`Cgroup::is_frozen`](super::Cgroup::is_frozen), if one of the processes was seen in this
    /// state a moment ago: the letter of `/proc/<pid>/stat`.
    ///
    /// # Errors
    /// As there.
    pub fn is_frozen(&self, process: char) -> Result<bool> {
        let is_v1 = |one: &&WrittenHierarchy| matches!(&one.tree, WrittenTree::V1(names) if Controller::Freezer.is_in(names));
        let is_v2 = |one: &&WrittenHierarchy| matches!(one.tree, WrittenTree::Unified);
        let all = &self.hierarchies;
        let (chosen, version) = match all.iter().find(is_v1) {
            Some(_) if process == 'S' && no_frozen_sleeps() => return Ok(false),
            Some(one) => (one, Version::V1),
            None => (all.iter().find(is_v2).ok_or_else(no_freezer)?, Version::V2),
        };
        reads_frozen(&Path::new(&*chosen.mount).join(&*chosen.path), version)
    }
}

/// Whether a process that the freezer of v1 has stopped never looks asleep: so since Linux 6.1, where
/// to be frozen is a state of its own. Before, one asleep that need not be woken counts as frozen.
fn no_frozen_sleeps() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let names = uname().ok();
        let release = names.as_ref().and_then(|names| names.release().to_str()).unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(1))
    })
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
        says_frozen(self.version, |name| self.dir.read(name))
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}
