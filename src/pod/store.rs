//! The directories of a pod.
//!
//! ```text
//! <root>/@pods/<namespace>_<name>/        0700; gone after a reboot
//!     pod.json         [`PodFile`]: manifest with all it refers to, and where the rest lies
//!     status.json      [`super::record::PodRecord`], replaced as a whole
//!     events.jsonl     [`super::event::Event`]s
//!     control          the supervisor's socket (control.rs)
//!     supervisor       flock: held by the supervisor while it lives; its pid
//!     sandbox/         the bundle of the pause container
//!     bundles/<container>/          config.json and what it needs
//!     fifos/<container>.{out,err}   log pipes: they survive the supervisor
//!     shm/             mount point: /dev/shm of the pod
//!     memory/          mount point of a tmpfs: secrets and other data that must not reach a disk
//!     etc/             mount point of a small tmpfs: hosts, hostname, resolv.conf
//! <data>/pods/<uid>/                      0750; survives a reboot, not `pod rm`
//!     volumes/kubernetes.io~<plugin>/<name>/
//!     volume-subpaths/
//!     containers/<container>/           writable layers; <8 hex>: termination messages
//! <logs>/<namespace>_<name>_<uid>/<container>/<restart count>.log
//! ```

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::manifest::Manifest;
use super::record::PodRecord;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// Default of `--data-root`.
pub const DATA_ROOT: &str = "/var/lib/carob";
/// Default of `--log-root`; the kubelet's.
pub const LOG_ROOT: &str = "/var/log/pods";
/// Default of `--cgroup-parent`.
pub const CGROUP_PARENT: &str = "/carob";

/// Where a pod keeps what; chosen when it is made, the same for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDirs {
    /// `<root>/@pods/<namespace>_<name>`.
    pub state: PathBuf,
    /// `<data>/pods/<uid>`.
    pub data: PathBuf,
    /// `<logs>/<namespace>_<name>_<uid>`.
    pub logs: PathBuf,
    /// `<cgroup parent>/pod<uid>`, absolute within each hierarchy.
    pub cgroup: PathBuf,
}

impl PodDirs {
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

    /// The bundle of a container.
    #[must_use]
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.state.join("bundles").join(container)
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
}

/// A pod on this machine, as every verb but those of the supervisor sees it.
#[derive(Debug)]
pub struct StoredPod {
    /// What was asked for, and where things are.
    pub file: PodFile,
    /// What is known of it; absent for a moment while the pod is being made.
    pub record: Option<PodRecord>,
}

const POD_FILE: &str = "pod.json";
const STATUS_FILE: &str = "status.json";
const EVENTS_FILE: &str = "events.jsonl";
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
    /// [`Error::Os`] if a directory or file cannot be read.
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
        let mut pods = Vec::new();
        for dir in dirs {
            pods.extend(Self::read(&dir)?);
        }
        Ok(pods)
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

    fn read(dir: &Path) -> Result<Option<Self>> {
        let Some(text) = read_if_there(&dir.join(POD_FILE))? else { return Ok(None) };
        let file: PodFile = parse(&text, dir, POD_FILE)?;
        let record = read_if_there(&dir.join(STATUS_FILE))?;
        let record = record.map(|text| parse(&text, dir, STATUS_FILE)).transpose()?;
        Ok(Some(Self { file, record }))
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8], dir: &Path, name: &str) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("{}: {error}", dir.join(name).display())))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fd::read_file(path, FILE_BYTES) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}
