//! A sandbox on a network of CNI plugins.
//!
//! Plugins take their time, so none of this is done while the directory of all sandboxes is locked.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::etc;
use super::stored::{Stored, read_file};
use crate::error::{Error, Result};
use crate::pod::network::{
    Attachment, NetworkList, Place, Plan, Sources, Store, names, plan, wish,
};
use crate::pod::sandbox::namespace_path;

/// What sandboxes are in, as pods are in namespaces.
const NAMESPACE: &str = "default";
const INTERFACE: &str = "eth0";

/// The network that a sandbox is to be on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// Its name; the machine's first, or the built-in one, if there is none.
    pub name: Option<String>,
    /// Where networks and plugins are looked for.
    pub sources: Sources,
    /// Below it is written down what is to be undone, whoever dies: it survives a reboot.
    pub data_root: PathBuf,
}

impl Network {
    /// The list of plugins.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such network, or a plugin of it is missing.
    pub(super) fn list(&self) -> Result<(NetworkList, wish::Wish)> {
        let mut pod = Pod { spec: Some(PodSpec::default()), ..Pod::default() };
        if let Some(name) = &self.name {
            let annotation = (wish::NETWORK.to_owned(), name.clone());
            pod.metadata.annotations = Some([annotation].into());
        }
        let field = "--network".to_owned();
        match plan(&pod, &self.sources) {
            Ok(Plan::List(list, wish)) => Ok((list, wish)),
            Ok(Plan::None(why)) => Err(Error::Config { field, reason: why.unwrap_or_default() }),
            Ok(Plan::Host) => Err(Error::Config { field, reason: "is the host's".to_owned() }),
            Err(Error::Config { reason, .. }) => Err(Error::Config { field, reason }),
            Err(other) => Err(other),
        }
    }

    fn store(&self) -> Store {
        Store::at(&self.data_root)
    }
}

/// Puts a sandbox that runs on its network; its addresses.
///
/// # Errors
/// What a plugin says. Nothing is left then.
pub(super) fn join(stored: &Stored, network: &Network) -> Result<Vec<String>> {
    let (list, wish) = network.list()?;
    let host = stored.hostname().to_owned();
    let mut capabilities = Map::new();
    capabilities.insert("aliases".to_owned(), json!([host]));
    capabilities.insert("cgroupPath".to_owned(), json!(stored.dirs.cgroup));
    let attachment = Attachment {
        list,
        place: Place {
            id: id(stored),
            interface: INTERFACE.to_owned(),
            args: format!("IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID={}", stored.id()),
            capabilities,
        },
        plugins: network.sources.plugins.clone(),
        timeout: wish.timeout,
        state: stored.dirs.state.clone(),
        names: names::Names { host, namespace: NAMESPACE.to_owned(), domain: String::new() },
        result: None,
    };
    network.store().attach(attachment, &netns(stored), None)
}

/// Takes a sandbox off its network; one that is on none is fine.
///
/// # Errors
/// What a plugin says: it is tried again by whoever comes next, or by `pod prune`.
pub(super) fn leave(stored: &Stored, is_running: bool) -> Result<()> {
    let Some(network) = &stored.options.network else { return Ok(()) };
    let netns = if is_running { netns(stored) } else { String::new() };
    network.store().release(&stored.dirs.state, &netns)
}

/// Writes `/etc/hosts` with the addresses, and with the others of the network.
///
/// # Errors
/// [`Error::Os`].
pub(super) fn write_hosts(stored: &Stored, ips: &[String]) -> Result<()> {
    let (mut others, mut _lock): (String, Option<Flock<File>>) = (String::new(), None);
    if let (Some(network), Some(name)) = (&stored.options.network, stored.network_name()) {
        let dir = network.store().network(name);
        _lock = names::lock(&dir)?;
        others = names::part(&dir, &stored.dirs.state, NAMESPACE)?;
    }
    etc::write_hosts(&stored.dirs.state, &stored.options, stored.hostname(), (ips, &others))
}

/// The id under which the sandbox with this state directory is on a network, if it is one and runs.
///
/// # Errors
/// [`Error::Os`] if its file cannot be read.
pub fn id_on_network(state: &Path) -> Result<Option<String>> {
    let stored = read_file(state)?;
    Ok(stored.filter(|stored| stored.record.is_some()).map(|stored| id(&stored)))
}

/// Another one each time it is started, on all the machine.
fn id(stored: &Stored) -> String {
    format!("{}-{}", stored.uid, stored.attempt)
}

fn netns(stored: &Stored) -> String {
    let path = stored.record.as_ref().map(|record| namespace_path(record, Kind::Network));
    path.unwrap_or_default().display().to_string()
}
