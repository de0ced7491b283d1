//! mount(2) on a destination that is an open descriptor: one call where the way by descriptors takes
//! six, for what needs no descriptor of the new mount afterwards.
//!
//! The destination is named by its link in `/proc/self/fd`, which leads to the open file itself and
//! not to its name: it is as good as a descriptor, as long as that `/proc` is the host's.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::fd::proc_path;
use super::mount::{self, NewFileSystem, Subtree};

/// Whose file system lies at `/proc` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procfs {
    /// The host's: its links may be followed.
    Hosts,
    /// In a mount namespace of others it may be anything.
    Unknown,
}

/// Attributes of a mount and their flags in mount(2); no flag is a relative atime.
const FLAGS: &[(u64, MsFlags)] = &[
    (libc::MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
    (libc::MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
    (libc::MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
    (libc::MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    (libc::MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
    (libc::MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
    (libc::MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
];

/// Makes a file system on an open directory.
///
/// Read-only means the file system, too, and not the mount alone.
///
/// # Errors
/// Those of mount(2); `EINVAL` for what it cannot say. Nothing is mounted then, and the way by
/// descriptors tells more.
pub fn create_on(fs: &NewFileSystem, destination: BorrowedFd) -> nix::Result<()> {
    // They part the words here.
    if fs.options.iter().any(|word| word.contains(',')) {
        return Err(Errno::EINVAL);
    }
    let mut flags = MsFlags::empty();
    let mut rest = fs.attributes;
    for (attribute, flag) in FLAGS.iter().filter(|(bit, _)| fs.attributes & bit != 0) {
        flags |= *flag;
        rest &= !attribute;
    }
    if rest != 0 {
        return Err(Errno::EINVAL);
    }
    let data = fs.options.join(",");
    let data = (!data.is_empty()).then_some(data.as_str());
    nix::mount::mount(fs.source, proc_path(destination).as_str(), Some(fs.kind), flags, data)
}

/// Binds the mount at a path that is trusted on an entry of a directory that nobody else can change.
///
/// # Errors
/// Those of mount(2).
pub fn bind_at(source: &Path, directory: BorrowedFd, name: &str) -> nix::Result<()> {
    let none = None::<&str>;
    let at = format!("{}/{name}", proc_path(directory));
    nix::mount::mount(Some(source), at.as_str(), none, MsFlags::MS_BIND, none)
}

/// Binds what an open descriptor leads to on another one.
///
/// # Errors
/// Those of open_tree(2) and move_mount(2).
pub fn bind(source: BorrowedFd, destination: BorrowedFd, procfs: Procfs) -> nix::Result<()> {
    let none = None::<&str>;
    if procfs == Procfs::Hosts {
        let (from, to) = (proc_path(source), proc_path(destination));
        let flags = MsFlags::MS_BIND;
        if nix::mount::mount(Some(from.as_str()), to.as_str(), none, flags, none).is_ok() {
            return Ok(());
        }
    }
    mount::attach(mount::clone_tree_at(source, Subtree::Alone)?, destination)
}
