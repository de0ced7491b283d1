//! Whether the objects that a pod refers to are there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, Volume};

use super::super::problem::Problems;
use super::{containers, list};

/// The objects that were given, whether or not they are valid: kind and name.
#[derive(Debug, Default)]
pub(in super::super) struct Given {
    /// Those that the pod can see.
    pub(in super::super) names: BTreeSet<(&'static str, String)>,
    /// Those of other namespaces.
    pub(in super::super) elsewhere: BTreeSet<(&'static str, String)>,
}

struct Check<'a> {
    given: &'a Given,
    problems: &'a mut Problems,
}

/// Notes all references to objects that must be there and are not.
pub(in super::super) fn references(spec: &PodSpec, given: &Given, problems: &mut Problems) {
    let mut check = Check { given, problems };
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        check.volume(&format!("spec.volumes[{index}]"), volume);
    }
    for (path, container) in containers(spec) {
        for (index, variable) in list(&container.env).iter().enumerate() {
            let Some(from) = &variable.value_from else { continue };
            let path = format!("{path}.env[{index}].valueFrom");
            if let Some(source) = &from.config_map_key_ref {
                let path = format!("{path}.configMapKeyRef.name");
                check.object("ConfigMap", &path, &source.name, source.optional);
            }
            if let Some(source) = &from.secret_key_ref {
                let path = format!("{path}.secretKeyRef.name");
                check.object("Secret", &path, &source.name, source.optional);
            }
        }
        for (index, source) in list(&container.env_from).iter().enumerate() {
            let path = format!("{path}.envFrom[{index}]");
            if let Some(source) = &source.config_map_ref {
                let path = format!("{path}.configMapRef.name");
                check.object("ConfigMap", &path, &source.name, source.optional);
            }
            if let Some(source) = &source.secret_ref {
                let path = format!("{path}.secretRef.name");
                check.object("Secret", &path, &source.name, source.optional);
            }
        }
    }
}

impl Check<'_> {
    fn volume(&mut self, path: &str, volume: &Volume) {
        if let Some(source) = &volume.config_map {
            let path = format!("{path}.configMap.name");
            self.object("ConfigMap", &path, &source.name, source.optional);
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.object("Secret", &format!("{path}.secret.secretName"), name, source.optional);
        }
        if let Some(source) = &volume.persistent_volume_claim {
            let path = format!("{path}.persistentVolumeClaim.claimName");
            self.object("PersistentVolumeClaim", &path, &source.claim_name, None);
        }
        let sources = volume.projected.as_ref().map_or(&[][..], |source| list(&source.sources));
        for (index, source) in sources.iter().enumerate() {
            let path = format!("{path}.projected.sources[{index}]");
            if let Some(part) = &source.config_map {
                let path = format!("{path}.configMap.name");
                self.object("ConfigMap", &path, &part.name, part.optional);
            }
            if let Some(part) = &source.secret {
                let path = format!("{path}.secret.name");
                self.object("Secret", &path, &part.name, part.optional);
            }
        }
    }

    fn object(&mut self, kind: &'static str, path: &str, name: &str, optional: Option<bool>) {
        let key = (kind, name.to_owned());
        // An empty name is reported as a required value.
        if name.is_empty() || optional == Some(true) || self.given.names.contains(&key) {
            return;
        }
        let detail = if self.given.elsewhere.contains(&key) {
            format!("the {kind} of this name is in another namespace than the pod")
        } else {
            format!("give the {kind} in the same file, or in another one next to it")
        };
        self.problems.not_found(path, name, &detail);
    }
}
