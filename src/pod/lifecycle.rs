//! What a front end does with whole pods: make, start, stop.
//!
//! Everything here ends with files on disk and a supervisor that acts on them.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::Flock;

use super::clock::Stamp;
use super::control::{Connection, Request};
use super::manifest::{self, Manifest};
use super::network::{self, Plan};
use super::record::PodRecord;
use super::removal::{self, Removal};
use super::store::{self, PodDirs, PodFile, StoredPod};
use super::watch::Watch;
use super::{leftover, ports, rights, supervisor};
use crate::container::{CgroupDriver, Runtime};
use crate::error::{Error, Result};

/// Where new pods keep their data, logs and cgroups.
#[derive(Debug, Clone)]
pub struct Places {
    /// `--data-root`.
    pub data: PathBuf,
    /// `--log-root`.
    pub logs: PathBuf,
    /// `--cgroup-parent`.
    pub cgroup_parent: PathBuf,
    /// `--cni-conf-dir` and `--cni-bin-dir`.
    pub network: network::Sources,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            data: store::DATA_ROOT.into(),
            logs: store::LOG_ROOT.into(),
            cgroup_parent: store::CGROUP_PARENT.into(),
            network: network::Sources::default(),
        }
    }
}

/// Between two looks at a supervisor that is about to come or go.
const LOOK: Duration = Duration::from_millis(20);
/// How often it is asked.
const ATTEMPTS: u32 = 250;

/// What to do with a pod of the same name that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The same manifest is fine, changed data is applied, a changed pod is an error.
    Keep,
    /// A changed pod is stopped and removed first.
    Replace,
}

/// What [`apply`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// It is as it was.
    Unchanged,
    /// ConfigMaps, Secrets or claims have new content; the volumes follow.
    Configured,
    /// The old one is gone, a new one is there.
    Replaced,
}

/// Makes the pod of a manifest, or brings the one that is there up to date. Starts nothing.
///
/// # Errors
/// [`Error::Invalid`] naming what has changed, if the pod differs and is to be kept;
/// [`Error::Unsupported`] for a caller who is not root.
pub fn apply(
    runtime: &Runtime,
    manifest: Manifest,
    places: &Places,
    existing: Existing,
) -> Result<(Applied, StoredPod)> {
    rights::check()?;
    let lock = PodDirs::lock_all(&runtime.root)?;
    let (namespace, name) = identity(&manifest);
    removal::clear_half_made(&runtime.root, &namespace, &name)?;
    let dir = PodDirs::all(&runtime.root).join(format!("{namespace}_{name}"));
    ports::refuse_taken(&runtime.root, &manifest.pod, &dir)?;
    if let Some(old) = StoredPod::read(&dir)? {
        let changes = manifest::differences(&old.file.manifest, &manifest);
        if changes.is_empty() {
            return update_data(runtime, old, manifest, lock);
        }
        if existing == Existing::Keep {
            return Err(Error::Invalid(format!(
                "pod {name:?} exists and differs in {}; --replace stops it and makes it anew",
                changes.join(", ")
            )));
        }
        drop(lock);
        removal::remove(runtime, &old, Removal::Forced)?;
        let _lock = PodDirs::lock_all(&runtime.root)?;
        return Ok((Applied::Replaced, make(runtime, manifest, places)?));
    }
    Ok((Applied::Created, make(runtime, manifest, places)?))
}

pub(super) fn identity(manifest: &Manifest) -> (String, String) {
    let metadata = &manifest.pod.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, metadata.name.clone().unwrap_or_default())
}

fn make(runtime: &Runtime, manifest: Manifest, places: &Places) -> Result<StoredPod> {
    if let Plan::None(Some(why)) = network::plan(&manifest.pod, &places.network)? {
        crate::log::warn(why);
    }
    leftover::collect(&runtime.root, &places.data);
    let (namespace, name) = identity(&manifest);
    let uid = manifest.pod.metadata.uid.clone().unwrap_or_default();
    let dirs = PodDirs {
        state: PodDirs::all(&runtime.root).join(format!("{namespace}_{name}")),
        data: places.data.join("pods").join(&uid),
        logs: places.logs.join(format!("{namespace}_{name}_{uid}")),
        cgroup: CgroupDriver::parent_below(&places.cgroup_parent, &format!("pod{uid}")),
    };
    leftover::refuse_taken_uid(&runtime.root, &dirs, &uid)?;
    let file = PodFile { manifest, dirs, network: places.network.clone() };
    let record = PodRecord::new(&file.rules()?, Stamp::now());
    StoredPod::create(&file, &record)?;
    if let Err(error) = leftover::claim(&file.dirs) {
        let _first_error_counts = removal::remove_tree(&file.dirs.state);
        return Err(error);
    }
    Ok(StoredPod { file, record: Some(record) })
}

fn update_data(
    runtime: &Runtime,
    mut old: StoredPod,
    new: Manifest,
    lock: Flock<File>,
) -> Result<(Applied, StoredPod)> {
    if old.file.manifest.objects == new.objects {
        return Ok((Applied::Unchanged, old));
    }
    let before = std::mem::replace(&mut old.file.manifest.objects, new.objects);
    old.file.write()?;
    // A supervisor may need it before it answers.
    drop(lock);
    revive(runtime, &old)?;
    let asked = Connection::open(&old.file.dirs).and_then(|connection| match connection {
        Some(connection) => connection.ask(&Request::Apply).map(drop),
        None => Ok(()),
    });
    if let Err(error) = asked {
        // What was refused is no part of the pod: asked for again, it is refused again.
        old.file.manifest.objects = before;
        old.file.write()?;
        return Err(error);
    }
    Ok((Applied::Configured, old))
}

/// Lets a pod run: one that was only made, and one that has ended, which goes on counting its
/// restarts. One that runs already goes on.
///
/// # Errors
/// What the supervisor says if it cannot start.
pub fn start(runtime: &Runtime, pod: &StoredPod) -> Result<()> {
    prepare_start(runtime, pod)?;
    if pod.is_supervised() {
        return Ok(());
    }
    supervisor::spawn(runtime, &pod.file.dirs)
}

/// Begins a new life of a pod that has ended, or that ends just now; any other stays as it is.
///
/// # Errors
/// [`Error::Os`].
pub fn prepare_start(runtime: &Runtime, pod: &StoredPod) -> Result<()> {
    let ended = |pod: &StoredPod| pod.record.as_ref().is_some_and(|record| record.ended.is_some());
    let ends = |pod: &StoredPod| pod.record.as_ref().is_some_and(|record| record.stop.is_some());
    // The supervisor of the old life would keep that of the new one away.
    let must_wait = || reread(pod).map(|now| ends(&now) && pod.is_supervised());
    if must_wait()? {
        // Not for nothing: to close it takes the kernel ten milliseconds and more.
        let watch = Watch::new([&pod.file.dirs.state])?;
        while must_wait()? {
            watch.next(Some(LOOK))?;
        }
    }
    // Not two new lives at once.
    let _lock = PodDirs::lock_all(&runtime.root)?;
    let now = reread(pod)?;
    if !ended(&now) {
        return Ok(());
    }
    let dirs = &now.file.dirs;
    ports::refuse_taken(&runtime.root, &now.file.manifest.pod, &dirs.state)?;
    let record = PodRecord::new(&now.file.rules()?, Stamp::now());
    dirs.write_record(&record.continuing(now.record.as_ref()))
}

/// Finds a pod; a supervisor that was killed is brought back.
///
/// # Errors
/// As [`StoredPod::find`]. That there can be no supervisor is a warning: what is known of the pod
/// can be read without one.
pub fn find(runtime: &Runtime, namespace: &str, name: &str) -> Result<StoredPod> {
    let pod = StoredPod::find(&runtime.root, namespace, name)?;
    if revive_or_warn(runtime, &pod) {
        return StoredPod::find(&runtime.root, namespace, name);
    }
    Ok(pod)
}

/// All pods; supervisors that were killed are brought back.
///
/// # Errors
/// As [`StoredPod::list`].
pub fn list(runtime: &Runtime) -> Result<Vec<StoredPod>> {
    let pods = StoredPod::list(&runtime.root)?;
    let revived = pods.iter().filter(|pod| revive_or_warn(runtime, pod)).count();
    if revived > 0 { StoredPod::list(&runtime.root) } else { Ok(pods) }
}

fn revive_or_warn(runtime: &Runtime, pod: &StoredPod) -> bool {
    revive(runtime, pod).unwrap_or_else(|error| {
        crate::log::warn(format_args!("pod {:?}: no supervisor: {error}", pod.file.name()));
        false
    })
}

/// Brings a supervisor back that was killed; nothing to do for a pod that has none or has one.
/// Whether it was done.
///
/// # Errors
/// As [`start`].
pub fn revive(runtime: &Runtime, pod: &StoredPod) -> Result<bool> {
    let runs = |record: &PodRecord| record.started.is_some() && record.ended.is_none();
    if !pod.record.as_ref().is_some_and(runs) || pod.is_supervised() {
        return Ok(false);
    }
    supervisor::spawn(runtime, &pod.file.dirs).map(|()| true)
}

/// Asks the pod to end; returns when its supervisor has written that down.
///
/// # Errors
/// [`Error::Os`]; a pod that does not run is none.
pub fn ask_to_stop(runtime: &Runtime, pod: &StoredPod, grace_seconds: Option<u32>) -> Result<()> {
    let dirs = &pod.file.dirs;
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        let Some(now) = StoredPod::read(&dirs.state)?.filter(is_live) else { return Ok(()) };
        revive(runtime, &now)?;
        if let Some(connection) = Connection::open(dirs)? {
            match connection.ask(&Request::Stop { grace_seconds }) {
                Ok(_) => return Ok(()),
                // It has died: the next one is asked.
                Err(error) => result = Err(error),
            }
        }
        // It is about to listen, or to go.
        std::thread::sleep(LOOK);
    }
    result.and(Err(Error::Invalid(format!(
        "the supervisor of pod {:?} does not answer",
        pod.file.name()
    ))))
}

/// The pod as it is now, not as it was when it was found; the old one if it is gone.
pub(super) fn reread(pod: &StoredPod) -> Result<StoredPod> {
    let now = StoredPod::read(&pod.file.dirs.state)?;
    // Not another one of its name.
    let same = now.filter(|now| now.file.dirs == pod.file.dirs);
    Ok(same.unwrap_or_else(|| pod.clone()))
}

pub(super) fn is_live(pod: &StoredPod) -> bool {
    let runs = |record: &PodRecord| record.started.is_some() && record.ended.is_none();
    pod.record.as_ref().is_some_and(runs) || pod.is_supervised()
}

/// Waits until the pod has ended and its supervisor has let go of it; one that is killed meanwhile
/// is brought back.
///
/// # Errors
/// [`Error::Os`].
pub fn wait_for_end(runtime: &Runtime, pod: &StoredPod) -> Result<()> {
    let watch = Watch::new([&pod.file.dirs.state])?;
    loop {
        let Some(now) = StoredPod::read(&pod.file.dirs.state)?.filter(is_live) else {
            return Ok(());
        };
        revive(runtime, &now)?;
        // The lock is let go of after the last write: look again soon.
        watch.next(Some(LOOK))?;
    }
}
