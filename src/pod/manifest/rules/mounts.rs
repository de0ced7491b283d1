//! Where a container mounts volumes.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};

use super::super::problem::Problems;
use super::{list, no_way_up, relative_path};

/// Checks the mounts of a container.
pub(super) fn mounts(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    let volumes: HashSet<&str> = list(&spec.volumes).iter().map(|v| v.name.as_str()).collect();
    let privileged =
        item.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
    let mut seen = HashSet::new();
    for (index, mount) in list(&item.volume_mounts).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !mount.name.is_empty() && !volumes.contains(mount.name.as_str()) {
            problems.not_found(&format!("{path}.name"), &mount.name, "");
        }
        if !mount.mount_path.is_empty() && !seen.insert(&mount.mount_path) {
            problems.invalid(&format!("{path}.mountPath"), &mount.mount_path, "must be unique");
        }
        sub_path(&path, mount, problems);
        if mount.mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            problems.forbidden(&format!("{path}.mountPropagation"), detail);
        }
        recursive(&path, mount, problems);
    }
}

/// Checks the block volumes of a container.
pub(super) fn devices(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    let mounts = || list(&item.volume_mounts).iter();
    let mut seen = HashSet::new();
    for (index, device) in list(&item.volume_devices).iter().enumerate() {
        let path = format!("{path}.volumeDevices[{index}]");
        let name = format!("{path}.name");
        match list(&spec.volumes).iter().find(|volume| volume.name == device.name) {
            _ if device.name.is_empty() => {}
            None => problems.not_found(&name, &device.name, ""),
            Some(volume) if volume.persistent_volume_claim.is_none() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim for block mode";
                problems.invalid(&name, &device.name, detail);
            }
            Some(_) => {}
        }
        if mounts().any(|mount| mount.name == device.name) {
            let detail = "must not already exist in volumeMounts";
            problems.invalid(&name, &device.name, detail);
        }
        let at = format!("{path}.devicePath");
        let place = &device.device_path;
        if !place.is_empty()
            && (!seen.insert(place) || mounts().any(|mount| mount.mount_path == *place))
        {
            problems.invalid(&at, place, "must be unique");
        }
        no_way_up(problems, &at, place);
    }
}

fn sub_path(path: &str, mount: &VolumeMount, problems: &mut Problems) {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let fields =
        [("subPath", given(&mount.sub_path)), ("subPathExpr", given(&mount.sub_path_expr))];
    if let [(_, Some(_)), (_, Some(expression))] = &fields {
        let detail = "subPathExpr and subPath are mutually exclusive";
        problems.invalid(&format!("{path}.subPathExpr"), expression, detail);
    }
    for (field, value) in fields {
        relative_path(problems, &format!("{path}.{field}"), &value.unwrap_or_default());
    }
}

fn recursive(path: &str, mount: &VolumeMount, problems: &mut Problems) {
    if !matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")) {
        return;
    }
    let path = format!("{path}.recursiveReadOnly");
    if mount.read_only != Some(true) {
        problems.forbidden(&path, "may only be specified when readOnly is true");
    }
    if !matches!(mount.mount_propagation.as_deref(), None | Some("" | "None")) {
        let detail = "may only be specified when mountPropagation is None or not specified";
        problems.forbidden(&path, detail);
    }
}
