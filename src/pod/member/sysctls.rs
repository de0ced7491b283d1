//! Kernel parameters of a pod: which are allowed, and which every pod gets.
//!
//! Source: the kubelet's safe list; containerd's `enable_unprivileged_ports` and
//! `enable_unprivileged_icmp`, both on.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use oci_spec::runtime::LinuxNamespaceType;

use super::{StartFailure, failure, pod_spec};
use crate::oci::sysctl;

/// Separate for each pod, and of no harm to its neighbours.
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Of a pod with a network of its own: any port, any ping.
const PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");
/// See [`PORTS`]. The range holds ids that a user namespace does not have.
const PING: (&str, &str) = ("net.ipv4.ping_group_range", "0 2147483647");

/// Whether the pod may have what it asks for.
///
/// # Errors
/// `SysctlForbidden`.
pub fn check(pod: &Pod) -> Result<(), StartFailure> {
    let spec = pod_spec(pod);
    for (name, value) in given(&spec) {
        let forbid = |why: &str| {
            Err(failure("SysctlForbidden", format!("forbidden sysctl: {name:?} {why}")))
        };
        let Some(path) = sysctl::path(&name).filter(|_| SAFE.contains(&name.as_str())) else {
            return forbid("not allowlisted");
        };
        match sysctl::namespace(&path) {
            Some(LinuxNamespaceType::Network) if spec.host_network == Some(true) => {
                return forbid("not allowed with host net enabled");
            }
            Some(LinuxNamespaceType::Ipc) if spec.host_ipc == Some(true) => {
                return forbid("not allowed with host ipc enabled");
            }
            _ => {}
        }
        // What could be read as another parameter by whoever handles it (CVE-2022-0811).
        if value.chars().any(|c| c.is_control() && c != '\t' || matches!(c, '+' | '=')) {
            return forbid("has a value that is no plain text");
        }
    }
    Ok(())
}

/// Names with dots, and values.
fn given(spec: &PodSpec) -> impl Iterator<Item = (String, String)> {
    let context = spec.security_context.as_ref();
    let all = context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    all.map(|one| {
        let name = sysctl::path(&one.name).map(|path| sysctl::key(&path));
        (name.unwrap_or_else(|| one.name.clone()), one.value.clone())
    })
}

/// The parameters of a sandbox: those of every pod, then its own.
pub(super) fn of_sandbox(spec: &PodSpec, in_user_namespace: bool) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let mut set = |(name, value): (&str, &str)| all.insert(name.to_owned(), value.to_owned());
    if spec.host_network != Some(true) {
        set(PORTS);
        if !in_user_namespace {
            set(PING);
        }
    }
    all.extend(given(spec));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, value: &str, host: &str) -> Pod {
        serde_json::from_value(json!({"spec": {
            "containers": [], host: true,
            "securityContext": {"sysctls": [{"name": name, "value": value}]}}}))
        .unwrap()
    }

    #[test]
    fn allowed_and_forbidden() {
        for (name, value, host, expected) in [
            ("net.ipv4.tcp_syncookies", "1", "", None),
            ("net/ipv4/tcp_syncookies", "1", "", None),
            ("net.ipv4.tcp_rmem", "4096\t87380 6291456", "", None),
            ("kernel.shm_rmid_forced", "1", "hostNetwork", None),
            ("net.ipv4.tcp_syncookies", "1", "hostIPC", None),
            ("kernel.msgmax", "1", "", Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted")),
            ("kernel.core_pattern", "|/x", "", Some("not allowlisted")),
            ("net.core.somaxconn", "1", "", Some("not allowlisted")),
            ("net.ipv4.../kernel", "1", "", Some("not allowlisted")),
            ("", "1", "", Some("not allowlisted")),
            (
                "net/ipv4/tcp_syncookies",
                "1",
                "hostNetwork",
                Some("\"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
            ),
            ("kernel.shm_rmid_forced", "1", "hostIPC", Some("not allowed with host ipc enabled")),
            (
                "net.ipv4.tcp_syncookies",
                "1\nkernel.core_pattern=|/x",
                "",
                Some("has a value that is no plain text"),
            ),
            (
                "net.ipv4.tcp_syncookies",
                "1+kernel.core_pattern=x",
                "",
                Some("has a value that is no plain text"),
            ),
        ] {
            match (check(&pod(name, value, host)), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => {
                    assert_eq!(error.reason, "SysctlForbidden");
                    assert!(error.message.contains(text), "{name}: {}", error.message);
                }
                (found, _) => panic!("{name} {value} {host}: {found:?}"),
            }
        }
    }

    #[test]
    fn of_every_sandbox() {
        let of = |host: &str, user: bool| {
            let pod = pod("net/ipv4/ping_group_range", "1 2", host);
            let mut all: Vec<_> = of_sandbox(&pod_spec(&pod), user).into_iter().collect();
            all.sort();
            all
        };
        let own = ("net.ipv4.ping_group_range".to_owned(), "1 2".to_owned());
        let ports = (PORTS.0.to_owned(), PORTS.1.to_owned());
        assert_eq!(of("", false), [ports.clone(), own.clone()]);
        assert_eq!(of("", true), [ports, own.clone()]);
        assert_eq!(of("hostNetwork", false), [own]);
        let plain = of_sandbox(&PodSpec::default(), false);
        assert_eq!(plain.get(PING.0).map(String::as_str), Some(PING.1));
        assert!(!of_sandbox(&PodSpec::default(), true).contains_key(PING.0));
    }
}
