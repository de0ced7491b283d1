//! The configuration of the pause container, and the pod's host name.

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{
    LinuxCpu, LinuxNamespaceType as Kind, LinuxResources, Mount, Root, Spec, User,
};

use super::security::{capability_sets, selinux};
use super::spec::{
    empty, empty_linux, empty_process, id_mappings, mount, namespace, pod_annotations,
};
use super::{
    CLUSTER_DOMAIN, Manifest, Node, PodDirs, StartFailure, failure, pod_spec, qos, resources,
    seccomp_default, sysctls,
};

/// Longest label of DNS.
const MAX_LABEL: usize = 63;
/// Longest name that the kernel keeps. Source: sethostname(2).
const MAX_KERNEL: usize = 64;
/// Who the pause container runs as.
const NOBODY: u32 = 65_535;

/// The name of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// `hostname`, for `/etc/hosts`.
    pub host: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`, or empty.
    pub domain: String,
    /// What the kernel and the variable HOSTNAME say; absent with `hostNetwork`, where it is the
    /// node's.
    pub kernel: Option<String>,
}

/// The pod's host name.
///
/// # Errors
/// `CreatePodSandboxError` if a fully qualified name is too long for the kernel.
pub fn hostname(pod: &Pod) -> Result<Hostname, StartFailure> {
    let spec = pod_spec(pod);
    let given = |field: &Option<String>| field.clone().filter(|name| !name.is_empty());
    let own_network = spec.host_network != Some(true);
    if let Some(host) = given(&spec.hostname_override) {
        let kernel = own_network.then(|| host.clone());
        return Ok(Hostname { host, domain: String::new(), kernel });
    }
    let mut host = given(&spec.hostname).or_else(|| given(&pod.metadata.name)).unwrap_or_default();
    if host.len() > MAX_LABEL {
        // Names are ASCII; who knows.
        let end = (0..=MAX_LABEL).rev().find(|end| host.is_char_boundary(*end)).unwrap_or(0);
        host.truncate(end);
        host.truncate(host.trim_end_matches(['-', '.']).len());
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let domain = given(&spec.subdomain)
        .map(|subdomain| format!("{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"))
        .unwrap_or_default();
    let kernel = match spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        false => host.clone(),
        true => format!("{host}.{domain}"),
    };
    if kernel.len() > MAX_KERNEL {
        return Err(failure(
            "CreatePodSandboxError",
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {kernel} is \
                 too long ({MAX_KERNEL} characters is the max, {} characters requested)",
                kernel.len()
            ),
        ));
    }
    Ok(Hostname { host, domain, kernel: own_network.then_some(kernel) })
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

/// The configuration of the pause container: program `/pause`, root `rootfs` in its bundle, with
/// an empty directory `dev`. Nothing is mounted, but a `/dev` in a user namespace of the pod.
///
/// # Errors
/// `CreatePodSandboxError`.
pub fn sandbox_spec(place: &SandboxPlace<'_>) -> Result<Spec, StartFailure> {
    let pod = &place.manifest.pod;
    let spec = pod_spec(pod);
    let mut user = User::default();
    user.set_uid(NOBODY).set_gid(NOBODY);
    let mut process = empty_process();
    process
        .set_user(user)
        .set_args(Some(vec!["/pause".to_owned()]))
        .set_env(Some(Vec::new()))
        .set_cwd("/".into())
        .set_capabilities(Some(capability_sets(0)))
        .set_no_new_privileges(Some(true))
        .set_oom_score_adj(Some(qos::pause_oom_score_adj(place.node)));
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));

    let mut kinds = vec![Kind::Mount];
    let own = |shared: Option<bool>| shared != Some(true);
    kinds.extend(place.user_namespace_base.map(|_| Kind::User));
    kinds.extend(own(spec.host_ipc).then_some(Kind::Ipc));
    kinds.extend(own(spec.host_network).then_some([Kind::Network, Kind::Uts]).iter().flatten());
    kinds.extend(own(spec.host_pid).then_some(Kind::Pid));
    let sysctls = sysctls::of_sandbox(&spec, place.user_namespace_base.is_some());
    let mut linux = empty_linux();
    linux
        .set_namespaces(Some(kinds.into_iter().map(|kind| namespace(kind, None)).collect()))
        .set_cgroups_path(Some(place.dirs.container_cgroup("POD")))
        .set_resources(Some(limits(place.node)))
        .set_sysctl(Some(sysctls))
        .set_seccomp(Some(seccomp_default::profile(0)));
    if let Some(base) = place.user_namespace_base {
        let mappings = id_mappings(base);
        linux.set_uid_mappings(Some(mappings.clone())).set_gid_mappings(Some(mappings));
    }
    // Of a container that says nothing itself: what all of them share has it.
    let labels = selinux(pod, &Container::default());
    linux.set_mount_label(labels.map(|labels| labels.mount));
    let mut annotations = pod_annotations(pod);
    annotations.insert("io.kubernetes.cri.container-type".to_owned(), "sandbox".to_owned());
    let mut out = empty();
    out.set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(hostname(pod)?.kernel)
        .set_mounts(Some(
            place.user_namespace_base.map(|_| device_directory()).into_iter().collect(),
        ))
        .set_annotations(Some(annotations))
        .set_linux(Some(linux));
    Ok(out)
}

/// Every container gets its devices in `/dev`, and the root of a user namespace cannot make them in
/// a directory of the host's root.
fn device_directory() -> Mount {
    mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"])
}

/// As little as there is.
fn limits(node: &Node) -> LinuxResources {
    let mut limits = LinuxResources::default();
    if node.cgroups.has("cpu") {
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(resources::shares(0)));
        limits.set_cpu(Some(cpu));
    }
    let mut deny = resources::all_devices();
    deny.set_allow(false);
    limits.set_devices(Some(vec![deny]));
    limits
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
