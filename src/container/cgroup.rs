//! The cgroup of a container that is being made, and its class of cache and memory bandwidth.

use std::rc::Rc;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::Uid;
use oci_spec::runtime::LinuxNamespaceType;

use super::prepare::Prepared;
use super::rdt;
use crate::cgroup::Join;
use crate::error::Result;
use crate::oci::plan::{MountPlan, MountSource};

impl Prepared {
    /// Makes the container's cgroup, with its limits and its owner; one that fails takes itself
    /// back. One that is made around init comes later, by [`Prepared::place`].
    pub(super) fn make_cgroup(&self) -> Result<()> {
        if self.cgroup.needs_process() {
            return self.cgroup.refuse_existing();
        }
        let made = self.cgroup.create(self.resources())?;
        let given = self.give_cgroup();
        match given {
            Ok(()) => drop(self.cgroup_made.replace(Some(made))),
            Err(_) => {
                let _as_good_as_possible = self.cgroup.take_back(made);
            }
        }
        given
    }

    /// Makes the cgroup around init, which has asked for that.
    pub(super) fn place(&self, init: i32) -> Result<()> {
        self.cgroup.start_around(init, self.id.as_str(), self.resources())?;
        // What is in it from here on is ours to end.
        self.cgroup_made.replace(Some(self.cgroup.all_made()));
        self.cgroup.fill_around(init, self.resources())?;
        self.give_cgroup()
    }

    /// Makes the container's class of cache and memory bandwidth, if it is to have one.
    pub(super) fn make_class(&self) -> Result<()> {
        if let Some(class) = &self.class {
            self.class_made.replace(class.make()?);
        }
        Ok(())
    }

    /// What was made of the class goes again.
    pub(super) fn take_class_back(&self) {
        if let Err(error) = rdt::remove(&self.class_made.take()) {
            crate::log::warn(error);
        }
    }

    /// What init needs to enter its cgroups; nothing where it asks to be put there.
    pub(super) fn entrance(&self) -> Result<Option<Rc<Join>>> {
        let enters = !self.cgroup.needs_process();
        enters.then(|| self.cgroup.join().map(Rc::new)).transpose()
    }

    fn give_cgroup(&self) -> Result<()> {
        self.cgroup_owner().map_or(Ok(()), |owner| self.cgroup.give_to(owner))
    }

    /// Whom the container's cgroup is to belong to: the user that its process is on the host, if
    /// it sees nothing but its own part of the tree and is asked to write there.
    fn cgroup_owner(&self) -> Option<Uid> {
        let is_writable = |mount: &MountPlan| {
            matches!(mount.source, MountSource::Cgroup)
                && !mount.options.flags.contains(MsFlags::MS_RDONLY)
        };
        let namespaces = &self.plan.namespaces;
        if !namespaces.is_new(CloneFlags::CLONE_NEWCGROUP)
            || !self.plan.mounts.iter().any(is_writable)
        {
            return None;
        }
        let uid = self.plan.process.uid;
        let on_host = match namespaces.has(LinuxNamespaceType::User) {
            true => self.plan.id_maps.uids.iter().find_map(|line| {
                let offset = uid.checked_sub(line.container_id())?;
                (offset < line.size()).then_some(line.host_id().checked_add(offset)?)
            })?,
            false => uid,
        };
        let owner = Uid::from_raw(on_host);
        (owner != nix::unistd::geteuid()).then_some(owner)
    }
}
