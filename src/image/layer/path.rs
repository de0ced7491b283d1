//! Names in archives: what they may be, and which directory they are in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::entry::show;
use crate::error::{Error, Result};

/// Longest path of an entry, bytes. Source: `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// A path below the root of a layer, without `.`, empty when it is the root itself.
///
/// # Errors
/// [`Error::Invalid`] for a path with `..` or NUL in it, or one that is too long.
pub(super) fn relative(path: &[u8]) -> Result<PathBuf> {
    let refused = |why: &str| Err(Error::Invalid(format!("{}: the path {why}", show(path))));
    if path.contains(&0) {
        return refused("has a NUL in it");
    }
    if path.len() >= MAX_PATH {
        return refused("is longer than 4095 bytes");
    }
    let mut clean = PathBuf::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return refused("has .. in it, which could lead out of the layer"),
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    Ok(clean)
}

/// The directory of a path and its last name.
pub(super) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        for (path, clean) in
            [("a/b", "a/b"), ("./a//b/", "a/b"), ("/etc/passwd", "etc/passwd"), (".", ""), ("", "")]
        {
            assert_eq!(relative(path.as_bytes()).unwrap(), Path::new(clean), "{path}");
        }
        let long = "a/".repeat(3000);
        for path in ["..", "a/../b", "/../x", "a/..", "a\0b", &long] {
            assert!(relative(path.as_bytes()).is_err(), "{path}");
        }
    }
}
