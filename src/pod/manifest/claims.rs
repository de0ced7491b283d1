//! Which volume a claim gets.

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
};

use super::Objects;
use super::quantity::Amount;

const STORAGE: &str = "storage";

impl Objects {
    /// The volume of a claim: the one that it names; else the one that is kept for it; else the
    /// smallest that has its class, its access modes and its size.
    ///
    /// # Errors
    /// The reason why there is none, in a form that follows the name of the claim.
    pub fn volume_of(&self, claim: &PersistentVolumeClaim) -> Result<&PersistentVolume, String> {
        let wanted = claim.spec.clone().unwrap_or_default();
        if let Some(name) = wanted.volume_name.as_deref().filter(|name| !name.is_empty()) {
            let volume = self.volumes.get(name);
            let volume = volume.ok_or_else(|| {
                format!("PersistentVolume {name:?} not found: give it next to the claim")
            })?;
            return match kept_for(volume, claim) {
                Some(false) => Err(format!("PersistentVolume {name:?} is kept for another claim")),
                _ => Ok(volume),
            };
        }
        let kept = self.volumes.values().find(|volume| kept_for(volume, claim) == Some(true));
        let free = self.volumes.values().filter(|volume| kept_for(volume, claim).is_none());
        let suits = |volume: &&PersistentVolume| {
            volume.spec.as_ref().is_some_and(|spec| suits(spec, &wanted))
        };
        kept.or_else(|| free.filter(suits).min_by_key(|volume| size(volume))).ok_or_else(|| {
            "no PersistentVolume has its class, access modes and size: give one next to it".into()
        })
    }
}

/// Whether a volume is kept for this claim (`true`), another (`false`) or none.
fn kept_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<bool> {
    let kept = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let namespace = kept.namespace.as_deref().unwrap_or("default");
    let own = claim.metadata.namespace.as_deref().unwrap_or("default");
    Some(kept.name == claim.metadata.name && namespace == own)
}

fn size(volume: &PersistentVolume) -> Amount {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    capacity.and_then(|all| all.get(STORAGE)).map(Amount::of).unwrap_or_default()
}

fn suits(volume: &PersistentVolumeSpec, wanted: &PersistentVolumeClaimSpec) -> bool {
    let modes = volume.access_modes.as_deref().unwrap_or_default();
    let capacity = volume.capacity.as_ref().and_then(|all| all.get(STORAGE)).map(Amount::of);
    let resources = wanted.resources.as_ref();
    let asked = |which: Option<&std::collections::BTreeMap<_, _>>| {
        which.and_then(|all| all.get(STORAGE)).map(Amount::of)
    };
    let least = asked(resources.and_then(|resources| resources.requests.as_ref()));
    let most = asked(resources.and_then(|resources| resources.limits.as_ref()));
    volume.storage_class_name.as_deref().unwrap_or_default()
        == wanted.storage_class_name.as_deref().unwrap_or_default()
        && wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && capacity >= least
        && most.is_none_or(|most| capacity <= Some(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(volumes: serde_json::Value) -> Objects {
        let volumes: Vec<PersistentVolume> = serde_json::from_value(volumes).unwrap();
        let named = volumes.into_iter().map(|v| (v.metadata.name.clone().unwrap(), v)).collect();
        Objects { volumes: named, ..Objects::default() }
    }

    fn volume(name: &str, size: &str, more: serde_json::Value) -> serde_json::Value {
        let mut spec = serde_json::json!({
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name}, "spec": spec,
        })
    }

    #[test]
    fn a_claim_gets_the_volume_that_suits_it() {
        let objects = objects(serde_json::json!([
            volume("big", "10Gi", serde_json::json!({})),
            volume("small", "2Gi", serde_json::json!({})),
            volume("tiny", "1Mi", serde_json::json!({})),
            volume("fast", "1Gi", serde_json::json!({"storageClassName": "fast"})),
            volume("kept", "1Gi", serde_json::json!({"claimRef": {"name": "mine"}})),
        ]));
        for (name, spec, expected) in [
            ("a", serde_json::json!({}), Some("small")),
            ("a", serde_json::json!({"volumeName": "tiny"}), Some("tiny")),
            ("a", serde_json::json!({"volumeName": "none"}), None),
            ("a", serde_json::json!({"volumeName": "kept"}), None),
            ("mine", serde_json::json!({}), Some("kept")),
            ("a", serde_json::json!({"storageClassName": "fast"}), Some("fast")),
            ("a", serde_json::json!({"accessModes": ["ReadWriteMany"]}), None),
        ] {
            let mut whole = serde_json::json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            });
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let claim = serde_json::from_value(serde_json::json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name}, "spec": whole,
            }));
            let found = objects.volume_of(&claim.unwrap());
            let found = found.ok().and_then(|volume| volume.metadata.name.as_deref());
            assert_eq!(found, expected, "{name} {spec}");
        }
    }
}
