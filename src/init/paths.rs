//! Masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::{Init, mounts};
use crate::error::{Error, OsContext, Result};
use crate::sys::classic_mount;
use crate::sys::fd;
use crate::sys::mount::{self, Attributes, NewFileSystem, Subtree};
use crate::sys::path::is_null_device;

/// Mounts each path over itself, read-only.
pub(super) fn make_read_only(init: &mut Init) -> Result<()> {
    let rootfs = init.rootfs()?;
    for path in &init.plan.readonly_paths {
        let here = || path.display();
        let Some(found) = present(rootfs.find(path)).os("open", here)? else { continue };
        let tree = mount::clone_tree_at(found.as_fd(), Subtree::Recursive)
            .os("clone the mount of", here)?;
        mount::attach(&tree, &found).os("mount", here)?;
        mount::set_attributes(tree.as_fd(), Attributes::read_only(), Subtree::Alone)
            .os("make read-only", here)?;
        [tree, found].into_iter().for_each(|fd| init.spent.put(fd));
    }
    Ok(())
}

/// Hides each path: a directory behind an empty one, anything else behind the null device.
pub(super) fn mask(init: &mut Init) -> Result<()> {
    let rootfs = init.rootfs()?;
    let (mut empty, mut null) = (None, None);
    for path in &init.plan.masked_paths {
        let here = || path.display();
        let Some(found) = present(rootfs.find(path)).os("open", here)? else { continue };
        let kind = fstat(&found).os("fstat", here)?.st_mode & libc::S_IFMT;
        if kind == libc::S_IFDIR {
            hide_directory(init, &found, &mut empty)?.os("mask", here)?;
        } else {
            let null = match &null {
                Some(null) => null,
                None => &*null.insert(null_device()?),
            };
            classic_mount::bind(null.as_fd(), found.as_fd(), init.procfs()).os("mask", here)?;
        }
        init.spent.put(found);
    }
    empty.into_iter().chain(null).for_each(|fd| init.spent.put(fd));
    Ok(())
}

/// A path that is not there needs no protection.
fn present(found: nix::Result<OwnedFd>) -> nix::Result<Option<OwnedFd>> {
    match found {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

/// All of them behind the same file system, which the first one makes.
fn hide_directory(
    init: &Init,
    path: &OwnedFd,
    empty: &mut Option<OwnedFd>,
) -> Result<nix::Result<()>> {
    match empty {
        Some(empty) => Ok(classic_mount::bind(empty.as_fd(), path.as_fd(), init.procfs())),
        None => Ok(mount::attach(empty.insert(empty_directory(init)?), path)),
    }
}

fn empty_directory(init: &Init) -> Result<OwnedFd> {
    let mut options = vec!["nr_blocks=1".into(), "nr_inodes=1".into()];
    options.extend(mounts::context(init, "tmpfs", &options));
    mount::create(&NewFileSystem {
        kind: "tmpfs",
        source: Some("tmpfs"),
        options: &options,
        attributes: libc::MOUNT_ATTR_RDONLY,
    })
    .map_err(|refused| refused.errno)
    .os("make", || "the empty directory for masked paths")
}

/// The host's null device, still visible and checked: the container's own may be anything.
fn null_device() -> Result<OwnedFd> {
    let here = || "/dev/null";
    let device = fd::open(here(), OFlag::O_PATH).os("open", here)?;
    if is_null_device(&device).os("fstat", here)? {
        Ok(device)
    } else {
        Err(Error::Invalid("the host's /dev/null is not the null device".into()))
    }
}
