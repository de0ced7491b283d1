//! The process between carob and init, where one clone cannot do it.
//!
//! Who joins a user namespace gives up the right to join what the host owns, and what is made new
//! must belong to the joined user namespace. So this process joins in the right order and clones
//! init as its own sibling: init's parent is carob, with no process left in between.

use nix::sched::CloneFlags;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::Init;
use super::namespaces::{join, join_by_path};
use super::sync::FromChild;
use crate::error::{OsContext, Result};
use crate::oci::plan::Namespaces;
use crate::sys::process::{self, CLONE_NEWTIME, CloneTarget, Cloned};

/// Whether these namespaces need a process in between.
#[must_use]
pub fn needed(namespaces: &Namespaces) -> bool {
    let new_user = namespaces.is_new(CloneFlags::CLONE_NEWUSER);
    namespaces.joined(Kind::User).is_some() || (new_user && !namespaces.join.is_empty())
}

/// The flags for the clone that makes init: everything new but what init enters itself later.
#[must_use]
pub fn clone_flags(namespaces: &Namespaces) -> CloneFlags {
    namespaces.new.difference(CloneFlags::CLONE_NEWCGROUP.union(CLONE_NEWTIME))
}

/// Joins, clones init, and ends; returns only in init.
pub(super) fn run(init: &mut Init) -> Result<()> {
    process::set_name(c"carob:[1:STAGE]");
    let namespaces = &init.plan.namespaces;
    join_by_path(init, |kind| kind != Kind::User)?;
    namespaces.joined(Kind::User).map_or(Ok(()), join)?;
    let target = CloneTarget { sibling: true, cgroup: None };
    match process::clone3(clone_flags(namespaces), &target).os("clone3", || "init")? {
        Cloned::Child => Ok(()),
        Cloned::Parent(child) => {
            init.task.parent.tell_parent(&FromChild::Sibling(child.pidfd))?;
            process::exit_now(0)
        }
    }
}
