//! Mirrors and plain HTTP: what carob understands of `registries.conf`.
//!
//! Tables `[[registry]]` with `prefix`, `location`, `insecure`, `blocked` and `[[registry.mirror]]`
//! with `location` and `insecure`. Source: containers-registries.conf(5), version 2.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Deserialize;

use super::reference::Reference;
use crate::error::{Error, Result};
use crate::sys::fd::read_file;

/// The file, if `CONTAINERS_REGISTRIES_CONF` names no other.
const FILE: &str = "/etc/containers/registries.conf";
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    registry: Vec<Registry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirror: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// How to talk to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Https,
    /// Without TLS, as somebody has said.
    Http,
    /// On this machine, where nobody is in between: with TLS if it has it.
    Either,
}

impl Protocol {
    fn of(registry: &str, is_insecure: bool) -> Self {
        match is_insecure {
            true => Self::Http,
            false if is_loopback(registry) => Self::Either,
            false => Self::Https,
        }
    }
}

/// Where an image can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its name there.
    pub(super) reference: Reference,
    pub(super) protocol: Protocol,
}

impl Endpoint {
    /// Whether it is on this machine, where no proxy leads.
    pub(super) fn is_here(&self) -> bool {
        is_loopback(&self.reference.registry)
    }
}

/// The places of an image, mirrors first.
///
/// # Errors
/// [`Error::Invalid`] if the configuration is malformed or blocks the registry.
pub(super) fn endpoints(image: &Reference, plain_http: bool) -> Result<Vec<Endpoint>> {
    let other = std::env::var_os("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    let path = other.as_deref().unwrap_or(Path::new(FILE));
    let text = match read_file(path, MAX_FILE) {
        Err(error) if error.errno() == Some(Errno::ENOENT) && other.is_none() => Vec::new(),
        text => text?,
    };
    of_text(&String::from_utf8_lossy(&text), image, plain_http)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}

fn of_text(text: &str, image: &Reference, plain_http: bool) -> Result<Vec<Endpoint>> {
    let file: File = toml::from_str(text).map_err(|error| Error::Invalid(error.to_string()))?;
    let own =
        Endpoint { protocol: Protocol::of(&image.registry, plain_http), reference: image.clone() };
    let name = image.name();
    let prefix = |registry: &Registry| registry.prefix.clone().or(registry.location.clone());
    let matching = file.registry.iter().filter_map(|registry| {
        let prefix = prefix(registry)?;
        let rest = name.strip_prefix(&prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((registry, prefix))
    });
    let Some((registry, prefix)) = matching.max_by_key(|(_, prefix)| prefix.len()) else {
        return Ok(vec![own]);
    };
    if registry.blocked {
        return Err(Error::Invalid(format!("registry {prefix} is blocked")));
    }
    let at = |location: &str, insecure: bool| {
        let name = format!("{location}{}", name.strip_prefix(&prefix).unwrap_or_default());
        // A placeholder tag: both are taken from the image.
        let place: Reference = format!("{name}:x").parse()?;
        Ok(Endpoint {
            protocol: Protocol::of(&place.registry, plain_http || insecure),
            reference: Reference { tag: image.tag.clone(), digest: image.digest.clone(), ..place },
        })
    };
    let mut endpoints = registry
        .mirror
        .iter()
        .map(|mirror| at(&mirror.location, mirror.insecure))
        .collect::<Result<Vec<_>>>()?;
    endpoints.push(match &registry.location {
        Some(location) => at(location, registry.insecure)?,
        None => Endpoint {
            protocol: Protocol::of(&image.registry, plain_http || registry.insecure),
            ..own
        },
    });
    Ok(endpoints)
}

/// Whether a registry is on this machine: nobody is in between.
fn is_loopback(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback());
    }
    let host = registry.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, image: &str) -> Result<Vec<String>> {
        let show = |endpoint: Endpoint| {
            let how = match endpoint.protocol {
                Protocol::Https => "",
                Protocol::Http => "http ",
                Protocol::Either => "either ",
            };
            format!("{how}{}", endpoint.reference)
        };
        Ok(of_text(text, &image.parse()?, false)?.into_iter().map(show).collect())
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_wins() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.lan:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "127.0.0.1:5001"

            [[registry]]
            prefix = "quay.io/team"
            location = "elsewhere.example/x"
            [[registry]]
            prefix = "bad.example"
            blocked = true
        "#;
        assert_eq!(
            places(text, "busybox:1").unwrap(),
            [
                "http mirror.lan:5000/hub/library/busybox:1",
                "either 127.0.0.1:5001/library/busybox:1",
                "docker.io/library/busybox:1"
            ]
        );
        assert_eq!(places(text, "quay.io/team/a").unwrap(), ["elsewhere.example/x/a:latest"]);
        assert_eq!(places(text, "quay.io/teamx/a").unwrap(), ["quay.io/teamx/a:latest"]);
        assert!(places(text, "bad.example/a").unwrap_err().to_string().contains("blocked"));
        assert!(places("[[registry", "a").is_err());
        assert_eq!(places("", "localhost:5000/a").unwrap(), ["either localhost:5000/a:latest"]);
        assert_eq!(places("", "[::1]:5000/a").unwrap(), ["either [::1]:5000/a:latest"]);
    }
}
