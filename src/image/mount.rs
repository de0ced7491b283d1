//! The layers of an image as one tree: an overlay that is mounted nowhere yet.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::digest::Digest;
use super::layer::Style;
use super::store::{Owner, Store, Use};
use crate::error::{Error, OsContext, Result};
use crate::sys::dir;
use crate::sys::fd::proc_path;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::overlay::{self as sys_overlay, Overlay};

/// Where what a container changes goes.
#[derive(Debug)]
pub struct Writable {
    /// An empty directory, which has the looks of the root.
    pub upper: File,
    /// An empty directory of the same file system.
    pub work: File,
}

impl Store {
    /// Mounts layers, the lowest given first; read-only without a place for changes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the kernel's explanation if it refuses, or if a layer is not there.
    pub fn mount(&self, layers: &[Digest], writable: Option<&Writable>) -> Result<OwnedFd> {
        let mut trees = self.open_layers(layers)?;
        if writable.is_none() && trees.len() == 1 {
            // The kernel wants two.
            trees.extend(self.open_layers(&[])?);
        }
        overlay(&trees, writable, self.style(), None)
    }
}

/// Mounts an image of the store at a directory, read-only, for as long as it is mounted there.
///
/// # Errors
/// [`Error::Invalid`] if it is not in the store; as [`Store::mount`].
pub fn mount_at(store: &Store, image: &str, point: &Path, directory: &File) -> Result<()> {
    let _lock = store.lock_content()?;
    let table = store.table()?;
    let image = table.find(image)?;
    let mounted = store.mount(&image.layers, None)?;
    let owner = Owner::Mount { point: point.to_owned() };
    let name = format!("mount-{}", Digest::of(point.as_os_str().as_bytes()).short());
    let begun = Use { image: image.id.clone(), layers: image.layers.clone(), owner };
    store.begin_use(&name, &begun)?;
    let read_only = Attributes::read_only();
    mount::set_attributes(mounted.as_fd(), read_only, Subtree::Alone)
        .and_then(|()| mount::attach(&mounted, directory))
        .os("mount", || point.display())
        .inspect_err(|_failure| {
            if let Err(error) = store.end_use(&name) {
                crate::log::warn(error);
            }
        })
}

/// Copies the files of an image into an empty directory.
///
/// # Errors
/// [`Error::Invalid`] if the directory is not empty; [`Error::Os`] naming what could not be copied.
pub fn unpack(store: &Store, layers: &[Digest], to: &Path) -> Result<()> {
    let _lock = store.lock_content()?;
    let directory = dir::open(to).os("open", || to.display())?;
    if !dir::names(&directory).os("read", || to.display())?.is_empty() {
        return Err(Error::Invalid(format!("{} must be empty", to.display())));
    }
    let tree = store.mount(layers, None)?;
    let root = dir::open(Path::new(&proc_path(&tree)).join(".").as_path());
    super::copy::copy(root.os("open", || "the image")?, &directory)
        .map_err(|error| Error::Invalid(format!("unpack to {}: {error}", to.display())))
}

/// Mounts directories over each other, the uppermost given first; with a label, all files have that.
///
/// # Errors
/// [`Error::Invalid`] with the kernel's explanation if it refuses.
pub fn overlay(
    trees: &[OwnedFd],
    writable: Option<&Writable>,
    style: Style,
    label: Option<&str>,
) -> Result<OwnedFd> {
    let lower: Vec<BorrowedFd> = trees.iter().map(AsFd::as_fd).collect();
    let context = label.map(|label| format!("context={label}"));
    let mut options: Vec<&str> = context.iter().map(String::as_str).collect();
    if writable.is_some() {
        // It does not outlive the container: nothing to sync when it ends.
        options.push("volatile");
    }
    if style == Style::User {
        options.push("userxattr");
    }
    let overlay = Overlay {
        lower: &lower,
        upper: writable.map(|writable| (writable.upper.as_fd(), writable.work.as_fd())),
        options: &options,
        attributes: 0,
    };
    sys_overlay::create(&overlay).map_err(|refused| {
        let explanation = &refused.explanation;
        Error::Invalid(format!(
            "overlay of {} layers: {}{}{explanation}; --data-root chooses another place",
            trees.len(),
            refused.errno.desc(),
            if explanation.is_empty() { "" } else { ": " },
        ))
    })
}
