//! The seam to images: where a container's files and defaults come from.
//!
//! Nothing is fetched here: what is not in the store yet, a process of its own pulls
//! (`supervisor/pull.rs`).

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::Spec;

use super::failure;
use crate::error::{Error, OsContext, Result as Outcome};
use crate::image::{Digest, ImageRecord, Location, Store};
use crate::oci::load;
use crate::pod::record::StartFailure;

/// What a container starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its files; never written to.
    pub root: Root,
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
    /// VOLUME.
    pub volumes: Vec<String>,
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A directory of the machine, an absolute path.
    Directory(PathBuf),
    /// An image of the store.
    Layers {
        /// The store.
        store: Store,
        /// The image.
        image: Digest,
        /// Chain ids of its layers, the lowest first.
        layers: Vec<Digest>,
    },
}

impl Root {
    /// Opens it for reading: the directory, or a mount that is gone with the descriptor.
    ///
    /// # Errors
    /// [`Error::Os`]; as [`Store::mount`].
    pub fn open(&self) -> Outcome<OwnedFd> {
        match self {
            Self::Directory(path) => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                nix::fcntl::open(path, flags, Mode::empty()).os("open", || path.display())
            }
            Self::Layers { store, layers, .. } => store.mount(layers, None),
        }
    }
}

/// What references may look like, for people.
const ACCEPTED: &str = "carob accepts names of registries (\"nginx:1.27\"), oci:, oci-archive:, \
                        docker-archive: and dir: with a path, \"rootfs:/path\" (a directory with \
                        the files) and \"bundle:/path\" (a directory with a config.json)";
/// The annotation of an image's STOPSIGNAL. Source: image-spec, conversion.md.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Finds an image; `None` if it is to be pulled. `policy` is `imagePullPolicy`.
///
/// # Errors
/// `InvalidImageName` for what is no reference, `ErrImagePull` for a directory that is not there,
/// `ErrImageNeverPull` for what would have to be pulled with the policy `Never`,
/// `ImageInspectError` for a bundle whose config.json is wrong, or a store that is damaged.
pub fn find(
    reference: &str,
    policy: Option<&str>,
    store: &Store,
) -> Result<Option<Image>, StartFailure> {
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
            Ok(Some(bare(Root::Directory(rootfs))))
        }
        Some(("bundle", path)) => {
            let bundle = directory(reference, path)?;
            check_directory(&bundle).map_err(absent)?;
            let (rootfs, image) = of_bundle(reference, &bundle)?;
            check_directory(&rootfs).map_err(absent)?;
            Ok(Some(image))
        }
        _ => {
            let location = reference.parse::<Location>();
            let location = location.map_err(|error| invalid(reference, &error.to_string()))?;
            match in_store(reference, &location, store)? {
                Some(image) if policy != Some("Always") => Ok(Some(image)),
                None if policy == Some("Never") => Err(failure(
                    "ErrImageNeverPull",
                    format!(
                        "Container image {reference:?} is not present with pull policy of Never"
                    ),
                )),
                _ => Ok(None),
            }
        }
    }
}

/// An image that has been pulled by its name.
fn in_store(
    reference: &str,
    location: &Location,
    store: &Store,
) -> Result<Option<Image>, StartFailure> {
    let Location::Name(name) = location else { return Ok(None) };
    let refused = |error: Error| inspect_error(reference, &error);
    let table = store.table().map_err(refused)?;
    let record = table.by_reference(name).cloned();
    record.map(|record| of_record(store, record)).transpose().map_err(refused)
}

/// The image of the store with this id.
///
/// # Errors
/// `ImageInspectError` if it is gone or damaged.
pub fn by_id(reference: &str, id: &str, store: &Store) -> Result<Image, StartFailure> {
    let find = || of_record(store, store.table()?.find(id)?.clone());
    find().map_err(|error| inspect_error(reference, &error))
}

/// An image of the store.
///
/// # Errors
/// [`Error::Invalid`] if the store is damaged.
pub fn of_record(store: &Store, record: ImageRecord) -> Outcome<Image> {
    let crate::image::Image { record, config } = crate::image::Image::open(store, record)?;
    Ok(Image {
        root: Root::Layers { store: store.clone(), image: record.id, layers: record.layers },
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        working_dir: config.working_dir,
        user: config.user,
        stop_signal: config.stop_signal,
        volumes: config.volumes,
    })
}

fn inspect_error(reference: &str, why: &dyn std::fmt::Display) -> StartFailure {
    failure("ImageInspectError", format!("Failed to inspect image {reference:?}: {why}"))
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

/// Files without defaults.
#[must_use]
pub fn bare(root: Root) -> Image {
    Image {
        root,
        entrypoint: Vec::new(),
        cmd: Vec::new(),
        env: Vec::new(),
        working_dir: String::new(),
        user: String::new(),
        stop_signal: None,
        volumes: Vec::new(),
    }
}

/// Takes what a bundle's `config.json` says of its process for the defaults of an image.
fn of_bundle(reference: &str, bundle: &Path) -> Result<(PathBuf, Image), StartFailure> {
    let refused = |why: &dyn std::fmt::Display| inspect_error(reference, why);
    let loaded = load::load_spec(&bundle.join("config.json")).map_err(|error| refused(&error))?;
    let spec = loaded.spec;
    let root = spec.root().as_ref().ok_or_else(|| refused(&"config.json has no root.path"))?;
    let rootfs = bundle.join(root.path());
    Ok((rootfs.clone(), defaults(&spec, Root::Directory(rootfs))))
}

fn defaults(spec: &Spec, root: Root) -> Image {
    let mut image = bare(root);
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

#[cfg(test)]
impl Image {
    /// An image for tests, with this USER.
    pub(crate) fn example(user: &str) -> Self {
        Self {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["default".into()],
            env: vec!["PATH=/bin".into(), "LANG=C".into()],
            user: user.into(),
            ..bare(Root::Directory("/nonexistent/rootfs".into()))
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

    fn no_store() -> Store {
        Store::new(Path::new("/nonexistent/carob"))
    }

    #[test]
    fn what_is_not_there_is_to_be_pulled() {
        for (reference, policy) in
            [("nginx:1.27", None), ("nginx", Some("Always")), ("oci:/x", Some("IfNotPresent"))]
        {
            assert_eq!(find(reference, policy, &no_store()), Ok(None), "{reference}");
        }
    }

    #[test]
    fn refused() {
        for (reference, policy, reason, word) in [
            ("registry.example/a/b@sha256:abc", None, "InvalidImageName", "64 hex digits"),
            ("localhost:5000/App/x", None, "InvalidImageName", "lowercase"),
            ("oci-archive:", None, "InvalidImageName", "TRANSPORT:PATH"),
            ("oci:/nonexistent", Some("Never"), "ErrImageNeverPull", "pull policy of Never"),
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
            let error = find(reference, policy, &no_store()).unwrap_err();
            assert_eq!(error.reason, reason, "{reference:?}: {}", error.message);
            assert!(error.message.contains(word), "{reference:?}: {}", error.message);
        }
    }

    #[test]
    fn a_directory_has_no_defaults() {
        let dir = Dir::new("image-rootfs");
        let image = find(&format!("rootfs:{}", dir.0.display()), None, &no_store()).unwrap();
        assert_eq!(image, Some(bare(Root::Directory(dir.0.clone()))));
    }

    #[test]
    fn a_bundle_has_those_of_its_process() {
        let dir = Dir::new("image-bundle");
        let reference = format!("bundle:{}", dir.0.display());
        let error = find(&reference, None, &no_store()).unwrap_err();
        assert_eq!(error.reason, "ImageInspectError", "{}", error.message);

        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "files"},
            "annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"},
            "process": {"args": ["httpd", "-f"], "env": ["A=b"], "cwd": "/srv",
                        "user": {"uid": 7, "gid": 8}}}"#;
        std::fs::write(dir.0.join("config.json"), config).unwrap();
        let error = find(&reference, None, &no_store()).unwrap_err();
        assert_eq!(error.reason, "ErrImagePull", "{}", error.message);

        std::fs::create_dir(dir.0.join("files")).unwrap();
        let image = find(&reference, None, &no_store()).unwrap();
        let expected = Image {
            root: Root::Directory(dir.0.join("files")),
            entrypoint: vec!["httpd".into(), "-f".into()],
            cmd: vec![],
            env: vec!["A=b".into()],
            working_dir: "/srv".into(),
            user: "7:8".into(),
            stop_signal: Some("SIGQUIT".into()),
            volumes: vec![],
        };
        assert_eq!(image, Some(expected));
    }
}
