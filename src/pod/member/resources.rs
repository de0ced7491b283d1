//! Requests and limits as cgroup settings.

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::LinuxResources;

use super::Node;

/// The limits of the pod's own cgroup.
#[must_use]
pub fn pod_resources(_pod: &Pod, _node: &Node) -> LinuxResources {
    LinuxResources::default()
}
