//! YAML or JSON to checked and defaulted Kubernetes objects.
//!
//! ```text
//! input.rs     files, directories, stdin → texts
//! yaml.rs      text → tree.rs: nodes with lines; scalar.rs: what plain scalars mean
//! document.rs  nodes → objects of known kinds
//! decode.rs    node + support/ (the table of all fields) → JSON; what is wrong → problem.rs
//! defaults.rs  what the API fills in
//! images.rs    relative paths of images → absolute ones
//! rules/       the API's validation
//! load.rs      all of it, in this order; difference.rs: what has changed since
//! ```

mod access;
mod annotations;
mod decode;
mod defaults;
mod difference;
mod document;
mod images;
mod input;
mod load;
mod names;
mod problem;
mod rules;
mod scalar;
pub mod support;
mod tree;
mod yaml;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use serde::{Deserialize, Serialize};

use crate::error::Result;

pub use difference::differences;
pub use input::Input;
pub use support::ignored;

/// Reads a pod and the objects it refers to; objects of other namespaces are left out.
///
/// # Errors
/// [`crate::error::Error::Invalid`] with everything that is wrong, each with file and line;
/// [`crate::error::Error::Os`] if an input cannot be read.
pub fn load(inputs: &[Input]) -> Result<Manifest> {
    load_edited(inputs, &|_| {})
}

/// As [`load()`]; the pod is edited as if the manifest said so, before it is checked.
///
/// # Errors
/// As [`load()`].
pub fn load_edited(inputs: &[Input], edit: &dyn Fn(&mut Pod)) -> Result<Manifest> {
    load::texts(&input::read(inputs)?, edit)
}

/// As [`load()`], of one text.
pub(crate) fn load_text(text: String) -> Result<Manifest> {
    load::texts(&[input::Text { file: "text".into(), dir: None, text }], &|_| {})
}

/// A pod and all that it refers to: strictly decoded, valid, with the API's defaults filled in,
/// with a namespace, a uid and a creation time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The pod, without status.
    pub pod: Pod,
    /// The other objects that were given with it.
    pub objects: Objects,
    /// What of the text was left out, to be told: a sentence each.
    #[serde(skip)]
    pub left_out: Vec<String>,
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
