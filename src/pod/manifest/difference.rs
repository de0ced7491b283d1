//! What is different in a manifest that is given again.

use serde_json::Value;

use super::Manifest;

/// Paths of the pod in which two manifests differ; what carob fills in does not count.
#[must_use]
pub fn differences(old: &Manifest, new: &Manifest) -> Vec<String> {
    let plain = |manifest: &Manifest| {
        let mut pod = manifest.pod.clone();
        pod.metadata.uid = None;
        pod.metadata.creation_timestamp = None;
        pod.status = None;
        serde_json::to_value(pod).unwrap_or_default()
    };
    let mut paths = Vec::new();
    compare(&plain(old), &plain(new), "", &mut paths);
    paths
}

fn compare(old: &Value, new: &Value, path: &str, paths: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                compare(a, b, &below, paths);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{index}]"), paths);
            }
        }
        (a, b) if a != b => paths.push(path.to_owned()),
        _ => {}
    }
}
