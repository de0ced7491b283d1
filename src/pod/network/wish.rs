//! What a pod asks of its network: ports, limits, addresses. Pure.
//!
//! Source: CNI CONVENTIONS.md for the shapes of values; kubelet and containerd for where they come
//! from.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Map, Value, json};

use super::list::check_name;
use crate::error::{Error, Result};
use crate::pod::member::quantity::Quantity;

/// Annotation: the network's name, or `none`.
pub const NETWORK: &str = "carob/network";
/// Annotation: addresses that the pod is to have, with commas; with a prefix if the plugin wants it.
pub const IPS: &str = "carob/ips";
/// Annotation: the hardware address that the pod is to have.
pub const MAC: &str = "carob/mac";
/// Annotation: how long all plugins together may take.
pub const TIMEOUT: &str = "carob/network-timeout";
/// The kubelet's annotations, bits per second.
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// See [`INGRESS`].
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// A DHCP server may be slow.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const TIMEOUT_SHORTEST: Duration = Duration::from_millis(100);
/// Source: kubelet `pkg/util/bandwidth`.
const LEAST_RATE: i64 = 1_000;
const MOST_RATE: i64 = 1_000_000_000_000_000;
/// Bits: as good as none, but it has to be given. Source: containerd.
const BURST: u32 = u32::MAX;

/// Which network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The machine's first, or the built-in one.
    Default,
    /// A loopback device only.
    None,
    /// That of this name.
    Named(String),
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Which network.
    pub choice: Choice,
    /// How long the plugins may take.
    pub timeout: Duration,
    /// Values of capabilities, without which it does not want to be: with the field that asks.
    demands: Vec<(&'static str, String, Value)>,
}

impl Wish {
    /// Reads it from a pod.
    ///
    /// # Errors
    /// [`Error::Config`] for an annotation that is wrong.
    pub fn of(pod: &Pod) -> Result<Self> {
        let annotation = |key: &str| pod.metadata.annotations.as_ref()?.get(key);
        let choice = match annotation(NETWORK).map(String::as_str) {
            None => Choice::Default,
            Some("none") => Choice::None,
            Some("host") => {
                let reason = "\"host\" must be written as spec.hostNetwork: true";
                return Err(wrong(NETWORK, reason));
            }
            Some(name) => {
                check_name(name).map_err(|error| wrong(NETWORK, &reason_of(error)))?;
                Choice::Named(name.to_owned())
            }
        };
        let timeout = annotation(TIMEOUT).map_or(Ok(TIMEOUT_DEFAULT), |text| {
            let parsed = humantime::parse_duration(text).ok();
            parsed.filter(|limit| *limit >= TIMEOUT_SHORTEST).ok_or_else(|| {
                wrong(TIMEOUT, &format!("{text:?} must be a duration of at least 100ms, like 30s"))
            })
        })?;
        let mut demands = Vec::new();
        demands.extend(ports(pod));
        demands.extend(bandwidth(annotation(INGRESS), annotation(EGRESS))?);
        if let Some(text) = annotation(IPS) {
            demands.push(("ips", field(IPS), json!(ips(text)?)));
        }
        if let Some(text) = annotation(MAC) {
            if !is_mac(text) {
                let reason = format!("{text:?} must be a hardware address, like 02:00:00:00:00:07");
                return Err(wrong(MAC, &reason));
            }
            demands.push(("mac", field(MAC), json!(text)));
        }
        Ok(Self { choice, timeout, demands })
    }

    /// The capabilities that its network must have, each with the field that asks for it.
    pub fn demands(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.demands.iter().map(|(capability, field, _)| (*capability, field.as_str()))
    }

    /// Whether it asks for a capability.
    #[must_use]
    pub fn wants(&self, capability: &str) -> bool {
        self.demands().any(|(known, _)| known == capability)
    }

    /// The values of capabilities.
    #[must_use]
    pub fn values(&self) -> Map<String, Value> {
        let pairs = self.demands.iter();
        pairs.map(|(capability, _, value)| ((*capability).to_owned(), value.clone())).collect()
    }
}

/// Ports of the machine, of app containers and sidecars.
fn ports(pod: &Pod) -> Option<(&'static str, String, Value)> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten().enumerate();
    let sidecars = init.filter(|(_, own)| own.restart_policy.as_deref() == Some("Always"));
    let path = |kind: &str, (index, own): (usize, &Container)| {
        (format!("spec.{kind}[{index}].ports"), own.ports.clone().unwrap_or_default())
    };
    let apps = spec.containers.iter().enumerate().map(|own| path("containers", own));
    let all = apps.chain(sidecars.map(|own| path("initContainers", own)));
    let mut first = None;
    let mut mappings = Vec::new();
    for (path, ports) in all {
        for (index, port) in ports.iter().enumerate() {
            let Some(host_port) = port.host_port.filter(|number| *number != 0) else { continue };
            first.get_or_insert_with(|| format!("{path}[{index}].hostPort"));
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let mut mapping = json!({
                "hostPort": host_port, "containerPort": port.container_port, "protocol": protocol,
            });
            if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
                mapping["hostIP"] = json!(ip);
            }
            mappings.push(mapping);
        }
    }
    Some(("portMappings", first?, Value::Array(mappings)))
}

fn bandwidth(
    ingress: Option<&String>,
    egress: Option<&String>,
) -> Result<Option<(&'static str, String, Value)>> {
    let mut limits = Map::new();
    let mut first = None;
    for (key, text, name) in [(INGRESS, ingress, "ingress"), (EGRESS, egress, "egress")] {
        let Some(text) = text else { continue };
        let rate = Quantity::parse(text).map(Quantity::value);
        let rate = rate.filter(|rate| (LEAST_RATE..=MOST_RATE).contains(rate));
        let rate = rate.ok_or_else(|| {
            wrong(key, &format!("{text:?} must be a quantity of bits per second from 1k to 1P"))
        })?;
        limits.insert(format!("{name}Rate"), json!(rate));
        limits.insert(format!("{name}Burst"), json!(BURST));
        first.get_or_insert_with(|| field(key));
    }
    Ok(first.map(|first| ("bandwidth", first, Value::Object(limits))))
}

fn ips(text: &str) -> Result<Vec<String>> {
    let is_address = |word: &str| {
        let (ip, prefix) = word.split_once('/').map_or((word, None), |(ip, n)| (ip, Some(n)));
        let Ok(ip) = ip.parse::<IpAddr>() else { return false };
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|bits| bits <= longest))
    };
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    match words.iter().find(|word| !is_address(word)) {
        Some(bad) => Err(wrong(IPS, &format!("{bad:?} must be an address, like 10.0.0.7/16"))),
        None => Ok(words),
    }
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() == 6 && parts.iter().all(is_byte)
}

fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

fn wrong(key: &str, reason: &str) -> Error {
    Error::config(field(key), reason)
}

fn reason_of(error: Error) -> String {
    match error {
        Error::Config { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: Value, spec: Value) -> Pod {
        let metadata = json!({"name": "p", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn ports_of_what_stays_are_published() {
        let spec = json!({
            "initContainers": [
                {"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]},
                {"name": "s", "restartPolicy": "Always",
                    "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}],
            "containers": [
                {"name": "a", "ports": [{"containerPort": 90}, {"containerPort": 91, "hostPort": 0}]},
                {"name": "b", "ports": [
                    {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}]}],
        });
        let wish = Wish::of(&pod(json!({}), spec)).unwrap();
        assert_eq!(
            wish.demands().collect::<Vec<_>>(),
            [("portMappings", "spec.containers[1].ports[0].hostPort")]
        );
        assert_eq!(
            Value::Object(wish.values()),
            json!({"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]})
        );
    }

    #[test]
    fn annotations() {
        let of = |annotations: Value| Wish::of(&pod(annotations, json!({"containers": []})));
        let wish = of(json!({
            "carob/network": "db", "carob/ips": "10.0.0.7/16, fd00::7", "carob/mac": "02:00:00:00:00:0A",
            "carob/network-timeout": "5s", "kubernetes.io/egress-bandwidth": "10M",
        }))
        .unwrap();
        assert_eq!(wish.choice, Choice::Named("db".into()));
        assert_eq!(wish.timeout, Duration::from_secs(5));
        assert_eq!(
            Value::Object(wish.values()),
            json!({"ips": ["10.0.0.7/16", "fd00::7"], "mac": "02:00:00:00:00:0A",
                "bandwidth": {"egressRate": 10_000_000, "egressBurst": 4_294_967_295_u32}})
        );
        assert_eq!(of(json!({"carob/network": "none"})).unwrap().choice, Choice::None);
        let plain = of(json!({})).unwrap();
        assert_eq!((plain.choice.clone(), plain.values().len()), (Choice::Default, 0));
        for (key, value) in [
            (NETWORK, "host"),
            (NETWORK, "../x"),
            (NETWORK, ""),
            (IPS, "10.0.0.7/33"),
            (IPS, "10.0.0.7,"),
            (MAC, "02:00:00:00:00"),
            (MAC, "02:00:00:00:00:zz"),
            (TIMEOUT, "1ms"),
            (TIMEOUT, "soon"),
            (INGRESS, "1"),
            (EGRESS, "2P"),
        ] {
            let error = of(json!({key: value})).unwrap_err();
            assert!(
                matches!(&error, Error::Config { field, .. } if field.contains(key)),
                "{key}: {value}: {error}"
            );
        }
    }
}
