//! Metadata, and the objects that a pod refers to.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::names;
use super::super::problem::Problems;
use super::{form, list, volumes};
use crate::pod::member::quantity::Quantity;

const MAX_ANNOTATIONS: usize = 256 << 10;
const MAX_DATA: usize = 1 << 20;

/// Checks what all kinds of objects have.
pub(in super::super) fn metadata(metadata: &ObjectMeta, problems: &mut Problems) {
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        problems.required("metadata.name", "name or generateName is required");
    }
    if let Some(uid) = &metadata.uid {
        form(problems, "metadata.uid", uid, names::uid(uid));
    }
    for (key, value) in metadata.labels.iter().flatten() {
        form(problems, "metadata.labels", key, names::qualified(key));
        form(problems, &format!("metadata.labels[{key}]"), value, names::label_value(value));
    }
    let mut size = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        form(problems, "metadata.annotations", key, names::qualified(&key.to_ascii_lowercase()));
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        problems.too_long("metadata.annotations", MAX_ANNOTATIONS);
    }
}

fn keys<'a>(
    field: &str,
    all: impl Iterator<Item = (&'a String, usize)>,
    problems: &mut Problems,
) -> usize {
    all.map(|(key, size)| {
        form(problems, &format!("{field}[{key}]"), key, names::key(key));
        size
    })
    .sum()
}

/// Checks a ConfigMap.
pub(in super::super) fn config_map(object: &ConfigMap, problems: &mut Problems) {
    metadata(&object.metadata, problems);
    let data = object.data.iter().flatten().map(|(key, value)| (key, value.len()));
    let binary = object.binary_data.iter().flatten().map(|(key, value)| (key, value.0.len()));
    let size = keys("data", data, problems) + keys("binaryData", binary, problems);
    if size > MAX_DATA {
        problems.too_long("data", MAX_DATA);
    }
    for key in object.binary_data.iter().flatten().map(|(key, _)| key) {
        if object.data.as_ref().is_some_and(|data| data.contains_key(key)) {
            let detail = "duplicate of key present in binaryData";
            problems.invalid(&format!("data[{key}]"), key, detail);
        }
    }
}

/// Checks a Secret, of which `stringData` is in `data` already.
pub(in super::super) fn secret(object: &Secret, problems: &mut Problems) {
    metadata(&object.metadata, problems);
    let data = object.data.iter().flatten().map(|(key, value)| (key, value.0.len()));
    if keys("data", data, problems) > MAX_DATA {
        problems.too_long("data", MAX_DATA);
    }
}

/// Checks a claim.
pub(in super::super) fn claim(object: &PersistentVolumeClaim, problems: &mut Problems) {
    metadata(&object.metadata, problems);
    let Some(spec) = &object.spec else { return };
    if list(&spec.access_modes).is_empty() {
        problems.required("spec.accessModes", "at least 1 access mode is required");
    }
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => problems.required("spec.resources[storage]", ""),
        Some(size) if Quantity::parse(&size.0) <= Some(Quantity::ZERO) => {
            let path = "spec.resources.requests[storage]";
            problems.invalid(path, &size.0, "must be greater than zero");
        }
        Some(_) => {}
    }
}

/// Checks a volume.
pub(in super::super) fn volume(object: &PersistentVolume, problems: &mut Problems) {
    metadata(&object.metadata, problems);
    let Some(spec) = &object.spec else { return };
    if list(&spec.access_modes).is_empty() {
        problems.required("spec.accessModes", "");
    }
    if !spec.capacity.as_ref().is_some_and(|capacity| capacity.contains_key("storage")) {
        problems.required("spec.capacity", "");
    }
    match (&spec.host_path, &spec.local) {
        (None, None) => problems.required("spec", "must specify a volume type"),
        (Some(_), Some(_)) => {
            problems.forbidden("spec.local", "may not specify more than 1 volume type");
        }
        (Some(source), None) => {
            volumes::host_path("spec.hostPath.path", &source.path, problems);
        }
        (None, Some(source)) => volumes::host_path("spec.local.path", &source.path, problems),
    }
}
