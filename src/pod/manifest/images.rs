//! Images that are directories near the manifest: their paths become absolute.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::PodSpec;

use super::problem::Problems;
use super::rules;

/// References that name a directory of the machine.
const SCHEMES: [&str; 6] =
    ["rootfs:", "bundle:", "oci:", "oci-archive:", "docker-archive:", "dir:"];

/// Resolves relative paths of images against the directory of the manifest; a manifest from
/// standard input has none.
pub(super) fn resolve(spec: &mut PodSpec, dir: Option<&Path>, problems: &mut Problems) {
    let paths: Vec<String> = rules::containers(spec).map(|(path, _)| path).collect();
    let init = spec.init_containers.iter_mut().flatten();
    for (container, path) in init.chain(&mut spec.containers).zip(paths) {
        if let Some(image) = &mut container.image {
            reference(image, &format!("{path}.image"), dir, problems);
        }
    }
    for (index, volume) in spec.volumes.iter_mut().flatten().enumerate() {
        if let Some(image) = volume.image.as_mut().and_then(|source| source.reference.as_mut()) {
            let path = format!("spec.volumes[{index}].image.reference");
            reference(image, &path, dir, problems);
        }
    }
}

fn reference(image: &mut String, path: &str, dir: Option<&Path>, problems: &mut Problems) {
    let Some((scheme, relative)) = relative(image) else { return };
    match dir {
        Some(dir) => *image = format!("{scheme}{}", join(dir, relative).display()),
        None => problems.invalid(
            path,
            &image,
            "must be an absolute path: a relative one counts from the directory of the manifest, \
             and standard input has none",
        ),
    }
}

/// The scheme and the path of a reference whose path is relative.
fn relative(image: &str) -> Option<(&'static str, &str)> {
    let scheme = SCHEMES.into_iter().find(|scheme| image.starts_with(scheme))?;
    let path = image.strip_prefix(scheme)?;
    (!path.is_empty() && !path.starts_with('/')).then_some((scheme, path))
}

/// `..` is the directory above by name: `dir` is absolute and without links.
fn join(dir: &Path, relative: &str) -> PathBuf {
    let mut joined = dir.to_owned();
    for part in Path::new(relative).components() {
        match part {
            Component::ParentDir => {
                joined.pop();
            }
            Component::Normal(name) => joined.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Volume};

    use super::*;

    fn images(image: &str, dir: Option<&str>) -> (Vec<String>, bool) {
        let container = Container { image: Some(image.into()), ..Container::default() };
        let init_containers = Some(vec![container.clone()]);
        let source = ImageVolumeSource { reference: Some(image.into()), pull_policy: None };
        let volume = Volume { image: Some(source), ..Volume::default() };
        let mut spec = PodSpec {
            containers: vec![container],
            init_containers,
            volumes: Some(vec![volume]),
            ..PodSpec::default()
        };
        let mut problems = Problems::default();
        resolve(&mut spec, dir.map(Path::new), &mut problems);
        let all = spec.init_containers.into_iter().flatten().chain(spec.containers);
        let mut images: Vec<String> = all.filter_map(|container| container.image).collect();
        let volumes = spec.volumes.into_iter().flatten();
        images.extend(volumes.filter_map(|volume| volume.image?.reference));
        (images, problems.is_empty())
    }

    #[test]
    fn relative_paths_count_from_the_directory_of_the_manifest() {
        for (image, expected) in [
            ("rootfs:../busybox/rootfs", "rootfs:/a/busybox/rootfs"),
            ("bundle:x/./y", "bundle:/a/b/x/y"),
            ("bundle:.", "bundle:/a/b"),
            ("rootfs:../../../../x", "rootfs:/x"),
            ("rootfs:/x/../y", "rootfs:/x/../y"),
            ("rootfs:", "rootfs:"),
            ("nginx:1.27", "nginx:1.27"),
        ] {
            let (images, is_good) = images(image, Some("/a/b"));
            assert_eq!(images, [expected; 3], "{image}");
            assert!(is_good, "{image}");
        }
    }

    #[test]
    fn standard_input_has_no_directory() {
        for (image, expected) in [
            ("rootfs:x", false),
            ("bundle:../x", false),
            ("rootfs:/x", true),
            ("rootfs:", true),
            ("x:y", true),
        ] {
            assert_eq!(images(image, None), (vec![image.into(); 3], expected), "{image}");
        }
    }
}
