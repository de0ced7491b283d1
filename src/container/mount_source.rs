//! What init needs from carob to mount a tree of the host.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::id_map::user_namespace;
use crate::error::{Error, OsContext, Result};
use crate::init::{BindSource, clone_source, map_ids};
use crate::oci::mount_opts::IdMap;
use crate::oci::plan::{JoinPlan, MountPlan, MountSource, Plan};
use crate::sys::mount::{self, Attributes, Subtree};

/// For each mount of the Plan what carob has to do for it, in their order.
///
/// In a user namespace init has not the host's rights: to walk to a directory that only root may
/// enter, to map ids. Then carob clones the tree, unless it is in the rootfs, where an earlier
/// mount may provide it.
pub(super) fn open(plan: &Plan) -> Result<Vec<BindSource>> {
    let named = |mount: &MountPlan, error: Error| {
        Error::Invalid(format!("mounts: {}: {error}", mount.destination.display()))
    };
    plan.mounts.iter().map(|mount| one(plan, mount).map_err(|e| named(mount, e))).collect()
}

fn one(plan: &Plan, mount: &MountPlan) -> Result<BindSource> {
    let MountSource::Bind(source) = &mount.source else { return Ok(BindSource::Path) };
    let is_in_rootfs = plan.root.path_inside(source).is_some();
    if is_asked_for(plan, mount) {
        return Ok(BindSource::Asked);
    }
    let id_map = id_map(plan, mount)?;
    if !plan.namespaces.has(Kind::User) || is_in_rootfs || mount.options.remount {
        return Ok(id_map.map_or(BindSource::Path, BindSource::Mapped));
    }
    let tree = match clone_source(mount, source, id_map.as_ref().map(AsFd::as_fd)) {
        // Init has more rights than carob: those of the user namespace.
        Err(error) if id_map.is_none() && error.errno() == Some(Errno::EPERM) => {
            return Ok(BindSource::Path);
        }
        cloned => cloned?,
    };
    // A clone made among the host's mounts belongs to their peer groups: what the container mounts
    // in it would appear on the host.
    let slave = Attributes { propagation: MsFlags::MS_SLAVE.bits(), ..Attributes::default() };
    mount::set_attributes(tree.as_fd(), slave, Subtree::Recursive)
        .os("make slave", || source.display())?;
    Ok(if id_map.is_some() { BindSource::Tree(tree) } else { BindSource::Spare(tree) })
}

/// Whether init has to find the tree, and carob to map its ids: the source lies in the rootfs, where
/// only init sees it, and init has not the rights of who owns the file system.
fn is_asked_for(plan: &Plan, mount: &MountPlan) -> bool {
    let MountSource::Bind(source) = &mount.source else { return false };
    plan.namespaces.has(Kind::User)
        && plan.root.path_inside(source).is_some()
        && !mount.options.remount
        && (mount.options.idmap != IdMap::No || !mount.uid_map.is_empty())
}

/// Maps the ids of a detached tree that init has cloned, as the mount of this number wants it.
pub(super) fn map_for_init(plan: &Plan, index: usize, tree: &OwnedFd) -> Result<()> {
    let asked = plan.mounts.get(index).filter(|mount| is_asked_for(plan, mount));
    let field = || format!("mounts[{index}].source");
    let refused = || Error::config(field(), "its ids are not for init to have mapped");
    let mount = asked.ok_or_else(refused)?;
    let Some(namespace) = id_map(plan, mount)? else { return Err(refused()) };
    map_ids(mount, tree, namespace.as_fd()).map_err(|error| Error::config(field(), error))
}

/// The user namespace through which a mount's ids are mapped; without maps of its own the
/// container's.
fn id_map(plan: &Plan, mount: &MountPlan) -> Result<Option<OwnedFd>> {
    if !mount.uid_map.is_empty() || !mount.gid_map.is_empty() {
        return user_namespace(&mount.uid_map, &mount.gid_map).map(Some);
    }
    if mount.options.idmap == IdMap::No {
        return Ok(None);
    }
    match plan.namespaces.joined(Kind::User) {
        Some(JoinPlan { path, .. }) => {
            Ok(Some(File::open(path).os("open", || path.display())?.into()))
        }
        None => user_namespace(&plan.id_maps.uids, &plan.id_maps.gids).map(Some),
    }
}
