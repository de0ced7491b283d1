//! The environment of a container, and what fields and resources it can refer to.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};

use super::super::names;
use super::super::problem::Problems;
use super::{containers, form, list};
use crate::pod::member::quantity::Quantity;

/// Fields of the pod that a variable can have. Source: `pkg/apis/core/validation`.
const VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file can have.
const FILES: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
const DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Where a reference to a field or resource stands: not all can be used everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In `env`.
    Variable,
    /// In a volume.
    File,
}

/// Checks `env` and `envFrom` of a container.
pub(super) fn env(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    for (index, variable) in list(&item.env).iter().enumerate() {
        self::variable(&format!("{path}.env[{index}]"), variable, spec, problems);
    }
    for (index, source) in list(&item.env_from).iter().enumerate() {
        let path = format!("{path}.envFrom[{index}]");
        if let Some(prefix) = source.prefix.as_deref() {
            form(problems, &format!("{path}.prefix"), prefix, names::variable(prefix));
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                problems.invalid(&path, "", detail);
            }
            (Some(_), Some(_)) => {
                problems.invalid(&path, "", "may not have more than one field specified at a time");
            }
            _ => {}
        }
    }
}

fn variable(path: &str, variable: &EnvVar, spec: &PodSpec, problems: &mut Problems) {
    form(problems, &format!("{path}.name"), &variable.name, names::variable(&variable.name));
    let Some(from) = &variable.value_from else { return };
    let path = format!("{path}.valueFrom");
    if variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
        problems.invalid(&path, "", "may not be specified when `value` is not empty");
    }
    let given = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` \
                          or `secretKeyRef`";
            problems.invalid(&path, "", detail);
        }
        1 => {}
        _ => problems.invalid(&path, "", "may not have more than one field specified at a time"),
    }
    sources(&path, from, spec, problems);
}

fn sources(path: &str, from: &EnvVarSource, spec: &PodSpec, problems: &mut Problems) {
    if let Some(field) = &from.field_ref {
        self::field(&format!("{path}.fieldRef"), field, Place::Variable, problems);
    }
    if let Some(resource) = &from.resource_field_ref {
        let path = format!("{path}.resourceFieldRef");
        self::resource(&path, resource, Place::Variable, spec, problems);
    }
    let keys = [
        ("configMapKeyRef", from.config_map_key_ref.as_ref().map(|source| &source.key)),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|source| &source.key)),
    ];
    for (field, key) in keys {
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            form(problems, &format!("{path}.{field}.key"), key, names::key(key));
        }
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn field(
    path: &str,
    field: &ObjectFieldSelector,
    place: Place,
    problems: &mut Problems,
) {
    let path = format!("{path}.fieldPath");
    let value = field.field_path.as_str();
    let supported: &[&str] = if place == Place::Variable { &VARIABLES } else { &FILES };
    if value.is_empty() || supported.contains(&value) {
        return;
    }
    let Some((map, key)) = value.strip_suffix("']").and_then(|rest| rest.split_once("['")) else {
        problems.unsupported(&path, value, supported);
        return;
    };
    match map {
        "metadata.annotations" => {
            form(problems, &path, key, names::qualified(&key.to_ascii_lowercase()));
        }
        "metadata.labels" => form(problems, &path, key, names::qualified(key)),
        _ => problems.invalid(&path, value, "does not support subscript"),
    }
}

/// Checks a reference to a request or limit.
pub(super) fn resource(
    path: &str,
    resource: &ResourceFieldSelector,
    place: Place,
    spec: &PodSpec,
    problems: &mut Problems,
) {
    let name = resource.resource.as_str();
    let part = name.split_once('.').map_or("", |(_, part)| part);
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if !name.is_empty() && !RESOURCES.contains(&name) && !huge {
        problems.unsupported(&format!("{path}.resource"), name, &RESOURCES);
    }
    let at = format!("{path}.containerName");
    match resource.container_name.as_deref().unwrap_or_default() {
        "" if place == Place::File => problems.required(&at, ""),
        "" => {}
        whose if containers(spec).any(|(_, container)| container.name == whose) => {}
        whose => problems.not_found(&at, whose, "the pod has no container of this name"),
    }
    let Some(divisor) = &resource.divisor else { return };
    let divisors: &[&str] = if part == "cpu" { &CPU_DIVISORS } else { &DIVISORS };
    let amount = Quantity::parse(&divisor.0).unwrap_or_default();
    let known = divisors.iter().any(|known| Quantity::parse(known) == Some(amount));
    // 0 stands for none.
    if !amount.is_zero() && !known {
        let list = if part == "cpu" { divisors.join(" and ") } else { divisors.join(", ") };
        let detail = format!("only divisor's values {list} are supported with the {part} resource");
        problems.invalid(&format!("{path}.divisor"), name, detail);
    }
}
