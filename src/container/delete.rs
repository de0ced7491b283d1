//! `delete`: nothing of the container is left, whatever state it was in.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::hooks::run_late;
use super::host_root::HostMounts;
use super::own_namespace::{Entered, enter_own_namespace};
use super::rdt::Membership;
use super::state::{Container, Status};
use super::store::{ContainerDir, Lock};
use super::{Force, Runtime};
use crate::cgroup::Cgroup;
use crate::error::{Error, OsContext, Result};
use crate::init::Hook;
use crate::log;
use crate::oci::load;
use crate::sys::{dir, process};

/// How long a killed process may take to go.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

impl Runtime {
    /// Deletes a container: processes, cgroup, state.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it runs and `force` is not given; [`Error::NotFound`] likewise.
    /// Goes on after a failure and returns the first.
    pub fn delete(&self, id: &str, force: Force) -> Result<()> {
        let dir = match self.find(id) {
            Err(Error::NotFound { .. }) if force == Force::Yes => return Ok(()),
            other => other?,
        };
        let _lock = match lock(&dir, force) {
            Err(Error::NotFound { .. }) if force == Force::Yes => return Ok(()),
            other => other?,
        };
        let state = match dir.read_state() {
            Err(error @ Error::Invalid(_)) if force == Force::Yes => {
                log::warn(error);
                return self.clear_by_config(&dir);
            }
            other => other?,
        };
        let Some(state) = state else {
            // The creator died between its first two steps, or somebody has just deleted it.
            dir.remove()?;
            return match force {
                Force::Yes => Ok(()),
                Force::No => Err(Error::NotFound { id: id.to_owned() }),
            };
        };
        let container = Container { dir, state };
        match container.status()? {
            Status::Stopped => {}
            // A creator that lives holds the lock; this one has died.
            Status::Creating | Status::Created => {}
            status @ (Status::Running | Status::Paused) if force == Force::No => {
                return Err(Error::WrongState {
                    reason: format!("cannot delete container {id} that is not stopped: {status}"),
                });
            }
            Status::Running | Status::Paused => {}
        }
        clear(&container, force)
    }
}

impl Runtime {
    /// Without a readable state, the configuration still tells where the processes are.
    fn clear_by_config(&self, dir: &ContainerDir) -> Result<()> {
        if let Ok(loaded) = load::load_spec(&dir.config()) {
            let id = dir.path.file_name().unwrap_or_default().to_string_lossy();
            let linux = loaded.spec.linux().as_ref();
            let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
            let cgroup = Cgroup::resolve(path, &id, self.cgroup_driver)?;
            cgroup.kill_all(libc::SIGKILL)?;
            cgroup.delete()?;
        }
        dir.remove()
    }
}

/// Waits for others; with `force` not for a hook or a start that hangs: its processes are ended.
fn lock(dir: &ContainerDir, force: Force) -> Result<Lock> {
    if force == Force::No {
        return dir.lock();
    }
    match dir.lock_within(Duration::ZERO) {
        Err(error) if error.errno() == Some(Errno::EWOULDBLOCK) => {}
        other => return other,
    }
    if let Ok(Some(state)) = dir.read_state() {
        // What cannot be ended keeps the lock, and the wait below tells.
        let _ended = state.signal_all(libc::SIGKILL);
    }
    dir.lock_within(EXIT_LIMIT)
}

impl Container {
    /// The end of `run`, by what is still known; somebody else may have deleted the container and
    /// even made one of the same name.
    pub(super) fn delete_after_run(&self) -> Result<()> {
        match self.dir.lock() {
            Err(Error::NotFound { .. }) => Ok(()),
            lock => {
                let _lock = lock?;
                clear(self, Force::No)
            }
        }
    }
}

pub(super) fn clear(container: &Container, force: Force) -> Result<()> {
    let cgroup = &container.state.cgroup;
    let init = container.init()?;
    let mut results = Vec::new();
    if let Some(init) = &init {
        results.push(end(container, init));
    }
    // Left-overs: of a shared pid namespace, of a create that died, of exec.
    let died_early = container.state.pid == 0;
    if force == Force::Yes || init.is_some() || container.state.shares_pids || died_early {
        results.push(container.state.signal_all(libc::SIGKILL));
    }
    results.extend(container.state.host_mounts.as_ref().map(HostMounts::take_away));
    results.push(cgroup.delete());
    results.extend(container.state.class.as_ref().map(Membership::end));
    if container.state.pid != 0
        && let Err(error) = run_late(Hook::Poststop, container, Status::Stopped)
    {
        log::warn(error);
    }
    if let Some(place) = &container.state.goes_with {
        results.push(remove(place));
    }
    // What is still there would be out of reach without its state.
    results.into_iter().collect::<Result<()>>()?;
    container.dir.remove()
}

/// Removes a directory that the container has written in.
fn remove(place: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
    let parent_dir = match dir::open(parent) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened.os("open", || parent.display())?,
    };
    match dir::remove(&parent_dir, name) {
        // Of a user: what is in it belongs to ids that are granted to it. Nothing else comes after.
        Err(Errno::EACCES | Errno::EPERM) if enter_own_namespace()? == Entered::Yes => {
            dir::remove(&parent_dir, name)
        }
        other => other,
    }
    .os("remove", || place.display())
}

/// Kills init and waits until it has gone.
fn end(container: &Container, init: &OwnedFd) -> Result<()> {
    match process::pidfd_send_signal(init, libc::SIGKILL) {
        Err(Errno::ESRCH) => return Ok(()),
        other => other.os("kill", || container.state.pid)?,
    }
    if container.state.cgroup.is_frozen().unwrap_or(false) {
        container.state.cgroup.thaw()?;
    }
    let timeout = PollTimeout::try_from(EXIT_LIMIT).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) => {
                let pid = container.state.pid;
                let limit = EXIT_LIMIT.as_secs();
                return Err(Error::Invalid(format!(
                    "process {pid} is still there {limit} s after SIGKILL"
                )));
            }
            other => return other.os("poll", || container.state.pid).map(drop),
        }
    }
}
