//! Removes pods, and all that is left of them.

use std::path::Path;

use super::lifecycle::{ask_to_stop, identity, is_live, reread, wait_for_end};
use super::network::Store;
use super::store::{self, PodDirs, StoredPod};
use super::{leftover, sandbox, volume};
use crate::container::{Force, Runtime};
use crate::error::{Error, OsContext, Result};

/// How [`remove`] treats a pod that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is an error.
    OnlyEnded,
    /// It is stopped with its grace.
    Forced,
}

/// Removes a pod and all that is left of it: volumes, logs, state.
///
/// # Errors
/// [`Error::WrongState`] if it runs and that is not wanted; [`Error::Os`] for the first thing that
/// could not be removed, after trying all others.
pub fn remove(runtime: &Runtime, pod: &StoredPod, removal: Removal) -> Result<()> {
    let pod = &reread(pod)?;
    if is_live(pod) {
        if removal == Removal::OnlyEnded {
            let name = pod.file.name();
            return Err(Error::WrongState {
                reason: format!("pod {name:?} is running; stop it first, or use --force"),
            });
        }
        let ended = ask_to_stop(runtime, pod, None).and_then(|()| wait_for_end(runtime, pod));
        if let Err(error) = ended {
            // Then without grace: it must be possible to get rid of every pod.
            crate::log::warn(format_args!("pod {:?}: {error}", pod.file.name()));
        }
    }
    let dirs = &pod.file.dirs;
    let _lock = PodDirs::lock_all(&runtime.root)?;
    if !dirs.state.exists() {
        // Somebody else was faster.
        return Ok(());
    }
    let Some(_instead_of_a_supervisor) = PodDirs::lock_supervisor(&dirs.state)? else {
        let name = pod.file.name();
        return Err(Error::WrongState { reason: format!("pod {name:?} is being started") });
    };
    let mut result = clear_containers(runtime, pod);
    let mut also = |other: Result<()>| {
        if result.is_ok() {
            result = other;
        }
    };
    // Before the namespace goes; one that cannot be released keeps no pod from being removed.
    if let Err(error) = Store::of(dirs).release(&dirs.state, "") {
        crate::log::warn(error);
    }
    also(sandbox::stop(runtime, &sandbox_id(pod), dirs));
    also(volume::teardown(dirs));
    also(remove_tree(&dirs.logs));
    // The last: as long as it is there, the rest can be tried again.
    result.and_then(|()| remove_tree(&dirs.state))
}

/// Removes what there is of a pod that does not exist: whoever made or removed it was killed.
///
/// # Errors
/// [`Error::Os`].
pub fn remove_half_made(runtime: &Runtime, namespace: &str, name: &str) -> Result<()> {
    let _lock = PodDirs::lock_all(&runtime.root)?;
    clear_half_made(&runtime.root, namespace, name)
}

/// A directory without a manifest: its maker was killed.
pub(super) fn clear_half_made(root: &Path, namespace: &str, name: &str) -> Result<()> {
    let dir = PodDirs::all(root).join(format!("{namespace}_{name}"));
    if dir.exists() && !dir.join(store::POD_FILE).exists() {
        std::fs::remove_dir_all(&dir).os("remove", || dir.display())?;
    }
    Ok(())
}

/// The id of the pod's sandbox; without a record one that cannot be in use.
fn sandbox_id(pod: &StoredPod) -> String {
    let (namespace, name) = identity(&pod.file.manifest);
    let attempt = pod.record.as_ref().map_or(0, |record| record.sandbox_attempt);
    format!("{namespace}_{name}_POD_{attempt}")
}

/// Containers that a supervisor left behind which could not be brought back.
fn clear_containers(runtime: &Runtime, pod: &StoredPod) -> Result<()> {
    let mut result = Ok(());
    for id in leftover::containers(runtime, &pod.file)? {
        let deleted = runtime.delete(&id, Force::Yes);
        if result.is_ok() {
            result = deleted;
        }
    }
    result
}

pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.os("remove", || path.display()),
    }
}
