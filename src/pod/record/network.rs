//! What is known of a pod's network.

use serde::{Deserialize, Serialize};

/// A pod's place on a network of plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id there: another one for each sandbox.
    pub id: String,
    /// Name of the network.
    pub name: String,
    /// How far it has got.
    pub step: NetworkStep,
}

/// What is being done about a pod's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkStep {
    /// Plugins are giving it addresses: nothing is started yet.
    Attaching,
    /// It is on the network, or something of it may be.
    Attached,
    /// Plugins are taking it off.
    Releasing,
}
