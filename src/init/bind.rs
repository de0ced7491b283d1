//! Trees of the host, bound into the rootfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::mounts::{change_tree, open_destination};
use super::namespaces::unexpected;
use super::sync::{FromChild, ToChild};
use super::{Init, confined};
use crate::error::{Error, OsContext, Result};
use crate::oci::mount_opts::{Bind, IdMap};
use crate::oci::plan::MountPlan;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::mount_id::MountId;
use crate::sys::path::Missing;

/// Where init has a tree of the host from.
#[derive(Debug)]
pub enum BindSource {
    /// It clones the tree itself.
    Path,
    /// As `Path`, with ids mapped through this user namespace.
    Mapped(OwnedFd),
    /// As `Path`, and carob maps the ids when it is asked: only it has the right.
    Asked,
    /// Cloned by carob, its ids mapped, attached nowhere yet.
    Tree(OwnedFd),
    /// Cloned by carob in case that init may not walk there. Its own clone is better: the flags of
    /// the host's mount, such as read-only, are locked in it against root of the user namespace.
    Spare(OwnedFd),
}

/// The mounts that are made, for a later one whose source lies in them.
#[derive(Debug, Default)]
pub(super) struct Present(Vec<(PathBuf, MountId)>);

/// Clones the tree at `source`, its ids mapped through `id_map`, attached nowhere yet.
///
/// # Errors
/// [`Error::Os`]: `EPERM` without the rights to map ids, `EINVAL` if they cannot be mapped.
pub fn clone_source(
    plan: &MountPlan,
    source: &Path,
    id_map: Option<BorrowedFd>,
) -> Result<OwnedFd> {
    let tree = mount::clone_tree(source, subtree(plan)).os("clone", || "the mount")?;
    id_map.map_or(Ok(()), |namespace| map_ids(plan, &tree, namespace))?;
    Ok(tree)
}

fn subtree(plan: &MountPlan) -> Subtree {
    match plan.options.bind {
        Bind::Recursive => Subtree::Recursive,
        Bind::Single | Bind::No => Subtree::Alone,
    }
}

/// Maps the ids of a tree that is attached nowhere.
///
/// # Errors
/// As [`clone_source`].
pub fn map_ids(plan: &MountPlan, tree: &OwnedFd, namespace: BorrowedFd) -> Result<()> {
    let recursive = plan.options.idmap == IdMap::Recursive;
    let subtree = if recursive { Subtree::Recursive } else { Subtree::Alone };
    mount::set_id_map(tree.as_fd(), namespace, subtree).map_err(|errno| Error::Os {
        op: "map",
        target: match errno {
            Errno::EINVAL => {
                "the ids of the mount (not on this file system, which for tmpfs takes Linux 6.3)"
            }
            _ => "the ids of the mount",
        }
        .into(),
        source: errno.into(),
    })
}

fn tree_of(
    init: &Init,
    (plan, index): (&MountPlan, usize),
    (source, from): (&Path, &BindSource),
    present: &Present,
) -> Result<OwnedFd> {
    let given = |tree: &OwnedFd| tree.try_clone().os("duplicate", || "the mount");
    let id_map = match from {
        BindSource::Tree(tree) => return given(tree),
        BindSource::Mapped(namespace) => Some(namespace.as_fd()),
        BindSource::Path | BindSource::Asked | BindSource::Spare(_) => None,
    };
    let Some(inside) = init.plan.root.path_inside(source) else {
        return match (clone_source(plan, source, id_map), from) {
            (Err(error), BindSource::Spare(spare)) if error.errno() == Some(Errno::EACCES) => {
                given(spare)
            }
            (cloned, _) => cloned,
        };
    };
    // A link of the rootfs means what the container will see in it.
    let found = init.rootfs()?.find(&inside).os("open", || inside.display())?;
    if matches!(from, BindSource::Asked) {
        present.check_that_it_is_there(init, &inside, &found)?;
        present.check_what_may_lie_on_it(plan, &inside)?;
    }
    let tree =
        mount::clone_tree_at(found.as_fd(), subtree(plan)).os("clone", || inside.display())?;
    match id_map {
        Some(namespace) => map_ids(plan, &tree, namespace)?,
        None if matches!(from, BindSource::Asked) => ask_to_map(init, index, given(&tree)?)?,
        None => {}
    }
    Ok(tree)
}

fn ask_to_map(init: &Init, index: usize, tree: OwnedFd) -> Result<()> {
    init.task.parent.tell_parent(&FromChild::MapIds(tree, index))?;
    match init.task.parent.hear_parent()? {
        ToChild::IdsMapped => Ok(()),
        other => Err(unexpected(&other)),
    }
}

impl Present {
    /// Mapped ids make the container's root the owner of files that it may only read elsewhere. So
    /// it must be the very mount that the configuration has there, whatever names a hostile rootfs
    /// exchanges.
    fn check_that_it_is_there(&self, init: &Init, inside: &Path, found: &OwnedFd) -> Result<()> {
        let here = || inside.display();
        let last = self.0.iter().rev().find(|(destination, _)| inside.starts_with(destination));
        let expected = match last {
            Some((_, id)) => *id,
            None => MountId::of(init.rootfs()?.fd()).os("statx", || "the rootfs")?,
        };
        if MountId::of(found).os("statx", here)? == expected {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{}: does not lie in the mount that the configuration has there, ids of others are not \
             mapped",
            here()
        )))
    }

    /// The maps of a whole tree are for all that is mounted in it, and a destination that is a link,
    /// or becomes one, leads there as well as anywhere.
    fn check_what_may_lie_on_it(&self, plan: &MountPlan, inside: &Path) -> Result<()> {
        let is_recursive =
            plan.options.idmap == IdMap::Recursive && plan.options.bind == Bind::Recursive;
        let mut others = self.0.iter().filter(|(destination, _)| !destination.starts_with(inside));
        match others.next() {
            Some((other, _)) if is_recursive => Err(Error::Invalid(format!(
                "ridmap of what lies in the rootfs could map {} with it, use idmap",
                other.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// Binds one; notes it as present.
pub(super) fn mount(
    init: &Init,
    (plan, index): (&MountPlan, usize),
    (source, from): (&Path, &BindSource),
    present: &mut Present,
) -> Result<()> {
    let tree = tree_of(init, (plan, index), (source, from), present).map_err(|error| {
        Error::config(format!("mounts[{index}].source"), format!("{source:?}: {error}"))
    })?;
    let kind = nix::sys::stat::fstat(&tree).os("fstat", || source.display())?.st_mode;
    let is_directory = kind & libc::S_IFMT == libc::S_IFDIR;
    let missing = if is_directory { Missing::Directory } else { Missing::File };
    let destination = open_destination(init.rootfs()?, plan, missing)?;
    mount::attach(&tree, &destination)
        .os("attach", || format!("{} to {}", source.display(), plan.destination.display()))?;
    if !init.plan.namespaces.is_new(CloneFlags::CLONE_NEWNS) {
        // A clone made among the mounts of others is a peer of theirs: what is mounted in it would
        // appear there.
        let slave = Attributes { propagation: MsFlags::MS_SLAVE.bits(), ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), slave, Subtree::Recursive)
            .os("make slave", || plan.destination.display())?;
    }
    replace_flags(tree.as_fd(), plan)?;
    change_tree(tree.as_fd(), plan)?;
    if init.is_confined {
        confined::protect_sysfs(plan, &tree)?;
    }
    if init.bind_sources.iter().any(|source| matches!(source, BindSource::Asked)) {
        let id = MountId::of(&tree).os("statx", || plan.destination.display())?;
        present.0.push((plan.destination.clone(), id));
    }
    [tree, destination].into_iter().for_each(|fd| init.spent.put(fd));
    Ok(())
}

fn replace_flags(tree: BorrowedFd, plan: &MountPlan) -> Result<()> {
    let apply = |change: Option<(u64, u64)>| {
        let Some((set, clear)) = change else { return Ok(()) };
        mount::set_attributes(tree, Attributes { set, clear, propagation: 0 }, Subtree::Alone)
    };
    match apply(plan.options.replacement()) {
        // Flags of a mount of the host are locked in a user namespace.
        Err(Errno::EPERM) => apply(plan.options.replacement_of_locked()),
        done => done,
    }
    .os("set", || format!("attributes of {}", plan.destination.display()))
}
