//! Sandboxes on disk.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::Options;
use crate::container::ContainerId;
use crate::error::{Error, OsContext, Result};
use crate::pod::record::SandboxRecord;
use crate::pod::sandbox::write;
use crate::pod::store::{PodDirs, StoredPod};
use crate::sys::fd;

pub(super) const FILE: &str = "sandbox.json";
const FILE_BYTES: u64 = 16 << 20;

/// `sandbox.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) options: Options,
    pub(super) dirs: PodDirs,
    /// Its own, unlike its name.
    #[serde(default)]
    pub(super) uid: String,
    /// How often it has been started.
    pub(super) attempt: u32,
    pub(super) user_namespace_base: Option<u32>,
    /// Absent while it is stopped.
    pub(super) record: Option<SandboxRecord>,
}

impl Stored {
    pub(super) fn hostname(&self) -> &str {
        self.options.hostname.as_deref().unwrap_or(&self.name)
    }

    pub(super) fn network_name(&self) -> Option<&str> {
        self.record.as_ref()?.network.as_deref()
    }

    pub(super) fn id(&self) -> String {
        format!("{}_POD_{}", self.name, self.attempt)
    }

    pub(super) fn write(&self) -> Result<()> {
        let (path, new) = (self.dirs.state.join(FILE), self.dirs.state.join(".sandbox.json"));
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::Invalid(format!("state of {}: {error}", self.name)))?;
        let _left_over = fs::remove_file(&new);
        write(&new, 0o600, &text)?;
        fs::rename(&new, &path).os("rename", || path.display())
    }
}

/// The first host ids of all user namespaces that sandboxes and pods below this state root have.
///
/// # Errors
/// [`Error::Os`] if something cannot be read.
pub fn bases_in_use(root: &Path) -> Result<Vec<u32>> {
    let pods = StoredPod::list(root)?.into_iter();
    let pods = pods.filter_map(|pod| pod.record?.sandbox?.user_namespace_base);
    let sandboxes = names(root)?.into_iter().map(|name| read(root, &name));
    let sandboxes = sandboxes.collect::<Result<Vec<_>>>()?;
    Ok(pods.chain(sandboxes.into_iter().filter_map(|one| one.user_namespace_base)).collect())
}

pub(super) fn all(root: &Path) -> PathBuf {
    root.join("@sandboxes")
}

pub(super) fn lock(root: &Path) -> Result<Flock<File>> {
    let all = all(root);
    let made = DirBuilder::new().mode(0o700).recursive(true).create(&all);
    let dir = made.and_then(|()| File::open(&all)).os("open", || all.display())?;
    Flock::lock(dir, FlockArg::LockExclusive)
        .map_err(|(_dir, errno)| errno)
        .os("lock", || all.display())
}

pub(super) fn names(root: &Path) -> Result<Vec<String>> {
    let all = all(root);
    match fs::read_dir(&all) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            let entries = other.os("read", || all.display())?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            // One that is being made, or whose maker was killed at once, has no file yet.
            Ok(names.filter(|name| all.join(name).join(FILE).exists()).collect())
        }
    }
}

pub(super) fn read(root: &Path, name: &str) -> Result<Stored> {
    let state = all(root).join(ContainerId::new(name)?.as_str());
    read_file(&state)?.ok_or_else(|| Error::Invalid(format!("sandbox {name:?} not found")))
}

/// The sandbox with this state directory, if there is one.
pub(super) fn read_file(state: &Path) -> Result<Option<Stored>> {
    let path = state.join(FILE);
    let text = match fd::read_file(&path, FILE_BYTES) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let stored = serde_json::from_slice(&text);
    stored.map(Some).map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}
