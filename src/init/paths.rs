//! Masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::Init;
use crate::error::{Error, OsContext, Result};
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
    }
    Ok(())
}

/// Hides each path: a directory behind an empty one, anything else behind the null device.
pub(super) fn mask(init: &mut Init) -> Result<()> {
    let rootfs = init.rootfs()?;
    let mut masks = Masks::default();
    for path in &init.plan.masked_paths {
        let here = || path.display();
        let Some(found) = present(rootfs.find(path)).os("open", here)? else { continue };
        let kind = fstat(&found).os("fstat", here)?.st_mode & libc::S_IFMT;
        let mask = if kind == libc::S_IFDIR { masks.directory()? } else { masks.file()? };
        mount::attach(&mask, &found).os("mask", here)?;
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

/// Sources of the masks: one empty read-only tmpfs and one null device for all of them.
#[derive(Default)]
struct Masks {
    empty: Option<OwnedFd>,
    null: Option<OwnedFd>,
}

impl Masks {
    fn directory(&mut self) -> Result<OwnedFd> {
        let here = || "the empty directory for masked paths";
        let Some(empty) = &self.empty else {
            let tree = mount::create(&NewFileSystem {
                kind: "tmpfs",
                source: Some("tmpfs"),
                options: &["nr_blocks=1".into(), "nr_inodes=1".into()],
                attributes: libc::MOUNT_ATTR_RDONLY,
            })
            .map_err(|refused| refused.errno)
            .os("make", here)?;
            let copy = tree.try_clone().os("duplicate", here)?;
            self.empty = Some(tree);
            return Ok(copy);
        };
        mount::clone_tree_at(empty.as_fd(), Subtree::Alone).os("clone", here)
    }

    /// The host's null device, still visible and checked: the container's own may be anything.
    fn file(&mut self) -> Result<OwnedFd> {
        let here = || "/dev/null";
        let source = match &self.null {
            Some(null) => mount::clone_tree_at(null.as_fd(), Subtree::Alone),
            None => mount::clone_tree(Path::new("/dev/null"), Subtree::Alone),
        };
        let tree = source.os("clone the mount of", here)?;
        if self.null.is_none() {
            if !is_null_device(&tree).os("fstat", here)? {
                return Err(Error::Invalid("the host's /dev/null is not the null device".into()));
            }
            self.null = Some(tree.try_clone().os("duplicate", here)?);
        }
        Ok(tree)
    }
}
