//! The user namespace in which a caller who is not root keeps and runs images.
//!
//! The files of an image have many owners. So this process goes into a namespace where the caller
//! is root and the ids that `/etc/subuid` and `/etc/subgid` grant are the others. A mount
//! namespace comes with it: overlays are mounted there.

use std::fs::File;
use std::io::{Read, Write};

use caps::Capability;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, getpid};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::id_map::{MapWriter, find_program, granted};
use super::prepare::kept_fds;
use super::rights::Rights;
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::IdMaps;
use crate::sys::process::{self, CloneTarget, Cloned};
use crate::sys::self_exe;

/// Whether a process has gone into a namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is root there.
    Yes,
    /// It was root already, of the machine or of a user namespace.
    No,
}

/// As [`enter_own_namespace`], of a verb that runs a container, which keeps so many descriptors.
///
/// # Errors
/// As [`enter_own_namespace`]; [`Error::Os`] if carob's file cannot be protected.
pub fn enter_to_run(preserve_fds: u32) -> Result<Entered> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Entered::No);
    }
    // Before: it may execute carob again, which would not know any more where it has gone from.
    self_exe::protect(3 + kept_fds(preserve_fds))?;
    enter_own_namespace()
}

/// Goes there, unless the caller is root.
///
/// # Errors
/// [`Error::Os`] where users may make no user namespaces; [`Error::Config`] if the ids cannot be
/// mapped.
pub fn enter_own_namespace() -> Result<Entered> {
    let rights = Rights::of_carob()?;
    if rights.uid == 0 || rights.has(Capability::CAP_SYS_ADMIN) {
        return Ok(Entered::No);
    }
    let maps = maps(rights)?;
    let writer = MapWriter::choose(rights, &maps)?;
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "the id maps");
    let ((go, ready), (answer, said)) = (pipe()?, pipe()?);
    let me = getpid();
    // Only who is outside may call the programs that map more than one id.
    let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
    match cloned.os("clone3", || "the writer of id maps")? {
        Cloned::Child => {
            drop((ready, answer));
            process::exit_now(i32::from(!write_maps(go.into(), said.into(), me, &writer, &maps)))
        }
        Cloned::Parent(child) => {
            drop((go, said));
            let entered = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).os(
                "unshare",
                || "a user namespace (carob doctor tells whether this host lets users have them)",
            );
            if entered.is_ok() {
                File::from(ready).write_all(b"!").os("write", || "to the writer of id maps")?;
            } else {
                drop(ready);
            }
            let mut text = String::new();
            File::from(answer).read_to_string(&mut text).os("hear", || "the writer of id maps")?;
            let exit = process::wait(&child.pidfd).os("wait for", || "the writer of id maps")?;
            entered?;
            match exit {
                process::Exit::Status(0) => Ok(Entered::Yes),
                _ if !text.is_empty() => Err(Error::Invalid(text)),
                other => Err(Error::Invalid(format!("the writer of id maps has died: {other:?}"))),
            }
        }
    }
}

/// In the child: waits until its parent is in the namespace.
fn write_maps(mut go: File, mut said: File, of: Pid, writer: &MapWriter, maps: &IdMaps) -> bool {
    if !matches!(go.read(&mut [0]), Ok(1)) {
        return false;
    }
    match writer.write(of.as_raw(), maps) {
        Ok(()) => true,
        Err(error) => {
            // Without a parent nobody waits for it.
            let _told = said.write_all(error.to_string().as_bytes());
            false
        }
    }
}

/// The caller as root, then all that is granted to it; alone without the programs or the grants.
fn maps(rights: Rights) -> Result<IdMaps> {
    let may = ["newuidmap", "newgidmap"].iter().all(|name| find_program(name).is_some());
    let (uids, gids) = (granted("/etc/subuid", rights.uid), granted("/etc/subgid", rights.uid));
    let many = may && !uids.is_empty() && !gids.is_empty();
    let map = |own: u32, ranges: Vec<std::ops::Range<u64>>| -> Result<Vec<LinuxIdMapping>> {
        let mut next = 1;
        let mut all = vec![line(0, own, 1)?];
        for range in ranges.into_iter().filter(|_| many) {
            let size = u32::try_from(range.end - range.start).unwrap_or_default();
            all.push(line(next, u32::try_from(range.start).unwrap_or_default(), size)?);
            next = next.saturating_add(size);
        }
        Ok(all)
    };
    Ok(IdMaps { uids: map(rights.uid, uids)?, gids: map(rights.gid, gids)? })
}

fn line(inside: u32, outside: u32, size: u32) -> Result<LinuxIdMapping> {
    LinuxIdMappingBuilder::default()
        .container_id(inside)
        .host_id(outside)
        .size(size)
        .build()
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// What the ids of a user namespace are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedTo {
    /// The ids that they are outside of the namespace of this process: for one like it.
    Outside,
    /// The same ids within it: for one below it.
    Themselves,
}

/// All ids of the user namespace that this process is in.
///
/// # Errors
/// [`Error::Os`].
pub fn own_ids(to: MappedTo) -> Result<IdMaps> {
    let read = |path: &str| -> Result<Vec<LinuxIdMapping>> {
        let text = std::fs::read_to_string(path).os("read", || path)?;
        let lines = text.lines().filter_map(|text| {
            let mut numbers = text.split_whitespace().map(str::parse::<u32>);
            let mut number = || numbers.next()?.ok();
            let (inside, outside, size) = (number()?, number()?, number()?);
            Some(line(inside, if to == MappedTo::Outside { outside } else { inside }, size))
        });
        lines.collect()
    };
    Ok(IdMaps { uids: read("/proc/self/uid_map")?, gids: read("/proc/self/gid_map")? })
}
