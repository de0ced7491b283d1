//! The root of a member: its image below, a writable layer of its own above, mounted nowhere.

use std::fs::{self, DirBuilder, File, Metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::LinuxNamespaceType;

use crate::error::{Error, OsContext, Result};
use crate::pod::clock::Moment;
use crate::pod::record::SandboxRecord;
use crate::pod::sandbox::namespace_path;
use crate::pod::store::PodDirs;
use crate::sys::fd;
use crate::sys::mount::{self, NewFileSystem, Subtree};

/// Name of the directory of a container's writable layer.
/// How the names of layers begin that are to be removed.
const OLD: &str = "layer.old-";
const LAYER: &str = "layer";

/// Makes the root for a new instance; what the instance before has written is gone.
///
/// In a pod with a user namespace the image's files belong to the pod's ids.
///
/// # Errors
/// [`Error::Os`]; [`Error::Invalid`] with the kernel's explanation if the overlay is refused.
pub(super) fn make(
    dirs: &PodDirs,
    sandbox: &SandboxRecord,
    container: &str,
    image: &Path,
) -> Result<OwnedFd> {
    set_aside(dirs, container)?;
    let layer = layer(dirs, container);
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for dir in [&upper, &work] {
        let mut builder = DirBuilder::new();
        builder.mode(0o755).recursive(true).create(dir).os("mkdir", || dir.display())?;
    }
    // By descriptor: an option has at most 256 bytes, and `:` and `,` mean something in it.
    let open = |path: &Path| File::open(path).os("open", || path.display());
    let (image_fd, upper_fd, work_fd) = (open(image)?, open(&upper)?, open(&work)?);
    let root = image_fd.metadata().os("stat", || image.display())?;
    let base = sandbox.user_namespace_base.unwrap_or(0);
    make_alike(&upper_fd, &root, base).os("set the owner and mode of", || upper.display())?;
    let lower = match sandbox.user_namespace_base {
        Some(_) => mapped(image, sandbox)?,
        None => image_fd.into(),
    };
    let options = [
        format!("lowerdir={}", fd::proc_path(&lower)),
        format!("upperdir={}", fd::proc_path(&upper_fd)),
        format!("workdir={}", fd::proc_path(&work_fd)),
        // It does not outlive the instance: nothing to sync when it ends.
        "volatile".to_owned(),
    ];
    let overlay = NewFileSystem {
        kind: "overlay",
        source: Some("overlay"),
        options: &options,
        attributes: 0,
    };
    mount::create(&overlay).map_err(|refused| {
        Error::Invalid(format!(
            "overlay of {} with its upper layer in {}: {}{}{}; --data-root chooses another place",
            image.display(),
            layer.display(),
            refused.errno.desc(),
            if refused.explanation.is_empty() { "" } else { ": " },
            refused.explanation,
        ))
    })
}

/// The root of an overlay has the owner and the mode of its upper layer.
fn make_alike(upper: &File, root: &Metadata, base: u32) -> std::io::Result<()> {
    let id = |id: u32| id.saturating_add(base);
    fchown(upper, Some(id(root.uid())), Some(id(root.gid())))?;
    upper.set_permissions(fs::Permissions::from_mode(root.mode() & 0o7777))
}

/// The image with its ids mapped through the pod's user namespace, mounted nowhere.
fn mapped(image: &Path, sandbox: &SandboxRecord) -> Result<OwnedFd> {
    let path = namespace_path(sandbox, LinuxNamespaceType::User);
    let namespace = File::open(&path).os("open", || path.display())?;
    let tree =
        mount::clone_tree(image, Subtree::Alone).os("clone the mount of", || image.display())?;
    match mount::set_id_map(tree.as_fd(), namespace.as_fd(), Subtree::Alone) {
        Ok(()) => Ok(tree),
        Err(Errno::EINVAL) => Err(Error::Unsupported(format!(
            "hostUsers: false needs an image on a file system with id-mapped mounts, which that of \
             {} does not have",
            image.display()
        ))),
        Err(errno) => Err(errno).os("map the ids of", || image.display()),
    }
}

/// Puts the writable layer of an instance that has ended out of the way. What is in it is the
/// container's choice, and may take long to remove: [`super::discard`] does.
fn set_aside(dirs: &PodDirs, container: &str) -> Result<()> {
    let layer = layer(dirs, container);
    let old =
        layer.with_file_name(format!("{OLD}{}", Moment::now().since(Moment::BOOT).as_nanos()));
    match fs::rename(&layer, &old) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.os("rename", || layer.display()),
    }
}

/// Where the layers of a container are, and how the names of those begin that were put aside.
pub(super) fn aside(dirs: &PodDirs, container: &str) -> (PathBuf, &'static str) {
    (dirs.data.join("containers").join(container), OLD)
}

fn layer(dirs: &PodDirs, container: &str) -> PathBuf {
    dirs.data.join("containers").join(container).join(LAYER)
}
