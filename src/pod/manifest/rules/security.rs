//! Security contexts and kernel parameters.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Pod, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};
use oci_spec::runtime::LinuxNamespaceType;

use super::super::problem::Problems;
use super::{containers, list, relative_path};
use crate::oci::sysctl;

const MAX_SYSCTL: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Annotations that once confined containers, up to the name of a container.
const APP_ARMOR_OF: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// Refuses annotations that ask for a confinement which no field asks for: it would be missing.
pub(super) fn annotations(pod: &Pod, spec: &PodSpec, problems: &mut Problems) {
    let context = spec.security_context.as_ref();
    let seccomp = context.is_some_and(|context| context.seccomp_profile.is_some());
    let app_armor = context.is_some_and(|context| context.app_armor_profile.is_some());
    let own = |name: &str, has: fn(&SecurityContext) -> bool| {
        let mut all = containers(spec).filter(|(_, container)| container.name == name);
        all.any(|(_, container)| container.security_context.as_ref().is_some_and(has))
    };
    for key in pod.metadata.annotations.iter().flatten().map(|(key, _)| key) {
        let (field, given) = if let Some(name) = key.strip_prefix(APP_ARMOR_OF) {
            ("appArmorProfile", app_armor || own(name, |own| own.app_armor_profile.is_some()))
        } else if let Some(name) = key.strip_prefix(SECCOMP_OF) {
            ("seccompProfile", seccomp || own(name, |own| own.seccomp_profile.is_some()))
        } else if key == SECCOMP {
            ("seccompProfile", seccomp)
        } else {
            continue;
        };
        if !given {
            let detail = format!("has no effect; set securityContext.{field} instead");
            problems.forbidden(&format!("metadata.annotations[{key}]"), detail);
        }
    }
}

/// Checks what a pod sets for all its containers.
pub(super) fn pod(spec: &PodSpec, problems: &mut Problems) {
    let Some(context) = &spec.security_context else { return };
    let path = "spec.securityContext";
    profiles(path, &context.seccomp_profile, &context.app_armor_profile, problems);
    let mut seen = HashSet::new();
    for (index, parameter) in list(&context.sysctls).iter().enumerate() {
        let path = format!("{path}.sysctls[{index}]");
        let name = parameter.name.replace('/', ".");
        if !name.is_empty() && !seen.insert(name.clone()) {
            problems.duplicate(&format!("{path}.name"), &parameter.name);
        }
        self::sysctl(&path, parameter, &name, spec, problems);
    }
}

/// Whether a parameter is safe for the neighbours of the pod is decided when it is started.
fn sysctl(path: &str, given: &Sysctl, name: &str, spec: &PodSpec, problems: &mut Problems) {
    if name.is_empty() {
        return;
    }
    let at = format!("{path}.name");
    let namespace = sysctl::path(name).and_then(|path| sysctl::namespace(&path));
    match namespace {
        _ if !is_sysctl(name) => {
            let detail =
                format!("must have at most {MAX_SYSCTL} characters and match regex {SYSCTL}");
            problems.invalid(&at, &given.name, detail);
        }
        None => {
            let detail = format!("forbidden sysctl: {name:?} belongs to the whole machine");
            problems.forbidden(&at, detail);
        }
        Some(LinuxNamespaceType::Network) if spec.host_network == Some(true) => {
            problems.invalid(&at, &given.name, "may not be specified when 'hostNetwork' is true");
        }
        Some(LinuxNamespaceType::Ipc) if spec.host_ipc == Some(true) => {
            problems.invalid(&at, &given.name, "may not be specified when 'hostIPC' is true");
        }
        Some(_) => {}
    }
    if given.value.chars().any(|c| c.is_control() && c != '\t') {
        let detail = "must be one line without control characters";
        problems.invalid(&format!("{path}.value"), &given.value, detail);
    }
}

fn is_sysctl(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_SYSCTL
        && name.split('.').all(|part| {
            part.bytes().all(|b| inner(b) || b == b'-' || b == b'_')
                && part.bytes().next().is_some_and(inner)
                && part.bytes().last().is_some_and(inner)
        })
}

/// Checks a container's own.
pub(super) fn container(
    path: &str,
    context: &SecurityContext,
    spec: &PodSpec,
    problems: &mut Problems,
) {
    profiles(path, &context.seccomp_profile, &context.app_armor_profile, problems);
    if context.allow_privilege_escalation == Some(false) {
        let at = format!("{path}.allowPrivilegeEscalation");
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            problems.invalid(&at, false, detail);
        }
        let added = context.capabilities.as_ref().map_or(&[][..], |set| list(&set.add));
        if added.iter().any(|name| name == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            problems.invalid(&at, false, detail);
        }
    }
    if context.proc_mount.as_deref() == Some("Unmasked") && spec.host_users != Some(false) {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        problems.invalid(&format!("{path}.procMount"), "Unmasked", detail);
    }
}

fn profiles(
    path: &str,
    seccomp: &Option<SeccompProfile>,
    app_armor: &Option<AppArmorProfile>,
    problems: &mut Problems,
) {
    if let Some(profile) = seccomp {
        let path = format!("{path}.seccompProfile.localhostProfile");
        let file = profile.localhost_profile.as_deref();
        localhost(&path, &profile.type_, file, "seccomp", problems);
        relative_path(problems, &path, file.unwrap_or_default());
    }
    if let Some(profile) = app_armor {
        let path = format!("{path}.appArmorProfile.localhostProfile");
        let name = profile.localhost_profile.as_deref();
        localhost(&path, &profile.type_, name, "AppArmor", problems);
        if let Some(name) = name.filter(|name| name.trim() != *name) {
            problems.invalid(&path, name, "must not be padded with whitespace");
        }
    }
}

fn localhost(path: &str, kind: &str, name: Option<&str>, what: &str, problems: &mut Problems) {
    match (kind, name) {
        ("Localhost", None | Some("")) => {
            problems.required(path, &format!("must be set when {what} type is Localhost"));
        }
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(name)) => {
            problems.invalid(path, name, format!("can only be set when {what} type is Localhost"));
        }
    }
}
