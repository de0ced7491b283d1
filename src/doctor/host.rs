//! The kernel and what it lets the caller do.

use std::path::Path;

use nix::sched::CloneFlags;

use super::{Check, Status, read};
use crate::sys::probe::{self, Probe};
use crate::sys::process::{self, CloneTarget, Cloned, Exit};

/// The oldest Linux that carob is made for.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn checks(state_root: &Path) -> Vec<Check> {
    vec![
        kernel(),
        user_namespaces(),
        overlay(),
        state(state_root),
        modules(),
        seccomp(),
        seccomp_notify(),
    ]
}

fn kernel() -> Check {
    let name = nix::sys::utsname::uname();
    let of = |text: Result<&std::ffi::OsStr, ()>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (release, machine) = match &name {
        Ok(name) => (of(Ok(name.release())), of(Ok(name.machine()))),
        Err(_) => (String::new(), String::new()),
    };
    let found = format!("Linux {release}, {machine}");
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let check = Check::new("host", "kernel", Status::Ok, found);
    if version >= OLDEST {
        return check;
    }
    let advice = format!("carob is made for Linux {}.{} and later", OLDEST.0, OLDEST.1);
    Check { status: Status::Warn, ..check }.advise(advice)
}

/// By making one, in a process that ends at once.
fn user_namespaces() -> Check {
    let root = nix::unistd::geteuid().is_root();
    let name = "user namespaces";
    let problem = match try_user_namespace() {
        Ok(Exit::Status(0)) => return Check::new("host", name, Status::Ok, "can be made"),
        Ok(_) => "can be made, but give no rights".to_owned(),
        Err(errno) => format!("cannot be made: {}", std::io::Error::from(errno)),
    };
    let status = if root { Status::Missing } else { Status::Fatal };
    Check::new("host", name, status, problem).advise(why_no_user_namespaces())
}

fn try_user_namespace() -> nix::Result<Exit> {
    match process::clone3(CloneFlags::CLONE_NEWUSER, &CloneTarget::default())? {
        Cloned::Parent(child) => process::wait(&child.pidfd),
        Cloned::Child => {
            // AppArmor lets the namespace be made, and then takes all rights in it.
            let allowed = nix::sched::unshare(CloneFlags::CLONE_NEWUTS).is_ok();
            process::exit_now(i32::from(!allowed))
        }
    }
}

fn why_no_user_namespaces() -> String {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text == value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        "as root: sysctl user.max_user_namespaces=10000".into()
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "as root: sysctl kernel.unprivileged_userns_clone=1".into()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile \
         for carob that allows userns"
            .into()
    } else {
        "the kernel has none (CONFIG_USER_NS), or a seccomp filter or the limit of nested \
         namespaces forbids it; carob runs as root"
            .into()
    }
}

fn overlay() -> Check {
    let known = read("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        return Check::new("host", "overlay", Status::Ok, "the kernel has it");
    }
    let found = "the kernel does not have it, or has not loaded it yet";
    Check::new("host", "overlay", Status::Missing, found).advise("as root: modprobe overlay")
}

fn state(root: &Path) -> Check {
    use nix::unistd::{AccessFlags, access};
    let shown = root.display();
    let existing = root.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Check::new("host", "state", Status::Ok, shown.to_string()),
        Err(errno) => {
            let found = format!("{shown}: {}: {}", existing.display(), std::io::Error::from(errno));
            Check::new("host", "state", Status::Fatal, found)
                .advise("set XDG_RUNTIME_DIR, or give --root, to a directory of yours")
        }
    }
}

fn modules() -> Check {
    let name = "security modules";
    match read("/sys/kernel/security/lsm") {
        Some(list) => {
            let enforcing = read("/sys/fs/selinux/enforce").is_some_and(|text| text == "1");
            let note = if enforcing { "; SELinux is enforcing" } else { "" };
            Check::new("host", name, Status::Ok, format!("{}{note}", list.replace(',', " ")))
        }
        None => {
            let has = |path: &str| Path::new(path).exists();
            let mut found = Vec::new();
            if has("/sys/kernel/security/apparmor") || has("/sys/module/apparmor/parameters") {
                found.push("apparmor");
            }
            if has("/sys/fs/selinux/enforce") {
                found.push("selinux");
            }
            let found = if found.is_empty() { "none to be seen".into() } else { found.join(" ") };
            Check::new("host", name, Status::Ok, found)
        }
    }
}

/// Name and number of each action. Source: linux/seccomp.h.
const ACTIONS: &[(&str, u32)] = &[
    ("kill-process", libc::SECCOMP_RET_KILL_PROCESS),
    ("kill-thread", libc::SECCOMP_RET_KILL_THREAD),
    ("trap", libc::SECCOMP_RET_TRAP),
    ("errno", libc::SECCOMP_RET_ERRNO),
    ("trace", libc::SECCOMP_RET_TRACE),
    ("log", libc::SECCOMP_RET_LOG),
    ("allow", libc::SECCOMP_RET_ALLOW),
];

fn seccomp() -> Check {
    let works = |(_, action): &&(&str, u32)| probe::seccomp_action(*action) == Probe::Works;
    let found: Vec<_> = ACTIONS.iter().filter(works).map(|(name, _)| *name).collect();
    match found.len() {
        0 => Check::new("host", "seccomp", Status::Missing, "the kernel has none")
            .advise("configurations with linux.seccomp are refused; CONFIG_SECCOMP_FILTER"),
        all if all == ACTIONS.len() => Check::new("host", "seccomp", Status::Ok, found.join(" ")),
        _ => Check::new("host", "seccomp", Status::Warn, found.join(" "))
            .advise("some actions need a newer kernel"),
    }
}

fn seccomp_notify() -> Check {
    let name = "seccomp notify";
    match probe::seccomp_action(libc::SECCOMP_RET_USER_NOTIF) {
        Probe::Works => Check::new("host", name, Status::Ok, "works"),
        _ => Check::new("host", name, Status::Missing, "the kernel does not have it")
            .advise("SCMP_ACT_NOTIFY is refused; it is in Linux 5.0 and later"),
    }
}
