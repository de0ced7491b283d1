//! Device nodes and the symlinks beside them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::Init;
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::{DevicePlan, MountSource};
use crate::sys::mount::{self, Subtree};
use crate::sys::path::{Missing, Rootfs};

/// Source: runtime-spec, runtime-linux.md, Dev symbolic links.
const SYMLINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the default devices, those of the configuration, and the symlinks.
pub(super) fn apply(init: &mut Init) -> Result<()> {
    if brings_its_own_dev(init) {
        return Ok(());
    }
    let rootfs = init.rootfs()?;
    let dev = rootfs.ensure(Path::new("/dev"), Missing::Directory)?;
    // A link takes the place of this one, and could not take that of a mount.
    let is_link = |device: &&DevicePlan| device.path == Path::new("/dev/ptmx");
    let configured = init.plan.devices.iter().filter(|device| !is_link(device));
    for device in DevicePlan::defaults().iter().chain(configured) {
        if init.is_confined {
            bind_device(rootfs, device)?;
            continue;
        }
        match device.path.strip_prefix("/dev") {
            Ok(name) if name.components().count() == 1 => make_device(rootfs, &dev, name, device)?,
            _ => {
                let (parent, name) = rootfs.parent(&device.path)?;
                make_device(rootfs, &parent, &name, device)?;
            }
        }
    }
    for (target, link) in SYMLINKS {
        make_symlink(&dev, target, link)?;
    }
    if Path::new("/proc/kcore").exists() {
        make_symlink(&dev, "/proc/kcore", "core")?;
    }
    Ok(())
}

/// A `/dev` that is bind-mounted from the host is used as it is.
fn brings_its_own_dev(init: &Init) -> bool {
    init.plan.mounts.iter().any(|mount| {
        matches!(mount.source, MountSource::Bind(_)) && mount.destination == Path::new("/dev")
    })
}

fn make_device(rootfs: &Rootfs, parent: &OwnedFd, name: &Path, device: &DevicePlan) -> Result<()> {
    let number = makedev(device.major.into(), device.minor.into());
    let kind = SFlag::from_bits_truncate(device.kind);
    let mode = Mode::from_bits_truncate(device.mode);
    let here = || device.path.display();
    match mknodat(parent.as_fd(), name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).os("stat", here)?;
            if found.st_mode & libc::S_IFMT != device.kind || found.st_rdev != number {
                return replace(parent, name, device);
            }
        }
        // No CAP_MKNOD, or a file system with nodev semantics of its own: the host's node serves.
        Err(Errno::EPERM) => return bind_device(rootfs, device),
        Err(errno) => return Err(errno).os("mknod", here),
    }
    own(parent, name, device)
}

fn own(parent: &OwnedFd, name: &Path, device: &DevicePlan) -> Result<()> {
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .os("chown", || device.path.display())
}

/// What the image has put there is something else: it goes, if the rootfs can be written.
fn replace(parent: &OwnedFd, name: &Path, device: &DevicePlan) -> Result<()> {
    let here = || format!("{}, which is another file in the rootfs", device.path.display());
    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).os("replace", here)?;
    let number = makedev(device.major.into(), device.minor.into());
    let (kind, mode) =
        (SFlag::from_bits_truncate(device.kind), Mode::from_bits_truncate(device.mode));
    mknodat(parent.as_fd(), name, kind, mode, number).os("mknod", here)?;
    own(parent, name, device)
}

/// In a user namespace nodes cannot be made: the host's is mounted.
fn bind_device(rootfs: &Rootfs, device: &DevicePlan) -> Result<()> {
    let here = || device.path.display();
    if device.kind == libc::S_IFIFO {
        let (parent, name) = rootfs.parent(&device.path)?;
        let mode = Mode::from_bits_truncate(device.mode);
        mknodat(parent.as_fd(), &name, SFlag::S_IFIFO, mode, 0).os("mkfifo", here)?;
        return own(&parent, &name, device);
    }
    let tree = mount::clone_tree(&device.path, Subtree::Alone).os("clone the mount of", here)?;
    let stat = fstat(&tree).os("fstat", here)?;
    let number = makedev(device.major.into(), device.minor.into());
    if stat.st_mode & libc::S_IFMT != device.kind || stat.st_rdev != number {
        let reason = format!(
            "{} is not device {}:{} on the host, and nodes cannot be made here",
            device.path.display(),
            device.major,
            device.minor
        );
        return Err(Error::Invalid(reason));
    }
    let destination = rootfs.ensure(&device.path, Missing::File)?;
    mount::attach(&tree, &destination).os("mount", here)
}

fn make_symlink(dev: &OwnedFd, target: &str, link: &str) -> Result<()> {
    let here = || format!("/dev/{link}");
    match symlinkat(target, dev, link) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) if link == "ptmx" => {
            // devtmpfs and old images have a node of the host's devpts here.
            unlinkat(dev, link, UnlinkatFlags::NoRemoveDir).os("remove", here)?;
            symlinkat(target, dev, link).os("symlink", here)
        }
        // Whatever the image has there concerns only the image.
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).os("symlink", here),
    }
}
