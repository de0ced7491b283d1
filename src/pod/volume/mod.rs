//! Volumes of a pod, and the files that every pod gets.
//!
//! ```text
//! source.rs     what a volume of the manifest is, claims resolved      ┐
//! payload.rs    configMap, secret, downwardAPI, projected → files      │ pure
//! downward.rs   fields and resources of the pod as text                │
//! hosts.rs, resolv.rs   texts of /etc/hosts and /etc/resolv.conf       ┘
//! atomic.rs     such files in a directory, replaced all at once
//! empty_dir.rs, host_path.rs, image.rs   the other kinds
//! fsgroup.rs    ownership by `fsGroup`
//! subpath.rs    a part of a volume, pinned
//! etc.rs        /etc/hosts, hostname, resolv.conf on a small tmpfs; termination messages
//! mounts.rs     all of it as mounts of an OCI configuration; devices.rs: block volumes
//! usage.rs      how much an emptyDir holds
//! teardown.rs   the end of all of it
//! ```
//!
//! What lies in a volume was written by containers and is hostile: names in it are resolved one by
//! one below open directories (`sys::dir`), never by path.

pub mod atomic;
mod devices;
mod downward;
mod empty_dir;
mod etc;
mod fsgroup;
mod host_path;
mod hosts;
pub mod image;
mod mounts;
mod payload;
mod resolv;
pub(in crate::pod) mod source;
mod subpath;
mod teardown;
#[cfg(test)]
mod testing;
mod usage;

use std::path::Path;

pub use devices::devices;
pub use etc::{dns_warnings, termination_log, write_etc};
pub use mounts::mounts;
pub use teardown::teardown;
pub use usage::{SizeLimit, Usage, size_limits};

use super::manifest::Manifest;
use super::member::{self, Node};
use super::record::StartFailure;
use super::store::PodDirs;
use crate::error::OsContext;
use crate::sys::dir;
use fsgroup::{Access, Policy};
use source::{Resolved, Source};

/// What volumes are made from and mounted for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The pod and what it refers to.
    pub manifest: &'a Manifest,
    /// Where it keeps what.
    pub dirs: &'a PodDirs,
    /// The machine.
    pub node: &'a Node,
    /// Addresses of the pod; none before it has a sandbox, which `prepare` does not need.
    pub ips: &'a [String],
    /// Name of its network, if that is made by plugins.
    pub network: Option<&'a str>,
    /// Host ids of a pod with its own user namespace: the first of 65536.
    pub user_namespace_base: Option<u32>,
}

impl<'a> From<&member::Place<'a>> for Place<'a> {
    fn from(place: &member::Place<'a>) -> Self {
        Self {
            manifest: place.manifest,
            dirs: place.dirs,
            node: place.node,
            ips: &place.sandbox.ips,
            network: place.sandbox.network.as_deref(),
            user_namespace_base: place.sandbox.user_namespace_base,
        }
    }
}

/// Makes all volumes of the pod. What is there already stays, but for data that has changed: that
/// is replaced at once, while containers may be reading it.
///
/// # Errors
/// `FailedMount` in the kubelet's words; volumes before the one that failed are made.
pub fn prepare(place: &Place<'_>) -> Result<(), StartFailure> {
    let mut resolved = Vec::new();
    for volume in source::volumes(place) {
        resolved.push(source::resolve(place, volume).map_err(|why| {
            let name = &volume.name;
            not_mounted(format!(
                "Unable to attach or mount volumes: unmounted volumes=[{name}], \
                 unattached volumes=[], failed to process volumes=[{name}]: {why}"
            ))
        })?);
    }
    let set_up = |name: &str, result: Result<(), String>| {
        result.map_err(|why| {
            not_mounted(format!("MountVolume.SetUp failed for volume {name:?} : {why}"))
        })
    };
    if let Some(volume) = resolved.iter().find(|volume| volume.source.is_secret_data()) {
        let mounted = empty_dir::mount_shared_memory(place.dirs);
        set_up(volume.name, mounted.map_err(|error| error.to_string()))?;
    }
    resolved.iter().try_for_each(|volume| set_up(volume.name, make(place, volume)))
}

fn not_mounted(message: String) -> StartFailure {
    member::failure("FailedMount", message)
}

/// Makes one volume.
fn make(place: &Place<'_>, volume: &Resolved<'_>) -> Result<(), String> {
    let security = place.manifest.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let group = security.and_then(|security| security.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    let text = |error: crate::error::Error| error.to_string();
    match &volume.source {
        Source::EmptyDir(_) => empty_dir::make(place, volume, group).map_err(text),
        Source::HostPath(source) => {
            let kind = source.type_.as_deref().unwrap_or_default();
            host_path::check(Path::new(&source.path), kind).map_err(text)
        }
        // Pulled and mounted when the first container that uses it is started.
        Source::Image => Ok(()),
        Source::Device(path) => host_path::check(Path::new(path), "BlockDevice").map_err(text),
        Source::Local(path, name) => {
            host_path::check(Path::new(path), "Directory").map_err(text)?;
            let policy = security.and_then(|one| one.fs_group_change_policy.as_deref());
            let Some(group) = group else { return Ok(()) };
            give_once(place, name, || {
                let root = Path::new(path).canonicalize().os("open", || path)?;
                let root = dir::open(&root).os("open", || path)?;
                let access = if volume.read_only { Access::ReadOnly } else { Access::ReadWrite };
                fsgroup::apply(root, group, access, Policy::new(policy))
                    .os("set fsGroup of", || path)
            })
            .map_err(text)
        }
        Source::ConfigMap(_)
        | Source::Secret(_)
        | Source::DownwardApi(_)
        | Source::Projected(_) => {
            let payload = payload::payload(place, &volume.source)?;
            fill(&volume.path(place.dirs), &payload, group).map_err(text)
        }
    }
}

/// Writes the files of a volume, in a directory made if missing.
fn fill(path: &Path, payload: &atomic::Payload, group: Option<u32>) -> crate::error::Result<()> {
    let (parent, name) = empty_dir::make_parent(path)?;
    let volume = dir::make(&parent, name, 0o755).os("create", || path.display())?;
    atomic::write(&volume, payload, group).map(drop)
}

/// `fsGroup` is set when the pod first mounts the volume, not again after a crash: its containers
/// may have changed modes since.
fn give_once(
    place: &Place<'_>,
    volume: &str,
    give: impl FnOnce() -> crate::error::Result<()>,
) -> crate::error::Result<()> {
    let path = place.dirs.volume("local-volume", volume);
    let (parent, name) = empty_dir::make_parent(&path)?;
    if dir::stat_entry(&parent, name).is_ok() {
        return Ok(());
    }
    give()?;
    dir::make(&parent, name, 0o750).map(drop).os("create", || path.display())
}

#[cfg(test)]
mod tests;
