//! YAML or JSON to checked and defaulted Kubernetes objects.

mod decode;
mod names;
mod problem;
pub mod quantity;
mod scalar;
pub mod support;
mod tree;
mod yaml;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use serde::{Deserialize, Serialize};

/// A pod and all that it refers to: strictly decoded, valid, with the API's defaults filled in,
/// with a namespace, a uid and a creation time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The pod, without status.
    pub pod: Pod,
    /// The other objects that were given with it.
    pub objects: Objects,
}

/// Objects of the pod's namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    /// `kind: ConfigMap`.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// `kind: Secret`; `stringData` is merged into `data`.
    pub secrets: BTreeMap<String, Secret>,
    /// `kind: PersistentVolumeClaim`.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// `kind: PersistentVolume`.
    pub volumes: BTreeMap<String, PersistentVolume>,
}
