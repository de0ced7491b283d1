//! What a member may do: capabilities, seccomp, AppArmor, SELinux, hidden parts of procfs.
//!
//! Source: Kubernetes, *Configure a Security Context*; containerd's defaults.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use caps::Capability as Cap;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, SELinuxOptions, SeccompProfile, SecurityContext,
};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, LinuxSeccomp};

use super::{
    Node, StartFailure, config_error, create_error, failure, node, pod_spec, resources,
    seccomp_default, sysctls,
};
use crate::error::{Error, OsContext};
use crate::oci::capabilities;
use crate::pod::store::PodDirs;
use crate::sys::fd::read_bounded;

/// What a container has that asks for nothing.
const DEFAULT_CAPABILITIES: &[Cap] = &[
    Cap::CAP_AUDIT_WRITE,
    Cap::CAP_CHOWN,
    Cap::CAP_DAC_OVERRIDE,
    Cap::CAP_FOWNER,
    Cap::CAP_FSETID,
    Cap::CAP_KILL,
    Cap::CAP_MKNOD,
    Cap::CAP_NET_BIND_SERVICE,
    Cap::CAP_NET_RAW,
    Cap::CAP_SETFCAP,
    Cap::CAP_SETGID,
    Cap::CAP_SETPCAP,
    Cap::CAP_SETUID,
    Cap::CAP_SYS_CHROOT,
];

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Largest seccomp profile that is read, bytes.
const MAX_PROFILE: u64 = 16 << 20;

/// Whether a container is privileged.
pub(crate) fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|own| own.privileged) == Some(true)
}

/// `allowPrivilegeEscalation: false`.
pub(super) fn no_new_privileges(container: &Container) -> bool {
    let own = container.security_context.as_ref();
    own.and_then(|own| own.allow_privilege_escalation) == Some(false)
}

/// The capabilities of a container, as the kernel's mask.
///
/// # Errors
/// `CreateContainerError` for a name that is none.
pub fn capability_mask(container: &Container, node: &Node) -> Result<u64, StartFailure> {
    if is_privileged(container) {
        return Ok(node.capabilities);
    }
    let own = container.security_context.as_ref();
    let given = own.and_then(|own| own.capabilities.clone()).unwrap_or_default();
    let (add, drop) = (given.add.unwrap_or_default(), given.drop.unwrap_or_default());
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut mask = DEFAULT_CAPABILITIES.iter().fold(0, |mask, cap| mask | cap.bitmask());
    if add.iter().any(is_all) {
        mask = node.capabilities;
    }
    if drop.iter().any(is_all) {
        mask = 0;
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        mask |= bit(name, "add")?;
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        mask &= !bit(name, "drop")?;
    }
    Ok(mask)
}

fn bit(name: &str, to: &str) -> Result<u64, StartFailure> {
    let full = format!("CAP_{}", name.to_ascii_uppercase());
    let found = capabilities::from_name(&full).map(|cap| cap.bitmask());
    found.ok_or_else(|| {
        create_error(format!("unknown capability {name:?} to {to}; names are without CAP_"))
    })
}

/// The sets of a process. Ambient and inheritable ones are empty: who is not root has none.
#[must_use]
pub fn capability_sets(mask: u64) -> LinuxCapabilities {
    let names = capabilities::in_mask(mask);
    let set: Capabilities =
        names.filter_map(|name| name.strip_prefix("CAP_")?.parse().ok()).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

/// A field of the container, else of the pod.
fn chosen<T>(
    pod: &Pod,
    container: &Container,
    own: fn(&SecurityContext) -> Option<&T>,
    of_pod: fn(&k8s_openapi::api::core::v1::PodSecurityContext) -> Option<&T>,
) -> Option<T>
where
    T: Clone,
{
    let spec = pod_spec(pod);
    let mine = container.security_context.as_ref().and_then(own);
    mine.or_else(|| spec.security_context.as_ref().and_then(of_pod)).cloned()
}

/// The filter of a container: none unless it asks for one, and none if it is privileged.
///
/// # Errors
/// `CreateContainerConfigError` for a profile that cannot be meant, `CreateContainerError` for one
/// that is not there, cannot be read or says nothing (CVE-2023-2431).
pub fn seccomp(
    pod: &Pod,
    container: &Container,
    dirs: &PodDirs,
    capabilities: u64,
) -> Result<Option<LinuxSeccomp>, StartFailure> {
    let asked: Option<SeccompProfile> = chosen(
        pod,
        container,
        |own| own.seccomp_profile.as_ref(),
        |of_pod| of_pod.seccomp_profile.as_ref(),
    );
    let Some(asked) = asked.filter(|_| !is_privileged(container)) else { return Ok(None) };
    match asked.type_.as_str() {
        "Unconfined" => Ok(None),
        "RuntimeDefault" => Ok(Some(seccomp_default::profile(capabilities))),
        "Localhost" => match asked.localhost_profile.as_deref() {
            None | Some("") => Err(config_error(
                "localhostProfile must be set if seccompProfile type is Localhost.",
            )),
            Some(name) => localhost(dirs, name).map(Some),
        },
        other => Err(config_error(format!(
            "seccompProfile type {other:?}, allowed are Localhost, RuntimeDefault, Unconfined"
        ))),
    }
}

/// A profile of `<data root>/seccomp`.
fn localhost(dirs: &PodDirs, name: &str) -> Result<LinuxSeccomp, StartFailure> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let root = dirs.data.parent().and_then(Path::parent);
    let (Some(root), true) = (root, inside) else {
        return Err(config_error(format!(
            "localhostProfile {name:?} must be a relative path without \"..\""
        )));
    };
    let path = root.join("seccomp").join(name);
    let refuse = |why: &dyn std::fmt::Display| {
        create_error(format!("seccomp profile {name:?} ({}): {why}", path.display()))
    };
    let text = read_regular(&path).map_err(|error| refuse(&error))?;
    serde_json::from_slice(&text).map_err(|error| refuse(&error))
}

/// Reads a file that is one: a FIFO would wait.
fn read_regular(path: &Path) -> crate::error::Result<Vec<u8>> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = open.os("open", || path.display())?;
    if !file.metadata().os("stat", || path.display())?.is_file() {
        return Err(Error::Invalid("must be a regular file".to_owned()));
    }
    read_bounded(file, MAX_PROFILE, &path.display())
}

fn asked_apparmor(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let asked: Option<AppArmorProfile> = chosen(
        pod,
        container,
        |own| own.app_armor_profile.as_ref(),
        |of_pod| of_pod.app_armor_profile.as_ref(),
    );
    asked.filter(|asked| asked.type_ != "Unconfined")
}

fn asked_selinux(pod: &Pod, container: &Container) -> Option<SELinuxOptions> {
    chosen(
        pod,
        container,
        |own| own.se_linux_options.as_ref(),
        |of_pod| of_pod.se_linux_options.as_ref(),
    )
}

/// The AppArmor profile of a container.
///
/// # Errors
/// `CreateContainerError` if the kernel does not have it.
pub fn apparmor(pod: &Pod, container: &Container) -> Result<Option<String>, StartFailure> {
    let Some(asked) = asked_apparmor(pod, container) else { return Ok(None) };
    if asked.type_ != "Localhost" {
        // Only a privileged one comes here: see `admit`.
        return Ok(None);
    }
    let name = asked.localhost_profile.unwrap_or_default();
    match !name.is_empty() && node::has_apparmor_profile(&name) {
        true => Ok(Some(name)),
        false => Err(create_error(format!("apparmor profile not found {name}"))),
    }
}

/// Labels for SELinux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Of processes.
    pub process: String,
    /// Of files.
    pub mount: String,
}

/// The labels of a container; none unless it asks for them.
#[must_use]
pub fn selinux(pod: &Pod, container: &Container) -> Option<Labels> {
    let asked = asked_selinux(pod, container)?;
    let or = |value: Option<String>, default: &str| {
        value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let usual = if is_privileged(container) { "spc_t" } else { "container_t" };
    let (user, level) = (or(asked.user, "system_u"), or(asked.level, "s0"));
    let (role, kind) = (or(asked.role, "system_r"), or(asked.type_, usual));
    Some(Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        mount: format!("system_u:object_r:container_file_t:{level}"),
    })
}

/// Whether this machine can run the pod at all: sysctls, AppArmor, SELinux, procMount.
///
/// # Errors
/// With a reason for `status.reason`: `SysctlForbidden`, `AppArmor`, `SELinux`,
/// `UnexpectedAdmissionError`.
pub fn admit(pod: &Pod, node: &Node) -> Result<(), StartFailure> {
    sysctls::check(pod)?;
    let spec = pod_spec(pod);
    for container in resources::all_containers(&spec) {
        if let Some(asked) = asked_apparmor(pod, container) {
            if !node.apparmor {
                let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
                return Err(failure("AppArmor", text));
            }
            if asked.type_ == "RuntimeDefault" && !is_privileged(container) {
                let text = "Cannot enforce AppArmor: there is no RuntimeDefault profile, use \
                            Localhost with a profile of the host";
                return Err(failure("AppArmor", text));
            }
        }
        if asked_selinux(pod, container).is_some() && !node.selinux {
            let text = "Cannot enforce SELinux: SELinux is not enabled on the host";
            return Err(failure("SELinux", text));
        }
        if is_unmasked(container) && spec.host_users != Some(false) {
            let text =
                format!("container {}: procMount Unmasked needs hostUsers: false", container.name);
            return Err(failure("UnexpectedAdmissionError", text));
        }
    }
    Ok(())
}

fn is_unmasked(container: &Container) -> bool {
    let own = container.security_context.as_ref();
    own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked")
}

/// What of procfs and sysfs a container does not see, and what it cannot change.
pub(super) fn hidden_paths(container: &Container, node: &Node) -> (Vec<String>, Vec<String>) {
    if is_privileged(container) || is_unmasked(container) {
        return (Vec::new(), Vec::new());
    }
    let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let mut masked: Vec<String> = list(MASKED);
    let throttled = if node.thermal_throttle { node.cpus } else { 0 };
    masked.extend(
        (0..throttled).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")),
    );
    (masked, list(READ_ONLY))
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
