//! Fields and resources of a pod as text, for downwardAPI volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::Place;
use crate::pod::member::quantity::Quantity;

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
    let wanted = selector.container_name.as_deref().unwrap_or_default();
    let spec = place.manifest.pod.spec.as_ref();
    let of_init = spec.and_then(|spec| spec.init_containers.as_ref());
    let mut containers =
        spec.into_iter().flat_map(|spec| &spec.containers).chain(of_init.into_iter().flatten());
    let Some(container) = containers.find(|container| container.name == wanted) else {
        return Err(format!("container {wanted} not found"));
    };
    let unknown = || format!("unsupported container resource : {}", selector.resource);
    let (which, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let is_known =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !is_known || !matches!(which, "limits" | "requests") {
        return Err(unknown());
    }
    let divisor = selector.divisor.as_ref().map(|text| parse(&text.0)).transpose()?;
    if name == "cpu" {
        let found = match which {
            "limits" => limit(place, container, name)?
                .map_or_else(|| i64::from(place.node.cpus) * 1000, Quantity::milli),
            _ => request(container, name)?.map_or(0, Quantity::milli),
        };
        return Ok(divided(found, divisor.map_or(0, Quantity::milli), 1000));
    }
    let found = match which {
        "limits" => {
            limit(place, container, name)?.map_or_else(|| allocatable(place, name), Quantity::value)
        }
        _ => request(container, name)?.map_or(0, Quantity::value),
    };
    Ok(divided(found, divisor.map_or(0, Quantity::value), 1))
}

fn parse(text: &str) -> Result<Quantity, String> {
    Quantity::parse(text).ok_or_else(|| format!("invalid quantity {text:?}"))
}

/// `amount / divisor`, rounded up; a divisor of zero stands for `one`.
fn divided(amount: i64, divisor: i64, one: i64) -> String {
    let divisor = if divisor == 0 { one } else { divisor };
    let quotient = amount / divisor;
    let has_rest = amount % divisor != 0;
    (quotient + i64::from(has_rest && amount > 0)).to_string()
}

fn limit(place: &Place<'_>, container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let of = |resources: Option<&ResourceRequirements>| {
        let limits: Option<&BTreeMap<String, Text>> = resources?.limits.as_ref();
        Some(limits?.get(name)?.0.clone())
    };
    let pod = place.manifest.pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let text = of(container.resources.as_ref()).or_else(|| of(pod));
    let quantity = text.map(|text| parse(&text)).transpose()?;
    Ok(quantity.filter(|quantity| quantity.value() > 0))
}

fn request(container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.and_then(|requests| requests.get(name)).map(|text| parse(&text.0)).transpose()
}

/// What the machine has of a resource.
fn allocatable(place: &Place<'_>, name: &str) -> i64 {
    let bytes = match name {
        "memory" => place.node.memory_bytes,
        "ephemeral-storage" => place.node.storage_bytes,
        _ => 0,
    };
    i64::try_from(bytes).unwrap_or(i64::MAX)
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

    #[test]
    fn division_rounds_up() {
        let cases = [(1500, 0, 1000, "2"), (1000, 1000, 1000, "1"), (250, 1, 1000, "250")];
        for (amount, divisor, one, expected) in cases {
            assert_eq!(divided(amount, divisor, one), expected);
        }
        assert_eq!(divided((64 << 20) + 1, 1 << 20, 1), "65");
        assert_eq!(divided(0, 0, 1), "0");
    }
}
