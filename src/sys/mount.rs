//! Mounts by file descriptor: made detached, attached to an open destination.
//!
//! A detached mount can be given its attributes before anybody can see it, and a destination that
//! is an open descriptor cannot be exchanged for a symlink between the check and the use.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::{AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE};
use nix::NixPath;
use nix::errno::Errno;
use nix::mount::MsFlags;

use super::fd::{owned, proc_path};

/// One mount, or it and everything mounted below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtree {
    /// The mount itself.
    Alone,
    /// The mount and all below it.
    Recursive,
}

impl Subtree {
    fn at_flag(self) -> libc::c_int {
        match self {
            Self::Alone => 0,
            Self::Recursive => AT_RECURSIVE,
        }
    }
}

/// What [`set_attributes`] changes. Bits are MOUNT_ATTR_*, propagation is one MS_* flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear first.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0 leaves it.
    pub propagation: u64,
}

impl Attributes {
    /// Nothing but read-only.
    #[must_use]
    pub fn read_only() -> Self {
        Self { set: libc::MOUNT_ATTR_RDONLY, ..Self::default() }
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Copies the mount at an open file or directory (`open_tree` with OPEN_TREE_CLONE).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `EINVAL` for an unbindable mount; `ENOSYS` before Linux 5.2.
pub fn clone_tree_at(source: BorrowedFd, subtree: Subtree) -> nix::Result<OwnedFd> {
    open_tree(source.as_raw_fd(), c"", AT_EMPTY_PATH | subtree.at_flag())
}

/// As [`clone_tree_at`], by a path that is trusted (the bundle's or the administrator's).
///
/// # Errors
/// As [`clone_tree_at`], and those of path resolution.
pub fn clone_tree(source: &Path, subtree: Subtree) -> nix::Result<OwnedFd> {
    source.with_nix_path(|path| open_tree(AT_FDCWD, path, subtree.at_flag()))?
}

fn open_tree(dir: i32, path: &CStr, at_flags: libc::c_int) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | at_flags.cast_unsigned();
    // SAFETY: `path` is a valid C string for the call; the rest is by value.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Attaches a detached mount on top of an open file or directory.
///
/// # Errors
/// `ENOTDIR`/`EISDIR`-like mismatches are `ENOTDIR`, `EINVAL`; `ENOSYS` before Linux 5.2.
pub fn attach(mount: impl AsFd, destination: impl AsFd) -> nix::Result<()> {
    let (from, to) = (mount.as_fd().as_raw_fd(), destination.as_fd().as_raw_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings with static lifetime; the rest is by value.
    let ret =
        unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    Errno::result(ret).map(drop)
}

/// As [`attach`], on an entry of a directory that nobody else can change.
///
/// # Errors
/// As [`attach`], and `ENOENT`.
pub fn attach_at(mount: impl AsFd, directory: impl AsFd, name: &str) -> nix::Result<()> {
    let name = c_string(name)?;
    let (from, to) = (mount.as_fd().as_raw_fd(), directory.as_fd().as_raw_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are C strings that live during the call; the rest is by value.
    let ret = unsafe {
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, name.as_ptr(), flags)
    };
    Errno::result(ret).map(drop)
}

/// Changes attributes of the mount whose root `mount` is.
///
/// Without `mount_setattr` (before Linux 5.12, or refused by a filter around carob) attributes of a
/// single mount, and propagation, are set by mount(2), if the mount is attached.
///
/// # Errors
/// `EPERM` for locked attributes in a user namespace, `EINVAL` if it is not a mount's root;
/// `ENOSYS` for attributes of a whole tree before Linux 5.12.
pub fn set_attributes(mount: BorrowedFd, change: Attributes, subtree: Subtree) -> nix::Result<()> {
    match mount_setattr(mount, change, 0, subtree) {
        // A filter of Docker and others says EPERM; what the kernel refuses it refuses again.
        Err(errno @ (Errno::ENOSYS | Errno::EPERM)) if can_remount(change, subtree) => {
            remount(mount, change, subtree).or(Err(errno))
        }
        other => other,
    }
}

fn can_remount(change: Attributes, subtree: Subtree) -> bool {
    subtree == Subtree::Alone || change.set | change.clear == 0
}

/// Whether attributes of whole trees can be changed: Linux 5.12.
#[must_use]
pub fn has_recursive_attributes() -> bool {
    let nothing = Attributes::default();
    mount_setattr(nix::fcntl::AT_FDCWD, nothing, 0, Subtree::Recursive) != Err(Errno::ENOSYS)
}

/// Maps the ids of a detached mount through a user namespace.
///
/// # Errors
/// `EINVAL` for a file system without id-mapped mounts, `EPERM`; `ENOSYS` before Linux 5.12.
pub fn set_id_map(mount: BorrowedFd, user_ns: BorrowedFd, subtree: Subtree) -> nix::Result<()> {
    let change = Attributes { set: libc::MOUNT_ATTR_IDMAP, ..Attributes::default() };
    mount_setattr(mount, change, u64::from(user_ns.as_raw_fd().cast_unsigned()), subtree)
}

fn mount_setattr(
    mount: BorrowedFd,
    change: Attributes,
    userns_fd: u64,
    subtree: Subtree,
) -> nix::Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd,
    };
    let flags = AT_EMPTY_PATH | subtree.at_flag();
    // SAFETY: `attr` is a valid mount_attr of the size given, and the path an empty C string.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(ret).map(drop)
}

/// `mount_setattr` for kernels that lack it: one flag word replaces another, so the present flags
/// are read first.
fn remount(mount: BorrowedFd, change: Attributes, subtree: Subtree) -> nix::Result<()> {
    let path = proc_path(mount);
    if change.set | change.clear != 0 {
        let present = nix::sys::statvfs::fstatvfs(mount)?.flags().bits();
        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        for (attribute, flag) in SIMPLE_ATTRIBUTES {
            let was_set = present & flag.bits() != 0;
            let stays = was_set && change.clear & attribute == 0;
            flags.set(*flag, stays || change.set & attribute != 0);
        }
        // One of three, not bits; with none of them the kernel keeps what is.
        if change.clear & libc::MOUNT_ATTR__ATIME != 0 {
            flags.remove(MsFlags::MS_NOATIME);
            flags |= match change.set & libc::MOUNT_ATTR__ATIME {
                libc::MOUNT_ATTR_NOATIME => MsFlags::MS_NOATIME,
                libc::MOUNT_ATTR_STRICTATIME => MsFlags::MS_STRICTATIME,
                _ => MsFlags::MS_RELATIME,
            };
        }
        nix::mount::mount(None::<&str>, path.as_str(), None::<&str>, flags, None::<&str>)?;
    }
    if change.propagation != 0 {
        let mut flags = MsFlags::from_bits_retain(change.propagation);
        flags.set(MsFlags::MS_REC, subtree == Subtree::Recursive);
        nix::mount::mount(None::<&str>, path.as_str(), None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Attributes that have the same bit in statvfs(3) and in mount(2).
const SIMPLE_ATTRIBUTES: &[(u64, MsFlags)] = &[
    (libc::MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
    (libc::MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
    (libc::MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
    (libc::MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    (libc::MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
    (libc::MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
    // statvfs(3) does not tell of it: it is set only together with the others.
    (libc::MOUNT_ATTR_NOSYMFOLLOW, MsFlags::from_bits_retain(256)),
];

/// A file system to be made, as the words of mount(8).
#[derive(Debug, Clone, Copy)]
pub struct NewFileSystem<'a> {
    /// `tmpfs`, `proc`, …
    pub kind: &'a str,
    /// Device or name; shown in mountinfo.
    pub source: Option<&'a str>,
    /// `key=value` or `flag`.
    pub options: &'a [String],
    /// MOUNT_ATTR_* of the new mount.
    pub attributes: u64,
}

/// A refused file system: the errno and, where it gave one, the kernel's explanation.
#[derive(Debug)]
pub struct Refused {
    /// From the call that failed.
    pub errno: Errno,
    /// The kernel's own words, e.g. `tmpfs: Bad value for 'size'`; may be empty.
    pub explanation: String,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, explanation: String::new() }
    }
}

/// Makes a file system, mounted nowhere yet.
///
/// # Errors
/// [`Refused`] with `ENODEV` for an unknown type, `EINVAL` for a bad option, `EPERM`;
/// `ENOSYS` before Linux 5.2.
pub fn create(fs: &NewFileSystem) -> Result<OwnedFd, Refused> {
    let kind = c_string(fs.kind)?;
    // SAFETY: `kind` is a valid C string for the call.
    let ret = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let context = owned(ret)?;
    configure(&context, fs).map_err(|errno| Refused { errno, explanation: explanation(&context) })
}

fn configure(context: &OwnedFd, fs: &NewFileSystem) -> nix::Result<OwnedFd> {
    if let Some(source) = fs.source {
        fsconfig(context, libc::FSCONFIG_SET_STRING, Some("source"), Some(source))?;
    }
    for option in fs.options {
        match option.split_once('=') {
            Some((key, value)) => {
                // For mount(2) a label is in quotes, for its commas; here they would be part of it.
                let is_label = key.ends_with("context");
                let value = if is_label { value.trim_matches('"') } else { value };
                fsconfig(context, libc::FSCONFIG_SET_STRING, Some(key), Some(value))?;
            }
            None => fsconfig(context, libc::FSCONFIG_SET_FLAG, Some(option), None)?,
        }
    }
    fsconfig(context, libc::FSCONFIG_CMD_CREATE, None, None)?;
    let (context, close_on_exec) = (context.as_raw_fd(), libc::FSMOUNT_CLOEXEC);
    // SAFETY: three integers by value.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context, close_on_exec, fs.attributes) })
}

fn fsconfig(
    context: &OwnedFd,
    command: libc::fsconfig_command,
    key: Option<&str>,
    value: Option<&str>,
) -> nix::Result<()> {
    let key = key.map(c_string).transpose()?;
    let value = value.map(c_string).transpose()?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    let (key_ptr, value_ptr) = (pointer(&key), pointer(&value));
    // SAFETY: both pointers are null or C strings that live until the end of this function.
    let ret = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key_ptr, value_ptr, 0)
    };
    Errno::result(ret).map(drop)
}

/// The messages that the kernel left in the context: one per read, with a severity in front.
fn explanation(context: &OwnedFd) -> String {
    let Ok(copy) = context.try_clone() else { return String::new() };
    let mut file = std::fs::File::from(copy);
    let mut buffer = [0; 512];
    let mut lines: Vec<String> = Vec::new();
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim_start_matches(['e', 'w', 'i']).trim().to_owned());
        if lines.len() == 8 {
            break;
        }
    }
    lines.join("; ")
}

fn c_string(text: &str) -> nix::Result<CString> {
    CString::new(text).or(Err(Errno::EINVAL))
}

/// Whether a path is the root of a mount. Source: statx(2), STATX_ATTR_MOUNT_ROOT, Linux 5.8.
///
/// # Errors
/// Errors of statx(2).
pub fn is_mount_root(path: &Path) -> nix::Result<bool> {
    // SAFETY: all-zero is a valid statx.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let ret = path.with_nix_path(|path| {
        let out = &raw mut stat;
        // SAFETY: `path` is a valid C string and `out` one statx, both alive during the call.
        unsafe { libc::statx(AT_FDCWD, path.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, 0, out) }
    })?;
    Errno::result(ret)?;
    Ok(stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT.cast_unsigned() as u64 != 0)
}
