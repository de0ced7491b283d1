//! A mount of type `cgroup`: the container's own part of the hierarchies.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, mkdirat};

use super::Init;
use super::mounts::{change, context, open_destination};
use crate::cgroup::{CgroupMount, V1Mount};
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::MountPlan;
use crate::sys::classic_mount::{self, Procfs};
use crate::sys::mount::{self, Attributes, NewFileSystem, Subtree};
use crate::sys::path::Missing;

/// Mounts it. With a cgroup namespace the file system itself shows only the container's part;
/// without one that part is bind-mounted.
pub(super) fn mount(init: &Init, plan: &MountPlan) -> Result<()> {
    let namespace = init.plan.namespaces.is_new(CloneFlags::CLONE_NEWCGROUP);
    match init.cgroup.mount() {
        CgroupMount::V2 { path, .. } => unified(init, plan, &path, namespace),
        CgroupMount::V1 { hierarchies, links } => {
            let mut words = vec!["mode=755".to_owned()];
            words.extend(context(init, "tmpfs", &words));
            let holder = new(plan, "tmpfs", "tmpfs", &words, 0)?;
            let destination = open_destination(init.rootfs()?, plan, Missing::Directory)?;
            mount::attach(&holder, &destination).os("attach", || plan.destination.display())?;
            for hierarchy in &hierarchies {
                one_hierarchy(init, &holder, plan, hierarchy)?;
            }
            for (name, target) in &links {
                nix::unistd::symlinkat(target.as_str(), &holder, name.as_str())
                    .os("symlink", || name)?;
            }
            // All of them at once, the holder too: nothing can be made in it any more then.
            let set = plan.options.attributes();
            let attributes = Attributes { set, ..Attributes::default() };
            let here = || plan.destination.display();
            match mount::set_attributes(holder.as_fd(), attributes, Subtree::Recursive) {
                // Before Linux 5.12: one by one.
                Err(Errno::ENOSYS | Errno::EPERM) => {
                    let names = hierarchies.iter().map(|hierarchy| hierarchy.name.as_str());
                    names.chain(["."]).try_for_each(|name| {
                        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
                        let tree =
                            openat(&holder, name, flags, Mode::empty()).os("open", || name)?;
                        mount::set_attributes(tree.as_fd(), attributes, Subtree::Alone)
                            .os("set attributes of", here)
                    })
                }
                other => other.os("set attributes of", here),
            }?;
            [holder, destination].into_iter().for_each(|fd| init.spent.put(fd));
            Ok(())
        }
    }
}

/// The holder is a tmpfs that only this process knows yet: names in it are safe.
fn one_hierarchy(
    init: &Init,
    holder: &OwnedFd,
    plan: &MountPlan,
    hierarchy: &V1Mount,
) -> Result<()> {
    let name = hierarchy.name.as_str();
    mkdirat(holder, name, Mode::from_bits_truncate(0o755)).os("mkdir", || name)?;
    let is_namespaced = init.plan.namespaces.is_new(CloneFlags::CLONE_NEWCGROUP);
    let tree = if is_namespaced {
        // Of two controllers in one hierarchy each is an option: cpu,cpuacct.
        let options: Vec<String> = hierarchy.options.split(',').map(str::to_owned).collect();
        new(plan, "cgroup", "cgroup", &options, 0)?
    } else {
        let at = holder.as_fd();
        if init.procfs() == Procfs::Hosts
            && classic_mount::bind_at(&hierarchy.path, at, name).is_ok()
        {
            return Ok(());
        }
        mount::clone_tree(&hierarchy.path, Subtree::Alone)
            .os("clone the mount of", || hierarchy.path.display())?
    };
    mount::attach_at(&tree, holder, name).os("attach", || name)?;
    init.spent.put(tree);
    Ok(())
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
) -> Result<OwnedFd> {
    mount::create(&NewFileSystem { kind, source: Some(source), options, attributes }).map_err(
        |refused| Error::Os {
            op: "make",
            target: format!("{kind} {options:?} for {}", plan.destination.display()),
            source: refused.errno.into(),
        },
    )
}
