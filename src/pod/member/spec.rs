//! The configuration of a member.

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{LinuxDevice, Mount, Spec};

use super::{Image, Node, Place, StartFailure};
use crate::sys::signal::Signal;

/// One container about to be made.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// From the manifest.
    pub container: &'a Container,
    /// Its image.
    pub image: &'a Image,
    /// What [`super::environment`] gave.
    pub env: &'a [(String, String)],
    /// Mounts beyond the default ones; one with the destination of a default one replaces it.
    pub mounts: Vec<Mount>,
    /// Devices it may use (`volumeDevices`), rwm.
    pub devices: Vec<LinuxDevice>,
    /// Instances before this one.
    pub restart_count: u32,
}

/// The OCI configuration of a member; `root.path` is `rootfs`, in its bundle.
///
/// # Errors
/// `CreateContainerConfigError`, `CreateContainerError`.
pub fn spec(_place: &Place<'_>, _member: Member<'_>) -> Result<Spec, StartFailure> {
    Ok(Spec::default())
}

/// Whether this machine can run the pod at all: sysctls, AppArmor, SELinux.
///
/// # Errors
/// With a reason for `status.reason`: `SysctlForbidden`, `AppArmor`, ….
pub fn admit(_pod: &Pod, _node: &Node) -> Result<(), StartFailure> {
    Ok(())
}

/// What asks a container to end: its own `lifecycle.stopSignal`, else the image's, else TERM.
#[must_use]
pub fn stop_signal(_container: &Container, _image: &Image) -> Signal {
    Signal::TERM
}
