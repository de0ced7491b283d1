//! The API's validation: what the table of fields cannot say because it takes more than one
//! field.
//!
//! Source: Kubernetes 1.36 `pkg/apis/core/validation/validation.go`.

mod container;
mod env;
mod mounts;
mod objects;
mod pod;
mod probe;
mod references;
pub(super) mod resources;
mod security;
mod volumes;

use k8s_openapi::api::core::v1::{Container, PodSpec};

pub(super) use objects::{claim, config_map, metadata, secret, volume};
pub(super) use pod::pod;
pub(super) use references::{Given, references};

use super::problem::Problems;

/// A list that may be absent.
fn list<T>(field: &Option<Vec<T>>) -> &[T] {
    field.as_deref().unwrap_or_default()
}

/// All containers with their paths, init containers first.
pub(super) fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let named = |name: &'static str, containers| {
        let numbered = <[Container]>::iter(containers).enumerate();
        numbered.map(move |(index, container)| (format!("spec.{name}[{index}]"), container))
    };
    named("initContainers", list(&spec.init_containers))
        .chain(named("containers", &spec.containers))
}

/// Notes what is wrong with the form of a name.
fn form(problems: &mut Problems, path: &str, value: &str, checked: Result<(), Vec<String>>) {
    for reason in checked.err().into_iter().flatten() {
        problems.invalid(path, value, reason);
    }
}

/// A path within a volume.
fn relative_path(problems: &mut Problems, path: &str, value: &str) {
    if value.starts_with('/') {
        problems.invalid(path, value, "must be a relative path");
    }
    no_way_up(problems, path, value);
}

fn no_way_up(problems: &mut Problems, path: &str, value: &str) {
    if value.split('/').any(|part| part == "..") {
        problems.invalid(path, value, "must not contain '..'");
    }
}

#[cfg(test)]
mod tests;
