//! The root of a container without a mount namespace: mounted among the host's mounts, and taken
//! away with the container.
//!
//! ```text
//! root.path ─► directory of the host
//!              └─ a mount of that directory alone      its copies in namespaces that share the place
//!                 └─ a mount of the whole tree         are empty, so they go when it goes
//!                    └─ what the container mounts      here nothing is shared with anybody
//! ```
//!
//! Whatever the container has mounted goes with the mount that it lies on: no path in a hostile
//! root file system is walked for that.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat, stat};
use oci_spec::runtime::LinuxNamespaceType as Kind;
use serde::{Deserialize, Serialize};

use super::prepare::Prepared;
use super::state::{Container, State};
use crate::error::{Error, OsContext, Result};
use crate::log;
use crate::oci::plan::Plan;
use crate::sys::fd::proc_path;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::mount_id::MountId;
use crate::sys::path;

/// What is to be taken away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostMounts {
    /// Where it was mounted.
    point: PathBuf,
    /// The number of the mount namespace.
    namespace: u64,
    /// The lower one first.
    mounts: [MountId; 2],
    /// What both of them show.
    directory: Directory,
}

/// Which directory it is, wherever it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    device: u64,
    inode: u64,
}

impl Directory {
    fn of(directory: &OwnedFd) -> nix::Result<Self> {
        let stat = fstat(directory)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Refuses a root that nobody could take away again: nothing leads to what is mounted on `/`.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let is_root = || plan.root.path.canonicalize().is_ok_and(|path| path == Path::new("/"));
    if plan.namespaces.has(Kind::Mount) || !is_root() {
        return Ok(());
    }
    let reason = "is the host's own root, which needs a \"mount\" namespace in linux.namespaces";
    Err(Error::config("root.path", reason))
}

/// Mounts the root, if the container has no mount namespace to do that in; before that its state
/// says what there will be.
pub(super) fn mount(prepared: &Prepared, container: &mut Container) -> Result<Option<OwnedFd>> {
    if prepared.plan.namespaces.has(Kind::Mount) {
        return Ok(None);
    }
    let path = &prepared.plan.root.path;
    let here = || path.display();
    let destination = open_directory(path).os("open", here)?;
    let clone =
        |subtree| mount::clone_tree_at(destination.as_fd(), subtree).os("clone the mount of", here);
    let (lower, upper) = (clone(Subtree::Alone)?, clone(Subtree::Recursive)?);
    let id = |tree: &OwnedFd| MountId::of(tree).os("statx", here);
    container.state.host_mounts = Some(HostMounts {
        point: path.canonicalize().os("resolve", here)?,
        namespace: namespace("self")?,
        mounts: [id(&lower)?, id(&upper)?],
        directory: Directory::of(&destination).os("stat", here)?,
    });
    container.dir.stage_state(&container.state)?;
    container.dir.commit_state()?;
    for (tree, on) in [(&lower, &destination), (&upper, &lower)] {
        mount::attach(tree, on).os("mount", here)?;
        // A copy of a shared mount is its peer, and what is mounted where it is shared becomes so.
        let propagation = MsFlags::MS_PRIVATE.bits();
        let private = Attributes { propagation, ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), private, Subtree::Recursive)
            .os("make private", here)?;
    }
    Ok(Some(upper))
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The number of the mount namespace of a process.
fn namespace(process: &str) -> Result<u64> {
    let path = format!("/proc/{process}/ns/mnt");
    Ok(stat(path.as_str()).os("stat", || path)?.st_ino)
}

/// Takes away what there is, on the way back from a failure that matters more than one of this.
pub(super) fn undo(state: &State) {
    if let Some(Err(error)) = state.host_mounts.as_ref().map(HostMounts::take_away) {
        log::warn(error);
    }
}

impl HostMounts {
    /// Unmounts what is still there, with all that lies on it.
    pub(super) fn take_away(&self) -> Result<()> {
        if namespace("self")? != self.namespace {
            return self.refuse_from_outside();
        }
        self.mounts.iter().rev().try_for_each(|mount| self.unmount(*mount))
    }

    fn unmount(&self, mount: MountId) -> Result<()> {
        let table = path::mount_table()?;
        let Some(row) = table.into_iter().find(|row| row.number == mount.number) else {
            return Ok(());
        };
        let here = || row.point.display();
        let top = match open_directory(&row.point) {
            // Of another mount with this number.
            Err(_) if row.point != self.point => return Ok(()),
            opened => opened.os("open", here)?,
        };
        let found = MountId::of(&top).os("statx", here)?;
        // Before Linux 6.8 a mount that others have made since may have its number.
        let shows_ours = Directory::of(&top).os("stat", here)? == self.directory;
        if found == mount && (mount.unique.is_some() || shows_ours) {
            // By the descriptor: nothing else can have got there meanwhile.
            return umount2(proc_path(&top).as_str(), MntFlags::MNT_DETACH).os("unmount", here);
        }
        if found.number == mount.number || row.point != self.point {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{}: something else is mounted on the root of the container; unmount that first",
            here()
        )))
    }

    /// A namespace that nobody is in any more has gone, with its mounts.
    fn refuse_from_outside(&self) -> Result<()> {
        let processes = fs::read_dir("/proc").os("read", || "/proc")?.flatten();
        let mut names = processes.filter_map(|entry| entry.file_name().into_string().ok());
        let is_inside = |name: &String| {
            name.parse::<u32>().is_ok() && namespace(name).is_ok_and(|n| n == self.namespace)
        };
        let Some(pid) = names.find(is_inside) else { return Ok(()) };
        Err(Error::Invalid(format!(
            "{}: the container is mounted in another mount namespace, that of process {pid}; \
             delete it from there: nsenter -t {pid} -m carob delete",
            self.point.display()
        )))
    }
}
