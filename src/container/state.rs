//! What is known of a container.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::host_root::HostMounts;
use super::rdt::Membership;
use super::store::{self, ContainerDir, Lock};
use super::{ContainerId, Keyring, Runtime};
use crate::cgroup::Cgroup;
use crate::error::{Error, OsContext, Result};
use crate::sys::process::{self, Stat};

/// `state.json`. Written before the first side effect, so that `delete` knows what to clean up.
/// Who needs little of the cgroup reads less of it, as `C`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State<C = Cgroup> {
    pub(super) id: ContainerId,
    pub(super) oci_version: String,
    /// Init's pid as carob sees it; 0 while there is none.
    pub(super) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for good.
    pub(super) start_time: u64,
    pub(super) created: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner_uid: u32,
    pub(super) cgroup: C,
    /// Its class of cache and memory bandwidth, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) class: Option<Membership>,
    /// CLONE_NEW* of the namespaces that are the container's own, for `exec`.
    pub(super) namespaces: i32,
    /// Whether its processes may outlive init: the pid namespace is the host's, or joined.
    pub(super) shares_pids: bool,
    /// Whether the mount namespace is joined, or the host's: its root is not the container's then.
    pub(super) joins_mounts: bool,
    /// Without a mount namespace, what is mounted among the host's mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_mounts: Option<HostMounts>,
    /// Whether processes have the container's session keyring.
    pub(super) keyring: Keyring,
    /// Whether the configuration has startContainer hooks, which want the state.
    pub(super) start_hooks: bool,
    /// Whether the configuration has poststart or poststop hooks worth reading it for.
    pub(super) late_hooks: bool,
    /// A directory that is removed with the container: what it was made from and has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) goes_with: Option<PathBuf>,
}

/// The states of the runtime specification, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` has not finished, or died.
    Creating,
    /// Init waits to be started.
    Created,
    /// The program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Init has exited.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A container that exists.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) dir: ContainerDir,
    pub(super) state: State,
}

impl Runtime {
    /// Finds a container by its id.
    pub(super) fn container(&self, id: &str) -> Result<Container> {
        let dir = self.find(id)?;
        match dir.read_state()? {
            Some(state) => Ok(Container { dir, state }),
            None => Err(Error::NotFound { id: id.to_owned() }),
        }
    }
}

impl Runtime {
    /// Finds a container and takes the right to change it; what is known of it is read after that.
    pub(super) fn locked(&self, id: &str) -> Result<(Container, Lock)> {
        let dir = self.find(id)?;
        let lock = dir.lock()?;
        match dir.read_state()? {
            Some(state) => Ok((Container { dir, state }, lock)),
            None => Err(Error::NotFound { id: id.to_owned() }),
        }
    }
}

impl Container {
    /// A handle of init, if it lives. A zombie does not: PID 1 of the host may reap late.
    pub(super) fn init(&self) -> Result<Option<OwnedFd>> {
        if self.state.pid == 0 {
            return Ok(None);
        }
        let pid = Pid::from_raw(self.state.pid);
        let pidfd = match process::pidfd_open(pid) {
            Err(Errno::ESRCH) => return Ok(None),
            other => other.os("pidfd_open", || pid)?,
        };
        // The pidfd first: what the pid means from now on is fixed.
        Ok(self.state.living_init()?.map(|_| pidfd))
    }

    /// What the container is doing now.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be told.
    pub(super) fn status(&self) -> Result<Status> {
        self.state.status(&self.dir.path, |cgroup, _| cgroup.is_frozen())
    }

    /// The state as the specification words it, for hooks and the seccomp agent.
    pub(super) fn oci_state(&self, status: Status) -> Vec<u8> {
        self.state.oci_state(status)
    }
}

impl<C> State<C> {
    /// What the container is doing now, if `dir` is its directory; `is_frozen` looks at its cgroup
    /// where one of the processes is in the state that it is given.
    pub(super) fn status(
        &self,
        dir: &Path,
        is_frozen: impl FnOnce(&C, char) -> Result<bool>,
    ) -> Result<Status> {
        if self.pid == 0 {
            return Ok(Status::Creating);
        }
        Ok(match self.living_init()? {
            None => Status::Stopped,
            Some(init) if is_frozen(&self.cgroup, init.state).unwrap_or(false) => Status::Paused,
            Some(_) if store::is_waiting(dir) => Status::Created,
            Some(_) => Status::Running,
        })
    }

    /// Init, unless it has ended.
    fn living_init(&self) -> Result<Option<Stat>> {
        let stat = process::stat(Pid::from_raw(self.pid))?;
        Ok(stat.filter(|stat| stat.is_alive() && stat.start_time == self.start_time))
    }
}

impl State {
    /// The files by which its processes enter their class.
    pub(super) fn class_tasks(&self) -> &[PathBuf] {
        self.class.as_ref().map_or(&[], |class| &class.tasks)
    }

    /// Whether its processes, if it has any, are frozen.
    pub(super) fn is_paused(&self) -> bool {
        self.cgroup.is_frozen().unwrap_or(false)
    }

    /// See [`Container::oci_state`].
    pub(super) fn oci_state(&self, status: Status) -> Vec<u8> {
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.to_string(),
            "pid": pid,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state.to_string().into_bytes()
    }
}
