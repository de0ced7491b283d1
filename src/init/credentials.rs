//! Who the process is: labels, groups, ids, capabilities.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::Task;
use crate::error::{Error, OsContext, Result};
use crate::oci::capabilities::list;
use crate::oci::plan::Capabilities;
use crate::sys::credentials::{self, CapabilitySets};
use crate::sys::process::{self, Prctl};

/// Whatever the caller's is.
const DEFAULT_UMASK: u32 = 0o022;

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";

/// Files of the host's procfs that take the label of the next execve, and of the session keyring.
///
/// Opened while the host's `/proc` is in sight: the container's may lie (CVE-2019-16884).
#[derive(Debug, Default)]
pub struct Labels {
    apparmor: Option<File>,
    selinux: Option<File>,
    keyring: Option<File>,
}

impl Labels {
    /// What is open.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.apparmor.iter().chain(&self.selinux).chain(&self.keyring).map(AsFd::as_fd)
    }
}

/// Opens the files for the labels that the process asks for.
pub(super) fn open_labels(task: &mut Task) -> Result<()> {
    let open = |name| task.open_in_proc(name).os("open", || format!("/proc/{name}"));
    let process = task.process;
    let selinux = process.selinux_label.as_ref();
    task.labels = Labels {
        apparmor: process
            .apparmor_profile
            .as_ref()
            .map(|_| open("self/attr/apparmor/exec"))
            .transpose()?,
        selinux: selinux.map(|_| open("self/attr/exec")).transpose()?,
        keyring: selinux
            .and(task.keyring.as_ref())
            .map(|_| open("self/attr/keycreate"))
            .transpose()?,
    };
    Ok(())
}

/// The keyring that is made next is the process's, who may otherwise not use it. For no longer than
/// until the execve.
pub(super) fn label_keyring(task: &mut Task) -> Result<()> {
    if let (Some(mut file), Some(label)) = (task.labels.keyring.take(), &task.process.selinux_label)
    {
        file.write_all(label.as_bytes()).property(|| (SELINUX, format!("{label:?} for keys")))?;
    }
    Ok(())
}

/// Turns this process into the container's user.
pub(super) fn apply(task: &mut Task) -> Result<()> {
    let process = task.process;
    // Makes nothing any more; and a filter may refuse it.
    let umask = process.umask.unwrap_or(DEFAULT_UMASK);
    let umask = nix::sys::stat::Mode::from_bits_truncate(umask);
    nix::sys::stat::umask(umask);
    // Whether a filter is in force when the ids have changed, which need not allow more than it must.
    let is_filtered = !process.no_new_privileges && task.seccomp.is_some();
    if process.no_new_privileges {
        process::prctl(Prctl::NoNewPrivs).os("prctl", || "PR_SET_NO_NEW_PRIVS")?;
    } else {
        // Loading a filter needs CAP_SYS_ADMIN then, which is about to go.
        super::execute::load_filter(task)?;
    }
    write_labels(task)?;
    if let Some(caps) = process.capabilities {
        drop_bounding(caps.bounding)?;
        // Whoever becomes root keeps them without.
        if process.uid != 0 {
            process::prctl(Prctl::KeepCaps(true)).os("prctl", || "PR_SET_KEEPCAPS")?;
        }
    }
    let early = enter_cwd(task);
    set_user(task)?;
    if let Some(caps) = process.capabilities {
        set_capabilities(caps)?;
        if process.uid != 0 {
            process::prctl(Prctl::KeepCaps(false)).os("prctl", || "PR_SET_KEEPCAPS")?;
        }
    }
    if !is_filtered {
        super::execute::show(task)?;
    }
    // A directory that root may not enter (NFS) the user may, and the other way round.
    early.or_else(|_| enter_cwd(task))?;
    check_cwd()?;
    task.home = super::execute::home(process);
    Ok(())
}

fn write_labels(task: &mut Task) -> Result<()> {
    let process = task.process;
    if let (Some(file), Some(profile)) = (&mut task.labels.apparmor, &process.apparmor_profile) {
        let written = file.write_all(format!("exec {profile}").as_bytes());
        if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            let reason = format!("{profile:?} is not loaded, use apparmor_parser(8)");
            return Err(Error::config(APPARMOR, reason));
        }
        written.property(|| (APPARMOR, format!("{profile:?}")))?;
    }
    if let (Some(file), Some(label)) = (&mut task.labels.selinux, &process.selinux_label) {
        file.write_all(label.as_bytes()).property(|| (SELINUX, format!("{label:?}")))?;
    }
    task.labels = Labels::default();
    Ok(())
}

/// One call for each capability: the kernel has no other way.
fn drop_bounding(keep: u64) -> Result<()> {
    for cap in 0..64 {
        if keep & (1 << cap) != 0 {
            continue;
        }
        match process::prctl(Prctl::DropBounding(cap)) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno).os("drop from the bounding set", || list(1 << cap)),
        }
    }
    Ok(())
}

fn set_user(task: &Task) -> Result<()> {
    let process = task.process;
    if let Some(groups) = &process.groups {
        match credentials::set_groups(groups) {
            Ok(()) => {}
            // In a user namespace whose setgroups is denied, none can be set and none is there.
            Err(Errno::EPERM) if groups.is_empty() => {}
            Err(errno) => return Err(errno).os("setgroups", || format!("{groups:?}")),
        }
    }
    credentials::set_ids(process.uid, process.gid)
        .os("setresuid", || format!("uid {}, gid {}", process.uid, process.gid))
}

fn set_capabilities(caps: Capabilities) -> Result<()> {
    let sets = CapabilitySets {
        effective: caps.effective,
        permitted: caps.permitted,
        inheritable: caps.inheritable,
    };
    credentials::capset(sets).os("capset", || {
        let (permitted, inheritable) = (list(caps.permitted), list(caps.inheritable));
        format!(
            "effective {}, permitted {permitted}, inheritable {inheritable}",
            list(caps.effective)
        )
    })?;
    // What is not both permitted and inheritable has just left the ambient set by itself.
    if caps.permitted & caps.inheritable != 0 {
        process::prctl(Prctl::ClearAmbient).os("prctl", || "PR_CAP_AMBIENT_CLEAR_ALL")?;
    }
    // One that is not permitted and inheritable cannot be raised; runc's own example has such.
    let possible = caps.ambient & caps.permitted & caps.inheritable;
    for cap in (0..64).filter(|cap| possible & (1 << cap) != 0) {
        match process::prctl(Prctl::RaiseAmbient(cap)) {
            // Ambient needs permitted and inheritable; runc warns and goes on, and so do we:
            // validation has warned.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno).os("raise ambient capability", || list(1 << cap)),
        }
    }
    Ok(())
}

fn enter_cwd(task: &Task) -> Result<()> {
    let cwd = &task.process.cwd;
    nix::unistd::chdir(cwd).os("chdir to cwd", || format!("{cwd:?}"))
}

/// A working directory outside of the root, reached through a leaked descriptor, has no path in
/// here (CVE-2024-21626).
fn check_cwd() -> Result<()> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(Error::Invalid(
            "current working directory is outside of the container's root".into(),
        )),
        Err(errno) => Err(errno).os("getcwd", || "in the container"),
    }
}
