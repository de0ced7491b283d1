//! What is different in a user namespace: file systems that cannot be made there, and the host's in
//! their place.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::statfs::{SYSFS_MAGIC, fstatfs};

use super::Init;
use crate::error::{OsContext, Result};
use crate::oci::mount_opts::Bind;
use crate::oci::plan::MountPlan;
use crate::sys::mount::{self, Attributes, NewFileSystem, Subtree};
use crate::sys::path::{Missing, Rootfs};

/// Whether the host's tree may stand in for a new file system of this kind, where the kernel
/// refuses that: sysfs belongs to a network namespace and proc to a pid namespace, and whoever does
/// not own these may not mount them. That of a new namespace is never replaced by the host's.
pub(super) fn has_substitute(init: &Init, kind: &str) -> bool {
    let is_new = |flag| init.plan.namespaces.is_new(flag);
    init.is_confined
        && match kind {
            "sysfs" => !is_new(CloneFlags::CLONE_NEWNET),
            "proc" => !is_new(CloneFlags::CLONE_NEWPID),
            _ => false,
        }
}

/// Mounts the host's `/sys` or `/proc`; `/sys` never writable.
pub(super) fn host_tree(plan: &MountPlan, kind: &str, destination: &OwnedFd) -> Result<()> {
    let source = Path::new(if kind == "sysfs" { "/sys" } else { "/proc" });
    let here = || plan.destination.display();
    let tree = mount::clone_tree(source, Subtree::Recursive).os("clone", || source.display())?;
    mount::attach(&tree, destination).os("attach", here)?;
    let attributes = Attributes { set: plan.options.attributes(), ..Attributes::default() };
    mount::set_attributes(tree.as_fd(), attributes, Subtree::Alone)
        .os("set attributes of", here)?;
    if kind == "sysfs" { make_read_only(&tree) } else { Ok(()) }
}

/// The host's `/sys` brings its cgroups along. The option `ro` means its own mount only, and what
/// the caller may write in there, such as a cgroup delegated to it, the container could too
/// (CVE-2023-25809).
pub(super) fn protect_sysfs(plan: &MountPlan, tree: &OwnedFd) -> Result<()> {
    let is_read_only = plan.options.attributes() & libc::MOUNT_ATTR_RDONLY != 0;
    let is_sysfs = || fstatfs(tree).is_ok_and(|stat| stat.filesystem_type() == SYSFS_MAGIC);
    if plan.options.bind != Bind::Recursive || !is_read_only || !is_sysfs() {
        return Ok(());
    }
    make_read_only(tree)
}

/// All of the tree; before Linux 5.12 its root, and no cgroups are seen.
fn make_read_only(tree: &OwnedFd) -> Result<()> {
    match mount::set_attributes(tree.as_fd(), Attributes::read_only(), Subtree::Recursive) {
        Err(Errno::ENOSYS) => {
            mount::set_attributes(tree.as_fd(), Attributes::read_only(), Subtree::Alone)
                .os("make read-only", || "/sys")?;
            mask_cgroups(tree)
        }
        other => other.os("make read-only", || "/sys"),
    }
}

/// An empty directory over `fs/cgroup` of a sysfs.
fn mask_cgroups(tree: &OwnedFd) -> Result<()> {
    let here = || "/sys/fs/cgroup";
    let sysfs = Rootfs::new(tree.try_clone().os("duplicate", || "/sys")?);
    let cgroups = sysfs.ensure(Path::new("/fs/cgroup"), Missing::Directory)?;
    let empty = mount::create(&NewFileSystem {
        kind: "tmpfs",
        source: Some("tmpfs"),
        options: &["nr_blocks=1".into(), "nr_inodes=1".into()],
        attributes: libc::MOUNT_ATTR_RDONLY,
    })
    .map_err(|refused| refused.errno)
    .os("make an empty directory for", here)?;
    mount::attach(&empty, &cgroups).os("mask", here)
}
