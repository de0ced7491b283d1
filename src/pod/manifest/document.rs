//! Objects as they are found in texts, before they are decoded.

use std::path::PathBuf;

use super::access;
use super::input::Text;
use super::support::{self, Object};
use super::tree::{Node, Value};
use super::yaml;

/// Kinds that a manifest can have, all of API version `v1`.
pub(super) static KINDS: [(&str, &Object); 5] = [
    ("ConfigMap", &support::CONFIG_MAP),
    ("PersistentVolume", &support::PERSISTENT_VOLUME),
    ("PersistentVolumeClaim", &support::PERSISTENT_VOLUME_CLAIM),
    ("Pod", &support::POD),
    ("Secret", &support::SECRET),
];
/// Kinds that make pods.
const WORKLOADS: [&str; 8] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "PodTemplate",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// A kind of objects by its name, in which case does not count.
pub(super) fn kind(name: &str) -> Option<(&'static str, &'static Object)> {
    KINDS.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(name)).copied()
}

/// An object of a known kind.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it was found.
    pub(super) file: String,
    /// The directory of that.
    pub(super) dir: Option<PathBuf>,
    /// The object.
    pub(super) node: Node,
    /// Its kind.
    pub(super) kind: &'static str,
    /// The fields of its kind.
    pub(super) object: &'static Object,
    /// What was left out of it.
    pub(super) left_out: Vec<String>,
}

impl Document {
    /// `metadata.name`, if it is given.
    pub(super) fn name(&self) -> Option<&str> {
        self.metadata("name")
    }

    /// `metadata.namespace`, if it is given.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.metadata("namespace")
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        self.node.get("metadata")?.text(key).filter(|text| !text.is_empty())
    }

    /// `file:line` of its beginning.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.node.line)
    }
}

/// All objects of a text, those of lists too; what is none goes to `problems`.
pub(super) fn documents(text: &Text, problems: &mut Vec<String>) -> Vec<Document> {
    let mut found = Vec::new();
    match yaml::documents(&text.text) {
        Ok(nodes) => nodes.into_iter().for_each(|node| {
            classify(text, node, &mut found, problems);
        }),
        Err(fault) => problems.push(format!("{}:{}: {}", text.file, fault.line, fault.text)),
    }
    found
}

fn classify(text: &Text, mut node: Node, found: &mut Vec<Document>, problems: &mut Vec<String>) {
    let file = &text.file;
    let place = format!("{file}:{}", node.line);
    if !matches!(node.value, Value::Map(_)) {
        problems.push(format!("{place}: must be an object with apiVersion and kind"));
        return;
    }
    let (Some(kind), Some(version)) = (node.text("kind"), node.text("apiVersion")) else {
        let missing = if node.text("kind").is_none() { "Kind" } else { "apiVersion" };
        problems.push(format!("{place}: Object '{missing}' is missing"));
        return;
    };
    if (kind, version) == ("List", "v1") {
        for item in take_items(&mut node) {
            classify(text, item, found, problems);
        }
        return;
    }
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((kind, object)) if version == "v1" => {
            let (file, dir) = (file.clone(), text.dir.clone());
            let left_out = if *kind == "Pod" { access::leave_out(&mut node) } else { Vec::new() };
            found.push(Document { file, dir, node, kind, object, left_out });
        }
        Some(_) => {
            problems.push(format!("{place}: no matches for kind {kind:?} in version {version:?}"));
        }
        None if WORKLOADS.contains(&kind) => problems.push(format!(
            "{place}: kind {kind} is not supported: give a Pod, as its template describes it"
        )),
        None if kind == "Kustomization" => problems.push(format!(
            "{place}: kind {kind} is not supported: give what `kubectl kustomize` makes of it"
        )),
        None => problems.push(format!(
            "{place}: kind {kind} is not supported: a manifest can have one Pod, and ConfigMaps, \
             Secrets, PersistentVolumeClaims and PersistentVolumes"
        )),
    }
}

fn take_items(node: &mut Node) -> Vec<Node> {
    let Value::Map(map) = &mut node.value else { return Vec::new() };
    let items = map.entries.iter_mut().find(|entry| &*entry.key == "items");
    match items.map(|entry| &mut entry.node.value) {
        Some(Value::List(items)) => std::mem::take(items),
        _ => Vec::new(),
    }
}
