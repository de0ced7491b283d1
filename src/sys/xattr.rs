//! Extended attributes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Largest value of an attribute, bytes. Source: `XATTR_SIZE_MAX`.
const VALUE_BYTES: usize = 64 << 10;
/// Longest list of names of a file, bytes. Source: `XATTR_LIST_MAX`.
const LIST_BYTES: usize = 64 << 10;

/// Sets an attribute of an open file.
///
/// # Errors
/// `ENOTSUP`, `EPERM`, `ENOSPC`, `ERANGE` for a name or value that is too long.
/// Source: fsetxattr(2).
pub fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> nix::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let (name, data) = (name.as_ptr(), value.as_ptr());
    // SAFETY: `name` ends with NUL, `data` has the length given; the kernel only reads them.
    let ret = unsafe { libc::fsetxattr(fd, name, data.cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// Sets an attribute of what a path names: one of [`super::fd::proc_path`], so that it can be a
/// file opened with `O_PATH`, also a symbolic link.
///
/// # Errors
/// As [`set`]. Source: setxattr(2).
pub fn set_of(path: &str, name: &CStr, value: &[u8]) -> nix::Result<()> {
    let path = CString::new(path).or(Err(Errno::EINVAL))?;
    let (path, name, data) = (path.as_ptr(), name.as_ptr(), value.as_ptr());
    // SAFETY: two strings that end with NUL, and `data` of the length given; all are only read.
    let ret = unsafe { libc::setxattr(path, name, data.cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// All attributes of what a path as in [`set_of`] names; none where there can be none.
///
/// # Errors
/// Errors of listxattr(2) and getxattr(2).
pub fn all_of(path: &str) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    let path = CString::new(path).or(Err(Errno::EINVAL))?;
    let mut names = vec![0_u8; LIST_BYTES];
    // SAFETY: `path` ends with NUL; the kernel writes at most the length given into `names`.
    let ret = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = match Errno::result(ret) {
        Err(Errno::ENOTSUP) => 0,
        other => usize::try_from(other?).or(Err(Errno::EOVERFLOW))?,
    };
    let mut all = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).or(Err(Errno::EINVAL))?.to_owned();
        let mut value = vec![0_u8; VALUE_BYTES];
        let (buffer, size) = (value.as_mut_ptr(), value.len());
        // SAFETY: two strings that end with NUL, and a buffer of the size given.
        let ret = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), size) };
        value.truncate(usize::try_from(Errno::result(ret)?).or(Err(Errno::EOVERFLOW))?);
        all.push((name, value));
    }
    Ok(all)
}
