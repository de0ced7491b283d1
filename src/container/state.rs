//! What is known of a container, on disk and as reported.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::host_root::HostMounts;
use super::rdt::Membership;
use super::store::{self, ContainerDir, Lock};
use super::{ContainerId, Keyring, Runtime};
use crate::cgroup::Cgroup;
use crate::error::{Error, OsContext, Result};
use crate::sys::process;

/// How many containers a thread must have to look at, to be worth its start; and how many threads.
const WORTH_A_THREAD: usize = 64;
const LIST_THREADS: usize = 4;

/// `state.json`. Written before the first side effect, so that `delete` knows what to clean up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
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
    pub(super) cgroup: Cgroup,
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
        Ok(self.state.init_lives().then_some(pidfd))
    }

    /// What the container is doing now.
    pub(super) fn status(&self) -> Status {
        self.state.status(&self.dir.path)
    }

    /// The state as the specification words it, for hooks and the seccomp agent.
    pub(super) fn oci_state(&self, status: Status) -> Vec<u8> {
        self.state.oci_state(status)
    }
}

impl State {
    /// What the container is doing now, if `dir` is its directory.
    fn status(&self, dir: &Path) -> Status {
        if self.pid == 0 {
            Status::Creating
        } else if !self.init_lives() {
            Status::Stopped
        } else if self.is_paused() {
            Status::Paused
        } else if store::is_waiting(dir) {
            Status::Created
        } else {
            Status::Running
        }
    }

    fn init_lives(&self) -> bool {
        let stat = process::stat(Pid::from_raw(self.pid));
        stat.is_some_and(|stat| stat.is_alive() && stat.start_time == self.start_time)
    }

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

/// What `state` prints, and `list` for each container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// Of the configuration.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Init's; 0 when stopped.
    pub pid: i32,
    /// One of the words of [`Status`].
    pub status: String,
    /// Directory of the configuration.
    pub bundle: PathBuf,
    /// The root filesystem on the host.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// Of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who made the container; its number if it has none.
    pub owner: String,
}

impl Runtime {
    /// Reports one container.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn state(&self, id: &str) -> Result<StateReport> {
        // The shape of runc has no owner here.
        self.report(id, |_uid| String::new())
    }

    /// Reports all containers, sorted by id. One that cannot be read is an error in its place.
    ///
    /// # Errors
    /// [`Error::Os`] if the state root cannot be read.
    pub fn list(&self) -> Result<Vec<Result<StateReport>>> {
        let ids = self.ids()?;
        let users = Users::read();
        let owner = |uid: u32| users.name(uid).unwrap_or_else(|| uid.to_string());
        let reports = &|ids: &[String]| -> Vec<_> {
            let reports = ids.iter().map(|id| self.report(id, owner));
            // Deleted between the listing and the look: not an error.
            reports.filter(|report| !matches!(report, Err(Error::NotFound { .. }))).collect()
        };
        if ids.len() < WORTH_A_THREAD {
            return Ok(reports(&ids));
        }
        let threads = thread::available_parallelism().map_or(1, usize::from).min(LIST_THREADS);
        let (first, others) = ids.split_at(ids.len().div_ceil(threads));
        Ok(thread::scope(|scope| {
            let parts: Vec<_> = others
                .chunks(first.len())
                .map(|part| {
                    (part, thread::Builder::new().spawn_scoped(scope, move || reports(part)))
                })
                .collect();
            let mut all = reports(first);
            for (part, thread) in parts {
                // Where no more processes are allowed, this one does it all.
                all.extend(thread.map_or_else(
                    |_no_thread| reports(part),
                    |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                ));
            }
            all
        }))
    }

    /// Opens no more than it reads: there may be thousands.
    fn report(&self, id: &str, name: impl FnOnce(u32) -> String) -> Result<StateReport> {
        let dir = self.path_of(&ContainerId::new(id)?);
        let missing = || Error::NotFound { id: id.to_owned() };
        let state = store::read_state(&dir)?.ok_or_else(missing)?;
        let status = state.status(&dir);
        Ok(StateReport {
            oci_version: state.oci_version,
            id: state.id.to_string(),
            pid: if status == Status::Stopped { 0 } else { state.pid },
            status: status.to_string(),
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            annotations: state.annotations,
            owner: name(state.owner_uid),
        })
    }

    /// Pids of all processes of the container, as carob sees them; empty when stopped.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Os`] if the cgroup cannot be read.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>> {
        self.container(id)?.state.processes()
    }
}

/// The host's passwd file: a static program has no name service.
struct Users(String);

impl Users {
    fn read() -> Self {
        Self(std::fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    fn name(&self, uid: u32) -> Option<String> {
        let uid = uid.to_string();
        self.0.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }
}

/// The name of a user, by the host's passwd file.
pub(super) fn user_name(uid: u32) -> Option<String> {
    Users::read().name(uid)
}
