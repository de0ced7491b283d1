//! The environment of a member, and the expansion of `$(NAME)`.
//!
//! Source: the kubelet's `makeEnvironmentVariables`; Kubernetes, *Define Dependent Environment
//! Variables*.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec,
    ResourceFieldSelector, Secret,
};

use super::quantity::Quantity;
use super::resources::Side;
use super::{Image, Node, Place, StartFailure, config_error, create_error, pod_spec, resources};
use crate::pod::manifest::Objects;

/// Variables in the order in which they first came up, each name once; a later value wins.
#[derive(Debug, Default)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.index.get(name).and_then(|at| self.list.get_mut(*at)) {
            Some(entry) => entry.1 = value.into(),
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value.into()));
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let entry = self.list.get(*self.index.get(name)?)?;
        Some(&entry.1)
    }

    pub(super) fn into_list(self) -> Vec<(String, String)> {
        self.list
    }
}

/// The variables that the manifest gives a container, each name once. Those of services are never
/// among them: there are no services.
///
/// # Errors
/// `CreateContainerConfigError` naming what is missing.
pub fn environment(
    place: &Place<'_>,
    container: &Container,
) -> Result<Vec<(String, String)>, StartFailure> {
    let mut variables = Variables::default();
    for source in container.env_from.iter().flatten() {
        add_all(&mut variables, source, &place.manifest.objects)?;
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(place, container, variable, &variables)? {
            variables.set(&variable.name, value);
        }
    }
    Ok(variables.into_list())
}

/// One entry of `envFrom`. Keys that cannot be names are left out, as the kubelet does.
fn add_all(
    variables: &mut Variables,
    source: &EnvFromSource,
    objects: &Objects,
) -> Result<(), StartFailure> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(wanted) = &source.config_map_ref {
        let found = config_map(objects, &wanted.name, wanted.optional)?;
        for (key, value) in found.and_then(|map| map.data.as_ref()).into_iter().flatten() {
            add(variables, prefix, key, value);
        }
    }
    if let Some(wanted) = &source.secret_ref {
        let found = secret(objects, &wanted.name, wanted.optional)?;
        for (key, value) in found.and_then(|secret| secret.data.as_ref()).into_iter().flatten() {
            add(variables, prefix, key, &text(value, &wanted.name, key)?);
        }
    }
    Ok(())
}

fn add(variables: &mut Variables, prefix: &str, key: &str, value: &str) {
    let name = format!("{prefix}{key}");
    let allowed = |b: u8| matches!(b, b' '..=b'~') && b != b'=';
    if !name.is_empty() && name.bytes().all(allowed) {
        variables.set(&name, value);
    }
}

/// The value of one entry of `env`; `None` if something optional is not there.
fn value_of(
    place: &Place<'_>,
    container: &Container,
    variable: &EnvVar,
    before: &Variables,
) -> Result<Option<String>, StartFailure> {
    if let Some(value) = variable.value.as_deref().filter(|value| !value.is_empty()) {
        let lookup = |name: &str| before.get(name).map(str::to_owned);
        return Ok(Some(expand(value, lookup)));
    }
    match &variable.value_from {
        None => Ok(Some(String::new())),
        Some(source) => from_source(place, container, &variable.name, source),
    }
}

fn from_source(
    place: &Place<'_>,
    container: &Container,
    name: &str,
    source: &EnvVarSource,
) -> Result<Option<String>, StartFailure> {
    let objects = &place.manifest.objects;
    if let Some(field) = &source.field_ref {
        return of_field(place, field).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        return of_resource(place, container, field).map(Some);
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let Some(map) = config_map(objects, &wanted.name, wanted.optional)? else {
            return Ok(None);
        };
        let value = map.data.as_ref().and_then(|data| data.get(&wanted.key));
        return match value {
            None if wanted.optional == Some(true) => Ok(None),
            None => Err(no_key(place, &wanted.key, "ConfigMap", &wanted.name)),
            Some(value) => Ok(Some(value.clone())),
        };
    }
    if let Some(wanted) = &source.secret_key_ref {
        let Some(secret) = secret(objects, &wanted.name, wanted.optional)? else {
            return Ok(None);
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&wanted.key));
        return match value {
            None if wanted.optional == Some(true) => Ok(None),
            None => Err(no_key(place, &wanted.key, "Secret", &wanted.name)),
            Some(value) => text(value, &wanted.name, &wanted.key).map(Some),
        };
    }
    let what = if source.file_key_ref.is_some() { "fileKeyRef" } else { "valueFrom" };
    Err(config_error(format!("env {name}: {what} is not supported")))
}

fn no_key(place: &Place<'_>, key: &str, kind: &str, name: &str) -> StartFailure {
    let namespace = place.manifest.pod.metadata.namespace.as_deref().unwrap_or_default();
    config_error(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
}

fn config_map<'a>(
    objects: &'a Objects,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a ConfigMap>, StartFailure> {
    match objects.config_maps.get(name) {
        None if optional != Some(true) => {
            Err(config_error(format!("configmap {name:?} not found")))
        }
        found => Ok(found),
    }
}

fn secret<'a>(
    objects: &'a Objects,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Secret>, StartFailure> {
    match objects.secrets.get(name) {
        None if optional != Some(true) => Err(config_error(format!("secret {name:?} not found"))),
        found => Ok(found),
    }
}

/// A secret's value as text; the value itself is not for a message.
fn text(value: &ByteString, name: &str, key: &str) -> Result<String, StartFailure> {
    let refuse = |what: &str| {
        config_error(format!("key {key} in Secret {name} {what}, and cannot be a variable"))
    };
    match std::str::from_utf8(&value.0) {
        Ok(text) if text.contains('\0') => Err(refuse("holds a NUL byte")),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(refuse("is not UTF-8")),
    }
}

/// The value of `fieldRef`.
fn of_field(place: &Place<'_>, field: &ObjectFieldSelector) -> Result<String, StartFailure> {
    let pod = &place.manifest.pod;
    let (meta, spec) = (&pod.metadata, pod_spec(pod));
    let on_host = spec.host_network == Some(true);
    let pod_ips = if on_host { &place.node.ips } else { &place.sandbox.ips };
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let path = field.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_else(|| place.node.name.clone()),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => first(&place.node.ips),
        "status.hostIPs" => place.node.ips.join(","),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> StartFailure {
    config_error(format!("unsupported fieldPath: {path}"))
}

/// The parts of `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// The value of `resourceFieldRef`.
fn of_resource(
    place: &Place<'_>,
    container: &Container,
    field: &ResourceFieldSelector,
) -> Result<String, StartFailure> {
    let spec = pod_spec(&place.manifest.pod);
    let named = field.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => container,
        Some(name) => resources::all_containers(&spec)
            .find(|one| one.name == name)
            .ok_or_else(|| config_error(format!("container {name} not found")))?,
    };
    let divisor = field.divisor.as_ref().and_then(|text| Quantity::parse(&text.0));
    resource_value(&spec, place.node, container, &field.resource, divisor)
        .ok_or_else(|| config_error(format!("unsupported container resource : {}", field.resource)))
}

/// `limits.cpu` and its like, divided and rounded up. Without a limit of its own a container has
/// the pod's, and without that all of the machine.
///
/// Also what the downwardAPI volume shows.
#[must_use]
pub fn resource_value(
    spec: &PodSpec,
    node: &Node,
    container: &Container,
    resource: &str,
    divisor: Option<Quantity>,
) -> Option<String> {
    let (side, name) = resource.split_once('.')?;
    let side = match side {
        "limits" => Side::Limits,
        "requests" => Side::Requests,
        _ => return None,
    };
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return None;
    }
    let own = resources::of_container(container, side, name).filter(|own| !own.is_zero());
    let value = match (own, side) {
        (Some(own), _) => own,
        (None, Side::Requests) => Quantity::ZERO,
        (None, Side::Limits) => {
            let of_pod = resources::of_pod(spec, side, name).filter(|of_pod| !of_pod.is_zero());
            of_pod.unwrap_or_else(|| resources::allocatable(node, name))
        }
    };
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::units(1));
    let (value, divisor) = match name {
        "cpu" => (value.milli(), divisor.milli()),
        _ => (value.value(), divisor.value()),
    };
    let whole = value.div_euclid(divisor);
    Some((whole + i64::from(value.rem_euclid(divisor) != 0)).to_string())
}

/// Replaces `$(NAME)` by its value; unknown names stay as they are, `$$` is one `$`. What a value
/// holds is not expanded again.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            after.strip_prefix('(').and_then(|name| name.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands with the variables of a container, as `command`, `args` and `subPathExpr` are.
#[must_use]
pub fn expand_with(text: &str, env: &[(String, String)]) -> String {
    let value = |name: &str| env.iter().rev().find(|(known, _)| known == name);
    expand(text, |name| value(name).map(|(_, value)| value.clone()))
}

/// The command line: `command` and `args` of the manifest against those of the image.
///
/// # Errors
/// `CreateContainerError` if there is none.
pub fn command(
    container: &Container,
    image: &Image,
    env: &[(String, String)],
) -> Result<Vec<String>, StartFailure> {
    let given = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        Some(list.iter().map(|text| expand_with(text, env)).collect())
    };
    let (mut line, rest) = match (given(&container.command), given(&container.args)) {
        (None, None) => (image.entrypoint.clone(), image.cmd.clone()),
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (image.entrypoint.clone(), args),
    };
    line.extend(rest);
    if line.is_empty() {
        return Err(create_error("no command specified"));
    }
    Ok(line)
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
