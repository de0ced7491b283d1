//! Namespaces: entered, named, tuned; and the cgroups, which come before their namespace.

use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{fstat, stat};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::sync::{FromChild, ToChild};
use super::{Init, Task};
use crate::cgroup::Entrance;
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::{JoinPlan, Namespaces, clone_flag};
use crate::oci::sysctl;
use crate::sys::process::{self, CLONE_NEWTIME, Prctl};
use crate::sys::{credentials, fd, net};

/// A session of its own: no terminal of the caller reaches the container.
pub(super) fn new_session() -> Result<()> {
    process::set_name(c"carob:[2:INIT]");
    process::reset_signals();
    // What init makes has the modes that it asks for.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::unistd::setsid().os("setsid", || "init")?;
    Ok(())
}

/// Joins what is joined by path, and becomes root of a new user namespace.
pub(super) fn enter(init: &mut Init) -> Result<()> {
    let plan = init.plan;
    if !init.late_namespaces.is_empty() {
        let flags = init.late_namespaces;
        unshare(flags).os("unshare", || format!("{flags:?}"))?;
    }
    // The creator's clone has put us into the pid namespace; stage 1 has done the rest.
    if !super::needs_stage1(&plan.namespaces) {
        join_by_path(init, |kind| kind != Kind::Pid)?;
    }
    if plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) || super::needs_stage1(&plan.namespaces) {
        match init.task.parent.hear_parent()? {
            ToChild::IdMapped => {}
            other => return Err(unexpected(&other)),
        }
        // Where a user writes the maps, we were dumpable until here, and stay so if our id on the
        // host stays the same.
        process::prctl(Prctl::Dumpable(false)).os("prctl", || "PR_SET_DUMPABLE")?;
    }
    if plan.namespaces.has(Kind::User) {
        credentials::set_ids(0, 0).os("setresuid", || "0 in the user namespace")?;
    }
    if plan.namespaces.is_new(CloneFlags::CLONE_NEWNET) {
        net::loopback_up().os("bring up", || "lo")?;
    }
    Ok(())
}

pub(super) fn unexpected(message: &ToChild) -> Error {
    Error::Init { step: "handshake".into(), cause: format!("unexpected message {message:?}") }
}

/// Joins the namespaces given by path whose kind is `wanted`.
pub(super) fn join_by_path(init: &Init, wanted: impl Fn(Kind) -> bool) -> Result<()> {
    init.plan.namespaces.join.iter().filter(|joined| wanted(joined.kind)).try_for_each(join)
}

/// Joins one namespace. A file opened read-only is all that this needs.
///
/// # Errors
/// [`Error::Config`] with the JSON path of the namespace.
pub fn join(joined: &JoinPlan) -> Result<()> {
    let file = open(joined)?;
    or_refuse(joined, setns(&file, clone_flag(joined.kind)))
}

fn open(joined: &JoinPlan) -> Result<File> {
    let path = &joined.path;
    let file = File::open(path).property(|| (joined.field(), format!("open {path:?}")))?;
    if joined.kind == Kind::Mount {
        refuse_mounts_of_the_host(joined, &file)?;
    }
    Ok(file)
}

fn or_refuse(joined: &JoinPlan, result: nix::Result<()>) -> Result<()> {
    let JoinPlan { kind, path, .. } = joined;
    result.property(|| (joined.field(), format!("join {path:?} as {kind} namespace")))
}

/// Joins all that are given by path, the user namespace after those that may only be joined from
/// outside of it. A caller without rights may join the others, of a container of its own, only from
/// inside.
pub(super) fn join_with_user(namespaces: &Namespaces) -> Result<()> {
    let opened = namespaces.join.iter().map(|joined| Ok((joined, open(joined)?)));
    let (users, others): (Vec<_>, Vec<_>) = opened
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .partition(|(joined, _)| joined.kind == Kind::User);
    let mut from_inside = Vec::new();
    for (joined, file) in others {
        match setns(&file, clone_flag(joined.kind)) {
            Err(Errno::EPERM) if !users.is_empty() => from_inside.push((joined, file)),
            result => or_refuse(joined, result)?,
        }
    }
    users
        .iter()
        .chain(&from_inside)
        .try_for_each(|(joined, file)| or_refuse(joined, setns(file, clone_flag(joined.kind))))
}

/// A path may lead to the namespace that we come from: the root of the container would be mounted
/// over a directory of the host, and everything in it would stay there.
fn refuse_mounts_of_the_host(joined: &JoinPlan, namespace: &File) -> Result<()> {
    let theirs = fstat(namespace).property(|| (joined.field(), "fstat".to_owned()))?;
    for (whose, path) in [("carob", "/proc/self/ns/mnt"), ("process 1", "/proc/1/ns/mnt")] {
        // Process 1 may be out of reach, and then is nobody whose mounts we could change.
        if stat(path).is_ok_and(|own| own.st_ino == theirs.st_ino && own.st_dev == theirs.st_dev) {
            let path = joined.path.display();
            let reason = format!(
                "{path} is the mount namespace of {whose}, the mounts of the container would be \
                 the host's; leave path out for a new one"
            );
            return Err(Error::config(joined.field(), reason));
        }
    }
    Ok(())
}

/// Enters the container's cgroups, then the namespace that makes them its root.
pub(super) fn join_cgroups(init: &mut Init) -> Result<()> {
    if let Some(Entrance::WhenMade(unified)) = init.task.cgroups {
        ask_for_place(&init.task)?;
        init.task.cgroups = Some(Entrance::Own(init.cgroup.join()?.into(), unified));
    }
    join_cgroups_of(&mut init.task)?;
    if init.plan.namespaces.is_new(CloneFlags::CLONE_NEWCGROUP) {
        // The namespace shows as root what the process is in at this moment.
        join_memory_cgroup(&mut init.task)?;
        unshare(CloneFlags::CLONE_NEWCGROUP).os("unshare", || "the cgroup namespace")?;
    }
    Ok(())
}

/// Enters the container's cgroups, and its class of cache and memory bandwidth.
pub(super) fn join_cgroups_of(task: &mut Task) -> Result<()> {
    // 0 is whoever writes; while the host's paths are in sight.
    task.classes.iter().try_for_each(|tasks| fd::write_file(tasks, "0"))?;
    // Not dropped: execve closes them all at once.
    match &task.cgroups {
        Some(Entrance::Own(cgroups, unified)) => cgroups.enter(*unified),
        Some(Entrance::Asked) => ask_for_place(task),
        // See above.
        Some(Entrance::WhenMade(_)) => Err(unexpected(&ToChild::Placed)),
        None => Ok(()),
    }
}

fn ask_for_place(task: &Task) -> Result<()> {
    task.parent.tell_parent(&FromChild::Place)?;
    match task.parent.hear_parent()? {
        ToChild::Placed => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Enters the memory cgroup, as late as the rights for it last.
pub(super) fn join_memory_cgroup(task: &mut Task) -> Result<()> {
    match &task.cgroups {
        Some(Entrance::Own(cgroups, _)) => cgroups.enter_memory(),
        Some(Entrance::Asked | Entrance::WhenMade(_)) | None => Ok(()),
    }
}

/// A new time namespace: its clocks can be set only before anybody is inside.
///
/// Before this process takes an id of its user namespace: its files in `/proc` belong to the
/// host's root, since it is not dumpable.
pub(super) fn time(init: &mut Init) -> Result<()> {
    const CHILDREN: &str = "/proc/self/ns/time_for_children";
    const OFFSETS: &str = "/proc/self/timens_offsets";
    if !init.plan.namespaces.is_new(CLONE_NEWTIME) {
        return Ok(());
    }
    if init.plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
        // Else our files in /proc belong to the host's root, which we are not any more. Nobody
        // else is in the new user namespace who could use it.
        process::prctl(Prctl::Dumpable(true)).os("prctl", || "PR_SET_DUMPABLE")?;
    }
    unshare(CLONE_NEWTIME).os("unshare", || "the time namespace")?;
    for (clock, seconds, nanoseconds) in &init.plan.time_offsets {
        fd::write_file(OFFSETS, format!("{clock} {seconds} {nanoseconds}"))?;
    }
    let namespace = File::open(CHILDREN).os("open", || CHILDREN)?;
    setns(&namespace, CLONE_NEWTIME).os("setns", || CHILDREN)
}

/// A session keyring that is not the caller's, so that its keys cannot be read. A later process of
/// the container gets one more: one that can be joined by its name could be by other containers.
pub(super) fn keyring(task: &mut Task) -> Result<()> {
    super::credentials::label_keyring(task)?;
    let Some(name) = &task.keyring else { return Ok(()) };
    match process::new_session_keyring(name) {
        // A kernel without keyrings has nothing to protect.
        Err(Errno::ENOSYS) => Ok(()),
        other => other.os("keyctl", || "join a new session keyring"),
    }
}

/// Host name and NIS domain name.
pub(super) fn names(init: &mut Init) -> Result<()> {
    if let Some(name) = &init.plan.hostname {
        nix::unistd::sethostname(name).os("sethostname", || name)?;
    }
    if let Some(name) = &init.plan.domainname {
        process::set_domain_name(name).os("setdomainname", || name)?;
    }
    Ok(())
}

/// Kernel parameters of the container's namespaces, through the host's procfs.
pub(super) fn sysctls(init: &mut Init) -> Result<()> {
    for (key, value) in &init.plan.sysctls {
        let name = format!("sys/{key}");
        let field = || format!("linux.sysctl.{}", sysctl::key(key));
        let opened = init.task.open_in_proc(&name);
        let mut file = opened.property(|| (field(), format!("open /proc/{name}")))?;
        file.write_all(value.as_bytes())
            .property(|| (field(), format!("write {value:?} to /proc/{name}")))?;
    }
    Ok(())
}

/// The namespaces of a running container, as `exec` joins them.
#[derive(Debug)]
pub struct ExistingNamespaces<'a> {
    /// A process inside, usually the container's init.
    pub pidfd: BorrowedFd<'a>,
    /// Kinds to join, but for the pid namespace, which the clone has entered.
    pub flags: CloneFlags,
    /// Whether a user namespace is among them.
    pub user: bool,
    /// Kinds that a process in between joins, which then clones this one: where carob may join them
    /// only from inside of the container's user namespace.
    pub staged: Option<CloneFlags>,
    /// The container's root, where the mount namespace has another.
    pub root: Option<OwnedFd>,
}

impl ExistingNamespaces<'_> {
    /// Joins all of them with one call; the kernel enters a user namespace first.
    pub(super) fn enter(&self) -> Result<()> {
        if !self.flags.is_empty() {
            setns(self.pidfd, self.flags).os("setns", || "the container's namespaces")?;
        }
        if let Some(root) = &self.root {
            nix::unistd::fchdir(root).os("fchdir", || "the container's root")?;
            nix::unistd::chroot(".").os("chroot", || "the container's root")?;
        }
        if self.user {
            credentials::set_ids(0, 0).os("setresuid", || "0 in the user namespace")?;
        }
        Ok(())
    }
}
