//! `subPath`: a part of a volume, pinned so that nobody can exchange it.
//!
//! What lies in a volume is under the control of those who write to it, containers of this pod or
//! of another. So a path in it is resolved by the kernel below the volume's open directory, and
//! what was found is mounted by its descriptor in a place that no container can reach. From there
//! the runtime binds it; a link that appears in the volume meanwhile changes nothing
//! (CVE-2017-1002101, CVE-2021-25741).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{FileStat, Mode, fstat};

use super::{empty_dir, teardown};
use crate::error::{OsContext, Result};
use crate::pod::member::env;
use crate::sys::dir;
use crate::sys::mount::{self, Attributes, Subtree};

/// Who sees what is mounted in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What the host mounts is seen.
    Inward,
    /// And what containers mount is seen by the host.
    BothWays,
}

/// Replaces the variables of a `subPathExpr`.
///
/// # Errors
/// The kubelet's words for variables that are not set or empty.
pub(super) fn expand(
    expression: &str,
    variables: &[(String, String)],
) -> std::result::Result<String, String> {
    let values: BTreeMap<&str, &str> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let missing = RefCell::new(BTreeSet::new());
    let expanded = env::expand(expression, |name| {
        let value = values.get(name).filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value.map(|value| (*value).to_owned())
    });
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if missing.is_empty() {
        Ok(expanded)
    } else {
        Err(format!("missing value for {}", missing.join(", ")))
    }
}

/// Refuses a path that names something outside by itself.
///
/// # Errors
/// The kubelet's words.
pub(super) fn check(path: &str) -> std::result::Result<(), String> {
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(())
}

/// Opens a path in a volume; where nothing is, directories are made with the volume's mode.
///
/// # Errors
/// `EXDEV` for what leads outside.
pub(super) fn find(volume: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
    let path = Path::new(path);
    match dir::beneath(volume, path, OFlag::O_PATH) {
        Err(Errno::ENOENT) => make_missing(volume, path),
        other => other,
    }
}

fn make_missing(volume: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let mode = fstat(volume)?.st_mode & 0o2777;
    let mut missing = Vec::new();
    let mut at = path;
    let mut found = loop {
        let name = at.file_name().ok_or(Errno::ENOENT)?;
        missing.push(name);
        at = at.parent().unwrap_or(Path::new(""));
        let above = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match dir::beneath(volume, above, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) if above != Path::new(".") => {}
            other => break other?,
        }
    };
    while let Some(name) = missing.pop() {
        // What somebody else has put there meanwhile is entered only if it is a directory.
        found = match dir::make_new(&found, name, mode) {
            Err(Errno::EEXIST) => dir::child(&found, name)?,
            other => other?,
        };
    }
    Ok(found)
}

/// Mounts a part of a volume at `pin`, a path below directories of the pod that no container
/// reaches. What is there from the instance before is replaced if it is another.
///
/// # Errors
/// [`crate::error::Error::Os`].
pub(super) fn pin(part: &OwnedFd, pin: &Path, reach: Reach) -> Result<()> {
    let wanted = fstat(part).os("fstat", || "the subPath")?;
    while mount::is_mount_root(pin).is_ok_and(|is_root| is_root) {
        let present = nix::sys::stat::lstat(pin).os("lstat", || pin.display())?;
        if is_same(&present, &wanted) {
            return Ok(());
        }
        teardown::detach(pin)?;
    }
    let (parent, name) = empty_dir::make_parent(pin)?;
    let is_directory = wanted.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let prepared = || -> nix::Result<()> {
        dir::remove(&parent, name)?;
        if is_directory {
            return dir::make_new(&parent, name, 0o700).map(drop);
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::from_bits_truncate(0o600)).map(drop)
    };
    prepared().os("create", || pin.display())?;
    let tree = mount::clone_tree_at(part.as_fd(), Subtree::Alone).os("clone", || "the subPath")?;
    if reach == Reach::Inward {
        let slave = Attributes { propagation: MsFlags::MS_SLAVE.bits(), ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), slave, Subtree::Alone)
            .os("make slave", || "the subPath")?;
    }
    mount::attach_at(&tree, &parent, name).os("mount", || pin.display())
}

fn is_same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Where the part that one mount of a container is, is pinned.
pub(super) fn pin_path(data: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    data.join("volume-subpaths").join(volume).join(container).join(index.to_string())
}

#[cfg(test)]
#[path = "subpath_tests.rs"]
mod tests;
