//! Flags of inodes. Source: ioctl_iflags(2).

use std::os::fd::{AsFd, AsRawFd};

mod calls {
    nix::ioctl_read!(get_flags, b'f', 1, libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);
}

/// `FS_TOPDIR_FL` of `linux/fs.h`.
const TOP_DIRECTORY: libc::c_int = 0x0002_0000;

/// Directories made in this one have nothing to do with each other: ext4 puts each, and what is in
/// it, in a place of the disk of its own, chosen by its name.
///
/// # Errors
/// `ENOTTY`, `EOPNOTSUPP` and the like on other file systems.
pub fn scatter_subdirectories(dir: impl AsFd) -> nix::Result<()> {
    let fd = dir.as_fd().as_raw_fd();
    // Both calls read and write an int, whatever their numbers say.
    let mut flags: libc::c_long = 0;
    // SAFETY: `flags` outlives the call and has room for what is written.
    unsafe { calls::get_flags(fd, &raw mut flags) }?;
    flags |= libc::c_long::from(TOP_DIRECTORY);
    // SAFETY: `flags` outlives the call.
    unsafe { calls::set_flags(fd, &raw const flags) }.map(drop)
}
