//! Volumes of a pod.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource, Volume,
};

use super::super::names;
use super::super::problem::Problems;
use super::env::{self, Place};
use super::{form, list, no_way_up, relative_path};
use crate::pod::member::quantity::Quantity;

/// Checks all volumes.
pub(super) fn volumes(spec: &PodSpec, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if !volume.name.is_empty() && !seen.insert(&volume.name) {
            problems.duplicate(&format!("{path}.name"), &volume.name);
        }
        one_source(&path, volume, problems);
        source(&path, volume, spec, problems);
    }
}

fn one_source(path: &str, volume: &Volume, problems: &mut Problems) {
    let sources = [
        ("configMap", volume.config_map.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("image", volume.image.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("projected", volume.projected.is_some()),
        ("secret", volume.secret.is_some()),
    ];
    for (name, _) in sources.iter().filter(|(_, given)| *given).skip(1) {
        problems.forbidden(&format!("{path}.{name}"), "may not specify more than 1 volume type");
    }
}

fn source(path: &str, volume: &Volume, spec: &PodSpec, problems: &mut Problems) {
    if let Some(source) = &volume.config_map {
        items(&format!("{path}.configMap"), list(&source.items), problems);
    }
    if let Some(source) = &volume.secret {
        items(&format!("{path}.secret"), list(&source.items), problems);
    }
    if let Some(source) = &volume.downward_api {
        files(&format!("{path}.downwardAPI"), list(&source.items), spec, problems);
    }
    if let Some(source) = &volume.projected {
        projected(&format!("{path}.projected"), source, spec, problems);
    }
    let medium = volume.empty_dir.as_ref().and_then(|source| source.medium.as_deref());
    if let Some(medium) = medium
        && !matches!(medium, "" | "Memory" | "HugePages")
        && medium.strip_prefix("HugePages-").is_none_or(|size| Quantity::parse(size).is_none())
    {
        let media = ["HugePages", "HugePages-<size>", "Memory"];
        problems.unsupported(&format!("{path}.emptyDir.medium"), medium, &media);
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref())
        && Quantity::parse(&limit.0).is_some_and(Quantity::is_negative)
    {
        let path = format!("{path}.emptyDir.sizeLimit");
        problems.forbidden(&path, "SizeLimit field must be a valid resource quantity");
    }
    if let Some(reference) = volume.image.as_ref().and_then(|source| source.reference.as_deref())
        && reference.trim() != reference
    {
        let detail = "must not have leading or trailing whitespace";
        problems.invalid(&format!("{path}.image.reference"), reference, detail);
    }
    if let Some(source) = &volume.host_path {
        host_path(&format!("{path}.hostPath.path"), &source.path, problems);
    }
}

/// A path of the machine.
pub(super) fn host_path(path: &str, value: &str, problems: &mut Problems) {
    if !value.is_empty() && !value.starts_with('/') {
        problems.invalid(path, value, "must be an absolute path");
    }
    no_way_up(problems, path, value);
}

fn items(path: &str, items: &[KeyToPath], problems: &mut Problems) {
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        if !item.key.is_empty() {
            form(problems, &format!("{path}.key"), &item.key, names::key(&item.key));
        }
        file(&format!("{path}.path"), &item.path, problems);
    }
}

fn file(path: &str, value: &str, problems: &mut Problems) {
    relative_path(problems, path, value);
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        problems.invalid(path, value, "must not start with '..'");
    }
    if value.split('/').any(|part| part.len() > 255) || value.len() > 4095 {
        problems.too_long(path, 255);
    }
}

fn files(path: &str, files: &[DownwardAPIVolumeFile], spec: &PodSpec, problems: &mut Problems) {
    for (index, item) in files.iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        file(&format!("{path}.path"), &item.path, problems);
        match (&item.field_ref, &item.resource_field_ref) {
            (None, None) => {
                problems.required(&path, "one of fieldRef and resourceFieldRef is required");
            }
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                problems.invalid(&path, "", detail);
            }
            _ => {}
        }
        if let Some(field) = &item.field_ref {
            env::field(&format!("{path}.fieldRef"), field, Place::File, problems);
        }
        if let Some(resource) = &item.resource_field_ref {
            let path = format!("{path}.resourceFieldRef");
            env::resource(&path, resource, Place::File, spec, problems);
        }
    }
}

fn projected(path: &str, volume: &ProjectedVolumeSource, spec: &PodSpec, problems: &mut Problems) {
    let mut paths = HashSet::new();
    for (index, source) in list(&volume.sources).iter().enumerate() {
        let at = format!("{path}.sources[{index}]");
        let mut parts = 0;
        let mut given = Vec::new();
        if let Some(part) = &source.config_map {
            parts += 1;
            items(&format!("{at}.configMap"), list(&part.items), problems);
            given.extend(list(&part.items).iter().map(|item| (&part.name, &item.path)));
        }
        if let Some(part) = &source.secret {
            parts += 1;
            items(&format!("{at}.secret"), list(&part.items), problems);
            given.extend(list(&part.items).iter().map(|item| (&part.name, &item.path)));
        }
        if let Some(part) = &source.downward_api {
            parts += 1;
            files(&format!("{at}.downwardAPI"), list(&part.items), spec, problems);
            given.extend(list(&part.items).iter().map(|item| (&item.path, &item.path)));
        }
        if parts > 1 {
            problems.forbidden(&at, "may not specify more than 1 volume type per source");
        }
        for (name, file) in given {
            if !paths.insert(file) {
                problems.invalid(&at, name, "conflicting duplicate paths");
            }
        }
    }
}
