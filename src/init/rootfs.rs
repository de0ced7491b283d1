//! The root of the container: mounted, made read-only, and switched to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, MsFlags, mount as classic_mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir, pivot_root};

use super::Init;
use crate::error::{Error, OsContext, Result};
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::path::{self, Missing, Rootfs};

const NONE: Option<&str> = None;

/// Cuts our mount tree off from the host's and mounts the rootfs in it.
pub(super) fn mount(init: &mut Init) -> Result<()> {
    if init.rootfs.is_some() {
        // Among the host's mounts: nothing of them is ours to change.
        return Ok(());
    }
    let plan = &init.plan.root;
    let mut propagation = plan.propagation.unwrap_or(MsFlags::MS_SLAVE | MsFlags::MS_REC);
    if propagation.contains(MsFlags::MS_UNBINDABLE) {
        // Not before everything is bound that has to be; the switch makes it so.
        propagation.remove(MsFlags::MS_UNBINDABLE);
        propagation.insert(MsFlags::MS_PRIVATE);
    }
    let is_joined = !init.plan.namespaces.is_new(nix::sched::CloneFlags::CLONE_NEWNS);
    if is_joined {
        // Not ours to change, but for the one mount that ours would appear in: it may be a peer of
        // the host's.
        let above = path::mount_point_above(&plan.path)?;
        classic_mount(NONE, &above, NONE, MsFlags::MS_SLAVE, NONE)
            .os("make slave", || above.display())?;
    } else {
        classic_mount(NONE, "/", NONE, propagation, NONE).os("set propagation of", || "/")?;
    }
    if !is_cut_off(plan.propagation) {
        // What the rootfs is mounted in may still be shared: it would appear on the host, too.
        let parent = match init.given_root {
            Some(_) => PathBuf::from("/"),
            None => path::mount_point_above(&plan.path)?,
        };
        classic_mount(NONE, &parent, NONE, MsFlags::MS_PRIVATE, NONE)
            .os("make private", || parent.display())?;
    }
    if let Some(tree) = init.given_root.take() {
        // On top of what a path cannot lead to any more: init may have no right to walk to
        // `root.path`. Our own `/` stays where it is until the switch.
        let destination = open_directory(Path::new("/"))?;
        mount::attach(&tree, &destination).os("mount", || "the given rootfs")?;
        init.rootfs = Some(Rootfs::new(tree));
        return Ok(());
    }
    let tree = mount::clone_tree(&plan.path, Subtree::Recursive)
        .os("clone the mount of", || plan.path.display())?;
    if is_joined {
        // A copy of a peer is one more.
        let slave = Attributes { propagation: MsFlags::MS_SLAVE.bits(), ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), slave, Subtree::Recursive)
            .os("make slave", || plan.path.display())?;
    }
    let destination = open_directory(&plan.path)?;
    mount::attach(&tree, &destination).os("mount", || plan.path.display())?;
    init.rootfs = Some(Rootfs::new(tree));
    Ok(())
}

/// Whether nothing that is mounted or unmounted here appears on the host, wherever it is.
fn is_cut_off(propagation: Option<MsFlags>) -> bool {
    propagation.is_none_or(|flags| {
        let one_way = MsFlags::MS_SLAVE | MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE;
        flags.contains(MsFlags::MS_REC) && flags.intersects(one_way)
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).os("open", || path.display())
}

impl Init<'_> {
    /// The new root; every step after "rootfs" has it.
    pub(super) fn rootfs(&self) -> Result<&Rootfs> {
        self.rootfs.as_ref().ok_or_else(|| Error::Init {
            step: "rootfs".into(),
            cause: "is not mounted yet".into(),
        })
    }
}

/// A missing working directory is made, as runc does; one that cannot be made fails at chdir.
pub(super) fn make_cwd(init: &mut Init) -> Result<()> {
    let cwd = &init.plan.process.cwd;
    if cwd != Path::new("/") {
        // Refused in a read-only rootfs, and for /proc/self/...: chdir tells.
        let _made = init.rootfs()?.ensure(cwd, Missing::Directory);
    }
    Ok(())
}

/// `root.readonly`, and a read-only `/dev`: after everything that makes mount points in it.
pub(super) fn make_read_only(init: &mut Init) -> Result<()> {
    super::mounts::make_dev_read_only(init)?;
    if init.plan.root.readonly {
        mount::set_attributes(init.rootfs()?.fd(), Attributes::read_only(), Subtree::Alone)
            .os("make read-only", || init.plan.root.path.display())?;
    }
    Ok(())
}

/// Makes the rootfs `/` and lets go of the host's.
pub(super) fn switch(init: &mut Init) -> Result<()> {
    let (rootfs, plan) = (init.rootfs()?, init.plan);
    if plan.namespaces.is_new(nix::sched::CloneFlags::CLONE_NEWNS) {
        if init.move_root { move_root(rootfs)? } else { pivot(rootfs, plan.root.propagation)? }
    } else {
        // A mount namespace that is shared has a root that is not ours to replace.
        fchdir(rootfs.fd()).os("fchdir", || "the rootfs")?;
        chroot(".").os("chroot", || "the rootfs")?;
    }
    nix::unistd::chdir("/").os("chdir", || "/")?;
    if let Some(propagation) = init.plan.root.propagation {
        classic_mount(NONE, "/", NONE, propagation, NONE).os("set propagation of", || "/")?;
    }
    init.rootfs = None;
    Ok(())
}

/// The old root ends up below the new one and is taken away there; no directory is needed for it.
fn pivot(rootfs: &Rootfs, propagation: Option<MsFlags>) -> Result<()> {
    if is_cut_off(propagation) {
        fchdir(rootfs.fd()).os("fchdir", || "the rootfs")?;
        pivot_root(".", ".").os("pivot_root", || "the rootfs")?;
        // It is what lies on top at this place: pivot_root(2), NOTES.
        return umount2(".", MntFlags::MNT_DETACH).os("umount", || "the old root");
    }
    let old = open_directory(Path::new("/"))?;
    fchdir(rootfs.fd()).os("fchdir", || "the rootfs")?;
    pivot_root(".", ".").os("pivot_root", || "the rootfs")?;
    fchdir(&old).os("fchdir", || "the old root")?;
    // Slave, so that unmounting here unmounts nothing on the host.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    classic_mount(NONE, ".", NONE, slave, NONE).os("make slave", || "the old root")?;
    umount2(".", MntFlags::MNT_DETACH).os("umount", || "the old root")
}

/// For a root that cannot be pivoted from, an initramfs: mount over it. The host's tree stays
/// below, so what is not needed of it is unmounted first.
fn move_root(rootfs: &Rootfs) -> Result<()> {
    fchdir(rootfs.fd()).os("fchdir", || "the rootfs")?;
    let path = path::kernel_path(rootfs.fd()).os("readlink", || "the rootfs")?;
    for point in path::mount_points_outside(&path)? {
        // EINVAL: locked, or gone with a parent already. Hidden under the new root all the same.
        let _gone = umount2(&point, MntFlags::MNT_DETACH);
    }
    classic_mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).os("move to /", || "the rootfs")?;
    chroot(".").os("chroot", || "the rootfs")?;
    Ok(())
}
