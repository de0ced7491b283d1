//! The process between carob and init, where one clone cannot do it.
//!
//! Who joins a user namespace gives up the right to join what the host owns, and what is made new
//! must belong to the joined user namespace. So this process joins in the right order and clones
//! init as its own sibling: init's parent is carob, with no process left in between.

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::namespaces::{join_with_user, unexpected};
use super::sync::{FromChild, ToChild};
use super::{Exec, Init};
use crate::error::{OsContext, Result};
use crate::oci::plan::Namespaces;
use crate::sys::process::{self, CLONE_NEWTIME, CloneTarget, Cloned};

/// Whether these namespaces need a process in between.
#[must_use]
pub fn needed(namespaces: &Namespaces) -> bool {
    let new_user = namespaces.is_new(CloneFlags::CLONE_NEWUSER);
    namespaces.joined(Kind::User).is_some()
        || (new_user && !namespaces.join.is_empty())
        || (namespaces.is_return_barred && namespaces.joined(Kind::Pid).is_some())
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
    join_with_user(namespaces)?;
    let target = CloneTarget { sibling: true, cgroup: None };
    match process::clone3(clone_flags(namespaces), &target).os("clone3", || "init")? {
        Cloned::Child => Ok(()),
        Cloned::Parent(child) => {
            init.task.parent.tell_parent(&FromChild::Sibling(child.pidfd, child.pid))?;
            process::exit_now(0)
        }
    }
}

/// As [`run`], for a process that joins a running container: what it is to be a child in, a process
/// in between joins, with the rights that the container's user namespace gives.
pub(super) fn run_exec(exec: &mut Exec, kinds: CloneFlags) -> Result<()> {
    process::set_name(c"carob:[1:STAGE]");
    setns(exec.namespaces.pidfd, kinds)
        .os("setns", || format!("the container's namespaces {kinds:?}"))?;
    exec.namespaces.flags.remove(kinds);
    let target = CloneTarget { sibling: true, cgroup: None };
    match process::clone3(CloneFlags::empty(), &target).os("clone3", || "the process")? {
        // Not before carob knows who this is.
        Cloned::Child => match exec.task.parent.hear_parent()? {
            ToChild::IdMapped => Ok(()),
            other => Err(unexpected(&other)),
        },
        Cloned::Parent(child) => {
            exec.task.parent.tell_parent(&FromChild::Sibling(child.pidfd, child.pid))?;
            process::exit_now(0)
        }
    }
}
