//! Taking away what belongs to no pod any more: data, logs and addresses.

use std::path::Path;

use super::leftover;
use super::network::{Attachment, NetworkList, Sources, Store, network_lists};
use super::removal::{self, Removal};
use super::sandbox::standalone;
use super::store::{PodDirs, StoredPod};
use crate::container::Runtime;
use crate::error::Result;

/// One thing that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// A pod that has ended.
    Pod {
        /// `<namespace>/<name>`.
        name: String,
    },
    /// Data and logs of a pod that does not exist.
    Data {
        /// Its uid.
        uid: String,
    },
    /// Addresses that no pod has.
    Addresses {
        /// Of this network.
        network: String,
        /// These.
        ips: Vec<String>,
    },
    /// The plugins of a network have forgotten whatever carob does not know.
    Network {
        /// Its name.
        name: String,
    },
    /// Those of this one cannot, or are not to.
    NoCollector {
        /// Its name.
        name: String,
    },
}

/// Removes pods that have ended.
///
/// # Errors
/// The first failure; the others are tried.
pub fn ended(runtime: &Runtime) -> Result<Vec<Pruned>> {
    let mut outcome = Ok(());
    let mut pruned = Vec::new();
    for pod in StoredPod::list(&runtime.root)? {
        if pod.record.as_ref().is_none_or(|record| record.ended.is_none()) {
            continue;
        }
        match removal::remove(runtime, &pod, Removal::OnlyEnded) {
            Ok(()) => pruned.push(Pruned::Pod { name: full_name(&pod) }),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome.map(|()| pruned)
}

fn full_name(pod: &StoredPod) -> String {
    let namespace = pod.file.manifest.pod.metadata.namespace.as_deref().unwrap_or("default");
    format!("{namespace}/{}", pod.file.name())
}

/// Removes what is left of pods that do not exist: after a reboot, or because somebody was killed.
///
/// # Errors
/// [`crate::error::Error::Os`] if a directory cannot be read. What cannot be removed is a warning.
pub fn lost(runtime: &Runtime, data_root: &Path) -> Result<Vec<Pruned>> {
    let store = Store::at(data_root);
    let mut pruned = Vec::new();
    for one in store.all()? {
        if is_in_use(&one) {
            continue;
        }
        match store.detach(&one, "") {
            Ok(()) => {
                pruned.push(Pruned::Addresses { network: one.list.name.clone(), ips: one.ips() });
            }
            Err(error) => crate::log::warn(error),
        }
    }
    let _lock = PodDirs::lock_all(&runtime.root)?;
    let gone = leftover::collect(&runtime.root, data_root);
    pruned.extend(gone.into_iter().map(|uid| Pruned::Data { uid }));
    Ok(pruned)
}

/// Whether there is a pod or a sandbox that says so itself.
fn is_in_use(one: &Attachment) -> bool {
    let pod = StoredPod::read(&one.state);
    // Who cannot be asked may be in it.
    let (Ok(pod), Ok(sandbox)) = (pod, standalone::id_on_network(&one.state)) else { return true };
    let network = pod.and_then(|pod| pod.record).and_then(|record| record.network);
    let id = network.map(|network| network.id).or(sandbox);
    id.is_some_and(|id| id == one.place.id)
}

/// Lets the plugins of all networks forget what is not of carob's pods below a data root.
///
/// # Errors
/// [`crate::error::Error::Os`] if a directory cannot be read. A plugin that fails is a warning.
pub fn networks(data_root: &Path, sources: &Sources) -> Result<Vec<Pruned>> {
    let store = Store::at(data_root);
    let all = store.all()?;
    let mut lists: Vec<NetworkList> = network_lists(sources)?;
    for one in &all {
        if !lists.iter().any(|list| list.name == one.list.name) {
            lists.push(one.list.clone());
        }
    }
    let mut pruned = Vec::new();
    for list in lists {
        match store.collect_garbage(&list, sources) {
            Ok(true) => pruned.push(Pruned::Network { name: list.name }),
            Ok(false) => pruned.push(Pruned::NoCollector { name: list.name }),
            Err(error) => crate::log::warn(error),
        }
    }
    Ok(pruned)
}
