//! The configuration of the pause container, and the pod's host name.

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::Spec;

use super::{Manifest, Node, PodDirs, StartFailure};

/// The name of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// `hostname`, for `/etc/hosts` and the variable HOSTNAME.
    pub host: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`, or empty.
    pub domain: String,
    /// What the kernel shall say; absent with `hostNetwork`, where it is the node's.
    pub kernel: Option<String>,
}

/// The pod's host name.
///
/// # Errors
/// `CreatePodSandboxError` if a fully qualified name is too long for the kernel.
pub fn hostname(_pod: &Pod) -> Result<Hostname, StartFailure> {
    Ok(Hostname { host: String::new(), domain: String::new(), kernel: None })
}

/// What a sandbox is made from.
#[derive(Debug, Clone, Copy)]
pub struct SandboxPlace<'a> {
    /// The pod and what it refers to.
    pub manifest: &'a Manifest,
    /// Where it keeps what.
    pub dirs: &'a PodDirs,
    /// The machine.
    pub node: &'a Node,
    /// Host ids of a pod with `hostUsers: false`: the first one of 65536.
    pub user_namespace_base: Option<u32>,
}

/// The configuration of the pause container: program `/pause`, root `rootfs` in its bundle.
///
/// # Errors
/// `CreatePodSandboxError`.
pub fn sandbox_spec(_place: &SandboxPlace<'_>) -> Result<Spec, StartFailure> {
    Ok(Spec::default())
}
