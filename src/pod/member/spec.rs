//! The configuration of a member: everything together.
//!
//! Source: the kubelet's `generateContainerConfig`; containerd's CRI defaults.

use std::collections::HashMap;
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{Container, PodSpec};
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceType as Kind, LinuxResources, Mount, Process, Root, Spec,
};

use super::env::Variables;
use super::security::{self, is_privileged};
use super::{
    Image, Node, Place, StartFailure, config_error, create_error, env, hostname, node, pod_spec,
    qos, resources, users,
};
use crate::oci::{SPEC_VERSION, namespaces};
use crate::sys::signal::Signal;

/// PATH of a container whose image and manifest have none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Ids of a pod with its own user namespace.
pub const USER_NAMESPACE_IDS: u32 = 65_536;

/// One container about to be made.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// From the manifest.
    pub container: &'a Container,
    /// Its image.
    pub image: &'a Image,
    /// What [`super::environment`] gave.
    pub env: &'a [(String, String)],
    /// Mounts beyond the default ones; one at or above a default one replaces it.
    pub mounts: Vec<Mount>,
    /// Devices of `volumeDevices`.
    pub devices: Vec<Device>,
    /// Instances before this one.
    pub restart_count: u32,
}

/// A device that a container may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node in the container.
    pub node: LinuxDevice,
    /// Letters of `rwm`.
    pub access: &'static str,
}

/// The OCI configuration of a member; `root.path` is `rootfs`, in its bundle.
///
/// # Errors
/// `CreateContainerConfigError`, `CreateContainerError`.
pub fn spec(place: &Place<'_>, member: Member<'_>) -> Result<Spec, StartFailure> {
    let container = member.container;
    let privileged = is_privileged(container);
    let own = container.security_context.as_ref();
    let read_only = own.and_then(|own| own.read_only_root_filesystem) == Some(true);
    let capabilities = security::capability_mask(container, place.node)?;

    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(read_only));
    let process = process(place, &member, capabilities)?;
    let mut linux = linux(place, &member, capabilities)?;
    linux.set_rootfs_propagation(propagation(&member.mounts));
    if let Some(labels) = security::selinux(&place.manifest.pod, container) {
        linux.set_mount_label(Some(labels.mount));
    }
    let mut spec = empty();
    spec.set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(mounts(place, member.mounts, privileged)))
        .set_annotations(Some(annotations(place, container, member.restart_count)))
        .set_linux(Some(linux));
    Ok(spec)
}

/// A configuration without anything: oci-spec's default is one of a container.
pub(super) fn empty() -> Spec {
    let mut spec = Spec::default();
    spec.set_version(SPEC_VERSION.to_owned())
        .set_root(None)
        .set_mounts(None)
        .set_process(None)
        .set_hostname(None)
        .set_hooks(None)
        .set_annotations(None)
        .set_linux(None);
    spec
}

/// As [`empty`], of a process.
pub(super) fn empty_process() -> Process {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_env(None)
        .set_rlimits(None)
        .set_capabilities(None)
        .set_no_new_privileges(Some(false))
        .set_terminal(Some(false));
    process
}

/// As [`empty`], of what is Linux's own.
pub(super) fn empty_linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_namespaces(None)
        .set_resources(None)
        .set_devices(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    linux
}

fn process(
    place: &Place<'_>,
    member: &Member<'_>,
    capabilities: u64,
) -> Result<Process, StartFailure> {
    let (pod, container, image) = (&place.manifest.pod, member.container, member.image);
    let args = env::command(container, image, member.env)?;
    let given = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let cwd = given.unwrap_or(&image.working_dir);
    // Images have relative ones, too.
    let cwd = Path::new("/").join(cwd);
    for text in args.iter().chain(member.env.iter().map(|(_, value)| value)) {
        if text.contains('\0') {
            return Err(config_error("command, args and env must not hold a NUL byte"));
        }
    }
    let mut process = empty_process();
    process
        .set_user(users::user(pod, container, image)?)
        .set_args(Some(args))
        .set_env(Some(environment(place, member)?))
        .set_cwd(cwd)
        .set_terminal(Some(container.tty == Some(true)))
        .set_capabilities(Some(security::capability_sets(capabilities)))
        .set_no_new_privileges(Some(security::no_new_privileges(container)))
        .set_apparmor_profile(security::apparmor(pod, container)?)
        .set_selinux_label(security::selinux(pod, container).map(|labels| labels.process))
        .set_oom_score_adj(Some(qos::oom_score_adj(pod, container, place.node)));
    Ok(process)
}

/// The whole environment: HOSTNAME, then the image's, then the manifest's.
fn environment(place: &Place<'_>, member: &Member<'_>) -> Result<Vec<String>, StartFailure> {
    let kernel = hostname(&place.manifest.pod)?.kernel;
    let mut all = Variables::default();
    all.set("HOSTNAME", kernel.unwrap_or_else(|| place.node.name.clone()));
    if member.container.tty == Some(true) {
        all.set("TERM", "xterm");
    }
    for entry in &member.image.env {
        if let Some((name, value)) = entry.split_once('=') {
            all.set(name, value);
        }
    }
    for (name, value) in member.env {
        all.set(name, value);
    }
    if all.get("PATH").is_none() {
        all.set("PATH", PATH);
    }
    Ok(all.into_list().into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn linux(place: &Place<'_>, member: &Member<'_>, capabilities: u64) -> Result<Linux, StartFailure> {
    let (pod, container) = (&place.manifest.pod, member.container);
    let (masked, read_only) = security::hidden_paths(container, place.node);
    let own = format!("{}_{}", container.name, member.restart_count);
    let mut limits = resources::member_resources(pod, container, place.node);
    let devices = devices(member, &mut limits)?;
    let mut linux = empty_linux();
    linux
        .set_namespaces(Some(joined(place, is_privileged(container))))
        .set_cgroups_path(Some(place.dirs.container_cgroup(&own)))
        .set_resources(Some(limits))
        .set_devices((!devices.is_empty()).then_some(devices))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(read_only))
        .set_seccomp(security::seccomp(pod, container, place.dirs, capabilities)?);
    if let Some(base) = place.sandbox.user_namespace_base {
        let mappings = id_mappings(base);
        linux.set_uid_mappings(Some(mappings.clone())).set_gid_mappings(Some(mappings));
    }
    Ok(linux)
}

/// The ids of a pod with its own user namespace.
pub(super) fn id_mappings(base: u32) -> Vec<LinuxIdMapping> {
    let mapping = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(base);
    // With all of them given it cannot fail.
    mapping.size(USER_NAMESPACE_IDS).build().into_iter().collect()
}

/// A namespace, of the pause container or new.
pub(super) fn namespace(kind: Kind, of: Option<i32>) -> LinuxNamespace {
    let name = namespaces::of(kind).proc_name;
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(of.map(|pid| format!("/proc/{pid}/ns/{name}").into()));
    namespace
}

/// The namespaces of a member. What the host shares is not in the list.
fn joined(place: &Place<'_>, privileged: bool) -> Vec<LinuxNamespace> {
    let spec = pod_spec(&place.manifest.pod);
    let pause = Some(place.sandbox.pid);
    let mut all = vec![namespace(Kind::Mount, None)];
    if place.sandbox.user_namespace_base.is_some() {
        all.push(namespace(Kind::User, pause));
    }
    if spec.host_ipc != Some(true) {
        all.push(namespace(Kind::Ipc, pause));
    }
    if spec.host_network != Some(true) {
        all.push(namespace(Kind::Network, pause));
        all.push(namespace(Kind::Uts, pause));
    }
    if spec.host_pid != Some(true) {
        let shared = pause.filter(|_| spec.share_process_namespace == Some(true));
        all.push(namespace(Kind::Pid, shared));
    }
    if place.node.cgroups.unified && !privileged {
        all.push(namespace(Kind::Cgroup, None));
    }
    all
}

/// The device nodes of a member, and in its limits what it may use: nothing but what every
/// container has (the cgroup layer adds it) and what it is given.
fn devices(
    member: &Member<'_>,
    limits: &mut LinuxResources,
) -> Result<Vec<LinuxDevice>, StartFailure> {
    if is_privileged(member.container) {
        limits.set_devices(Some(vec![resources::all_devices()]));
        let mut all = node::devices().map_err(|error| create_error(error.to_string()))?;
        let given = member.devices.iter().map(|device| &device.node);
        all.retain(|one| given.clone().all(|mine| mine.path() != one.path()));
        all.extend(given.cloned());
        return Ok(all);
    }
    let mut deny = resources::all_devices();
    deny.set_allow(false);
    let mut rules = vec![deny];
    for device in &member.devices {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(device.node.typ()))
            .set_major(Some(device.node.major()))
            .set_minor(Some(device.node.minor()))
            .set_access(Some(device.access.to_owned()));
        rules.push(rule);
    }
    limits.set_devices(Some(rules));
    Ok(member.devices.iter().map(|device| device.node.clone()).collect())
}

/// A mount.
pub(super) fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// What every member has mounted, parents first. `/dev/shm` is the pod's, and comes with the
/// volumes.
fn default_mounts(spec: &PodSpec, node: &Node, privileged: bool) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    // A sysfs shows the network of whoever mounts it, who must own that network.
    let foreign = spec.host_network == Some(true) && spec.host_users == Some(false);
    let sys = match foreign {
        true => mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", access]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
    };
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
    ];
    if node.cgroups.unified || !node.cgroups.controllers.is_empty() {
        let options = ["nosuid", "noexec", "nodev", "relatime", access];
        all.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &options));
    }
    all
}

/// The default mounts and the given ones, these by depth. A default one at or below a given one is
/// left out: it would replace or be hidden by it.
fn mounts(place: &Place<'_>, mut given: Vec<Mount>, privileged: bool) -> Vec<Mount> {
    let spec = pod_spec(&place.manifest.pod);
    let depth = |mount: &Mount| {
        let parts = mount.destination().components();
        parts.filter(|part| matches!(part, Component::Normal(_))).count()
    };
    given.sort_by_key(depth);
    let mut all = default_mounts(&spec, place.node, privileged);
    let covered = |one: &Mount| {
        given
            .iter()
            .any(|mine| depth(mine) > 0 && one.destination().starts_with(mine.destination()))
    };
    all.retain(|one| !covered(one));
    all.extend(given);
    all
}

/// For mounts to reach the container, or the host, its root has to let them pass.
fn propagation(mounts: &[Mount]) -> Option<String> {
    let has = |words: [&str; 2]| {
        let options = mounts.iter().flat_map(|mount| mount.options().iter().flatten());
        options.clone().any(|option| words.contains(&option.as_str()))
    };
    match (has(["shared", "rshared"]), has(["slave", "rslave"])) {
        (true, _) => Some("rshared".to_owned()),
        (false, true) => Some("rslave".to_owned()),
        (false, false) => None,
    }
}

/// For people and for tools that look; nothing here comes from annotations of the manifest.
fn annotations(
    place: &Place<'_>,
    container: &Container,
    restart_count: u32,
) -> HashMap<String, String> {
    let mut all = pod_annotations(&place.manifest.pod);
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("io.kubernetes.cri.container-type", "container".to_owned());
    set("io.kubernetes.container.name", container.name.clone());
    set("io.kubernetes.container.restartCount", restart_count.to_string());
    set("carob.sandbox-id", place.sandbox.id.clone());
    all
}

/// Whose container it is.
pub(super) fn pod_annotations(pod: &k8s_openapi::api::core::v1::Pod) -> HashMap<String, String> {
    let meta = &pod.metadata;
    let named = [
        ("io.kubernetes.pod.name", &meta.name),
        ("io.kubernetes.pod.namespace", &meta.namespace),
        ("io.kubernetes.pod.uid", &meta.uid),
    ];
    named
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone().unwrap_or_default()))
        .collect()
}

/// What asks a container to end: its own `lifecycle.stopSignal`, else the image's, else TERM.
/// What is no signal is passed over.
#[must_use]
pub fn stop_signal(container: &Container, image: &Image) -> Signal {
    let own = container.lifecycle.as_ref().and_then(|hooks| hooks.stop_signal.as_deref());
    let given = own.into_iter().chain(image.stop_signal.as_deref());
    let mut signals = given.filter_map(|name| name.parse::<Signal>().ok());
    signals.find(|signal| signal.number() != 0).unwrap_or(Signal::TERM)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
pub(crate) mod tests;
