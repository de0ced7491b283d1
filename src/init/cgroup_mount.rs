//! A mount of type `cgroup`: the container's own part of the hierarchies.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::CloneFlags;

use super::Init;
use super::mounts::{change, open_destination};
use crate::cgroup::{CgroupMount, V1Mount};
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::MountPlan;
use crate::sys::mount::{self, Attributes, NewFileSystem, Subtree};
use crate::sys::path::{Missing, Rootfs};

/// Mounts it. With a cgroup namespace the file system itself shows only the container's part;
/// without one that part is bind-mounted.
pub(super) fn mount(init: &Init, plan: &MountPlan) -> Result<()> {
    let namespace = init.plan.namespaces.is_new(CloneFlags::CLONE_NEWCGROUP);
    match init.cgroup.mount() {
        CgroupMount::V2 { path, .. } => unified(init, plan, &path, namespace),
        CgroupMount::V1 { hierarchies, links } => {
            let holder = new(plan, "tmpfs", "tmpfs", &["mode=755".into()], 0)?;
            let destination = open_destination(init.rootfs()?, plan, Missing::Directory)?;
            mount::attach(&holder, &destination).os("attach", || plan.destination.display())?;
            let holder = Rootfs::new(holder);
            for hierarchy in &hierarchies {
                one_hierarchy(&holder, plan, hierarchy, namespace)?;
            }
            for (name, target) in &links {
                nix::unistd::symlinkat(target.as_str(), holder.fd(), name.as_str())
                    .os("symlink", || name)?;
            }
            let attributes = Attributes { set: plan.options.attributes(), ..Attributes::default() };
            mount::set_attributes(holder.fd(), attributes, Subtree::Alone)
                .os("set attributes of", || plan.destination.display())
        }
    }
}

fn one_hierarchy(
    holder: &Rootfs,
    plan: &MountPlan,
    hierarchy: &V1Mount,
    namespace: bool,
) -> Result<()> {
    let point = holder.ensure(Path::new(&hierarchy.name), Missing::Directory)?;
    let tree = if namespace {
        let options = std::slice::from_ref(&hierarchy.options);
        new(plan, "cgroup", "cgroup", options, plan.options.attributes())?
    } else {
        mount::clone_tree(&hierarchy.path, Subtree::Alone)
            .os("clone the mount of", || hierarchy.path.display())?
    };
    mount::attach(&tree, &point).os("attach", || &hierarchy.name)?;
    change(tree.as_fd(), plan)
}

fn unified(init: &Init, plan: &MountPlan, path: &Path, namespace: bool) -> Result<()> {
    let destination = open_destination(init.rootfs()?, plan, Missing::Directory)?;
    let tree = if namespace {
        new(plan, "cgroup2", "cgroup", &[], plan.options.attributes())
    } else {
        mount::clone_tree(path, Subtree::Alone).os("clone the mount of", || path.display())
    }?;
    mount::attach(&tree, &destination).os("attach", || plan.destination.display())?;
    change(tree.as_fd(), plan)
}

fn new(
    plan: &MountPlan,
    kind: &str,
    source: &str,
    options: &[String],
    attributes: u64,
) -> Result<std::os::fd::OwnedFd> {
    mount::create(&NewFileSystem { kind, source: Some(source), options, attributes }).map_err(
        |refused| Error::Os {
            op: "make",
            target: format!("{kind} {options:?} for {}", plan.destination.display()),
            source: refused.errno.into(),
        },
    )
}
