//! Owner, mode, extended attributes and time of what is unpacked, in the order that keeps them.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::entry::Entry;
use crate::error::{Error, OsContext, Result};
use crate::sys::{dir, fd, xattr};

/// The kernel's own, in a layer: an archive could make it look elsewhere.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// What a program may do more than its user: never lost silently.
const CAPABILITIES: &[u8] = b"security.capability";

/// Attributes of an entry.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    mtime: (i64, i64),
    xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Attributes<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            uid: Uid::from_raw(entry.uid),
            gid: Gid::from_raw(entry.gid),
            mode: Mode::from_bits_truncate(entry.mode),
            mtime: entry.mtime,
            xattrs: &entry.xattrs,
        }
    }
}

/// Sets all of them on an open file or directory. Returns the names of extended attributes that
/// the file system does not take.
pub(super) fn set(made: BorrowedFd, attributes: &Attributes) -> Result<Vec<String>> {
    // A change of the owner takes set-user-ID bits and capabilities away.
    fchown(made, Some(attributes.uid), Some(attributes.gid)).map_err(|e| chown(e, attributes))?;
    fchmod(made, attributes.mode).os("chmod", || format!("to {:o}", attributes.mode))?;
    let lost = set_xattrs(attributes.xattrs, |name, value| xattr::set(made, name, value))?;
    set_time(made, attributes.mtime).os("set the time", || "of the file")?;
    Ok(lost)
}

/// Sets owner, time and extended attributes of a link, a device or a pipe.
pub(super) fn set_by_name(
    directory: &OwnedFd,
    name: &OsStr,
    attributes: &Attributes,
) -> Result<Vec<String>> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(directory, name, Some(attributes.uid), Some(attributes.gid), flags)
        .map_err(|errno| chown(errno, attributes))?;
    let mut lost = Vec::new();
    if !attributes.xattrs.is_empty() {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(directory, name, flags, Mode::empty()).os("open", || "it")?;
        let path = fd::proc_path(&made);
        lost = set_xattrs(attributes.xattrs, |name, value| xattr::set_of(&path, name, value))?;
    }
    set_time_at(directory, name, attributes.mtime).os("set the time", || "of it")?;
    Ok(lost)
}

fn chown(errno: Errno, attributes: &Attributes) -> Error {
    let owner = format!("{}:{}", attributes.uid, attributes.gid);
    if errno == Errno::EINVAL {
        return Error::Invalid(format!(
            "its owner {owner} is none of the ids of this user namespace; /etc/subuid and /etc/subgid \
             grant more: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER"
        ));
    }
    Error::Os { op: "chown", target: format!("to {owner}"), source: errno.into() }
}

/// Sets modification and access time.
///
/// # Errors
/// Errors of utimensat(2).
pub fn set_time(made: impl AsFd, mtime: (i64, i64)) -> nix::Result<()> {
    let time = spec(mtime);
    futimens(made, &time, &time)
}

/// As [`set_time`], of an entry of a directory; a link is a link.
///
/// # Errors
/// Errors of utimensat(2).
pub fn set_time_at<P: nix::NixPath + ?Sized>(
    directory: impl AsFd,
    name: &P,
    mtime: (i64, i64),
) -> nix::Result<()> {
    let time = spec(mtime);
    utimensat(directory, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

fn spec((seconds, nanoseconds): (i64, i64)) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds)
}

fn set_xattrs(
    xattrs: &[(Vec<u8>, Vec<u8>)],
    set: impl Fn(&std::ffi::CStr, &[u8]) -> nix::Result<()>,
) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    for (name, value) in xattrs {
        let shown = || String::from_utf8_lossy(name).into_owned();
        if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(Error::Invalid(format!(
                "the attribute {} is overlayfs's own and may not be in a layer",
                shown()
            )));
        }
        let text = CString::new(name.as_slice())
            .map_err(|error| Error::Invalid(format!("the name of an attribute: {error}")))?;
        match set(&text, value) {
            // Labels of another machine's security module, attributes of another kernel.
            Err(Errno::ENOTSUP | Errno::EPERM) if name.as_slice() != CAPABILITIES => {
                lost.push(shown());
            }
            other => other.os("set the attribute", shown)?,
        }
    }
    Ok(lost)
}

/// Gives a directory that no entry describes the looks that it has in the layers below.
pub(super) fn copy_from_below(below: &[OwnedFd], path: &Path, made: &OwnedFd) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    for layer in below {
        let found = match dir::exactly(layer, path, flags) {
            Ok(found) => found,
            // Not in this one; or it is a directory in this layer alone.
            Err(Errno::ENOENT) => continue,
            Err(_) => return Ok(()),
        };
        let stat = fstat(&found).os("stat", || path.display())?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(made, Some(uid), Some(gid)).os("chown", || path.display())?;
        fchmod(made, Mode::from_bits_truncate(stat.st_mode)).os("chmod", || path.display())?;
        return set_time(made, (stat.st_mtime, stat.st_mtime_nsec))
            .os("set the time of", || path.display());
    }
    Ok(())
}
