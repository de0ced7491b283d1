//! Marks of what a layer deletes: names in archives, special files and attributes for overlayfs.
//!
//! Source: image-spec, layer.md, "Whiteouts"; the kernel's overlayfs.rst, "whiteouts and opaque
//! directories".

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sys::stat::{Mode, SFlag, mknodat};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OsContext, Result};
use crate::sys::xattr;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The bookkeeping of aufs, which is no deletion.
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// Which attributes overlayfs is told to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// `trusted.overlay.*`: the host's root.
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr`: in a user namespace.
    User,
}

impl Style {
    /// Marks the directories whose content below is hidden.
    #[must_use]
    pub fn opaque(self) -> &'static std::ffi::CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
        }
    }
}

/// What a name of an archive says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    Ignored,
    /// The directory hides what is below.
    Opaque,
    /// The name is deleted.
    Deleted(OsString),
}

/// The mark that a file name is, if it is one.
pub(super) fn mark(name: &OsStr) -> Result<Option<Mark>> {
    let bytes = name.as_bytes();
    let Some(deleted) = bytes.strip_prefix(PREFIX) else { return Ok(None) };
    if bytes == OPAQUE {
        return Ok(Some(Mark::Opaque));
    }
    if bytes.starts_with(BOOKKEEPING) {
        return Ok(Some(Mark::Ignored));
    }
    match deleted {
        b"" | b"." | b".." => Err(Error::Invalid("the mark of a deleted file names none".into())),
        name => Ok(Some(Mark::Deleted(OsString::from_vec(name.to_owned())))),
    }
}

/// Makes a directory hide what is below it.
pub(super) fn hide_below(directory: impl AsFd, style: Style) -> Result<()> {
    xattr::set(directory, style.opaque(), b"y").os("mark as opaque", || "a directory")
}

/// Marks a name as deleted.
pub(super) fn delete(directory: impl AsFd, name: &OsStr) -> nix::Result<()> {
    // The kernel lets everybody make this one.
    mknodat(directory, name, SFlag::S_IFCHR, Mode::empty(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, expected) in [
            ("x", None),
            (".whx", None),
            (".wh.x", Some(Mark::Deleted("x".into()))),
            (".wh..hidden", Some(Mark::Deleted(".hidden".into()))),
            (".wh..wh..opq", Some(Mark::Opaque)),
            (".wh..wh.plnk", Some(Mark::Ignored)),
        ] {
            assert_eq!(mark(OsStr::new(name)).unwrap(), expected, "{name}");
        }
        for name in [".wh.", ".wh..", ".wh..."] {
            assert!(mark(OsStr::new(name)).is_err(), "{name}");
        }
    }
}
