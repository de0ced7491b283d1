//! The kernel interfaces that carob uses: one table.

use std::path::Path;

use super::{Check, Status};
use crate::sys::probe::{self, Probe};

const SECTION: &str = "kernel interfaces";

/// One interface.
struct Interface {
    name: &'static str,
    /// The version of Linux that brought it.
    since: &'static str,
    /// What carob does with it.
    purpose: &'static str,
    without: Without,
    probe: fn() -> Probe,
}

/// What becomes of that without it.
enum Without {
    /// Nothing: carob needs it.
    Nothing,
    /// The same in another way.
    Fallback(&'static str),
    /// One feature is missing.
    Lacks(&'static str),
}

use Without::{Fallback, Lacks, Nothing};

/// In the order of their age.
const INTERFACES: &[Interface] = &[
    Interface {
        name: "memfd_create",
        since: "3.17",
        purpose: "keeps the binary out of a container's reach where nothing can be mounted",
        without: Lacks("containers of users who are not root"),
        probe: probe::memfd_create,
    },
    Interface {
        name: "PR_SET_MM",
        since: "3.3",
        purpose: "goes over to a binary that cannot be written, without executing it again",
        without: Fallback("carob is executed again, from a read-only mount or a sealed copy"),
        probe: probe::set_mm,
    },
    Interface {
        name: "keyctl",
        since: "2.6.32",
        purpose: "a session keyring for each container",
        without: Fallback("there are no keys to protect"),
        probe: probe::keyctl,
    },
    Interface {
        name: "bpf",
        since: "4.15",
        purpose: "device rules on cgroup v2",
        without: Lacks("device rules on cgroup v2"),
        probe: probe::bpf,
    },
    Interface {
        name: "cgroup namespaces",
        since: "4.6",
        purpose: "linux.namespaces: cgroup",
        without: Lacks("linux.namespaces: cgroup"),
        probe: || namespace("cgroup"),
    },
    Interface {
        name: "open_tree, fsopen, fsmount, move_mount",
        since: "5.2",
        purpose: "mounts by descriptor, which nobody can redirect",
        without: Nothing,
        probe: probe::mount_by_descriptor,
    },
    Interface {
        name: "pidfd_open",
        since: "5.3",
        purpose: "holds a process whose number may be used again",
        without: Nothing,
        probe: probe::pidfd_open,
    },
    Interface {
        name: "clone3",
        since: "5.3",
        purpose: "makes a container's first process with one call",
        without: Nothing,
        probe: probe::clone3,
    },
    Interface {
        name: "waitid(P_PIDFD)",
        since: "5.4",
        purpose: "waits for the process that is held",
        without: Nothing,
        probe: probe::wait_by_pidfd,
    },
    Interface {
        name: "openat2",
        since: "5.6",
        purpose: "opens paths inside a root filesystem, whatever its symlinks say",
        without: Fallback("paths are walked one component at a time"),
        probe: probe::openat2,
    },
    Interface {
        name: "pidfd_getfd",
        since: "5.6",
        purpose: "hands the seccomp listener to its agent",
        without: Lacks("linux.seccomp with SCMP_ACT_NOTIFY"),
        probe: probe::pidfd_getfd,
    },
    Interface {
        name: "time namespaces",
        since: "5.6",
        purpose: "linux.namespaces: time",
        without: Lacks("linux.namespaces: time"),
        probe: || namespace("time"),
    },
    Interface {
        name: "CLONE_INTO_CGROUP",
        since: "5.7",
        purpose: "a process is born in its cgroup",
        without: Fallback("it enters the cgroup when it is there"),
        probe: probe::clone_into_cgroup,
    },
    Interface {
        name: "setns(pidfd)",
        since: "5.8",
        purpose: "exec joins all namespaces with one call",
        without: Lacks("exec"),
        probe: probe::setns_by_pidfd,
    },
    Interface {
        name: "close_range",
        since: "5.11",
        purpose: "keeps descriptors of the caller from a container",
        without: Fallback("each is marked by itself"),
        probe: probe::close_range,
    },
    Interface {
        name: "mount_setattr",
        since: "5.12",
        purpose: "attributes of whole mount trees, and id-mapped mounts",
        without: Fallback(
            "single mounts are remounted; rro and its like, and uidMappings of a mount, are refused",
        ),
        probe: probe::mount_setattr,
    },
    Interface {
        name: "cgroup.kill",
        since: "5.14",
        purpose: "ends all processes of a container at once",
        without: Fallback("they are frozen and signalled one by one"),
        probe: cgroup_kill,
    },
];

pub(super) fn checks() -> Vec<Check> {
    INTERFACES.iter().map(check).collect()
}

fn check(interface: &Interface) -> Check {
    let Interface { name, since, purpose, without, probe } = interface;
    let new = |status, found: String| Check::new(SECTION, *name, status, found);
    let errno = match probe() {
        Probe::Works => return new(Status::Ok, (*purpose).to_owned()),
        Probe::Unknown => return new(Status::Ok, format!("{purpose}; not to be told from here")),
        Probe::Missing(errno) => errno,
    };
    let advice = format!("it is in Linux {since} and later, unless a seccomp filter hides it");
    match without {
        Nothing => new(Status::Fatal, format!("{errno:?}: {purpose}; carob cannot do without")),
        Fallback(how) => new(Status::Warn, format!("{errno:?}: instead, {how}")),
        Lacks(what) => new(Status::Missing, format!("{errno:?}: does not work: {what}")),
    }
    .advise(advice)
}

fn namespace(name: &str) -> Probe {
    match Path::new("/proc/self/ns").join(name).symlink_metadata() {
        Ok(_) => Probe::Works,
        Err(_) => Probe::Missing(nix::errno::Errno::ENOENT),
    }
}

/// A cgroup has the file unless it is the root.
fn cgroup_kill() -> Probe {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let Some(root) = roots.into_iter().find(|root| root.join("cgroup.procs").exists()) else {
        return Probe::Unknown;
    };
    let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    match below.filter(|path| path.is_dir()).map(|dir| dir.join("cgroup.kill").exists()).next() {
        Some(true) => Probe::Works,
        Some(false) => Probe::Missing(nix::errno::Errno::ENOENT),
        None => Probe::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_happens_instead() {
        let interface = |without| Interface {
            name: "x",
            since: "9.9",
            purpose: "does x",
            without,
            probe: || Probe::Missing(nix::errno::Errno::ENOSYS),
        };
        let shown = |without| {
            let check = check(&interface(without));
            (check.status, check.found, check.advice.is_some_and(|advice| advice.contains("9.9")))
        };
        let instead = "ENOSYS: instead, y".to_owned();
        assert_eq!(shown(Fallback("y")), (Status::Warn, instead, true));
        let lacks = "ENOSYS: does not work: y".to_owned();
        assert_eq!(shown(Lacks("y")), (Status::Missing, lacks, true));
        assert_eq!(shown(Nothing).0, Status::Fatal);
    }

    #[test]
    fn each_interface_is_there_once() {
        let names: std::collections::BTreeSet<_> = INTERFACES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), INTERFACES.len());
    }
}
