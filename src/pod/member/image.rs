//! The seam to images: where a container's files and defaults come from.
//!
//! There is no image store yet: a reference names a directory of the machine. Whoever adds one
//! adds a scheme here; nothing else of the pod layer knows what an image is.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::failure;
use crate::oci::load;
use crate::pod::record::StartFailure;

/// What a container starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its files, an absolute path; never written to.
    pub rootfs: PathBuf,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, `KEY=value`.
    pub env: Vec<String>,
    /// WORKDIR, or empty.
    pub working_dir: String,
    /// USER, `user[:group]`, each a name or a number, or empty.
    pub user: String,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
}

/// What references may look like, for people.
const ACCEPTED: &str = "carob accepts \"rootfs:/path\" (a directory with the files) and \"bundle:/path\" \
                        (a directory with a config.json); it cannot pull images yet";
/// The annotation of an image's STOPSIGNAL. Source: image-spec, conversion.md.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Finds an image. `policy` is `imagePullPolicy`.
///
/// # Errors
/// `InvalidImageName` for what is no reference, `ErrImagePull` (`ErrImageNeverPull` with the
/// policy `Never`) for what is not there or would have to be pulled, `ImageInspectError` for a
/// bundle whose config.json is wrong.
pub fn find(reference: &str, policy: Option<&str>) -> Result<Image, StartFailure> {
    let absent = |why: String| match policy {
        Some("Never") => {
            let never = format!(
                "Container image {reference:?} is not present with pull policy of Never: {why}"
            );
            failure("ErrImageNeverPull", never)
        }
        _ => failure("ErrImagePull", format!("failed to pull image {reference:?}: {why}")),
    };
    match reference.split_once(':') {
        Some(("rootfs", path)) => {
            let rootfs = directory(reference, path)?;
            check_directory(&rootfs).map_err(absent)?;
            Ok(bare(rootfs))
        }
        Some(("bundle", path)) => {
            let bundle = directory(reference, path)?;
            check_directory(&bundle).map_err(absent)?;
            let image = of_bundle(reference, &bundle)?;
            check_directory(&image.rootfs).map_err(absent)?;
            Ok(image)
        }
        _ if is_reference(reference) => Err(absent(ACCEPTED.to_owned())),
        _ => Err(invalid(reference, "couldn't parse image name: invalid reference format")),
    }
}

fn invalid(reference: &str, why: &str) -> StartFailure {
    failure(
        "InvalidImageName",
        format!("Failed to apply default image tag {reference:?}: {why}; {ACCEPTED}"),
    )
}

/// The path of a reference: absolute, without `..`.
fn directory(reference: &str, path: &str) -> Result<PathBuf, StartFailure> {
    let path = Path::new(path);
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let allowed = path.is_absolute() && path.components().all(plain);
    if !allowed || reference.contains('\0') {
        return Err(invalid(reference, "the path must be absolute and without \"..\""));
    }
    Ok(path.to_owned())
}

fn check_directory(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} must be a directory", path.display())),
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
            Err(format!("{} does not exist", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn bare(rootfs: PathBuf) -> Image {
    Image {
        rootfs,
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        env: Vec::new(),
        working_dir: String::new(),
        user: String::new(),
        stop_signal: None,
    }
}

/// Takes what a bundle's `config.json` says of its process for the defaults of an image.
fn of_bundle(reference: &str, bundle: &Path) -> Result<Image, StartFailure> {
    let refused = |why: &dyn std::fmt::Display| {
        failure("ImageInspectError", format!("Failed to inspect image {reference:?}: {why}"))
    };
    let loaded = load::load_spec(&bundle.join("config.json")).map_err(|error| refused(&error))?;
    let spec = loaded.spec;
    let root = spec.root().as_ref().ok_or_else(|| refused(&"config.json has no root.path"))?;
    Ok(Image { rootfs: bundle.join(root.path()), ..defaults(&spec) })
}

fn defaults(spec: &Spec) -> Image {
    let mut image = bare(PathBuf::new());
    if let Some(process) = spec.process() {
        image.entrypoint = process.args().clone().unwrap_or_default();
        image.env = process.env().clone().unwrap_or_default();
        image.working_dir = process.cwd().to_string_lossy().into_owned();
        image.user = format!("{}:{}", process.user().uid(), process.user().gid());
    }
    let annotations = spec.annotations().as_ref();
    image.stop_signal = annotations.and_then(|all| all.get(STOP_SIGNAL)).cloned();
    image
}

/// Whether a registry could have something of this name.
///
/// Source: distribution's reference grammar, as far as it matters to tell a typo from a name.
fn is_reference(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@[]+".contains(&b);
    let (name, digest) = text.split_once('@').unwrap_or((text, ""));
    // A colon before a slash is a port.
    let path = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let last = path.split(':').next().unwrap_or_default();
    let starts = |part: &str| part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    text.bytes().all(allowed)
        && starts(text)
        && starts(last)
        && !last.bytes().any(|b| b.is_ascii_uppercase())
        && !name.ends_with(':')
        && !text.contains("//")
        && (digest.is_empty() != text.contains('@'))
}

#[cfg(test)]
impl Image {
    /// An image for tests, with this USER.
    pub(crate) fn example(user: &str) -> Self {
        Self {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["default".into()],
            env: vec!["PATH=/bin".into(), "LANG=C".into()],
            user: user.into(),
            ..bare("/nonexistent/rootfs".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("carob-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn refused() {
        for (reference, policy, reason, word) in [
            ("nginx:1.27", None, "ErrImagePull", "rootfs:/path"),
            ("registry.example/a/b@sha256:abc", None, "ErrImagePull", "cannot pull"),
            ("localhost:5000/App/x", None, "ErrImagePull", "cannot pull"),
            ("nginx", Some("Never"), "ErrImageNeverPull", "pull policy of Never"),
            ("rootfs:/nonexistent", None, "ErrImagePull", "does not exist"),
            ("rootfs:/nonexistent", Some("Never"), "ErrImageNeverPull", "does not exist"),
            ("rootfs:/dev/null", None, "ErrImagePull", "must be a directory"),
            ("bundle:/nonexistent", None, "ErrImagePull", "does not exist"),
            ("rootfs:relative", None, "InvalidImageName", "must be absolute"),
            ("rootfs:", None, "InvalidImageName", "must be absolute"),
            ("rootfs:/a/../etc", None, "InvalidImageName", "without"),
            ("bundle:x", None, "InvalidImageName", "must be absolute"),
            ("rootfs:/a\0b", None, "InvalidImageName", "must be absolute"),
            ("", None, "InvalidImageName", "invalid reference format"),
            ("Nginx", None, "InvalidImageName", "invalid reference format"),
            ("nginx:", None, "InvalidImageName", "invalid reference format"),
            ("a b", None, "InvalidImageName", "invalid reference format"),
            ("/nginx", None, "InvalidImageName", "invalid reference format"),
            ("nginx@", None, "InvalidImageName", "invalid reference format"),
        ] {
            let error = find(reference, policy).unwrap_err();
            assert_eq!(error.reason, reason, "{reference:?}: {}", error.message);
            assert!(error.message.contains(word), "{reference:?}: {}", error.message);
        }
    }

    #[test]
    fn a_directory_has_no_defaults() {
        let dir = Dir::new("image-rootfs");
        let image = find(&format!("rootfs:{}", dir.0.display()), None).unwrap();
        assert_eq!(image, bare(dir.0.clone()));
    }

    #[test]
    fn a_bundle_has_those_of_its_process() {
        let dir = Dir::new("image-bundle");
        let reference = format!("bundle:{}", dir.0.display());
        let error = find(&reference, None).unwrap_err();
        assert_eq!(error.reason, "ImageInspectError", "{}", error.message);

        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "files"},
            "annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"},
            "process": {"args": ["httpd", "-f"], "env": ["A=b"], "cwd": "/srv",
                        "user": {"uid": 7, "gid": 8}}}"#;
        std::fs::write(dir.0.join("config.json"), config).unwrap();
        let error = find(&reference, None).unwrap_err();
        assert_eq!(error.reason, "ErrImagePull", "{}", error.message);

        std::fs::create_dir(dir.0.join("files")).unwrap();
        let image = find(&reference, None).unwrap();
        let expected = Image {
            rootfs: dir.0.join("files"),
            entrypoint: vec!["httpd".into(), "-f".into()],
            cmd: vec![],
            env: vec!["A=b".into()],
            working_dir: "/srv".into(),
            user: "7:8".into(),
            stop_signal: Some("SIGQUIT".into()),
        };
        assert_eq!(image, expected);
    }
}
