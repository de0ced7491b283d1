//! The root of a member: its image below, a writable layer of its own above, mounted nowhere.

use std::fs::{self, DirBuilder, File, Metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::LinuxNamespaceType;

use crate::error::{Error, OsContext, Result};
use crate::image::{Style, Writable};
use crate::pod::clock::Moment;
use crate::pod::member::Root;
use crate::pod::record::SandboxRecord;
use crate::pod::sandbox::namespace_path;
use crate::pod::store::PodDirs;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::path as sys_path;

/// Name of the directory of a container's writable layer.
/// How the names of layers begin that are to be removed.
const OLD: &str = "layer.old-";
const LAYER: &str = "layer";

/// Makes the root for a new instance; what the instance before has written is gone.
///
/// In a pod with a user namespace the image's files belong to the pod's ids. With a label of SELinux,
/// all files have that.
///
/// # Errors
/// [`Error::Os`]; [`Error::Invalid`] with the kernel's explanation if the overlay is refused.
pub(super) fn make(
    dirs: &PodDirs,
    sandbox: &SandboxRecord,
    container: &str,
    image: &Root,
    label: Option<&str>,
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
    let (upper_fd, work_fd) = (open(&upper)?, open(&work)?);
    let trees = trees(image)?;
    let root = trees.first().map(|tree| tree.metadata().os("stat", || image_name(image)));
    let base = sandbox.user_namespace_base.unwrap_or(0);
    if let Some(root) = root.transpose()? {
        make_alike(&upper_fd, &root, base).os("set the owner and mode of", || upper.display())?;
    }
    let lower = lower(trees, sandbox)?;
    let writable = Writable { upper: upper_fd, work: work_fd };
    crate::image::overlay(&lower, Some(&writable), Style::Trusted, label).map_err(|error| {
        Error::Invalid(format!(
            "the root of {} with its upper layer in {}: {error}",
            image_name(image),
            layer.display()
        ))
    })
}

/// The files of an image as a volume has them, mounted nowhere.
///
/// # Errors
/// As [`make`].
pub(super) fn read_only(sandbox: &SandboxRecord, image: &Root) -> Result<OwnedFd> {
    let mut trees = trees(image)?;
    let tree = match image {
        Root::Directory(path) => {
            let tree = mount::clone_tree(path, Subtree::Alone).os("clone", || path.display())?;
            match sandbox.user_namespace_base {
                Some(_) => mapped(&File::from(tree), sandbox)?,
                None => tree,
            }
        }
        Root::Layers { store, .. } => {
            if trees.len() == 1 {
                // The kernel wants two.
                trees.extend(store.open_layers(&[])?.into_iter().map(File::from));
            }
            crate::image::overlay(&lower(trees, sandbox)?, None, Style::Trusted, None)?
        }
    };
    mount::set_attributes(tree.as_fd(), Attributes::read_only(), Subtree::Alone)
        .os("make read-only", || image_name(image))?;
    Ok(tree)
}

/// What an overlay is made of: with the ids of the pod, if it has its own.
fn lower(trees: Vec<File>, sandbox: &SandboxRecord) -> Result<Vec<OwnedFd>> {
    match sandbox.user_namespace_base {
        Some(_) => trees.iter().map(|tree| mapped(tree, sandbox)).collect(),
        None => Ok(trees.into_iter().map(OwnedFd::from).collect()),
    }
}

/// The directories of an image, the uppermost first.
fn trees(image: &Root) -> Result<Vec<File>> {
    match image {
        Root::Directory(path) => Ok(vec![File::open(path).os("open", || path.display())?]),
        Root::Layers { store, layers, .. } => {
            Ok(store.open_layers(layers)?.into_iter().map(File::from).collect())
        }
    }
}

fn image_name(image: &Root) -> String {
    match image {
        Root::Directory(path) => path.display().to_string(),
        Root::Layers { image, .. } => format!("image {}", image.short()),
    }
}

/// The root of an overlay has the owner and the mode of its upper layer.
fn make_alike(upper: &File, root: &Metadata, base: u32) -> std::io::Result<()> {
    let id = |id: u32| id.saturating_add(base);
    fchown(upper, Some(id(root.uid())), Some(id(root.gid())))?;
    upper.set_permissions(fs::Permissions::from_mode(root.mode() & 0o7777))
}

/// A directory of the image with its ids mapped through the pod's user namespace, mounted nowhere.
fn mapped(tree: &File, sandbox: &SandboxRecord) -> Result<OwnedFd> {
    let path = namespace_path(sandbox, LinuxNamespaceType::User);
    let namespace = File::open(&path).os("open", || path.display())?;
    let name = || sys_path::kernel_path(tree).unwrap_or_default().display().to_string();
    let tree = mount::clone_tree_at(tree.as_fd(), Subtree::Alone).os("clone the mount of", name)?;
    match mount::set_id_map(tree.as_fd(), namespace.as_fd(), Subtree::Alone) {
        Ok(()) => Ok(tree),
        Err(Errno::EINVAL) => Err(Error::Unsupported(format!(
            "hostUsers: false needs an image on a file system with id-mapped mounts, which that of \
             {} does not have",
            name()
        ))),
        Err(errno) => Err(errno).os("map the ids of", name),
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
