//! The operations on a network: its plugins called in turn, each with what came before.
//!
//! Source: CNI specification, sections 3 and 4; what it leaves open is as in libcni.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::list::{NetworkList, Plugin};
use super::plugin::Call;
use super::version::Version;
use crate::error::{Error, Result};

/// One pod's place in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// `CNI_CONTAINERID`.
    pub id: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// Values of capabilities: each goes to the plugins that have it.
    pub capabilities: Map<String, Value>,
}

/// How plugins are run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// Where they are.
    pub(super) dirs: &'a [PathBuf],
    /// For an operation as a whole.
    pub(super) limit: Duration,
    /// Readable as soon as nobody wants it any more.
    pub(super) stop: Option<BorrowedFd<'a>>,
}

/// Why a request is made, and with what.
struct Request<'a> {
    command: &'static str,
    place: Option<(&'a Place, &'a str)>,
    previous: Option<&'a Value>,
    /// More keys of the configuration.
    more: Map<String, Value>,
}

/// The list in the highest of its versions that all of its plugins speak, as they say to `VERSION`.
/// One that does not answer leaves the choice to the others; where a list names one version there
/// is nothing to choose.
///
/// # Errors
/// [`Error::Invalid`]: what its plugins speak, if there is none.
pub(super) fn negotiate(list: &NetworkList, way: Way) -> Result<NetworkList> {
    if list.versions.len() < 2 {
        return Ok(list.clone());
    }
    let deadline = Instant::now() + way.limit;
    let input = json!({"cniVersion": list.version}).to_string();
    let kinds = list.plugins.iter().flat_map(|one| [Some(one.kind.as_str()), one.ipam()]);
    let mut said: Vec<(&str, Vec<Version>)> = Vec::new();
    for kind in kinds.flatten() {
        let call = Call {
            command: "VERSION",
            kind,
            dirs: way.dirs,
            env: &[],
            input: input.as_bytes(),
            deadline,
            stop: way.stop,
        };
        match call.run() {
            Ok(answer) => {
                let spoken = Version::spoken_by(&answer.unwrap_or_default());
                said.extend(spoken.map(|spoken| (kind, spoken)));
            }
            // What is asked for next will show what is wrong with it.
            Err(error) => crate::log::debug(format_args!("{kind}: {error}")),
        }
    }
    let by_all = |version: &Version| said.iter().all(|(_, spoken)| spoken.contains(version));
    let common = list.versions.iter().copied().filter(by_all).max();
    let version = common.ok_or_else(|| {
        let text =
            |all: &[Version]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let said = said.iter().map(|(kind, spoken)| format!("{kind} speaks {}", text(spoken)));
        let (name, wanted) = (&list.name, text(&list.versions));
        let said = said.collect::<Vec<_>>().join("; ");
        Error::Invalid(format!("network {name:?}: one of the versions {wanted} is needed; {said}"))
    })?;
    Ok(NetworkList { version, ..list.clone() })
}

/// `ADD`: the result of the last plugin. If one fails those before it have been called.
///
/// # Errors
/// [`Error::Invalid`]: which plugin says what.
pub(super) fn add(list: &NetworkList, place: &Place, netns: &str, way: Way) -> Result<Value> {
    let deadline = Instant::now() + way.limit;
    let mut result: Option<Value> = None;
    for plugin in &list.plugins {
        let request = Request {
            command: "ADD",
            place: Some((place, netns)),
            previous: result.as_ref(),
            more: Map::new(),
        };
        let said = request.call(list, plugin, way, deadline)?;
        let nothing = || failed(plugin, list, "ADD", "it has printed no result");
        result = Some(said.ok_or_else(nothing)?);
    }
    // A list is never empty.
    result.ok_or_else(|| Error::Invalid(format!("network {:?} has no plugin", list.name)))
}

/// `CHECK`: whether all is as `ADD` has left it. Networks that have no check are fine.
///
/// # Errors
/// As [`add`].
pub(super) fn check(
    list: &NetworkList,
    place: &Place,
    netns: &str,
    result: &Value,
    way: Way,
) -> Result<()> {
    if list.disable_check || !list.version.has_check() {
        return Ok(());
    }
    let deadline = Instant::now() + way.limit;
    list.plugins.iter().try_for_each(|plugin| {
        let request = Request {
            command: "CHECK",
            place: Some((place, netns)),
            previous: Some(result),
            more: Map::new(),
        };
        request.call(list, plugin, way, deadline).map(drop)
    })
}

/// `DEL`, in the opposite order. An empty `netns` is one that is gone. A plugin that fails keeps the
/// others from nothing: each holds something of its own, an address or a rule.
///
/// # Errors
/// As [`add`], for the first that has failed.
pub(super) fn del(
    list: &NetworkList,
    place: &Place,
    netns: &str,
    result: Option<&Value>,
    way: Way,
) -> Result<()> {
    let deadline = Instant::now() + way.limit;
    let previous = result.filter(|_| list.version.has_check());
    let mut outcome = Ok(());
    for plugin in list.plugins.iter().rev() {
        let request =
            Request { command: "DEL", place: Some((place, netns)), previous, more: Map::new() };
        let done = request.call(list, plugin, way, deadline).map(drop);
        outcome = outcome.and(done);
    }
    outcome
}

/// `STATUS`: whether the network can take more pods. Those that cannot say so are fine.
///
/// # Errors
/// As [`add`].
pub(super) fn status(list: &NetworkList, way: Way) -> Result<()> {
    if !list.version.has_status_and_gc() {
        return Ok(());
    }
    let deadline = Instant::now() + way.limit;
    list.plugins.iter().try_for_each(|plugin| {
        let request = Request { command: "STATUS", place: None, previous: None, more: Map::new() };
        request.call(list, plugin, way, deadline).map(drop)
    })
}

/// `GC`: the network forgets all pods but these, by id and interface. Whether it could: not all
/// networks can, or want to.
///
/// # Errors
/// As [`del`].
pub(super) fn gc(list: &NetworkList, valid: &[(String, String)], way: Way) -> Result<bool> {
    if list.disable_gc || !list.version.has_status_and_gc() {
        return Ok(false);
    }
    let deadline = Instant::now() + way.limit;
    let valid: Vec<Value> = valid
        .iter()
        .map(|(id, interface)| json!({"containerID": id, "ifname": interface}))
        .collect();
    let mut outcome = Ok(true);
    for plugin in &list.plugins {
        let more = [("cni.dev/valid-attachments".to_owned(), Value::Array(valid.clone()))];
        let more = more.into_iter().collect();
        let request = Request { command: "GC", place: None, previous: None, more };
        let done = request.call(list, plugin, way, deadline);
        outcome = outcome.and_then(|was| done.map(|_| was));
    }
    outcome
}

impl Request<'_> {
    fn call(
        &self,
        list: &NetworkList,
        plugin: &Plugin,
        way: Way,
        deadline: Instant,
    ) -> Result<Option<Value>> {
        let config = Value::Object(self.config(list, plugin)).to_string();
        let mut env = Vec::new();
        if let Some((place, netns)) = self.place {
            env.push(("CNI_CONTAINERID", place.id.clone()));
            env.push(("CNI_NETNS", netns.to_owned()));
            env.push(("CNI_IFNAME", place.interface.clone()));
            env.push(("CNI_ARGS", place.args.clone()));
        }
        let call = Call {
            command: self.command,
            kind: &plugin.kind,
            dirs: way.dirs,
            env: &env,
            input: config.as_bytes(),
            deadline,
            stop: way.stop,
        };
        call.run().map_err(|error| failed(plugin, list, self.command, &error.to_string()))
    }

    /// What the plugin reads. Source: section 3, "Deriving request configuration".
    fn config(&self, list: &NetworkList, plugin: &Plugin) -> Map<String, Value> {
        let mut config = plugin.config.clone();
        // Ours to set.
        config.retain(|key, _| {
            !matches!(key.as_str(), "runtimeConfig" | "prevResult") && !key.starts_with("cni.dev/")
        });
        config.insert("name".to_owned(), json!(list.name));
        config.insert("cniVersion".to_owned(), json!(list.version));
        let given = self.place.map(|(place, _)| &place.capabilities);
        let told: Map<String, Value> = given
            .into_iter()
            .flatten()
            .filter(|(name, _)| plugin.capabilities.contains(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !told.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        if let Some(previous) = self.previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        config.extend(self.more.clone());
        config
    }
}

/// In libcni's words.
fn failed(plugin: &Plugin, list: &NetworkList, command: &str, why: &str) -> Error {
    let (kind, name, command) = (&plugin.kind, &list.name, command.to_lowercase());
    Error::Invalid(format!("plugin type={kind:?} name={name:?} failed ({command}): {why}"))
}

/// The addresses in the result of a network: the first of IPv4 and the first of IPv6, which is all
/// that a pod can have, in the order of the result.
#[must_use]
pub(super) fn addresses(result: &Value) -> Vec<String> {
    let now = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    // Before version 0.3.0.
    let then = [&result["ip4"]["ip"], &result["ip6"]["ip"]];
    let mut found: Vec<std::net::IpAddr> = Vec::new();
    for address in now.chain(then) {
        let address = address.as_str().and_then(|text| text.split('/').next()?.parse().ok());
        let Some(address) = address else { continue };
        let address: std::net::IpAddr = address;
        if !found.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
            found.push(address);
        }
    }
    found.into_iter().map(|address| address.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> NetworkList {
        NetworkList::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_plugin_is_told_what_it_has_a_capability_for() {
        let list = list(
            r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [
                {"type": "a", "unknown": {"x": 1}, "capabilities": {"mac": true}},
                {"type": "b", "runtimeConfig": {"mac": 1}, "cni.dev/valid-attachments": [],
                    "prevResult": {"x": 1}}]}"#,
        );
        let capabilities = json!({"mac": "02::1", "ips": ["10.0.0.1"]});
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let place =
            Place { id: "i".into(), interface: "eth0".into(), args: String::new(), capabilities };
        let previous = json!({"ips": []});
        let request = Request {
            command: "ADD",
            place: Some((&place, "/n")),
            previous: Some(&previous),
            more: Map::new(),
        };
        assert_eq!(
            Value::Object(request.config(&list, &list.plugins[0])),
            json!({"type": "a", "unknown": {"x": 1}, "name": "n", "cniVersion": "1.0.0",
                "runtimeConfig": {"mac": "02::1"}, "prevResult": {"ips": []}})
        );
        assert_eq!(
            Value::Object(request.config(&list, &list.plugins[1])),
            json!({"type": "b", "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn a_pod_has_an_address_of_each_kind() {
        for (result, expected) in [
            (json!({}), &[][..]),
            (json!({"ips": [{"address": "10.0.0.2/24"}]}), &["10.0.0.2"]),
            (
                json!({"ips": [{"address": "fd00::2/64"}, {"address": "10.0.0.2/24"},
                    {"address": "10.0.1.2/24"}, {"address": "x"}, {}]}),
                &["fd00::2", "10.0.0.2"],
            ),
            (
                json!({"ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}),
                &["10.0.0.2", "fd00::2"],
            ),
        ] {
            assert_eq!(addresses(&result), expected, "{result}");
        }
    }
}
