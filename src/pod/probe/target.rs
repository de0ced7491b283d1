//! From a probe or hook of the manifest to what is to be done: ports by name, hosts, headers and
//! commands are resolved here. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HTTPGetAction, HTTPHeader, LifecycleHandler, Probe,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What an attempt does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a program in the container; the caller starts it, `exec.rs` waits for it.
    Exec(Vec<String>),
    /// Asks an HTTP server.
    Http(HttpTarget),
    /// Connects.
    Tcp(Address),
    /// Asks the health service of a gRPC server; an empty name asks about the server as a whole.
    Grpc {
        /// Of the server.
        address: Address,
        /// Name of the service.
        service: String,
    },
    /// Waits; only of hooks.
    Sleep(Duration),
}

/// A host, by address or name, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// IP address without brackets, or name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `httpGet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// HTTP or HTTPS.
    pub scheme: Scheme,
    /// Whom to connect to.
    pub address: Address,
    /// Path and query, escaped, with its first slash.
    pub path: String,
    /// `httpHeaders` as they are in the manifest.
    pub headers: Vec<(String, String)>,
}

impl HttpTarget {
    /// The address as people write it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.name(), self.address, self.path)
    }
}

/// How an HTTP server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// With TLS; no certificate is refused.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port if a URL has none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What a probe of `container` does, in a pod with this address.
///
/// # Errors
/// Why it cannot be run, for [`super::Health::Unknown`]: a port that does not exist, no handler.
pub fn of_probe(
    probe: &Probe,
    container: &Container,
    pod_ip: &str,
) -> std::result::Result<Action, String> {
    if let Some(exec) = &probe.exec {
        let environment = container.env.as_deref().unwrap_or_default();
        let command = exec.command.iter().flatten();
        return Ok(Action::Exec(command.map(|part| expand(part, environment)).collect()));
    }
    if let Some(get) = &probe.http_get {
        return http(get, container, pod_ip).map(Action::Http);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, container)?;
        return Ok(Action::Tcp(Address { host: host(tcp.host.as_deref(), pod_ip), port }));
    }
    if let Some(grpc) = &probe.grpc {
        let address = Address { host: host(None, pod_ip), port: number(grpc.port)? };
        return Ok(Action::Grpc { address, service: grpc.service.clone().unwrap_or_default() });
    }
    Err(format!("missing probe handler for container {:?}", container.name))
}

/// What a lifecycle hook of `container` does, in a pod with this address.
///
/// Commands of hooks are not expanded.
///
/// # Errors
/// Why the hook fails: a port that does not exist, a handler that hooks do not have.
pub fn of_hook(
    hook: &LifecycleHandler,
    container: &Container,
    pod_ip: &str,
) -> std::result::Result<Action, String> {
    if let Some(exec) = &hook.exec {
        return Ok(Action::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(get) = &hook.http_get {
        return http(get, container, pod_ip).map(Action::Http);
    }
    if let Some(sleep) = &hook.sleep {
        return Ok(Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))));
    }
    Err(format!(
        "invalid handler of container {:?}: allowed are exec, httpGet, sleep",
        container.name
    ))
}

fn http(
    get: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
) -> std::result::Result<HttpTarget, String> {
    let https = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let pair = |header: &HTTPHeader| (header.name.clone(), header.value.clone());
    Ok(HttpTarget {
        scheme: if https { Scheme::Https } else { Scheme::Http },
        address: Address {
            host: host(get.host.as_deref(), pod_ip),
            port: port(&get.port, container)?,
        },
        path: path(get.path.as_deref().unwrap_or_default()),
        headers: get.http_headers.iter().flatten().map(pair).collect(),
    })
}

fn host(given: Option<&str>, pod_ip: &str) -> String {
    let host = given.filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

/// A port by number, or by the name that `container` gives it, or by a number in a string.
fn port(wanted: &IntOrString, container: &Container) -> std::result::Result<u16, String> {
    let name = match wanted {
        IntOrString::Int(port) => return number(*port),
        IntOrString::String(name) => name,
    };
    let mut ports = container.ports.iter().flatten();
    match ports.find(|port| port.name.as_ref() == Some(name)) {
        Some(port) => number(port.container_port),
        None => name.parse().map_or_else(
            |_| Err(format!("container {:?} has no port named {name:?}", container.name)),
            number,
        ),
    }
}

fn number(port: i32) -> std::result::Result<u16, String> {
    let valid = u16::try_from(port).ok().filter(|port| *port != 0);
    valid.ok_or_else(|| format!("invalid port number: {port}"))
}

/// Path and query as a request line has them: slash in front, no fragment, nothing unprintable.
pub(super) fn path(given: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let given = given.split('#').next().unwrap_or_default();
    let mut path = String::with_capacity(given.len() + 1);
    if !given.starts_with('/') {
        path.push('/');
    }
    for byte in given.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push('%');
            path.push(char::from(HEX[usize::from(byte >> 4)]));
            path.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    path
}

/// Replaces `$(NAME)`; `$$` is `$`. Only what stands in the manifest counts: a variable with
/// `valueFrom` is empty, an unknown one is left as it is.
fn expand(text: &str, environment: &[EnvVar]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let Some((name, after)) = reference else {
            expanded.push('$');
            continue;
        };
        match environment.iter().rfind(|variable| variable.name == name) {
            Some(variable) => expanded.push_str(variable.value.as_deref().unwrap_or_default()),
            None => {
                expanded.push_str("$(");
                expanded.push_str(name);
                expanded.push(')');
            }
        }
        rest = after;
    }
    expanded + rest
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
