//! Volumes that are images: mounted once for all containers of the pod, read-only, and bound from
//! there.

use std::os::fd::OwnedFd;

use super::empty_dir;
use crate::error::{OsContext, Result};
use crate::pod::store::PodDirs;
use crate::sys::{dir, mount};

/// Kind of the volume in the names of directories.
pub(super) const PLUGIN: &str = "image";

/// Whether the volume is there; after a reboot it is not.
#[must_use]
pub fn is_mounted(dirs: &PodDirs, volume: &str) -> bool {
    mount::is_mount_root(&dirs.volume(PLUGIN, volume)).is_ok_and(|is_root| is_root)
}

/// Mounts the files of the image.
///
/// # Errors
/// [`crate::error::Error::Os`].
pub fn mount(dirs: &PodDirs, volume: &str, files: &OwnedFd) -> Result<()> {
    let path = dirs.volume(PLUGIN, volume);
    let (parent, name) = empty_dir::make_parent(&path)?;
    let point = dir::make(&parent, name, 0o755).os("create", || path.display())?;
    mount::attach(files, &point).os("mount", || path.display())
}
