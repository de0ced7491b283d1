//! A user namespace with given maps, to map the ids of a mount through.
//!
//! Made by carob, not by init: the host's `/proc` does not know init's children by their pids.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use oci_spec::runtime::LinuxIdMapping;

use crate::error::{OsContext, Result};
use crate::oci::plan::id_map_text;
use crate::sys::fd;
use crate::sys::process::{self, CloneTarget, Cloned};

/// Makes the namespace. The kernel wants a process inside while the maps are written; it ends
/// before this returns.
pub(super) fn user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let (theirs, ours) = crate::sys::socket::message_pair().os("socketpair", || "id map")?;
    let cloned = process::clone3(CloneFlags::CLONE_NEWUSER, &CloneTarget::default())
        .os("clone3", || "a user namespace for an id-mapped mount")?;
    let child = match cloned {
        Cloned::Parent(child) => child,
        Cloned::Child => {
            drop(ours);
            // Returns at EOF: when our parent is done with us, or dead.
            let _eof = crate::sys::socket::next_length(&theirs);
            process::exit_now(0)
        }
    };
    drop(theirs);
    let namespace = mapped(child.pid.as_raw(), uids, gids);
    drop(ours);
    process::wait(&child.pidfd).os("wait for", || child.pid)?;
    namespace
}

fn mapped(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    fd::write_file(format!("/proc/{pid}/uid_map"), id_map_text(uids))?;
    fd::write_file(format!("/proc/{pid}/gid_map"), id_map_text(gids))?;
    let path = format!("/proc/{pid}/ns/user");
    Ok(File::open(&path).os("open", || &path)?.into())
}
