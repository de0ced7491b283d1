//! Out-of-memory: how often it was, and a descriptor that says when.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::controller::{Controller, Version};
use super::dir::Dir;
use super::layout::{Hierarchy, Tree};
use super::readings::{flat, get};
use crate::error::{Error, OsContext, Result};

/// What woke the watcher up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The cgroup ran out of memory since the last time.
    Oom,
    /// Something else: on v2 another memory event.
    Nothing,
    /// The cgroup has been removed; no more will come.
    Gone,
}

/// A descriptor that polls readable at an out-of-memory event.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    path: PathBuf,
}

#[derive(Debug)]
enum Source {
    V1(EventFd),
    /// With the number of kills that have been reported.
    V2(Inotify, u64),
}

impl OomWatch {
    pub(super) fn open(hierarchies: &[Hierarchy]) -> Result<Self> {
        let hierarchy = memory(hierarchies)?;
        let path = hierarchy.dir();
        let dir = Dir::open(path.clone())?;
        let source = match hierarchy.version() {
            Version::V1 => Source::V1(event_fd(&dir)?),
            Version::V2 => {
                let events = path.join("memory.events");
                let context = || events.display();
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
                    .os("inotify", context)?;
                let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF;
                inotify.add_watch(&events, flags).os("watch", context)?;
                // Counted after the watch is there, so that no kill falls in between.
                Source::V2(inotify, v2_kills(&dir)?.unwrap_or(0))
            }
        };
        Ok(Self { source, path })
    }

    /// Takes what has happened off the descriptor; to be called when it polls readable. Does not
    /// block.
    ///
    /// # Errors
    /// [`Error::Os`] if the cgroup's files cannot be read.
    pub fn consume(&mut self) -> Result<OomEvent> {
        let context = || self.path.display();
        match &mut self.source {
            Source::V1(event) => {
                let signals = match event.read() {
                    Ok(signals) => signals,
                    Err(Errno::EAGAIN) => return Ok(OomEvent::Nothing),
                    Err(errno) => return Err(errno).os("read oom event of", context),
                };
                if self.path.join("memory.oom_control").exists() {
                    return Ok(OomEvent::Oom);
                }
                // The removal of the cgroup is signalled too, once and a little later.
                let all = signals + later_signals(event).os("poll oom event of", context)?;
                Ok(if all > 1 { OomEvent::Oom } else { OomEvent::Gone })
            }
            Source::V2(inotify, seen) => {
                match inotify.read_events() {
                    Ok(_) | Err(Errno::EAGAIN) => {}
                    Err(errno) => return Err(errno).os("read memory events of", context),
                }
                let dir = Dir::open_if_exists(self.path.clone())?;
                let kills = dir.map_or(Ok(None), |dir| v2_kills(&dir))?;
                let Some(kills) = kills else { return Ok(OomEvent::Gone) };
                let new = kills > std::mem::replace(seen, kills);
                Ok(if new { OomEvent::Oom } else { OomEvent::Nothing })
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event) => event.as_fd(),
            Source::V2(inotify, _) => inotify.as_fd(),
        }
    }
}

/// How long the kernel may take to signal that a cgroup has been removed.
const REMOVAL_LIMIT_MS: u16 = 200;

/// The signals that are still to come for a cgroup that has been removed.
fn later_signals(event: &EventFd) -> nix::Result<u64> {
    let mut fds = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(REMOVAL_LIMIT_MS)) {
        Ok(0) | Err(Errno::EINTR) => Ok(0),
        Ok(_) => event.read().or(Ok(0)),
        Err(errno) => Err(errno),
    }
}

/// Registers an eventfd for the `memory.oom_control` of a v1 cgroup.
/// Source: Documentation/admin-guide/cgroup-v1/memory.rst, section 10.
fn event_fd(dir: &Dir) -> Result<EventFd> {
    let context = || dir.path().display();
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .os("eventfd for", context)?;
    let control = dir.open_file("memory.oom_control", OFlag::O_RDONLY);
    let control = control.os("open memory.oom_control of", context)?;
    let registration = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &registration)?;
    Ok(event)
}

/// Number of processes that the OOM killer has killed so far; `None` without the cgroup.
pub(super) fn kills(hierarchies: &[Hierarchy]) -> Result<Option<u64>> {
    let hierarchy = memory(hierarchies)?;
    let Some(dir) = Dir::open_if_exists(hierarchy.dir())? else { return Ok(None) };
    match hierarchy.version() {
        Version::V1 => {
            let control = dir.read_if_exists("memory.oom_control")?;
            Ok(control.map(|text| get(&flat(&text), "oom_kill")))
        }
        Version::V2 => v2_kills(&dir),
    }
}

/// `None` if the cgroup or its memory controller is gone.
fn v2_kills(dir: &Dir) -> Result<Option<u64>> {
    let events = dir.read_if_exists("memory.events")?;
    Ok(events.map(|text| get(&flat(&text), "oom_kill")))
}

fn memory(hierarchies: &[Hierarchy]) -> Result<&Hierarchy> {
    let v1 = hierarchies.iter().find(|h| h.has_v1(Controller::Memory));
    v1.or_else(|| hierarchies.iter().find(|h| h.tree == Tree::Unified)).ok_or_else(|| {
        Error::Unsupported("this host has no cgroup hierarchy with the memory controller".into())
    })
}
