//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, VolumeProjection,
};

use super::atomic::{File, Payload};
use super::source::Source;
use super::{Place, downward};

/// Mode of files for which the manifest names none.
const DEFAULT_MODE: i32 = 0o644;

/// What is to be read of an object: which keys, where to, and whether it may be missing.
struct Wanted<'a> {
    items: Option<&'a Vec<KeyToPath>>,
    mode: i32,
    is_optional: bool,
}

impl<'a> Wanted<'a> {
    fn new(items: Option<&'a Vec<KeyToPath>>, mode: Option<i32>, optional: Option<bool>) -> Self {
        Self { items, mode: mode.unwrap_or(DEFAULT_MODE), is_optional: optional == Some(true) }
    }
}

/// The files of a volume; none at all for one of another kind.
///
/// # Errors
/// The kubelet's words for what is missing.
pub(super) fn payload(place: &Place<'_>, source: &Source<'_>) -> Result<Payload, String> {
    match source {
        Source::ConfigMap(source) => config_map(
            place,
            &source.name,
            &Wanted::new(source.items.as_ref(), source.default_mode, source.optional),
        ),
        Source::Secret(source) => secret(
            place,
            source.secret_name.as_deref().unwrap_or_default(),
            &Wanted::new(source.items.as_ref(), source.default_mode, source.optional),
        ),
        Source::DownwardApi(source) => {
            downward_api(place, source.items.as_ref(), source.default_mode)
        }
        Source::Projected(source) => projected(place, source),
        Source::EmptyDir(_)
        | Source::HostPath(_)
        | Source::Local(..)
        | Source::Device(_)
        | Source::Image => Ok(Payload::new()),
    }
}

fn config_map(place: &Place<'_>, name: &str, wanted: &Wanted<'_>) -> Result<Payload, String> {
    let Some(object) = place.manifest.objects.config_maps.get(name) else {
        return missing(wanted, format!("configmap {name:?} not found"));
    };
    let mut content: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (key, value) in object.data.iter().flatten() {
        content.insert(key, value.as_bytes());
    }
    for (key, value) in object.binary_data.iter().flatten() {
        content.insert(key, &value.0);
    }
    pick(&content, wanted, "configmap references non-existent config key")
}

fn secret(place: &Place<'_>, name: &str, wanted: &Wanted<'_>) -> Result<Payload, String> {
    let Some(object) = place.manifest.objects.secrets.get(name) else {
        return missing(wanted, format!("secret {name:?} not found"));
    };
    let data = object.data.iter().flatten();
    let content = data.map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    pick(&content, wanted, "references non-existent secret key")
}

fn missing(wanted: &Wanted<'_>, message: String) -> Result<Payload, String> {
    if wanted.is_optional { Ok(Payload::new()) } else { Err(message) }
}

/// All keys, or those that are asked for.
fn pick(
    content: &BTreeMap<&str, &[u8]>,
    wanted: &Wanted<'_>,
    no_key: &str,
) -> Result<Payload, String> {
    let Some(items) = wanted.items.filter(|items| !items.is_empty()) else {
        let all = content.iter();
        return all
            .map(|(key, value)| Ok(((*key).to_owned(), file(value, wanted.mode)?)))
            .collect();
    };
    let mut files = Payload::new();
    for item in items {
        match content.get(item.key.as_str()) {
            Some(value) => {
                files.insert(item.path.clone(), file(value, item.mode.unwrap_or(wanted.mode))?);
            }
            None if wanted.is_optional => {}
            None => return Err(format!("{no_key}: {}", item.key)),
        }
    }
    Ok(files)
}

fn file(data: &[u8], mode: i32) -> Result<File, String> {
    let mode = u32::try_from(mode).ok().filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or("must be a number between 0 and 0777 (octal), both inclusive")?;
    Ok(File { data: data.to_owned(), mode })
}

fn downward_api(
    place: &Place<'_>,
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    mode: Option<i32>,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(&place.manifest.pod, &field.field_path)?,
            (None, Some(resource)) => downward::resource(place, resource)?,
            (None, None) => return Err(format!("{:?} has neither field nor resource", item.path)),
        };
        let mode = item.mode.or(mode).unwrap_or(DEFAULT_MODE);
        files.insert(item.path.clone(), file(text.as_bytes(), mode)?);
    }
    Ok(files)
}

/// All sources into one volume; a later one wins where two have the same path.
fn projected(place: &Place<'_>, source: &ProjectedVolumeSource) -> Result<Payload, String> {
    let mut files = Payload::new();
    for one in source.sources.iter().flatten() {
        files.extend(projection(place, one, source.default_mode)?);
    }
    Ok(files)
}

fn projection(
    place: &Place<'_>,
    source: &VolumeProjection,
    mode: Option<i32>,
) -> Result<Payload, String> {
    if let Some(one) = &source.config_map {
        let wanted = Wanted::new(one.items.as_ref(), mode, one.optional);
        return config_map(place, &one.name, &wanted);
    }
    if let Some(one) = &source.secret {
        return secret(place, &one.name, &Wanted::new(one.items.as_ref(), mode, one.optional));
    }
    if let Some(one) = &source.downward_api {
        return downward_api(place, one.items.as_ref(), mode);
    }
    let refused = [
        ("serviceAccountToken", source.service_account_token.is_some()),
        ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
        ("podCertificate", source.pod_certificate.is_some()),
    ];
    match refused.iter().find(|(_, is_there)| *is_there) {
        Some((name, _)) => Err(format!("{name} needs a Kubernetes API server, there is none")),
        None => Ok(Payload::new()),
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
