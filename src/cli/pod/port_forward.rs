//! `pod port-forward`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::choice::PodChoice;
use crate::cli::{Context, Verb, output};
use crate::error::{Error, Result};
use crate::log;
use crate::pod::forward::{self, Forward, Told};
use crate::pod::store::StoredPod;

/// Pass local TCP ports on into a pod, until Ctrl-C or the pod's end
///
/// Connections reach what listens on the pod's loopback device or on all of its addresses. Nothing
/// of the machine's network is changed, and the pod needs no network of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PortForward {
    #[command(flatten)]
    pod: PodChoice,
    /// Ports: the same here as in the pod, a local one and one of the pod, or, with nothing before
    /// the colon, a local one that is free; the pod's can be a name in its manifest
    #[arg(value_name = "[LOCAL:]REMOTE", required = true)]
    ports: Vec<String>,
    /// Local addresses to listen on: IP addresses, or localhost, which is 127.0.0.1 and ::1
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  carob pod port-forward web 8080:80            http://localhost:8080 is port 80 of the pod
  carob pod port-forward web 8080:http 9090     several, one by its name
  carob pod port-forward web :80                any port that is free
  carob pod port-forward --address 0.0.0.0 web 8080:80";

impl Verb for PortForward {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let ports = self.ports.iter().map(|text| port(&pod, text)).collect::<Result<Vec<_>>>()?;
        let addresses = addresses(&self.address)?;
        forward::forward(&context.runtime, &pod, &addresses, &ports, tell)?;
        Ok(0)
    }
}

/// kubectl's lines.
fn tell(told: Told) -> Result<()> {
    match told {
        Told::Listens(address, port) => {
            output::print(&format!("Forwarding from {address} -> {}\n", port.remote))
        }
        Told::Accepted(port) => output::print(&format!("Handling connection for {}\n", port.local)),
        Told::Failed(port, why) => {
            let Forward { local, remote } = port;
            log::error(format_args!("an error occurred forwarding {local} -> {remote}: {why}"));
            Ok(())
        }
    }
}

fn addresses(given: &[String]) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for text in given {
        if text == "localhost" {
            addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
            continue;
        }
        let Ok(address) = text.parse() else {
            return Err(Error::Invalid(format!(
                "--address {text:?}: must be an IP address or localhost"
            )));
        };
        addresses.push(address);
    }
    Ok(addresses)
}

fn port(pod: &StoredPod, text: &str) -> Result<Forward> {
    let (local, remote) = text.split_once(':').map_or((None, text), |(l, r)| (Some(l), r));
    let number = |word: &str| word.parse::<u16>().ok().filter(|port| *port != 0);
    let bad = |word: &str| {
        Error::Invalid(format!("port {text:?}: {word:?} must be a number from 1 to 65535"))
    };
    let remote = match number(remote) {
        Some(port) => port,
        None => named(pod, remote)
            .ok_or_else(|| Error::Invalid(format!("{}, or {}", bad(remote), names(pod))))?,
    };
    let local = match local {
        None => remote,
        Some("" | "0") => 0,
        Some(word) => number(word).ok_or_else(|| bad(word))?,
    };
    Ok(Forward { local, remote })
}

/// The ports of the manifest that have names.
fn all_named(pod: &StoredPod) -> impl Iterator<Item = (&str, u16)> {
    let spec = pod.file.manifest.pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let apps = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let ports = apps.iter().chain(init).flat_map(|container| container.ports.iter().flatten());
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|one| one == "TCP"));
    tcp.filter_map(|port| Some((port.name.as_deref()?, u16::try_from(port.container_port).ok()?)))
}

fn named(pod: &StoredPod, name: &str) -> Option<u16> {
    all_named(pod).find(|(known, _)| *known == name).map(|(_, port)| port)
}

fn names(pod: &StoredPod) -> String {
    let names: Vec<&str> = all_named(pod).map(|(name, _)| name).collect();
    if names.is_empty() {
        return "a name that the manifest gives a TCP port: it gives none".to_owned();
    }
    format!("one of the manifest's names: {}", names.join(", "))
}
