//! Fields and resources of a pod as text, for downwardAPI volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use super::Place;
use crate::pod::member::quantity::Quantity;
use crate::pod::member::{self, env};

/// The value of a `fieldRef`.
///
/// # Errors
/// The kubelet's words for a path that there is not in volumes.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| Ok(field.clone().unwrap_or_default());
    match path {
        "metadata.name" => return text(&meta.name),
        "metadata.namespace" => return text(&meta.namespace),
        "metadata.uid" => return text(&meta.uid),
        "metadata.labels" => return Ok(all(meta.labels.as_ref())),
        "metadata.annotations" => return Ok(all(meta.annotations.as_ref())),
        _ => {}
    }
    let subscript = |map: &str| path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
    let value = |map: Option<&BTreeMap<String, String>>, key| {
        Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
    };
    if let Some(key) = subscript("metadata.labels") {
        return value(meta.labels.as_ref(), key);
    }
    if let Some(key) = subscript("metadata.annotations") {
        return value(meta.annotations.as_ref(), key);
    }
    Err(format!("unsupported fieldPath: {path}"))
}

/// One `key="value"` a line, sorted, without a final newline.
fn all(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// As Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`: in units of its divisor, rounded up.
///
/// # Errors
/// The kubelet's words for a container or resource that there is not.
pub(super) fn resource(
    place: &Place<'_>,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let spec = member::pod_spec(&place.manifest.pod);
    let wanted = selector.container_name.as_deref().unwrap_or_default();
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let Some(container) = containers.find(|container| container.name == wanted) else {
        return Err(format!("container {wanted} not found"));
    };
    let divisor = selector.divisor.as_ref().and_then(|text| Quantity::parse(&text.0));
    env::resource_value(&spec, place.node, container, &selector.resource, divisor)
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_metadata() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"web","namespace":"ns","uid":"u-1",
                "labels":{"b":"2","a":"1 \"x\"\n\\"},"annotations":{"k.io/n":"ü\u0001"}}}"#,
        )
        .unwrap();
        let cases = [
            ("metadata.name", Ok("web")),
            ("metadata.namespace", Ok("ns")),
            ("metadata.uid", Ok("u-1")),
            ("metadata.labels", Ok("a=\"1 \\\"x\\\"\\n\\\\\"\nb=\"2\"")),
            ("metadata.annotations", Ok("k.io/n=\"ü\\x01\"")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['k.io/n']", Ok("ü\u{1}")),
            ("status.podIP", Err("unsupported fieldPath: status.podIP")),
            ("metadata.labels[b]", Err("unsupported fieldPath: metadata.labels[b]")),
        ];
        for (path, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(field(&pod, path), expected, "{path}");
        }
    }
}
