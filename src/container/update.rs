//! `update`, `events`: limits of a container that exists, and what it uses.

use std::os::fd::AsFd;
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
        let container = self.container(id)?;
        let _lock = container.dir.lock()?;
        running(&container)?;
        container.state.cgroup.update(resources)
    }

    /// What the container uses, in the shape of runc's `events --stats`.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is stopped; [`Error::Os`] if its cgroup cannot be read.
    pub fn stats(&self, id: &str) -> Result<serde_json::Value> {
        let container = self.container(id)?;
        if container.init()?.is_none() {
            let reason = format!("container with id {id} is not running");
            return Err(Error::WrongState { reason });
        }
        usage(&container)
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
        let Some(init) = container.init()? else {
            let reason = format!("container with id {id} is not running");
            return Err(Error::WrongState { reason });
        };
        let mut memory = container.state.cgroup.oom_watch()?;
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
            if oom && memory.consume()? == OomEvent::Oom {
                each(Event::Oom)?;
            }
            if exited {
                return Ok(());
            }
            if Instant::now() >= next {
                each(Event::Stats(usage(&container)?))?;
                next = Instant::now() + interval;
            }
        }
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
