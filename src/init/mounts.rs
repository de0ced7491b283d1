//! The mounts of the Plan, in its order.
//!
//! Each destination is opened inside the rootfs first; what is mounted is made detached, and
//! attached to the open destination. Whatever a hostile rootfs does to names in the meantime, the
//! mount lands where it was checked.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::Init;
use super::bind::{self, BindSource, Present};
use super::{cgroup_mount, confined, copy_up};
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::{MountPlan, MountSource};
use crate::sys::classic_mount::{self, Procfs};
use crate::sys::mount::{self, Attributes, NewFileSystem, Refused, Subtree};
use crate::sys::path::{Missing, Rootfs};
use crate::sys::xattr;

/// What may be mounted inside the container's `/proc`: files that lxcfs and the like replace.
const PROC_ALLOWED: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Mounts everything.
pub(super) fn apply(init: &mut Init) -> Result<()> {
    let mut present = Present::default();
    for (index, mount) in init.plan.mounts.iter().enumerate() {
        one(init, mount, index, &mut present).map_err(|error| match error {
            Error::Config { .. } => error,
            other => {
                let tried = format!("{}: {other}", mount.destination.display());
                Error::config(format!("mounts[{index}]"), tried)
            }
        })?;
    }
    Ok(())
}

fn one(init: &Init, plan: &MountPlan, index: usize, present: &mut Present) -> Result<()> {
    let rootfs = init.rootfs()?;
    if plan.options.remount {
        let mount = open_destination(rootfs, plan, Missing::Directory)?;
        return change(mount.as_fd(), plan);
    }
    match &plan.source {
        MountSource::Bind(source) => {
            let from = init.bind_sources.get(index).unwrap_or(&BindSource::Path);
            bind::mount(init, (plan, index), (source, from), present)
        }
        MountSource::Cgroup => cgroup_mount::mount(init, plan),
        MountSource::FileSystem { kind, source } => file_system(init, plan, kind, source),
    }
}

/// Opens the destination, made if missing, and refuses one that procfs would be hidden by.
pub(super) fn open_destination(
    rootfs: &Rootfs,
    plan: &MountPlan,
    missing: Missing,
) -> Result<OwnedFd> {
    let plain = match missing {
        Missing::Directory => rootfs.ensure_plain(&plan.destination),
        Missing::File => None,
    };
    let (destination, inside) = match plain {
        Some(plain) => (plain, Cow::from(&plan.destination)),
        None => {
            refuse_symlink(rootfs, plan)?;
            let destination = rootfs.ensure(&plan.destination, missing)?;
            let inside = rootfs.path_inside(&destination)?;
            (destination, Cow::from(inside))
        }
    };
    let is_proc_itself = *inside == *Path::new("/proc");
    let on_procfs = || fstatfs(&destination).is_ok_and(|s| s.filesystem_type() == PROC_SUPER_MAGIC);
    let allowed = PROC_ALLOWED.iter().any(|allowed| *inside == *Path::new(allowed));
    if is_proc_itself && !mounts_procfs(&plan.source) {
        // What is written through /proc later, labels and the like, would go to the fake.
        return Err(Error::Invalid("only procfs can be mounted on /proc".into()));
    }
    if !is_proc_itself && !allowed && (inside.starts_with("/proc") || on_procfs()) {
        let inside = inside.display();
        return Err(Error::Invalid(format!("{inside} is inside /proc, where nothing is mounted")));
    }
    Ok(destination)
}

fn mounts_procfs(source: &MountSource) -> bool {
    match source {
        MountSource::FileSystem { kind, .. } => kind == "proc",
        MountSource::Bind(source) => nix::sys::statfs::statfs(source)
            .is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC),
        MountSource::Cgroup => false,
    }
}

/// Applies the option words to a mount that exists.
pub(super) fn change(tree: BorrowedFd, plan: &MountPlan) -> Result<()> {
    let options = &plan.options;
    let here = || format!("attributes of {}", plan.destination.display());
    let plain = Attributes {
        set: options.attributes(),
        clear: options.attributes_cleared(),
        propagation: 0,
    };
    if !plain.is_empty() {
        mount::set_attributes(tree, plain, Subtree::Alone).os("set", here)?;
    }
    change_tree(tree, plan)
}

/// Applies the words that are for a whole tree, and the propagation.
pub(super) fn change_tree(tree: BorrowedFd, plan: &MountPlan) -> Result<()> {
    let options = &plan.options;
    let here = || format!("attributes of {}", plan.destination.display());
    if options.is_recursive() {
        let recursive = Attributes {
            set: options.recursive_set,
            clear: options.recursive_clear,
            propagation: 0,
        };
        mount::set_attributes(tree, recursive, Subtree::Recursive).os("set", here)?;
    }
    propagate(tree, plan)
}

fn propagate(tree: BorrowedFd, plan: &MountPlan) -> Result<()> {
    for flags in &plan.options.propagation {
        let recursive = flags.contains(MsFlags::MS_REC);
        let subtree = if recursive { Subtree::Recursive } else { Subtree::Alone };
        let propagation = flags.difference(MsFlags::MS_REC).bits();
        let change = Attributes { propagation, ..Attributes::default() };
        mount::set_attributes(tree, change, subtree)
            .os("set", || format!("propagation of {}", plan.destination.display()))?;
    }
    Ok(())
}

fn file_system(init: &Init, plan: &MountPlan, kind: &str, source: &str) -> Result<()> {
    let rootfs = init.rootfs()?;
    let options = &plan.options;
    let needs_mode = kind == "tmpfs" && !options.data.iter().any(|word| word.starts_with("mode="));
    let was_there = needs_mode && rootfs.find(&plan.destination).is_ok();
    let destination = open_destination(rootfs, plan, Missing::Directory)?;
    let read_only = options.flags.contains(MsFlags::MS_RDONLY);
    let late_read_only = options.tmpcopyup && read_only;
    let writable_for_now = late_read_only || (read_only && is_dev(plan));
    let mut words: Vec<String> = options.superblock_flags().map(str::to_owned).collect();
    if writable_for_now || is_of_namespace(kind) {
        words.retain(|word| word != "ro");
    }
    words.extend(options.data.iter().filter(|word| !word.is_empty()).cloned());
    if was_there {
        // A tmpfs takes the place of a directory with its permissions, not with 1777.
        let mode = nix::sys::stat::fstat(&destination).os("fstat", || "the mount point")?.st_mode;
        words.push(format!("mode={:o}", mode & 0o7777));
    }
    if init.is_confined && kind == "overlay" && !words.iter().any(|word| word == "userxattr") {
        // Its trusted attributes are only for the host's root. Linux 5.11.
        words.push("userxattr".to_owned());
    }
    words.extend(context(init, kind, &words));
    let mut attributes = options.attributes();
    if writable_for_now {
        attributes &= !libc::MOUNT_ATTR_RDONLY;
    }
    let source = (!source.is_empty()).then_some(source);
    let new = NewFileSystem { kind, source, options: &words, attributes };
    if can_be_made_in_place(init, plan, &new)
        && classic_mount::create_on(&new, destination.as_fd()).is_ok()
    {
        init.spent.put(destination);
        return Ok(());
    }
    let tree = match mount::create(&new) {
        Ok(tree) if kind == "mqueue" => label_root(init, tree)?,
        Err(refused) if refused.errno == Errno::EPERM && confined::has_substitute(init, kind) => {
            return confined::host_tree(plan, kind, &destination);
        }
        made => made.map_err(|refused| unmade(&refused, kind, &words))?,
    };
    if options.tmpcopyup {
        copy_up::copy(rootfs, &plan.destination, tree.as_fd())?;
    }
    mount::attach(&tree, &destination).os("attach", || plan.destination.display())?;
    if late_read_only && !is_dev(plan) {
        mount::set_attributes(tree.as_fd(), Attributes::read_only(), Subtree::Alone)
            .os("make read-only", || plan.destination.display())?;
    }
    propagate(tree.as_fd(), plan)?;
    [tree, destination].into_iter().for_each(|fd| init.spent.put(fd));
    Ok(())
}

/// The option for `linux.mountLabel`, unless the configuration says itself which labels there are.
pub(super) fn context(init: &Init, kind: &str, words: &[String]) -> Option<String> {
    let label = init.plan.mount_label.as_ref()?;
    let is_said = words.iter().any(|word| word.contains("context="));
    (!is_said && !is_of_namespace(kind)).then(|| format!("context={label}"))
}

/// A file system of an IPC namespace is there already, and takes no such option: its root has the label.
fn label_root(init: &Init, tree: OwnedFd) -> Result<OwnedFd> {
    let label = init.plan.mount_label.as_ref().filter(|_| init.plan.namespaces.has(Kind::Ipc));
    let Some(label) = label else { return Ok(tree) };
    let root = openat(&tree, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    match root.and_then(|root| xattr::set(root, c"security.selinux", label.as_bytes())) {
        // A policy may leave it without labels.
        Ok(()) | Err(Errno::ENOTSUP) => Ok(tree),
        Err(errno) => Err(errno).property(|| ("linux.mountLabel", format!("{label:?} for mqueue"))),
    }
}

fn unmade(refused: &Refused, kind: &str, words: &[String]) -> Error {
    let target = match refused.explanation.as_str() {
        "" => format!("file system {kind} with options {words:?}"),
        why => format!("file system {kind} with options {words:?} ({why})"),
    };
    Error::Os { op: "make", target, source: refused.errno.into() }
}

/// Whether mount(2) does all of it. Where it refuses, the way by descriptors tells why.
fn can_be_made_in_place(init: &Init, plan: &MountPlan, new: &NewFileSystem) -> bool {
    let is_simple = matches!(new.kind, "proc" | "tmpfs" | "devpts")
        || new.kind == "mqueue" && init.plan.mount_label.is_none();
    // It would make the file system read-only with its mount.
    let is_safe = !is_of_namespace(new.kind) || new.attributes & libc::MOUNT_ATTR_RDONLY == 0;
    let ends_here = !plan.options.tmpcopyup && plan.options.propagation.is_empty();
    is_simple && is_safe && ends_here && init.procfs() == Procfs::Hosts
}

/// Whether all mounts of a kind in one namespace are of one file system: what is said of that, every
/// container in the namespace gets. A read-only one makes its mount read-only, no more.
fn is_of_namespace(kind: &str) -> bool {
    matches!(kind, "proc" | "sysfs" | "mqueue")
}

/// Devices, mount points and the console are made in `/dev` before it can become read-only.
fn is_dev(plan: &MountPlan) -> bool {
    plan.destination == Path::new("/dev")
}

/// Makes a `/dev` of its own read-only, if the configuration wants that, once it is complete.
pub(super) fn make_dev_read_only(init: &Init) -> Result<()> {
    let wanted = |plan: &&MountPlan| {
        is_dev(plan)
            && matches!(plan.source, MountSource::FileSystem { .. })
            && plan.options.flags.contains(MsFlags::MS_RDONLY)
    };
    let Some(plan) = init.plan.mounts.iter().find(wanted) else { return Ok(()) };
    let here = || plan.destination.display();
    let dev = init.rootfs()?.find(&plan.destination).os("open", here)?;
    mount::set_attributes(dev.as_fd(), Attributes::read_only(), Subtree::Alone)
        .os("make read-only", here)
}

/// A rootfs whose `/proc` or `/sys` is a symlink wants the real one to be mounted elsewhere
/// (CVE-2023-27561).
fn refuse_symlink(rootfs: &Rootfs, plan: &MountPlan) -> Result<()> {
    let path = &plan.destination;
    let kind = match &plan.source {
        MountSource::FileSystem { kind, .. } if matches!(&**kind, "proc" | "sysfs") => kind,
        _ => return Ok(()),
    };
    match rootfs.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Ok(found) => {
            let mode = nix::sys::stat::fstat(&found).os("fstat", || path.display())?.st_mode;
            if mode & libc::S_IFMT == libc::S_IFDIR {
                return Ok(());
            }
            let path = path.display();
            Err(Error::Invalid(format!(
                "{kind} must be mounted on ordinary directory, {path} is none"
            )))
        }
        Err(_missing) => Ok(()),
    }
}
