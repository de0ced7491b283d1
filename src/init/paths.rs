//! Masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::Init;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd::Spent;
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
    let (mut directory, mut file) = (Mask::new(empty_directory), Mask::new(null_device));
    for path in &init.plan.masked_paths {
        let here = || path.display();
        let Some(found) = present(rootfs.find(path)).os("open", here)? else { continue };
        let kind = fstat(&found).os("fstat", here)?.st_mode & libc::S_IFMT;
        let mask = if kind == libc::S_IFDIR { &mut directory } else { &mut file };
        mask.put_on(&found, &init.spent)?.os("mask", here)?;
        init.spent.put(found);
    }
    Ok(())
}

/// A path that is not there needs no protection.
fn present(found: nix::Result<OwnedFd>) -> nix::Result<Option<OwnedFd>> {
    match found {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

/// What lies over masked paths: one mount, and copies of it.
struct Mask {
    make: fn() -> Result<OwnedFd>,
    first: Option<OwnedFd>,
}

impl Mask {
    fn new(make: fn() -> Result<OwnedFd>) -> Self {
        Self { make, first: None }
    }

    fn put_on(&mut self, path: &OwnedFd, spent: &Spent) -> Result<nix::Result<()>> {
        let Some(first) = &self.first else {
            let first = (self.make)()?;
            return Ok(mount::attach(self.first.insert(first), path));
        };
        let copy = mount::clone_tree_at(first.as_fd(), Subtree::Alone).os("clone", || "a mask")?;
        let done = mount::attach(&copy, path);
        spent.put(copy);
        Ok(done)
    }
}

fn empty_directory() -> Result<OwnedFd> {
    mount::create(&NewFileSystem {
        kind: "tmpfs",
        source: Some("tmpfs"),
        options: &["nr_blocks=1".into(), "nr_inodes=1".into()],
        attributes: libc::MOUNT_ATTR_RDONLY,
    })
    .map_err(|refused| refused.errno)
    .os("make", || "the empty directory for masked paths")
}

/// The host's null device, still visible and checked: the container's own may be anything.
fn null_device() -> Result<OwnedFd> {
    let here = || "/dev/null";
    let tree =
        mount::clone_tree(Path::new("/dev/null"), Subtree::Alone).os("clone the mount of", here)?;
    if is_null_device(&tree).os("fstat", here)? {
        Ok(tree)
    } else {
        Err(Error::Invalid("the host's /dev/null is not the null device".into()))
    }
}
