//! The cgroup of a container that is being made, and its class of cache and memory bandwidth.

use std::rc::Rc;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::Uid;
use oci_spec::runtime::LinuxNamespaceType;

use super::prepare::Prepared;
use super::rdt;
use super::state::State;
use crate::cgroup::{Creation, Join, Made};
use crate::error::Result;
use crate::init;
use crate::oci::plan::{MountPlan, MountSource};

/// What is made of a container's cgroup.
#[derive(Debug, Default)]
pub(super) enum CgroupMade {
    /// It is not made, or not by us.
    #[default]
    Nothing,
    /// The unified tree has its part.
    InPart(Creation),
    /// All of it: what is inside is the container's.
    Whole(Made),
}

impl Prepared {
    /// Makes the container's cgroup, with its limits and its owner, or as much of it as init is
    /// cloned into; one that fails takes itself back. One that is made around init comes later, by
    /// [`Prepared::place`].
    pub(super) fn make_cgroup(&self) -> Result<()> {
        if self.cgroup.needs_process() {
            return self.cgroup.refuse_existing();
        }
        if self.may_make_cgroup_beside_init() {
            let begun = self.cgroup.create_unified(self.resources())?;
            self.cgroup_made.replace(CgroupMade::InPart(begun));
            return Ok(());
        }
        let made = self.cgroup.create(self.resources())?;
        let given = self.give_cgroup();
        match given {
            Ok(()) => drop(self.cgroup_made.replace(CgroupMade::Whole(made))),
            Err(_) => {
                let _as_good_as_possible = self.cgroup.take_back(made);
            }
        }
        given
    }

    /// Whether init can make its namespaces while the hierarchies of v1 are made: both take half a
    /// millisecond. It must be able to open what it then enters. Should its creator die meanwhile, it
    /// ends when it asks for its place, if `delete` has not found it in the unified tree before.
    fn may_make_cgroup_beside_init(&self) -> bool {
        let namespaces = &self.plan.namespaces;
        self.cgroup.is_hybrid()
            && !self.cgroup.needs_process()
            && !self.is_confined
            && self.is_direct()
            && namespaces.joined(LinuxNamespaceType::Mount).is_none()
    }

    /// Whether init has to ask for the rest of its cgroup.
    pub(super) fn is_cgroup_in_part(&self) -> bool {
        matches!(*self.cgroup_made.borrow(), CgroupMade::InPart(_))
    }

    /// The new namespaces that init is cloned into, and those that it makes itself meanwhile.
    pub(super) fn new_namespaces(&self) -> (CloneFlags, CloneFlags) {
        if !self.is_direct() {
            return (CloneFlags::empty(), CloneFlags::empty());
        }
        let new = init::stage1_flags(&self.plan.namespaces);
        let cloned = CloneFlags::CLONE_NEWPID;
        match self.is_cgroup_in_part() {
            true => (new.intersection(cloned), new.difference(cloned)),
            false => (new, CloneFlags::empty()),
        }
    }

    /// Makes what [`Prepared::make_cgroup`] has left, if anything is.
    pub(super) fn make_rest_of_cgroup(&self) -> Result<()> {
        let mut made = self.cgroup_made.borrow_mut();
        let CgroupMade::InPart(begun) = &mut *made else { return Ok(()) };
        *made = CgroupMade::Whole(self.cgroup.create_rest(begun)?);
        self.give_cgroup()
    }

    /// Removes the cgroup of a container that comes to nothing, once its init is gone, with what else
    /// is inside.
    pub(super) fn take_cgroup_back(&self, state: &State) -> Result<()> {
        match self.cgroup_made.take() {
            CgroupMade::Nothing => Ok(()),
            // What is in the others may be somebody's.
            CgroupMade::InPart(begun) => {
                begun.undo();
                Ok(())
            }
            CgroupMade::Whole(made) => {
                let _killed = state.signal_all(libc::SIGKILL);
                state.cgroup.take_back(made)
            }
        }
    }

    /// Makes the cgroup around init, which has asked for that, unless it is there.
    pub(super) fn place(&self, init: i32) -> Result<()> {
        if !self.cgroup.needs_process() {
            return Ok(());
        }
        self.cgroup.start_around(init, self.id.as_str(), self.resources())?;
        // What is in it from here on is ours to end.
        self.cgroup_made.replace(CgroupMade::Whole(self.cgroup.all_made()));
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
        if self.cgroup.needs_process() {
            return Ok(None);
        }
        let join =
            if self.is_cgroup_in_part() { self.cgroup.join_unified() } else { self.cgroup.join() };
        join.map(|join| Some(Rc::new(join)))
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
