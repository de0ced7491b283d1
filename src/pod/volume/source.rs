//! What a volume of the manifest is, with claims resolved to the volumes they are bound to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource,
    PersistentVolume, PersistentVolumeClaim, ProjectedVolumeSource, SecretVolumeSource, Volume,
};

use super::Place;
use crate::pod::member::quantity::Quantity;
use crate::pod::store::PodDirs;

/// A volume that carob can make.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// On disk, in memory, or of huge pages; without a source a volume is one, too.
    EmptyDir(Option<&'a EmptyDirVolumeSource>),
    /// Of the host.
    HostPath(&'a HostPathVolumeSource),
    /// A directory of the host, by a claim: path, and name of the PersistentVolume.
    Local(&'a str, &'a str),
    /// A block device of the host, by a claim.
    Device(&'a str),
    /// Files on disk.
    ConfigMap(&'a ConfigMapVolumeSource),
    /// Files in memory.
    Secret(&'a SecretVolumeSource),
    /// Files in memory.
    DownwardApi(&'a DownwardAPIVolumeSource),
    /// Files in memory.
    Projected(&'a ProjectedVolumeSource),
    /// The files of an image, mounted for the pod.
    Image,
}

/// Where an emptyDir is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium<'a> {
    Disk,
    Memory,
    /// Of this size, or of the only one that the pod asks for.
    HugePages(Option<&'a str>),
}

/// A volume and how it may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolved<'a> {
    /// Its name in the pod.
    pub(super) name: &'a str,
    /// What it is.
    pub(super) source: Source<'a>,
    /// Nobody may write to it, whatever a mount says.
    pub(super) read_only: bool,
}

impl Source<'_> {
    pub(super) fn medium(&self) -> Result<Medium<'_>, String> {
        let Self::EmptyDir(Some(source)) = self else { return Ok(Medium::Disk) };
        match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Medium::Disk),
            "Memory" => Ok(Medium::Memory),
            "HugePages" => Ok(Medium::HugePages(None)),
            other => match other.strip_prefix("HugePages-") {
                Some(size) => Ok(Medium::HugePages(Some(size))),
                None => Err(format!("unknown storage medium {other:?}")),
            },
        }
    }

    /// Whether it lies on the tmpfs that all data of the pod shares that must not reach a disk.
    pub(super) fn is_secret_data(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::DownwardApi(_) | Self::Projected(_))
    }
}

impl Resolved<'_> {
    /// Where it lies on the host.
    pub(super) fn path(&self, dirs: &PodDirs) -> PathBuf {
        let in_memory = || super::empty_dir::memory(dirs).join(self.name);
        match self.source {
            Source::EmptyDir(_) => match self.source.medium() {
                Ok(Medium::Memory | Medium::HugePages(_)) => in_memory(),
                Ok(Medium::Disk) | Err(_) => dirs.volume("empty-dir", self.name),
            },
            Source::HostPath(source) => PathBuf::from(&source.path),
            Source::Local(path, _) | Source::Device(path) => PathBuf::from(path),
            Source::ConfigMap(_) => dirs.volume("configmap", self.name),
            Source::Secret(_) | Source::DownwardApi(_) | Source::Projected(_) => in_memory(),
            Source::Image => dirs.volume(super::image::PLUGIN, self.name),
        }
    }
}

/// All volumes of the pod, in the order of the manifest.
pub(super) fn volumes<'a>(place: &Place<'a>) -> impl Iterator<Item = &'a Volume> {
    place.manifest.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// What one volume is.
pub(super) fn resolve<'a>(place: &Place<'a>, volume: &'a Volume) -> Result<Resolved<'a>, String> {
    let resolved = |source, read_only| Ok(Resolved { name: &volume.name, source, read_only });
    if let Some(source) = &volume.host_path {
        return resolved(Source::HostPath(source), false);
    }
    if let Some(source) = &volume.config_map {
        return resolved(Source::ConfigMap(source), true);
    }
    if let Some(source) = &volume.secret {
        return resolved(Source::Secret(source), true);
    }
    if let Some(source) = &volume.downward_api {
        return resolved(Source::DownwardApi(source), true);
    }
    if let Some(source) = &volume.projected {
        return resolved(Source::Projected(source), true);
    }
    if volume.image.is_some() {
        return resolved(Source::Image, true);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let source = claimed(place, &claim.claim_name)?;
        return resolved(source, claim.read_only == Some(true));
    }
    if volume.empty_dir.is_none() && has_other_source(volume) {
        return Err("this kind of volume is not supported by carob".into());
    }
    resolved(Source::EmptyDir(volume.empty_dir.as_ref()), false)
}

/// Whether the volume is of a kind that the manifest should have been refused for.
fn has_other_source(volume: &Volume) -> bool {
    let only_a_name = Volume { name: volume.name.clone(), ..Volume::default() };
    *volume != only_a_name
}

/// The volume that a claim of the pod is bound to.
fn claimed<'a>(place: &Place<'a>, claim: &str) -> Result<Source<'a>, String> {
    let objects = &place.manifest.objects;
    let namespace = place.manifest.pod.metadata.namespace.as_deref().unwrap_or("default");
    let wrong = |why: String| Err(format!("error processing PVC {namespace}/{claim}: {why}"));
    if !objects.claims.contains_key(claim) {
        return wrong(format!(
            "failed to fetch PVC from API server: persistentvolumeclaims {claim:?} not found"
        ));
    }
    let bound = bind(&objects.claims, &objects.volumes);
    let Some(name) = bound.get(claim) else { return wrong("PVC is not bound".into()) };
    let Some(volume) = objects.volumes.get(*name) else {
        return wrong(format!(
            "failed to fetch PV {name} from API server: persistentvolumes {name:?} not found"
        ));
    };
    let Some(spec) = &volume.spec else { return wrong(format!("PV {name} has no source")) };
    let is_device = spec.volume_mode.as_deref() == Some("Block");
    match (&spec.host_path, &spec.local) {
        (Some(source), _) if is_device => Ok(Source::Device(&source.path)),
        (None, Some(source)) if is_device => Ok(Source::Device(&source.path)),
        (Some(source), _) => Ok(Source::HostPath(source)),
        (None, Some(source)) => Ok(Source::Local(&source.path, name)),
        (None, None) => wrong(format!("PV {name}: only hostPath and local are supported here")),
    }
}

/// Which volume each claim has, by their names. What a claim or a volume names comes first, then
/// each claim gets the smallest volume that will do, as the controller of a cluster would choose.
pub(in crate::pod) fn bind<'a>(
    claims: &'a BTreeMap<String, PersistentVolumeClaim>,
    volumes: &'a BTreeMap<String, PersistentVolume>,
) -> BTreeMap<&'a str, &'a str> {
    let mut bound: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, claim) in claims {
        let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let reserved = || volumes.iter().find(|(_, volume)| is_reserved_for(volume, name));
        let volume = wanted.filter(|name| !name.is_empty());
        if let Some(volume) = volume.or_else(|| reserved().map(|(name, _)| name.as_str())) {
            bound.insert(name, volume);
        }
    }
    let mut taken: BTreeSet<&str> = bound.values().copied().collect();
    for (name, claim) in claims {
        if bound.contains_key(name.as_str()) {
            continue;
        }
        let fits = volumes
            .iter()
            .filter(|(name, volume)| !taken.contains(name.as_str()) && suits(volume, claim))
            .min_by_key(|(name, volume)| (capacity(volume), name.as_str()));
        if let Some((volume, _)) = fits {
            taken.insert(volume);
            bound.insert(name, volume);
        }
    }
    bound
}

fn is_reserved_for(volume: &PersistentVolume, claim: &str) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| reference.name.as_deref() == Some(claim))
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    let capacity = volume.spec.as_ref()?.capacity.as_ref()?;
    Quantity::parse(&capacity.get("storage")?.0)
}

fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let mode = |name: &Option<String>| name.clone().unwrap_or("Filesystem".into());
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let request = wants.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let request = request.and_then(|request| Quantity::parse(&request.get("storage")?.0));
    let labels = volume.metadata.labels.as_ref();
    let selector = wants.selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    has.claim_ref.is_none()
        && class(&has.storage_class_name) == class(&wants.storage_class_name)
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && wants.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && request.is_none_or(|request| capacity(volume).is_some_and(|has| has >= request))
        && selector
            .iter()
            .flat_map(|selector| selector.iter())
            .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects<T: serde::de::DeserializeOwned>(json: &[&str]) -> Vec<T> {
        json.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    #[test]
    fn a_claim_gets_what_is_named_or_else_the_smallest_that_will_do() {
        let volumes = objects::<PersistentVolume>(&[
            r#"{"metadata":{"name":"big"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"manual"}}"#,
            r#"{"metadata":{"name":"other"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"fast"}}"#,
            r#"{"metadata":{"name":"mine"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"manual","claimRef":{"name":"reserved"}}}"#,
            r#"{"metadata":{"name":"reader"},"spec":{"accessModes":["ReadOnlyMany"],"storageClassName":"manual"}}"#,
        ]);
        let claims = objects::<PersistentVolumeClaim>(&[
            r#"{"metadata":{"name":"a"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"manual"}}"#,
            r#"{"metadata":{"name":"b"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"manual"}}"#,
            r#"{"metadata":{"name":"named"},"spec":{"volumeName":"other"}}"#,
            r#"{"metadata":{"name":"reserved"},"spec":{"storageClassName":"manual"}}"#,
            r#"{"metadata":{"name":"wide"},"spec":{"accessModes":["ReadWriteMany"],"storageClassName":"manual"}}"#,
        ]);
        let name = |meta: &Option<String>| meta.clone().unwrap();
        let volumes = volumes.into_iter().map(|v| (name(&v.metadata.name), v)).collect();
        let claims = claims.into_iter().map(|c| (name(&c.metadata.name), c)).collect();
        let bound = bind(&claims, &volumes);
        let expected = BTreeMap::from([("a", "big"), ("named", "other"), ("reserved", "mine")]);
        assert_eq!(bound, expected, "b finds nothing that is left");
    }
}
