//! The maps of user namespaces: who may write them, and a namespace that has nothing but maps.
//!
//! Written by carob, not by init: the host's `/proc` does not know init's children by their pids.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use caps::Capability;
use nix::sched::CloneFlags;
use oci_spec::runtime::LinuxIdMapping;

use super::rights::Rights;
use super::subids;
use super::users::user_name;
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::{IdMaps, id_map_text};
use crate::sys::fd;
use crate::sys::process::{self, CloneTarget, Cloned};

/// One of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uid,
    Gid,
}

/// What is different for users and for groups.
struct Names {
    field: &'static str,
    file: &'static str,
    helper: &'static str,
    grants: &'static str,
    usermod: &'static str,
    capability: Capability,
}

impl Kind {
    fn names(self) -> Names {
        match self {
            Self::Uid => Names {
                field: "linux.uidMappings",
                file: "uid_map",
                helper: "newuidmap",
                grants: "/etc/subuid",
                usermod: "--add-subuids",
                capability: Capability::CAP_SETUID,
            },
            Self::Gid => Names {
                field: "linux.gidMappings",
                file: "gid_map",
                helper: "newgidmap",
                grants: "/etc/subgid",
                usermod: "--add-subgids",
                capability: Capability::CAP_SETGID,
            },
        }
    }
}

/// Who writes a map. Source: user_namespaces(7), *Defining user and group ID mappings*.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Writer {
    /// carob, which has the capability.
    Carob,
    /// carob, which may map its own id to one. A group needs setgroups(2) to be given up for it.
    CarobForItself,
    /// The program that shadow-utils has for this, here.
    Helper(PathBuf),
}

/// Who writes the maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapWriter {
    uids: Writer,
    gids: Writer,
}

impl MapWriter {
    /// # Errors
    /// [`Error::Config`] if nobody may write one of the maps.
    pub(super) fn choose(rights: Rights, maps: &IdMaps) -> Result<Self> {
        Ok(Self {
            uids: writer(rights, Kind::Uid, &maps.uids)?,
            gids: writer(rights, Kind::Gid, &maps.gids)?,
        })
    }

    /// Whether setgroups(2) will be denied inside.
    pub(super) fn denies_groups(&self) -> bool {
        self.gids == Writer::CarobForItself
    }

    /// Writes the maps of the user namespace that a process is in.
    pub(super) fn write(&self, pid: i32, maps: &IdMaps) -> Result<()> {
        if self.denies_groups() {
            fd::write_file(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        write(&self.uids, Kind::Uid, pid, &maps.uids)?;
        write(&self.gids, Kind::Gid, pid, &maps.gids)
    }
}

fn writer(rights: Rights, kind: Kind, map: &[LinuxIdMapping]) -> Result<Writer> {
    let names = kind.names();
    if rights.has(names.capability) {
        return Ok(Writer::Carob);
    }
    let own = if kind == Kind::Uid { rights.uid } else { rights.gid };
    if let [only] = map
        && (only.host_id(), only.size()) == (own, 1)
    {
        return Ok(Writer::CarobForItself);
    }
    let Some(helper) = find_program(names.helper) else {
        let reason = format!(
            "{} is not installed (Debian's package uidmap), and without it only your own id can be \
             mapped: one range, hostID {own} and size 1",
            names.helper
        );
        return Err(Error::config(names.field, reason));
    };
    check_granted(rights, kind, own, map)?;
    Ok(Writer::Helper(helper))
}

/// The helper refuses what the administrator has not granted; better before anything is made.
fn check_granted(rights: Rights, kind: Kind, own: u32, map: &[LinuxIdMapping]) -> Result<()> {
    let names = kind.names();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if read("/etc/nsswitch.conf").lines().any(|line| line.trim_start().starts_with("subid:")) {
        // The grants may be elsewhere: only the helper knows.
        return Ok(());
    }
    let name = user_name(rights.uid);
    let ranges = subids::granted(&read(names.grants), name.as_deref(), rights.uid);
    for (index, line) in map.iter().enumerate() {
        let wanted = u64::from(line.host_id())..u64::from(line.host_id()) + u64::from(line.size());
        let is_own = line.host_id() == own && line.size() == 1;
        if !is_own && !subids::covers(&ranges, &wanted) {
            let user = name.unwrap_or_else(|| rights.uid.to_string());
            let last = wanted.end.saturating_sub(1);
            let reason = format!(
                "host ids {}-{last} are not yours; {} gives {user} {}; root can give more with \
                 usermod {} FIRST-LAST {user}",
                wanted.start,
                names.grants,
                subids::text(&ranges),
                names.usermod
            );
            return Err(Error::config(format!("{}[{index}]", names.field), reason));
        }
    }
    Ok(())
}

/// The ranges that such a file gives to a user, each id once.
pub(super) fn granted(file: &str, uid: u32) -> Vec<std::ops::Range<u64>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
    for range in subids::granted(&text, user_name(uid).as_deref(), uid) {
        let is_new = ranges.iter().all(|one| range.end <= one.start || one.end <= range.start);
        if is_new && !range.is_empty() {
            ranges.push(range);
        }
    }
    ranges
}

/// The ranges that `/etc/subuid` or `/etc/subgid` gives to the caller, for people to read; `None` if
/// there are none.
#[must_use]
pub fn granted_ids(file: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let uid = nix::unistd::geteuid().as_raw();
    let ranges = subids::granted(&text, user_name(uid).as_deref(), uid);
    (!ranges.is_empty()).then(|| subids::text(&ranges))
}

/// Finds a program of the host. Engines call some verbs without any environment.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin:/usr/sbin:/sbin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn write(writer: &Writer, kind: Kind, pid: i32, map: &[LinuxIdMapping]) -> Result<()> {
    let names = kind.names();
    let Writer::Helper(helper) = writer else {
        return fd::write_file(format!("/proc/{pid}/{}", names.file), id_map_text(map));
    };
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for line in map {
        let numbers = [line.container_id(), line.host_id(), line.size()];
        command.args(numbers.map(|number| number.to_string()));
    }
    process::unblock_signals_in(&mut command);
    let out = command.output().os("run", || helper.display())?;
    if out.status.success() {
        return Ok(());
    }
    let (helper, said) = (helper.display(), String::from_utf8_lossy(&out.stderr));
    Err(Error::config(names.field, format!("{helper}: {}: {}", out.status, said.trim())))
}

/// Makes a user namespace with given maps, to map the ids of a mount through. The kernel wants a
/// process inside while the maps are written; it ends before this returns.
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
    write(&Writer::Carob, Kind::Uid, pid, uids)?;
    write(&Writer::Carob, Kind::Gid, pid, gids)?;
    let path = format!("/proc/{pid}/ns/user");
    Ok(File::open(&path).os("open", || &path)?.into())
}
