//! Which pod a verb is about.

use std::path::PathBuf;

use crate::cli::{Context, output};
use crate::error::{Error, Result};
use crate::log;
use crate::pod::lifecycle;
use crate::pod::manifest::Input;
use crate::pod::store::StoredPod;

/// The namespace of pods that do not say where they belong.
pub(in crate::cli) const DEFAULT_NAMESPACE: &str = "default";

/// A pod on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct PodChoice {
    /// The pod's name
    #[arg(value_name = "POD")]
    name: String,
    #[command(flatten)]
    namespace: NamespaceChoice,
}

/// Pods on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct PodsChoice {
    /// Names of pods
    #[arg(value_name = "POD", required_unless_present = "all")]
    names: Vec<String>,
    /// All pods of the namespace
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    namespace: NamespaceChoice,
}

impl PodsChoice {
    /// Does something with each pod that is meant, in turn. A failure keeps no other pod from it.
    ///
    /// # Errors
    /// The last failure; those before it are reported here.
    pub(in crate::cli) fn each(
        &self,
        context: &Context,
        mut act: impl FnMut(&PodChoice) -> Result<()>,
    ) -> Result<()> {
        let mut result = Ok(());
        for pod in self.list(context)? {
            let Err(error) = act(&pod) else { continue };
            if let Err(earlier) = std::mem::replace(&mut result, Err(error)) {
                log::error(earlier);
            }
        }
        result
    }

    fn list(&self, context: &Context) -> Result<Vec<PodChoice>> {
        let namespace = component(&self.namespace.namespace)?;
        let mut names = Vec::new();
        if self.all {
            for pod in StoredPod::list(&context.runtime.root)? {
                let metadata = &pod.file.manifest.pod.metadata;
                if metadata.namespace.as_deref() == Some(namespace) {
                    names.push(pod.file.name().to_owned());
                }
            }
        } else {
            for name in &self.names {
                // All are looked at before anything is done; once is enough.
                let name = bare_name(name)?;
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        let choice = |name| PodChoice { name, namespace: self.namespace.clone() };
        Ok(names.into_iter().map(choice).collect())
    }
}

/// A namespace on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct NamespaceChoice {
    /// The namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub(in crate::cli) namespace: String,
}

impl PodChoice {
    /// Finds it.
    ///
    /// # Errors
    /// As [`StoredPod::find`]; [`Error::Invalid`] for a name that is none.
    pub(in crate::cli) fn find(&self, context: &Context) -> Result<StoredPod> {
        self.namespace.find(context, &self.name)
    }

    /// Its name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no pod can have it.
    pub(in crate::cli) fn name(&self) -> Result<&str> {
        bare_name(&self.name)
    }

    /// Its namespace.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be one.
    pub(in crate::cli) fn namespace(&self) -> Result<&str> {
        component(&self.namespace.namespace)
    }
}

/// Manifests on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct ManifestChoice {
    /// Files or directories with YAML or JSON, - for standard input
    #[arg(value_name = "FILE|DIR|-", required_unless_present = "named")]
    manifests: Vec<PathBuf>,
    /// The same, as kubectl has it
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    named: Vec<PathBuf>,
}

impl ManifestChoice {
    /// All of them.
    pub(in crate::cli) fn inputs(&self) -> Vec<Input> {
        self.named.iter().chain(&self.manifests).cloned().map(Input::from).collect()
    }
}

/// A container of the pod on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct ContainerChoice {
    /// The container [default: the pod's first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

/// The annotation that names the container that is meant if none is. Source: kubectl.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

impl ContainerChoice {
    /// The name of a container that the pod has.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the names that there are.
    pub(in crate::cli) fn of(&self, pod: &StoredPod) -> Result<String> {
        let manifest = &pod.file.manifest.pod;
        let Some(spec) = &manifest.spec else { return Ok(String::new()) };
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let names: Vec<&str> = all.map(|container| container.name.as_str()).collect();
        let annotations = manifest.metadata.annotations.as_ref();
        let wanted = self.container.as_ref();
        let wanted = wanted.or_else(|| annotations?.get(DEFAULT_CONTAINER));
        match wanted {
            None => Ok(names.first().copied().unwrap_or_default().to_owned()),
            Some(name) if names.contains(&name.as_str()) => Ok(name.clone()),
            Some(name) => Err(Error::Invalid(format!(
                "container {:?} not found in pod {:?}; it has {}",
                output::plain(name),
                pod.file.name(),
                names.join(", ")
            ))),
        }
    }
}

impl NamespaceChoice {
    /// Finds a pod in it.
    ///
    /// # Errors
    /// As [`PodChoice::find`].
    pub(in crate::cli) fn find(&self, context: &Context, name: &str) -> Result<StoredPod> {
        let namespace = component(&self.namespace)?;
        lifecycle::find(&context.runtime, namespace, bare_name(name)?)
    }
}

/// The name of a pod: `pod/NAME`, as kubectl prints it, is as good as `NAME`.
///
/// # Errors
/// [`Error::Invalid`] if no pod can have it.
pub(in crate::cli) fn bare_name(name: &str) -> Result<&str> {
    component(name.strip_prefix("pod/").or_else(|| name.strip_prefix("pods/")).unwrap_or(name))
}

/// Both become part of the name of a directory.
fn component(name: &str) -> Result<&str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        let name = output::plain(name);
        return Err(Error::Invalid(format!(
            "{name:?} is no name: it must consist of lower case alphanumeric characters, '-' or '.'"
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_one_name() {
        let choice = |name: &str| PodChoice {
            name: name.into(),
            namespace: NamespaceChoice { namespace: "default".into() },
        };
        assert_eq!(choice("web").name().unwrap(), "web");
        assert_eq!(choice("pod/web-1.x").name().unwrap(), "web-1.x");
        for bad in ["", "..", "a/b", "Web", "pod/", "a_b"] {
            assert!(choice(bad).name().is_err(), "{bad}");
        }
    }
}
