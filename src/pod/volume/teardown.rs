//! The end of a pod's volumes.
//!
//! Containers may have left anything in them: links, trees of any depth, and, where mounts
//! propagate to the host, mounts. What is mounted is cut off from its peers before it is detached,
//! so that nothing is unmounted elsewhere; what is removed is entered name by name and never
//! beyond the pod's own file system.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, umount2};

use super::empty_dir;
use crate::error::{Error, OsContext, Result};
use crate::pod::store::PodDirs;
use crate::sys::fd::proc_path;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::{dir, path};

/// How often the table of mounts is read again, at most: mounts can lie on each other.
const ROUNDS: usize = 64;

/// Unmounts and removes all that volumes and their like have made, whatever containers have left
/// in it, and with it the pod's data directory. What is gone already is no error.
///
/// # Errors
/// The first failure, after trying everything.
pub fn teardown(dirs: &PodDirs) -> Result<()> {
    let all = [dirs.data.clone(), empty_dir::memory(dirs), dirs.state.join("etc")];
    let mut result = Ok(());
    for one in &all {
        let gone = unmount_below(one).and_then(|()| remove(one));
        result = result.and(gone);
    }
    result
}

/// Detaches a mount that lies below directories of the pod, and all that is mounted in it.
pub(super) fn detach(point: &Path) -> Result<()> {
    let (parent, name) = empty_dir::make_parent(point)?;
    detach_in(&parent, Path::new(name)).os("unmount", || point.display())
}

fn detach_in(base: &OwnedFd, inside: &Path) -> nix::Result<()> {
    let found = dir::exactly(base, inside, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
    let private = Attributes { propagation: MsFlags::MS_PRIVATE.bits(), ..Attributes::default() };
    mount::set_attributes(found.as_fd(), private, Subtree::Recursive).or_else(|errno| {
        // An old kernel changes one mount at a time; what is mounted in it is a rare thing.
        if errno == Errno::ENOSYS {
            return mount::set_attributes(found.as_fd(), private, Subtree::Alone);
        }
        Err(errno)
    })?;
    umount2(proc_path(&found).as_str(), MntFlags::MNT_DETACH)
}

fn unmount_below(base: &Path) -> Result<()> {
    let base = match base.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.os("resolve", || base.display())?,
    };
    let above = base.parent().unwrap_or(Path::new("/"));
    let mut result = Ok(());
    for _ in 0..ROUNDS {
        let points = outermost(&base)?;
        if points.is_empty() {
            return Ok(());
        }
        // Opened above the base, which may be a mount point itself.
        let parent = dir::open(above).os("open", || above.display())?;
        result = Ok(());
        for point in &points {
            let inside = point.strip_prefix(above).unwrap_or(point);
            let detached = detach_in(&parent, inside).os("unmount", || point.display());
            result = result.and(detached);
        }
    }
    // What was gone by itself, or has come meanwhile, is seen in the next round.
    result.and(Err(Error::Invalid(format!("{} has too many mounts in it", base.display()))))
}

/// Mount points at or below a directory that are in no other one of them.
fn outermost(base: &Path) -> Result<Vec<PathBuf>> {
    let table = path::mount_table()?;
    let mut points: Vec<PathBuf> =
        table.into_iter().map(|row| row.point).filter(|point| point.starts_with(base)).collect();
    points.sort();
    points.dedup_by(|later, earlier| later.starts_with(earlier));
    Ok(points)
}

fn remove(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = match dir::open(parent) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.os("open", || parent.display())?,
    };
    dir::remove(&parent, name).os("remove", || path.display())
}
