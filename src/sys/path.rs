//! Paths inside a rootfs: the only way to name one.
//!
//! The content of a rootfs is hostile: a path component may be a symlink to anywhere and may be
//! exchanged at any time. Everything here is resolved by the kernel below an open directory
//! (openat2 with RESOLVE_IN_ROOT) and handed on as a descriptor. Where the kernel has no openat2
//! (before 5.6), `pathrs` resolves in its place.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use pathrs::RootRef;

use super::fd::proc_path;
use crate::error::{Error, OsContext, Result};

/// As many links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// The names in a path, last one first.
fn names(path: &Path) -> Vec<OsString> {
    let named = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}

/// The root directory of a container, held open.
#[derive(Debug)]
pub struct Rootfs {
    fd: OwnedFd,
    /// The kernel's name of the directory, once it was asked for.
    path: OnceCell<PathBuf>,
}

/// What [`Rootfs::ensure`] makes when the path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Directories, all the way.
    Directory,
    /// An empty file, in directories.
    File,
}

impl Rootfs {
    /// Takes an open directory as the root.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, path: OnceCell::new() }
    }

    /// The directory itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where an open file lies below the root: the path by which the container will know it.
    ///
    /// # Errors
    /// [`Error::Os`] if `/proc` cannot tell.
    pub fn path_inside(&self, file: &OwnedFd) -> Result<PathBuf> {
        let root = match self.path.get() {
            Some(path) => path,
            None => {
                let path = kernel_path(&self.fd).os("readlink", || "the rootfs")?;
                self.path.get_or_init(|| path)
            }
        };
        let path = kernel_path(file).os("readlink", || "a file of the rootfs")?;
        Ok(Path::new("/").join(path.strip_prefix(root).unwrap_or(&path)))
    }

    /// Opens a path as the container would see it; symlinks stay inside the root.
    ///
    /// # Errors
    /// `ENOENT`, `ELOOP`, `ENOTDIR`, … as openat2(2).
    pub fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            return match openat2(&self.fd, path, how) {
                // A rename on the way: the kernel wants the caller to decide; we try again.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                // EPERM: of a filter around carob, or of the file, which says it again.
                Err(Errno::ENOSYS | Errno::EPERM) => self.open_without_openat2(path, flags),
                other => other,
            };
        }
    }

    /// As [`Rootfs::open`], of a path on which there is no link at all: what is opened is what
    /// the path says, letter by letter.
    ///
    /// # Errors
    /// `ELOOP` for a link; `EINVAL` for a path that is not absolute or has `.` or `..`; `ENOSYS`
    /// before Linux 5.6.
    fn open_plain(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(is_plain) {
            return Err(Errno::EINVAL);
        }
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        openat2(&self.fd, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
    }

    /// As [`Rootfs::ensure`] for a directory, where the path is plain and its parent is there:
    /// the usual case, in which the path itself says where the directory lies. Anything else is
    /// nothing, and nothing was made.
    pub fn ensure_plain(&self, path: &Path) -> Option<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open_plain(path, flags) {
            Ok(found) => return Some(found),
            Err(Errno::ENOENT) => {}
            Err(_) => return None,
        }
        let (parent, name) = (path.parent()?, path.file_name()?);
        let parent = self.open_plain(parent, flags).ok()?;
        make_directory(&parent, Path::new(name)).ok()
    }

    /// Opens a path without any right but to name it (O_PATH).
    ///
    /// # Errors
    /// As [`Rootfs::open`].
    pub fn find(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// Opens a path, and makes it first if there is nothing.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path in the rootfs, e.g. `EROFS` where it cannot be made.
    pub fn ensure(&self, path: &Path, missing: Missing) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => {}
            other => return other.os("open", || in_rootfs(path)),
        }
        // A link to what is not there, as /etc/resolv.conf often is, names what is to be made.
        let path = &self.follow(path)?;
        let (parent, name) = self.parent(path)?;
        let made = match missing {
            Missing::Directory => make_directory(&parent, &name),
            Missing::File => make_file(&parent, &name),
        };
        made.os("create", || in_rootfs(path))
    }

    /// The usual case: the directory is there, and in it no link of this name.
    fn has_plain_parent(&self, path: &Path) -> bool {
        let (Some(Component::Normal(name)), Some(parent)) =
            (path.components().next_back(), path.parent())
        else {
            return false;
        };
        let Ok(parent) = self.find(parent) else { return false };
        let found = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        found == Err(Errno::ENOENT)
    }

    /// The path without links, as far as it exists. What is done with it is resolved again inside
    /// the root, so a link that appears meanwhile leads nowhere else.
    fn follow(&self, path: &Path) -> Result<PathBuf> {
        if self.has_plain_parent(path) {
            return Ok(path.to_owned());
        }
        let mut links = 0;
        let mut pending: Vec<OsString> = names(path);
        let mut done = PathBuf::from("/");
        while let Some(name) = pending.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            let target = match self.open(&next, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
                Ok(found) => nix::fcntl::readlinkat(&found, "").ok(),
                Err(_) => None,
            };
            let Some(target) = target else {
                done = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP).os("open", || in_rootfs(path));
            }
            let target = PathBuf::from(target);
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            pending.extend(names(&target));
        }
        Ok(done)
    }

    /// Opens the directory that holds `path` and returns the last component beside it.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be made; [`Error::Invalid`] if the path has no last component.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(Error::Invalid(format!("{} names no file", in_rootfs(path))));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.ensure(parent, Missing::Directory)?, name.into()))
    }

    fn open_without_openat2(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let root = RootRef::from_fd(self.fd.as_fd());
        // A link at the end is what the caller looks for then, not where it leads.
        let handle = match flags.contains(OFlag::O_NOFOLLOW) {
            true => root.resolve_nofollow(path),
            false => root.resolve(path),
        };
        let handle = handle.map_err(|e| errno_of(&e))?;
        if flags.contains(OFlag::O_PATH) {
            return Ok(handle.into());
        }
        let flags = pathrs::flags::OpenFlags::from_bits_retain(flags.bits().cast_unsigned().into());
        handle.reopen(flags).map(OwnedFd::from).map_err(|e| errno_of(&e))
    }
}

fn errno_of(error: &pathrs::error::Error) -> Errno {
    match error.kind() {
        pathrs::error::ErrorKind::OsError(Some(errno)) => Errno::from_raw(errno),
        _ => Errno::EINVAL,
    }
}

/// Both sides of the call are held open and links are not followed: nothing can lead elsewhere.
fn make_directory(parent: &OwnedFd, name: &Path) -> nix::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// As [`make_directory`]; the file stays empty, something is mounted on it.
fn make_file(parent: &OwnedFd, name: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    openat(parent, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644))
}

fn in_rootfs(path: &Path) -> String {
    format!("{} in the rootfs", path.display())
}

/// Whether an open file is the character device `major:minor`.
#[must_use]
pub fn is_char_device(stat: &FileStat, major: u64, minor: u64) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    kind == SFlag::S_IFCHR && stat.st_rdev == nix::sys::stat::makedev(major, minor)
}

/// Whether an open file is the null device. Its path proves nothing (CVE-2025-31133).
///
/// # Errors
/// Errors of fstat(2).
pub fn is_null_device(fd: impl AsFd) -> nix::Result<bool> {
    Ok(is_char_device(&fstat(fd)?, 1, 3))
}

/// The path by which the kernel knows an open file, as seen from this process.
///
/// # Errors
/// Errors of readlink(2).
pub fn kernel_path(fd: impl AsFd + Copy) -> nix::Result<PathBuf> {
    nix::fcntl::readlink(proc_path(fd).as_str()).map(PathBuf::from)
}

/// The mount point that a path of the host lies in: the nearest ancestor that is a mount's root.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn mount_point_above(path: &Path) -> Result<PathBuf> {
    let path = path.canonicalize().os("resolve", || path.display())?;
    for ancestor in path.ancestors() {
        if super::mount::is_mount_root(ancestor).os("statx", || ancestor.display())? {
            return Ok(ancestor.to_owned());
        }
    }
    Ok("/".into())
}

/// Mount points that are neither above nor below `keep`, deepest first.
///
/// # Errors
/// [`Error::Os`] if the table of mounts cannot be read.
pub fn mount_points_outside(keep: &Path) -> Result<Vec<PathBuf>> {
    let mut points: Vec<PathBuf> = mount_table()?
        .into_iter()
        .map(|mount| mount.point)
        .filter(|point| !point.starts_with(keep) && !keep.starts_with(point))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(points)
}

/// A row of the table of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRow {
    /// Its number among the mounts of now; see [`super::mount_id`].
    pub number: u64,
    /// Where it is.
    pub point: PathBuf,
    /// The type of its file system.
    pub kind: String,
    /// What is mounted or unmounted in it appears elsewhere, too.
    pub is_shared: bool,
    /// What is mounted or unmounted elsewhere appears in it.
    pub is_slave: bool,
}

/// The mounts that this process sees, in the order in which they cover each other.
///
/// # Errors
/// [`Error::Os`] if the table cannot be read.
pub fn mount_table() -> Result<Vec<MountRow>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read(TABLE).os("read", || TABLE)?;
    Ok(parse_mount_table(&String::from_utf8_lossy(&table)))
}

pub(crate) fn parse_mount_table(table: &str) -> Vec<MountRow> {
    table.lines().filter_map(mount_row).collect()
}

/// Source: proc_pid_mountinfo(5): six fields, optional ones, a dash.
fn mount_row(line: &str) -> Option<MountRow> {
    let number = line.split(' ').next()?.parse().ok()?;
    let point = PathBuf::from(unescape(line.split(' ').nth(4)?));
    let mut fields = line.split(' ').skip(6);
    let mut row =
        MountRow { number, point, kind: String::new(), is_shared: false, is_slave: false };
    for field in fields.by_ref().take_while(|field| *field != "-") {
        row.is_shared |= field.starts_with("shared:");
        row.is_slave |= field.starts_with("master:");
    }
    fields.next().unwrap_or_default().clone_into(&mut row.kind);
    Some(row)
}

/// Spaces, tabs, newlines and backslashes are octal in mountinfo.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
