//! Which network a pod gets: none, the machine's, or which list of plugins.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::list::{self, NetworkList, Plugin};
use super::plugin;
use super::version::Version;
use super::wish::{Choice, NETWORK, Wish};
use crate::error::{Error, Result};

/// The name of the network that is there without a configuration.
pub const BUILT_IN: &str = "carob";
/// Its bridge.
const BRIDGE: &str = "carob0";
/// Its addresses: of the private ones, and of no other engine's default.
const SUBNET: &str = "10.84.0.0/16";

/// Where networks and plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sources {
    /// The directory of configurations.
    pub configs: PathBuf,
    /// Directories of plugins.
    pub plugins: Vec<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            configs: "/etc/cni/net.d".into(),
            plugins: vec!["/usr/lib/cni".into(), "/opt/cni/bin".into()],
        }
    }
}

/// A pod's network.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// The machine's.
    Host,
    /// A loopback device; with the reason, if nobody has asked for it.
    None(Option<String>),
    /// These plugins.
    List(NetworkList, Wish),
}

/// All lists of the machine; those that are wrong are left out.
///
/// # Errors
/// [`Error::Os`] if the directory cannot be read.
pub fn network_lists(sources: &Sources) -> Result<Vec<NetworkList>> {
    let names = list::names(&sources.configs)?;
    let found = names.iter().map(|name| list::find(&sources.configs, Some(name)));
    Ok(found.filter_map(|list| list.ok().flatten()).collect())
}

/// Chooses.
///
/// # Errors
/// [`Error::Config`] with the field that asks for what no plugin here does; [`Error::Invalid`] for a
/// network that does not exist or a configuration that is wrong.
pub fn plan(pod: &Pod, sources: &Sources) -> Result<Plan> {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return Ok(Plan::Host);
    }
    let wish = Wish::of(pod)?;
    let list = match &wish.choice {
        Choice::None => {
            refuse_all(&wish, "the pod has no network: its annotation carob/network is none")?;
            return Ok(Plan::None(None));
        }
        Choice::Default => {
            let first = list::find(&sources.configs, None)?;
            first.unwrap_or_else(|| built_in(&wish, sources))
        }
        Choice::Named(name) => named(name, &wish, sources)?,
    };
    if let Some(kind) = missing(&list, sources) {
        let why = plugin::missing(kind, &sources.plugins).to_string();
        let why = format!("{why} (Debian: containernetworking-plugins)");
        refuse_all(&wish, &why)?;
        if wish.choice != Choice::Default {
            return Err(Error::config(annotation(), format!("network {:?}: {why}", list.name)));
        }
        return Ok(Plan::None(Some(format!("the pod has only a loopback device: {why}"))));
    }
    if let Some((capability, field)) = wish.demands().find(|(wanted, _)| !list.has(wanted)) {
        let reason = format!(
            "network {:?} cannot do that: none of its plugins has the capability {capability}",
            list.name
        );
        return Err(Error::config(field, reason));
    }
    Ok(Plan::List(list, wish))
}

fn refuse_all(wish: &Wish, why: &str) -> Result<()> {
    match wish.demands().next() {
        Some((_, field)) => Err(Error::config(field, why)),
        None => Ok(()),
    }
}

fn named(name: &str, wish: &Wish, sources: &Sources) -> Result<NetworkList> {
    if let Some(list) = list::find(&sources.configs, Some(name))? {
        return Ok(list);
    }
    if name == BUILT_IN {
        return Ok(built_in(wish, sources));
    }
    let mut known = list::names(&sources.configs)?;
    known.extend([BUILT_IN.to_owned(), "none".to_owned()]);
    let (dir, known) = (sources.configs.display(), known.join(", "));
    Err(Error::config(
        annotation(),
        format!("there is no network {name:?} in {dir}; there is {known}"),
    ))
}

fn annotation() -> String {
    format!("metadata.annotations[{NETWORK}], or --network")
}

/// The first program of a list that is nowhere.
fn missing<'a>(list: &'a NetworkList, sources: &Sources) -> Option<&'a str> {
    let kinds = list.plugins.iter().flat_map(|one| [Some(one.kind.as_str()), one.ipam()]);
    kinds.flatten().find(|kind| plugin::find(kind, &sources.plugins).is_none())
}

/// A bridge with addresses for all pods. What a pod has no use for it is spared; `firewall` lets its
/// packets pass where the machine forwards nothing by itself, as Docker has it.
fn built_in(wish: &Wish, sources: &Sources) -> NetworkList {
    let bridge = json!({
        "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    });
    let mut plugins = vec![known(bridge, &["ips", "mac"])];
    if wish.wants("portMappings") {
        plugins.push(known(json!({"type": "portmap"}), &["portMappings"]));
    }
    if plugin::find("firewall", &sources.plugins).is_some() {
        plugins.push(known(json!({"type": "firewall"}), &[]));
    }
    if wish.wants("bandwidth") {
        plugins.push(known(json!({"type": "bandwidth"}), &["bandwidth"]));
    }
    NetworkList {
        name: BUILT_IN.to_owned(),
        // What Debian 12 has.
        version: Version::new(1, 0, 0),
        versions: Vec::new(),
        // Its portmap misses rules for IPv6 where a pod has none.
        disable_check: wish.wants("portMappings"),
        disable_gc: false,
        plugins,
    }
}

fn known(config: Value, capabilities: &[&str]) -> Plugin {
    let config: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
    let kind = config.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
    Plugin { kind, capabilities, config }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Directories with these plugins and one configuration; removed when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, plugins: &[&str], config: Option<&str>) -> Self {
            let dir = format!("carob-plan-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            for place in ["net.d", "bin"] {
                std::fs::create_dir_all(dir.join(place)).unwrap();
            }
            for plugin in plugins {
                let path = dir.join("bin").join(plugin);
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            if let Some(config) = config {
                std::fs::write(dir.join("net.d/10-x.conflist"), config).unwrap();
            }
            Self(dir)
        }

        fn plan(&self, annotations: Value, spec: Value) -> std::result::Result<Plan, String> {
            let metadata = json!({"name": "p", "annotations": annotations});
            let pod = json!({"metadata": metadata, "spec": spec});
            let sources =
                Sources { configs: self.0.join("net.d"), plugins: vec![self.0.join("bin")] };
            plan(&serde_json::from_value(pod).unwrap(), &sources).map_err(|error| error.to_string())
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn plain() -> Value {
        json!({"containers": [{"name": "c"}]})
    }

    fn published() -> Value {
        let port = json!({"containerPort": 80, "hostPort": 8080});
        json!({"containers": [{"name": "c", "ports": [port]}]})
    }

    fn kinds(plan: &std::result::Result<Plan, String>) -> Vec<String> {
        match plan {
            Ok(Plan::List(list, _)) => list.plugins.iter().map(|one| one.kind.clone()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_built_in_network_has_the_plugins_that_the_pod_needs() {
        let all = ["bridge", "host-local", "portmap", "firewall", "bandwidth"];
        let machine = Machine::new("built-in", &all, None);
        assert_eq!(kinds(&machine.plan(json!({}), plain())), ["bridge", "firewall"]);
        let ports = machine.plan(json!({}), published());
        assert_eq!(kinds(&ports), ["bridge", "portmap", "firewall"]);
        let slow = json!({"kubernetes.io/ingress-bandwidth": "1M", "carob/network": "carob"});
        assert_eq!(kinds(&machine.plan(slow, plain())), ["bridge", "firewall", "bandwidth"]);
        let host = json!({"hostNetwork": true, "containers": []});
        assert_eq!(machine.plan(json!({}), host), Ok(Plan::Host));
        assert_eq!(machine.plan(json!({"carob/network": "none"}), plain()), Ok(Plan::None(None)));
        let error = machine.plan(json!({"carob/network": "none"}), published()).unwrap_err();
        assert!(error.contains("spec.containers[0].ports[0].hostPort: the pod has no"), "{error}");
        let error = machine.plan(json!({"carob/network": "db"}), plain()).unwrap_err();
        assert!(error.contains("there is no network \"db\" in"), "{error}");
        assert!(error.ends_with("there is carob, none"), "{error}");
    }

    #[test]
    fn without_plugins_there_is_no_network_and_what_asks_for_one_is_refused() {
        let machine = Machine::new("empty", &["bridge"], None);
        let Ok(Plan::None(Some(why))) = machine.plan(json!({}), plain()) else { panic!() };
        assert!(why.contains("only a loopback device: there is no CNI plugin \"host-local\""));
        let error = machine.plan(json!({}), published()).unwrap_err();
        assert!(error.starts_with("spec.containers[0].ports[0].hostPort: there is no CNI"));
        let error = machine.plan(json!({"carob/network": "carob"}), plain()).unwrap_err();
        assert!(error.contains("network \"carob\": there is no CNI plugin"), "{error}");
    }

    #[test]
    fn the_machines_network_comes_first_and_must_do_what_the_pod_wants() {
        let config = r#"{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "ptp"}]}"#;
        let machine = Machine::new("mine", &["ptp", "bridge", "host-local"], Some(config));
        assert_eq!(kinds(&machine.plan(json!({}), plain())), ["ptp"]);
        let error = machine.plan(json!({}), published()).unwrap_err();
        assert!(error.contains("network \"mine\" cannot do that"), "{error}");
        assert!(error.contains("capability portMappings"), "{error}");
        let error = machine.plan(json!({"carob/ips": "10.0.0.1"}), plain()).unwrap_err();
        assert!(error.starts_with("metadata.annotations[carob/ips]: network"), "{error}");
    }
}
