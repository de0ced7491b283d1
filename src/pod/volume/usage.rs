//! How much an emptyDir holds, for `sizeLimit`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::source::{self, Medium};
use super::{Place, empty_dir};
use crate::error::{OsContext, Result};
use crate::sys::dir::{self, Found, Walk};

/// Files with several names that are remembered; beyond, each name counts.
const LINKED_FILES: usize = 65_536;
/// The unit of `st_blocks`, bytes.
const BLOCK: u64 = 512;

/// An emptyDir on disk with a limit; the supervisor checks it every ten seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeLimit {
    /// Name of the volume.
    pub volume: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Most it may hold.
    pub bytes: u64,
    /// The message of the pod that is evicted for it.
    pub message: String,
}

/// All emptyDirs of the pod that have a limit to be checked; in memory the kernel keeps it.
#[must_use]
pub fn size_limits(place: &Place<'_>) -> Vec<SizeLimit> {
    let limit = |volume| {
        let volume = source::resolve(place, volume).ok()?;
        let bytes = empty_dir::size_limit(&volume.source)?;
        let source::Source::EmptyDir(Some(source)) = volume.source else { return None };
        let text = &source.size_limit.as_ref()?.0;
        let name = volume.name;
        (volume.source.medium() == Ok(Medium::Disk)).then(|| SizeLimit {
            volume: name.to_owned(),
            path: volume.path(place.dirs),
            bytes,
            message: format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "),
        })
    };
    source::volumes(place).filter_map(limit).collect()
}

/// A count of what a directory holds on disk, done in steps so that nobody waits for a huge one.
///
/// Links are not followed and mounts not entered; a file with two names counts once.
#[derive(Debug)]
pub struct Usage {
    walk: Walk,
    bytes: u64,
    linked: BTreeSet<(u64, u64)>,
}

impl Usage {
    /// Starts at a directory.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if it cannot be opened.
    pub fn new(path: &Path) -> Result<Self> {
        let walk = dir::open(path).and_then(Walk::new).os("open", || path.display())?;
        Ok(Self { walk, bytes: 0, linked: BTreeSet::new() })
    }

    /// Bytes seen so far: once they exceed a limit, nobody needs to know the rest.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.bytes
    }

    /// Looks at up to `entries` more; `Some(bytes)` when it has seen all.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`]; `ESTALE` if directories are moved about: count again.
    pub fn step(&mut self, entries: usize) -> Result<Option<u64>> {
        for _ in 0..entries {
            match self.walk.advance().os("read", || "a directory of the volume")? {
                None => return Ok(Some(self.bytes)),
                Some(Found::Entered) => self.add(c""),
                Some(Found::Entry(name)) => self.add(&name),
                Some(Found::Closed(..) | Found::Left(_)) => Ok(()),
            }
            .os("stat", || "a file of the volume")?;
        }
        Ok(None)
    }

    /// Adds an entry of the directory, or with an empty name itself.
    fn add(&mut self, name: &std::ffi::CStr) -> nix::Result<()> {
        let stat = if name.is_empty() {
            nix::sys::stat::fstat(self.walk.here())?
        } else {
            match dir::stat_entry(self.walk.here(), name) {
                Err(Errno::ENOENT) => return Ok(()),
                other => other?,
            }
        };
        let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if stat.st_nlink > 1 && !is_directory && self.linked.len() < LINKED_FILES {
            let is_new = self.linked.insert((stat.st_dev, stat.st_ino));
            if !is_new {
                return Ok(());
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(BLOCK));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_once_and_not_elsewhere() {
        let root = std::env::temp_dir().join(format!("carob-usage-{}", uuid::Uuid::new_v4()));
        let volume = root.join("v");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        let count = || {
            let mut usage = Usage::new(&volume).unwrap();
            loop {
                if let Some(bytes) = usage.step(2).unwrap() {
                    return bytes;
                }
            }
        };
        let empty = count();
        std::fs::write(root.join("big"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(root.join("big"), volume.join("link")).unwrap();
        std::os::unix::fs::symlink(&root, volume.join("a/up")).unwrap();
        assert!(count() - empty < 64 << 10, "links lead nowhere");
        std::fs::write(volume.join("a/b/file"), vec![1; 300 << 10]).unwrap();
        std::fs::hard_link(volume.join("a/b/file"), volume.join("again")).unwrap();
        let held = count() - empty;
        assert!((300 << 10..400 << 10).contains(&held), "{held}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
