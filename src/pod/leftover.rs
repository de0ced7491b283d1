//! Data and logs of pods that no longer exist: their state was lost, with a reboot or by hand.
//!
//! Each pod's data directory says whose it is: `pod.json` names all directories of the pod, its
//! state directory among them. Only what belongs to a state root, and whose state is not there any
//! more, is removed when that state root gets a new pod. Whatever else lies there is not touched.

use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::network::Store;
use super::store::{self, PodDirs, PodFile, StoredPod};
use super::volume;
use crate::container::Runtime;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// In each data directory.
const OWNER_FILE: &str = "pod.json";
/// Longest such file, bytes.
const OWNER_BYTES: u64 = 64 << 10;

/// Two pods of one uid would share volumes and cgroup, and the end of one would end the other.
///
/// # Errors
/// [`Error::Invalid`] if there is one.
pub(super) fn refuse_taken_uid(root: &Path, dirs: &PodDirs, uid: &str) -> Result<()> {
    // A random uid is new; data without a pod are of one that was there before a reboot.
    if !dirs.data.exists() {
        return Ok(());
    }
    let all = StoredPod::list(root)?;
    match all.iter().find(|pod| pod.file.dirs.data == dirs.data) {
        None => Ok(()),
        Some(pod) => Err(Error::Invalid(format!(
            "metadata.uid: pod {:?} has the uid {uid} already; without the field a new one is made",
            pod.file.name()
        ))),
    }
}

/// Makes the data directory of a new pod, whose state is there already, and writes down whose it is.
///
/// # Errors
/// [`Error::Os`]; [`Error::AlreadyExists`] if it belongs to another pod.
pub(super) fn claim(dirs: &PodDirs) -> Result<()> {
    let all = dirs.data.parent().unwrap_or(&dirs.data);
    let here = || dirs.data.display();
    let mut builder = DirBuilder::new();
    builder.mode(0o750).recursive(true).create(all).os("mkdir", || all.display())?;
    match builder.recursive(false).create(&dirs.data) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if dirs.data.join(OWNER_FILE).exists() {
                return Err(Error::AlreadyExists { id: here().to_string() });
            }
        }
        other => other.os("mkdir", here)?,
    }
    write_owner(&dirs.data, dirs)
}

fn write_owner(data: &Path, dirs: &PodDirs) -> Result<()> {
    let path = data.join(OWNER_FILE);
    let text = serde_json::to_vec(dirs)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(&text)).os("write", || path.display())
}

/// Removes data and logs of pods of a state root that are no more; what cannot be removed is a
/// warning, and tried again the next time. The caller keeps pods from being made meanwhile.
/// Returns the uids of those that are gone now.
pub(super) fn collect(root: &Path, data_root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_root.join("pods")).into_iter().flatten().flatten();
    let mut gone = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let Some(dirs) = lost(root, &path) else { continue };
        // Its addresses, after a reboot; the namespace they were in went with it.
        let released = Store::of(&dirs).release(&dirs.state, "");
        match released.and_then(|()| remove(&dirs)) {
            Ok(()) => gone.push(file_name(&path).into_owned()),
            Err(error) => crate::log::warn(error),
        }
    }
    gone
}

/// The directories of the pod whose data these are, if it was one of this state root's.
fn lost(root: &Path, data: &Path) -> Option<PodDirs> {
    let text = fd::read_file(data.join(OWNER_FILE), OWNER_BYTES).ok()?;
    let dirs: PodDirs = serde_json::from_slice(&text).ok()?;
    let ours = dirs.state.parent() == Some(PodDirs::all(root).as_path());
    let itself = dirs.data == data;
    let logs = file_name(&dirs.logs).ends_with(&*file_name(&dirs.data));
    (ours && itself && logs && !dirs.state.join(store::POD_FILE).exists()).then_some(dirs)
}

fn remove(dirs: &PodDirs) -> Result<()> {
    match std::fs::remove_dir_all(&dirs.logs) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).os("remove", || dirs.logs.display());
        }
        _ => {}
    }
    volume::teardown(dirs)
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Ids of all containers that belong to a pod, whatever its record says.
///
/// # Errors
/// [`Error::Os`] if the state root cannot be read.
pub(super) fn containers(runtime: &Runtime, file: &PodFile) -> Result<Vec<String>> {
    let metadata = &file.manifest.pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let prefix = format!("{namespace}_{}_", file.name());
    // States hold the paths without links.
    let dir = &file.dirs.state;
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_gone| dir.clone());
    // Somebody else's may have such a name as well; one without a state was being made.
    let is_ours = |id: &String| {
        let known = runtime.state(id);
        known.map_or(true, |known| known.bundle.starts_with(&dir))
    };
    Ok(runtime.ids()?.into_iter().filter(|id| id.starts_with(&prefix)).filter(is_ours).collect())
}
