//! Ports of the machine that pods take: no two pods can have the same one.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::store::StoredPod;
use crate::error::{Error, Result};

/// A port of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostPort {
    /// Where the manifest asks for it.
    field: String,
    /// An address of the machine; `None` is all of them.
    ip: Option<String>,
    number: i32,
    protocol: String,
}

impl HostPort {
    fn overlaps(&self, other: &Self) -> bool {
        let same_ip = self.ip.is_none() || other.ip.is_none() || self.ip == other.ip;
        same_ip && self.number == other.number && self.protocol == other.protocol
    }
}

/// Refuses a pod that asks for a port that another one has: one that has not ended, since those that
/// are still to be started have been promised theirs. `state` is its own directory.
///
/// # Errors
/// [`Error::Config`] with the field and the name of the other pod.
pub(super) fn refuse_taken(root: &Path, pod: &Pod, state: &Path) -> Result<()> {
    let wanted = of(pod);
    // Most ask for none: the others need not be read.
    if wanted.is_empty() {
        return Ok(());
    }
    let has_not_ended = |other: &StoredPod| {
        let ended = other.record.as_ref().is_some_and(|record| record.ended.is_some());
        !ended && other.file.dirs.state != state
    };
    for other in StoredPod::list(root)?.into_iter().filter(has_not_ended) {
        let taken = of(&other.file.manifest.pod);
        let clash = wanted.iter().find(|port| taken.iter().any(|other| port.overlaps(other)));
        if let Some(HostPort { field, number, protocol, .. }) = clash {
            let namespace = other.file.manifest.pod.metadata.namespace.as_deref();
            let (namespace, name) = (namespace.unwrap_or("default"), other.file.name());
            let reason = format!("port {number} ({protocol}) is that of pod {namespace}/{name}");
            return Err(Error::config(field, reason));
        }
    }
    Ok(())
}

/// All that a pod asks for. In the machine's network its ports are the machine's.
fn of(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let on_host = spec.host_network == Some(true);
    let init = spec.init_containers.iter().flatten().enumerate();
    let sidecars = init.filter(|(_, own)| own.restart_policy.as_deref() == Some("Always"));
    let apps = spec.containers.iter().enumerate();
    let all =
        apps.map(|own| ("containers", own)).chain(sidecars.map(|own| ("initContainers", own)));
    all.flat_map(|(kind, (index, own))| ports(&format!("spec.{kind}[{index}]"), own, on_host))
        .collect()
}

fn ports(path: &str, container: &Container, on_host: bool) -> Vec<HostPort> {
    let ports = container.ports.iter().flatten().enumerate();
    let host_port = |(index, port): (usize, &k8s_openapi::api::core::v1::ContainerPort)| {
        let own = on_host.then_some(port.container_port);
        let number = port.host_port.filter(|number| *number != 0).or(own)?;
        let is_address = |ip: &String| !matches!(ip.as_str(), "" | "0.0.0.0" | "::");
        Some(HostPort {
            field: format!(
                "{path}.ports[{index}].{}",
                if on_host { "containerPort" } else { "hostPort" }
            ),
            ip: port.host_ip.clone().filter(is_address),
            number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        })
    };
    ports.filter_map(host_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ports(spec: Value) -> Vec<HostPort> {
        of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    fn one(port: Value) -> HostPort {
        ports(json!({"containers": [{"name": "c", "ports": [port]}]})).remove(0)
    }

    #[test]
    fn which_ports_a_pod_takes() {
        let spec = json!({
            "initContainers": [
                {"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}],
            "containers": [{"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 8081}]}],
        });
        let fields = |ports: Vec<HostPort>| {
            let one = |port: HostPort| format!("{} {}/{}", port.field, port.number, port.protocol);
            ports.into_iter().map(one).collect::<Vec<_>>()
        };
        let expected = [
            "spec.containers[0].ports[1].hostPort 8081/TCP",
            "spec.initContainers[1].ports[0].hostPort 5353/UDP",
        ];
        assert_eq!(fields(ports(spec)), expected);
        let host = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]});
        assert_eq!(fields(ports(host)), ["spec.containers[0].ports[0].containerPort 80/TCP"]);
    }

    #[test]
    fn which_ports_are_the_same() {
        let plain = one(json!({"containerPort": 80, "hostPort": 80}));
        for (port, overlaps) in [
            (json!({"containerPort": 90, "hostPort": 80}), true),
            (json!({"containerPort": 80, "hostPort": 81}), false),
            (json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}), false),
            (json!({"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}), true),
            (json!({"containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0"}), true),
        ] {
            assert_eq!(plain.overlaps(&one(port.clone())), overlaps, "{port}");
        }
        let at = |ip: &str| one(json!({"containerPort": 80, "hostPort": 80, "hostIP": ip}));
        assert!(!at("127.0.0.1").overlaps(&at("127.0.0.2")));
        assert!(at("127.0.0.1").overlaps(&at("127.0.0.1")) && at("::").overlaps(&at("127.0.0.1")));
    }
}
