//! mounts

use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::Mount;

use super::{Place, StartFailure};

/// All mounts of one instance of a container beyond the default ones, parents before children.
///
/// # Errors
/// `CreateContainerConfigError` or `CreateContainerError` in the kubelet's words.
pub fn mounts(
    _place: &Place<'_>,
    _container: &Container,
    _env: &[(String, String)],
    _restart_count: u32,
) -> Result<Vec<Mount>, StartFailure> {
    Ok(vec![])
}

/// What `linux.rootfsPropagation` has to be for these mounts to propagate: `rshared`, `rslave` or
/// nothing.
#[must_use]
pub fn rootfs_propagation(_mounts: &[Mount]) -> Option<&'static str> {
    None
}
