//! The directories of a pod.
//!
//! ```text
//! <root>/@pods/<namespace>_<name>/        0700; gone after a reboot
//!     pod.json         [`PodFile`]: manifest with all it refers to, and where the rest lies
//!     status.json      [`super::record::PodRecord`], replaced as a whole
//!     events.jsonl     [`super::event::Event`]s
//!     control          the supervisor's socket (control.rs)
//!     supervisor       locked (fcntl) by the supervisor while it lives
//!     sandbox/         the bundle of the pause container
//!     bundles/<container>/          config.json and what it needs
//!     journals/<container>.<restart count>.<stream>   output on its way into the log
//!     shm/             mount point: /dev/shm of the pod
//!     memory/          mount point of a tmpfs: secrets and other data that must not reach a disk
//!     etc/             mount point of a small tmpfs: hosts, hostname, resolv.conf
//! <data>/pods/<uid>/                      0750; survives a reboot, not `pod rm`
//!     volumes/kubernetes.io~<plugin>/<name>/
//!     volume-subpaths/
//!     containers/<container>/           writable layers; <8 hex>: termination messages
//! <logs>/<namespace>_<name>_<uid>/<container>/<restart count>.log
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::event::{EVENTS_FILE, Event};
use super::manifest::Manifest;
use super::network::Sources;
use super::record::PodRecord;
use super::rules::PodRules;
use crate::container::{CgroupDriver, Runtime};
use crate::error::{Error, OsContext, Result};
use crate::image::Store;
use crate::sys::fd;

pub use crate::image::DATA_ROOT;

/// Default of `--log-root`; the kubelet's.
pub const LOG_ROOT: &str = "/var/log/pods";
/// Default of `--cgroup-parent`, without systemd.
pub const CGROUP_PARENT: &str = "/carob";
/// The same where systemd makes cgroups.
pub const SLICE: &str = "carob.slice";

/// Where a pod keeps what; chosen when it is made, the same for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDirs {
    /// `<root>/@pods/<namespace>_<name>`.
    pub state: PathBuf,
    /// `<data>/pods/<uid>`.
    pub data: PathBuf,
    /// `<logs>/<namespace>_<name>_<uid>`.
    pub logs: PathBuf,
    /// `<cgroup parent>/pod<uid>`, absolute within each hierarchy, or the name of a slice.
    pub cgroup: PathBuf,
}

impl PodDirs {
    /// `linux.cgroupsPath` of a container of the pod.
    #[must_use]
    pub fn container_cgroup(&self, name: &str) -> PathBuf {
        CgroupDriver::container_below(&self.cgroup, name)
    }

    /// With the driver that the pod was made for, whoever calls now.
    #[must_use]
    pub fn runtime(&self, runtime: &Runtime) -> Runtime {
        Runtime { cgroup_driver: CgroupDriver::of_parent(&self.cgroup), ..runtime.clone() }
    }

    /// The images of the data root.
    #[must_use]
    pub fn images(&self) -> Store {
        let data_root = self.data.ancestors().nth(2);
        Store::new(data_root.unwrap_or(Path::new(DATA_ROOT)))
    }

    /// Where the volume of a plugin lies: `kubernetes.io~empty-dir` and so on.
    #[must_use]
    pub fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.data.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// A file of `etc/`.
    #[must_use]
    pub fn etc(&self, name: &str) -> PathBuf {
        self.state.join("etc").join(name)
    }

    /// The log of one instance.
    #[must_use]
    pub fn log(&self, container: &str, restart_count: u32) -> PathBuf {
        self.logs.join(container).join(format!("{restart_count}.log"))
    }

    /// Where output of an instance is kept until it is in its log; with the name of the stream.
    #[must_use]
    pub fn journal(&self, container: &str, restart_count: u32) -> PathBuf {
        self.state.join("journals").join(format!("{container}.{restart_count}"))
    }

    /// The bundle of a container.
    #[must_use]
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.state.join("bundles").join(container)
    }

    /// Writes `status.json`; a reader sees the old one or the new one.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn write_record(&self, record: &PodRecord) -> Result<()> {
        replace(&self.state.join(STATUS_FILE), record)
    }

    /// Takes the right to supervise the pod in a state directory, for as long as the file is open;
    /// `None` if somebody has it.
    ///
    /// # Errors
    /// [`Error::Os`] if the directory is gone.
    pub fn lock_supervisor(state: &Path) -> Result<Option<File>> {
        let path = state.join(SUPERVISOR_FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&path)
            .os("open", || path.display())?;
        let locked = fd::try_lock(&file).os("lock", || path.display())?;
        Ok(locked.then_some(file))
    }

    /// Takes the right to make, replace or remove pods below a state root; waits for it.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn lock_all(root: &Path) -> Result<Flock<File>> {
        let all = Self::all(root);
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&all).os("mkdir", || all.display())?;
        let dir = File::open(&all).os("open", || all.display())?;
        Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_file, errno)| errno)
            .os("lock", || all.display())
    }

    /// The directory of all pods below a state root.
    #[must_use]
    pub fn all(root: &Path) -> PathBuf {
        root.join("@pods")
    }
}

/// `pod.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodFile {
    /// What to run.
    pub manifest: Manifest,
    /// Where it keeps what.
    pub dirs: PodDirs,
    /// Where its network comes from.
    #[serde(default)]
    pub network: Sources,
}

impl PodFile {
    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// What decides over the pod's life.
    ///
    /// # Errors
    /// As [`PodRules::from_pod`].
    pub fn rules(&self) -> Result<PodRules> {
        PodRules::from_pod(&self.manifest.pod)
    }

    /// Writes `pod.json`.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn write(&self) -> Result<()> {
        // By way of a value, as it is read: the types of Kubernetes are large, and read and written
        // in one way only.
        let path = self.dirs.state.join(POD_FILE);
        let value = serde_json::to_value(self)
            .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
        replace(&path, &value)
    }
}

/// A pod on this machine, as every verb but those of the supervisor sees it.
#[derive(Debug, Clone)]
pub struct StoredPod {
    /// What was asked for, and where things are.
    pub file: PodFile,
    /// What is known of it; absent for a moment while the pod is being made.
    pub record: Option<PodRecord>,
}

pub(super) const POD_FILE: &str = "pod.json";
/// The name of the record in the state directory.
pub const STATUS_FILE: &str = "status.json";
const SUPERVISOR_FILE: &str = "supervisor";
/// Longest file that is read back, bytes.
const FILE_BYTES: u64 = 64 << 20;

impl StoredPod {
    /// Finds a pod.
    ///
    /// # Errors
    /// [`Error::Invalid`] in kubectl's words if there is none.
    pub fn find(root: &Path, namespace: &str, name: &str) -> Result<Self> {
        let dir = PodDirs::all(root).join(format!("{namespace}_{name}"));
        Self::read(&dir)?
            .ok_or_else(|| Error::Invalid(format!("pods {name:?} not found in {namespace:?}")))
    }

    /// All pods below a state root, by namespace and name.
    ///
    /// # Errors
    /// [`Error::Os`] if the directory cannot be read.
    pub fn list(root: &Path) -> Result<Vec<Self>> {
        let all = PodDirs::all(root);
        let entries = match std::fs::read_dir(&all) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.os("read", || all.display())?,
        };
        let mut dirs = Vec::new();
        for entry in entries {
            dirs.push(entry.os("read", || all.display())?.path());
        }
        dirs.sort();
        let read = |dir: PathBuf| {
            // One that is damaged must not hide the others.
            Self::read(&dir).map_err(crate::log::warn).ok().flatten()
        };
        Ok(dirs.into_iter().filter_map(read).collect())
    }

    /// Makes the directory of a new pod and writes down what it is to be.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if there is a pod of that name; [`Error::Os`].
    pub fn create(file: &PodFile, record: &PodRecord) -> Result<()> {
        let dir = &file.dirs.state;
        let parent = dir.parent().unwrap_or(dir);
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(parent).os("mkdir", || parent.display())?;
        match builder.recursive(false).create(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(Error::AlreadyExists { id });
            }
            other => other.os("mkdir", || dir.display())?,
        }
        // The last: without it there is no pod.
        let written = file.dirs.write_record(record).and_then(|()| file.write());
        if written.is_err() {
            let _best_effort = std::fs::remove_dir_all(dir);
        }
        written
    }

    /// Whether a supervisor lives. Asking is in nobody's way.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        let file = File::open(self.file.dirs.state.join(SUPERVISOR_FILE));
        file.is_ok_and(|file| fd::is_locked(&file).unwrap_or(false))
    }

    /// What has happened to it, oldest first.
    ///
    /// # Errors
    /// [`Error::Os`] if the file cannot be read.
    pub fn events(&self) -> Result<Vec<Event>> {
        let text = read_if_there(&self.file.dirs.state.join(EVENTS_FILE))?.unwrap_or_default();
        // The last line may be half-written.
        Ok(text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// Reads the pod in a directory, if there is one.
    ///
    /// # Errors
    /// [`Error::Os`]; [`Error::Invalid`] if its files are damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let Some(text) = read_if_there(&dir.join(POD_FILE))? else { return Ok(None) };
        let file: serde_json::Value = parse(&text, dir, POD_FILE)?;
        let file: PodFile =
            serde_json::from_value(file).map_err(|error| damaged(dir, POD_FILE, &error))?;
        let record = read_if_there(&dir.join(STATUS_FILE))?;
        let record = record.map(|text| parse(&text, dir, STATUS_FILE)).transpose()?;
        Ok(Some(Self { file, record }))
    }
}

/// Replaces a file as a whole, readable by root alone: it may hold secrets.
fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(&new)
        .os("create", || new.display())?;
    file.write_all(&text).os("write", || new.display())?;
    // Not exchanged: it may be read after a loss of power, for which ext4 writes what replaces.
    std::fs::rename(&new, path).os("rename", || path.display())
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8], dir: &Path, name: &str) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| damaged(dir, name, &error))
}

fn damaged(dir: &Path, name: &str, error: &serde_json::Error) -> Error {
    Error::Invalid(format!("{}: {error}", dir.join(name).display()))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fd::read_file(path, FILE_BYTES) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}
