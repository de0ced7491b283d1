//! A container of the manifest, as an OCI configuration that joins the sandbox.
//!
//! ```text
//! quantity.rs          numbers of Kubernetes: 100m, 64Mi, 1e3
//! node.rs              facts of the machine, read once
//! image.rs             where a container's files and defaults come from
//! pull_secrets.rs      credentials for registries
//! users.rs             user, groups, runAsNonRoot; reads the image's passwd and group
//! env.rs               environment, $(NAME) expansion, the command line
//! resources.rs         requests and limits → shares, quota, memory
//! qos.rs               classes of pods, OOM scores
//! security.rs          capabilities, seccomp, AppArmor, SELinux, hidden paths; admission
//! sysctls.rs           kernel parameters of a pod
//! seccomp_default.rs   the RuntimeDefault profile
//! spec.rs              all of it together: the configuration of a member
//! sandbox.rs           that of the pause container; the pod's host name
//! ```
//!
//! Pure, but for `node.rs`, `image.rs`, the files of an image in `users.rs` and a Localhost profile
//! in `security.rs`: those read, and nothing here writes.
//!
//! What a manifest asks for and cannot be had is a [`StartFailure`] in the kubelet's words.

pub mod env;
pub mod image;
pub mod node;
pub mod pull_secrets;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod seccomp_default;
pub mod security;
pub mod spec;
pub mod sysctls;
pub mod users;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub use env::environment;
pub use image::{Image, Root};
pub use node::Node;
pub use pull_secrets::pull_secrets;
pub use qos::{QosClass, qos};
pub use resources::pod_resources;
pub use sandbox::{SandboxPlace, hostname, sandbox_spec};
pub use security::admit;
pub use spec::{Device, Member, spec, stop_signal};

use super::manifest::Manifest;
use super::record::{SandboxRecord, StartFailure};
use super::store::PodDirs;

/// The domain of the cluster there is none of: what a `subdomain` is part of.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// What a member is made from, besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The pod and what it refers to.
    pub manifest: &'a Manifest,
    /// Where it keeps what.
    pub dirs: &'a PodDirs,
    /// The pause container to join.
    pub sandbox: &'a SandboxRecord,
    /// The machine.
    pub node: &'a Node,
}

/// A failure of a step, by one of the kubelet's reasons.
pub(crate) fn failure(reason: &str, message: impl Into<String>) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: message.into() }
}

/// `CreateContainerConfigError`: the manifest asks for what cannot be.
pub(crate) fn config_error(message: impl Into<String>) -> StartFailure {
    failure("CreateContainerConfigError", message)
}

/// `CreateContainerError`: the container cannot be made of this image on this machine.
pub(crate) fn create_error(message: impl Into<String>) -> StartFailure {
    failure("CreateContainerError", message)
}

/// The pod's specification. A manifest without one is not loaded.
pub(crate) fn pod_spec(pod: &Pod) -> std::borrow::Cow<'_, PodSpec> {
    match &pod.spec {
        Some(spec) => std::borrow::Cow::Borrowed(spec),
        None => std::borrow::Cow::Owned(PodSpec::default()),
    }
}

/// The kubelet's name of a pod in messages: `name_namespace(uid)`.
pub(crate) fn pod_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// Whether an init container goes on running beside the apps.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::clock::{Moment, Stamp};

    /// What a [`Place`] refers to.
    pub(crate) struct Fixture {
        pub(crate) manifest: Manifest,
        pub(crate) dirs: PodDirs,
        pub(crate) sandbox: SandboxRecord,
        pub(crate) node: Node,
    }

    impl Fixture {
        /// The pod `p` of `ns` with this specification, and a sandbox that runs.
        pub(crate) fn new(spec: Value) -> Self {
            let pod = json!({
                "metadata": {"name": "p", "namespace": "ns", "uid": "u1",
                             "labels": {"app": "web"}, "annotations": {"a.b/c": "note"}},
                "spec": spec});
            let started = Stamp { at: Moment::from_nanos(1), wall: jiff::Timestamp::UNIX_EPOCH };
            Self {
                manifest: Manifest {
                    left_out: Vec::new(),
                    pod: serde_json::from_value(pod).unwrap(),
                    objects: super::super::manifest::Objects::default(),
                },
                dirs: PodDirs {
                    state: "/run/carob/@pods/ns_p".into(),
                    data: "/nonexistent/carob/pods/u1".into(),
                    logs: "/var/log/pods/ns_p_u1".into(),
                    cgroup: "/carob/podu1".into(),
                },
                sandbox: SandboxRecord {
                    network: None,
                    id: "ns_p_POD_0".into(),
                    pid: 4242,
                    started,
                    ips: vec!["10.0.0.5".into(), "fd00::5".into()],
                    user_namespace_base: None,
                },
                node: Node::example(),
            }
        }

        pub(crate) fn place(&self) -> Place<'_> {
            let Self { manifest, dirs, sandbox, node } = self;
            Place { manifest, dirs, sandbox, node }
        }

        pub(crate) fn app(&self) -> &Container {
            &self.manifest.pod.spec.as_ref().unwrap().containers[0]
        }
    }
}
