//! `update`, `events`: limits of a container that exists, and what it uses.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::LinuxResources;

use super::state::{Container, Status};
use super::{Event, Runtime};
use crate::cgroup::OomEvent;
use crate::error::{Error, OsContext, Result};
use crate::oci::validate;

impl Runtime {
    /// Changes the limits that are given.
    ///
    /// # Errors
    /// [`Error::WrongState`] if the container is stopped; what the kernel refuses.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        validate::validate_resources(resources)?;
        let (container, _lock) = self.locked(id)?;
        running(&container)?;
        container.state.cgroup.update(resources)
    }

    /// What the container uses, in the shape of runc's `events --stats`.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is stopped; [`Error::Os`] if its cgroup cannot be read.
    pub fn stats(&self, id: &str) -> Result<serde_json::Value> {
        let container = self.container(id)?;
        let Some(init) = container.init()? else { return Err(not_running(id)) };
        unless_gone(&init, usage(&container))?.ok_or_else(|| not_running(id))
    }

    /// Reports usage at every interval, and each time that memory has run out, until the
    /// container stops.
    ///
    /// # Errors
    /// As [`Runtime::stats`], and what `each` returns.
    pub fn events(
        &self,
        id: &str,
        interval: Duration,
        each: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let container = self.container(id)?;
        let Some(init) = container.init()? else { return Err(not_running(id)) };
        let Some(mut memory) = unless_gone(&init, container.state.cgroup.oom_watch())? else {
            return Ok(());
        };
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(memory.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => continue,
                other => other.os("poll", || "the container's events")?,
            };
            let [oom, exited] = fds.map(|fd| fd.any().unwrap_or(false));
            if oom && unless_gone(&init, memory.consume())? == Some(OomEvent::Oom) {
                each(Event::Oom)?;
            }
            if exited {
                return Ok(());
            }
            if Instant::now() >= next {
                let Some(usage) = unless_gone(&init, usage(&container))? else { return Ok(()) };
                each(Event::Stats(usage))?;
                next = Instant::now() + interval;
            }
        }
    }
}

impl Runtime {
    /// How many processes of the container the OOM killer has taken, also of one that has stopped and
    /// is not deleted yet; `None` if its cgroup has gone, as systemd removes empty ones.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unsupported`] without the memory controller.
    pub fn oom_kills(&self, id: &str) -> Result<Option<u64>> {
        self.container(id)?.state.cgroup.oom_kills()
    }
}

fn not_running(id: &str) -> Error {
    Error::WrongState { reason: format!("container with id {id} is not running") }
}

/// A reading of the container's cgroup; none if it failed because the container is gone, and
/// its cgroup with it.
fn unless_gone<T>(init: &OwnedFd, reading: Result<T>) -> Result<Option<T>> {
    let has_exited = || {
        let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    };
    match reading {
        Ok(reading) => Ok(Some(reading)),
        Err(_) if has_exited() => Ok(None),
        Err(error) => Err(error),
    }
}

fn usage(container: &Container) -> Result<serde_json::Value> {
    let stats = container.state.cgroup.stats()?;
    serde_json::to_value(stats).map_err(|e| Error::Invalid(format!("statistics: {e}")))
}

fn running(container: &Container) -> Result<()> {
    match container.status()? {
        Status::Created | Status::Running | Status::Paused => Ok(()),
        Status::Creating | Status::Stopped => {
            Err(Error::WrongState { reason: "container not running".into() })
        }
    }
}
