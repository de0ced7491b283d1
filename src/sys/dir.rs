//! Directories whose content is hostile: one name at a time, no links, no mount points.
//!
//! Containers write into volumes, and what they leave there is found by the next instance, by the
//! next run of a pod, and by those who clean up (CVE-2017-1002102, CVE-2025-9566). So names are
//! given to the kernel one by one beside the open directory that they are in, and a walk holds one
//! descriptor whatever the depth of the tree.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::NixPath;
use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// For a directory that is read and written in.
const DIRECTORY: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Opens a directory by a path that is trusted but for its last component, which is no link.
///
/// # Errors
/// `ENOENT`, `ENOTDIR` also for a link.
pub fn open(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
}

/// Opens a directory inside another one; neither a link nor a mount point.
///
/// # Errors
/// `ENOENT`, `ENOTDIR` or `ELOOP` for a link; `EXDEV` for a mount point.
pub fn child<P: NixPath + ?Sized>(parent: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_BENEATH;
    match open_resolved(&parent, name, DIRECTORY, resolve) {
        Err(Errno::ENOSYS | Errno::EPERM) => child_without_openat2(parent, name),
        other => other,
    }
}

/// A mount of the same file system is not told apart here.
fn child_without_openat2<P: NixPath + ?Sized>(parent: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let opened = openat(&parent, name, DIRECTORY, Mode::empty())?;
    let is_same = fstat(&opened)?.st_dev == fstat(&parent)?.st_dev;
    if is_same { Ok(opened) } else { Err(Errno::EXDEV) }
}

/// Opens what a path below a directory names. Links are followed as long as they stay inside;
/// other mounts may be entered.
///
/// # Errors
/// `EXDEV` for what leads outside; `ENOENT`, `ENOTDIR`, `ELOOP` for a link of procfs.
pub fn beneath(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match open_resolved(&root, path, flags, resolve) {
        Err(Errno::ENOSYS | Errno::EPERM) => beneath_without_openat2(root, path, flags),
        other => other,
    }
}

/// As [`beneath`], but no link is followed at all.
///
/// # Errors
/// `ELOOP` for a link; as [`beneath`].
pub fn exactly(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match open_resolved(&root, path, flags, resolve) {
        Err(Errno::ENOSYS | Errno::EPERM) => beneath_without_openat2(root, path, flags),
        other => other,
    }
}

/// No link at all is followed then.
fn beneath_without_openat2(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(Errno::EXDEV),
        }
    }
    let last = names.pop().unwrap_or(OsStr::new("."));
    let mut at = root.as_fd().try_clone_to_owned().map_err(|_full| Errno::EMFILE)?;
    for name in names {
        at = openat(&at, name, DIRECTORY | OFlag::O_PATH, Mode::empty())?;
    }
    let found = openat(&at, last, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstat(&found)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::ELOOP);
    }
    Ok(found)
}

fn open_resolved<P: NixPath + ?Sized>(
    dir: &impl AsFd,
    path: &P,
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        match openat2(dir, path, how) {
            // A rename on the way: the kernel wants the caller to decide; we try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Makes a directory with exactly this mode and opens it. One that is there stays as it is.
///
/// # Errors
/// `ENOTDIR` if something else is there; `ENOSPC`, `EROFS`, ….
pub fn make<P: NixPath + ?Sized>(parent: impl AsFd, name: &P, mode: u32) -> nix::Result<OwnedFd> {
    match make_new(&parent, name, mode) {
        Err(Errno::EEXIST) => openat(&parent, name, DIRECTORY, Mode::empty()),
        other => other,
    }
}

/// As [`make`], but fails if anything is there.
///
/// # Errors
/// `EEXIST`; as [`make`].
pub fn make_new<P: NixPath + ?Sized>(
    parent: impl AsFd,
    name: &P,
    mode: u32,
) -> nix::Result<OwnedFd> {
    mkdirat(&parent, name, Mode::from_bits_truncate(0o700))?;
    let made = openat(&parent, name, DIRECTORY, Mode::empty())?;
    fchmod(&made, Mode::from_bits_truncate(mode))?;
    Ok(made)
}

/// What a walk has come to. A name is an entry of [`Walk::here`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory has been entered; it is [`Walk::here`].
    Entered,
    /// Something that is no directory.
    Entry(CString),
    /// A directory that is a mount point, or that has just been put in the place of another
    /// thing; it is not entered.
    Closed(CString, Errno),
    /// A directory whose entries have all been reported; [`Walk::here`] is now its parent.
    Left(CString),
}

/// A directory that the walk is below.
#[derive(Debug)]
struct Level {
    device: u64,
    inode: u64,
    /// Name of the directory that was entered from here.
    entered: CString,
    /// Directories in it that are still to be entered.
    pending: Vec<CString>,
    /// The rest of its entries, if there are more directories in it than are remembered at once.
    stream: Option<nix::dir::OwningIter>,
}

/// Directories of one level that are remembered before they are entered.
const BATCH: usize = 4096;
/// As [`BATCH`], of all levels together; beyond it they are entered one by one.
const MOST_PENDING: usize = 65_536;
/// Directories that are read in pieces, at most: each costs a descriptor meanwhile.
const MOST_STREAMS: usize = 128;

/// Visits a tree, directories before and after their content, without recursion.
///
/// The tree may be changed meanwhile by the caller and by an enemy: a directory that is moved away
/// while it is visited ends the walk. Memory and descriptors are bounded whatever the tree.
#[derive(Debug)]
pub struct Walk {
    /// The directory that is being read, and its descriptor.
    here: OwnedFd,
    stream: Option<nix::dir::OwningIter>,
    pending: Vec<CString>,
    above: Vec<Level>,
    is_new: bool,
    /// Length of all `pending` together.
    waiting: usize,
    /// How many levels above have a stream.
    streams: usize,
}

impl Walk {
    /// Starts at an open directory.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn new(root: OwnedFd) -> nix::Result<Self> {
        let stream = Some(stream(&root)?);
        let (pending, above) = (vec![], vec![]);
        Ok(Self { here: root, stream, pending, above, is_new: true, waiting: 0, streams: 0 })
    }

    /// The directory that the last reported name is in.
    #[must_use]
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// The name of the directory that was entered last; none at the root.
    #[must_use]
    pub fn entered(&self) -> Option<&CStr> {
        self.above.last().map(|level| level.entered.as_c_str())
    }

    /// The next thing; nothing at the end, when [`Walk::here`] is the root again.
    ///
    /// # Errors
    /// `ESTALE` if a directory was moved while the walk was in it; `E2BIG` for a tree that is both
    /// wider and deeper than any that is not meant to be a nuisance; errors of getdents(2).
    pub fn advance(&mut self) -> nix::Result<Option<Found>> {
        if std::mem::take(&mut self.is_new) {
            return Ok(Some(Found::Entered));
        }
        loop {
            if let Some(name) = self.read_on()? {
                return Ok(Some(Found::Entry(name)));
            }
            if let Some(name) = self.pending.pop() {
                self.waiting -= 1;
                return self.enter(name).map(Some);
            }
            if self.stream.is_none() {
                return self.leave();
            }
        }
    }

    /// Reads up to the next entry that is no directory, or until enough directories are pending.
    fn read_on(&mut self) -> nix::Result<Option<CString>> {
        let batch = if self.waiting < MOST_PENDING { BATCH } else { 1 };
        let Some(stream) = &mut self.stream else { return Ok(None) };
        while self.pending.len() < batch {
            let Some(entry) = stream.next() else {
                self.stream = None;
                return Ok(None);
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if is_directory(self.here.as_fd(), name, entry.file_type())? {
                self.pending.push(name.to_owned());
                self.waiting += 1;
            } else {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, name: CString) -> nix::Result<Found> {
        let next = match child(&self.here, name.as_c_str()) {
            Ok(next) => next,
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => return Err(Errno::EMFILE),
            Err(errno) => return Ok(Found::Closed(name, errno)),
        };
        if self.stream.is_some() {
            self.streams += 1;
            if self.streams > MOST_STREAMS {
                return Err(Errno::E2BIG);
            }
        }
        let stat = fstat(&self.here)?;
        let rest = self.stream.replace(stream(&next)?);
        self.here = next;
        self.above.push(Level {
            device: stat.st_dev,
            inode: stat.st_ino,
            entered: name,
            pending: std::mem::take(&mut self.pending),
            stream: rest,
        });
        Ok(Found::Entered)
    }

    fn leave(&mut self) -> nix::Result<Option<Found>> {
        let Some(level) = self.above.pop() else { return Ok(None) };
        // Up by the directory's own link: the names above may have changed their meaning. That
        // link leads elsewhere if somebody has moved the directory.
        let parent = openat(&self.here, c"..", DIRECTORY, Mode::empty())?;
        let stat = fstat(&parent)?;
        if (stat.st_dev, stat.st_ino) != (level.device, level.inode) {
            return Err(Errno::ESTALE);
        }
        self.here = parent;
        self.pending = level.pending;
        self.streams -= usize::from(level.stream.is_some());
        self.stream = level.stream;
        Ok(Some(Found::Left(level.entered)))
    }
}

/// A second descriptor, as the reading of a directory owns one.
fn stream(dir: &OwnedFd) -> nix::Result<nix::dir::OwningIter> {
    Ok(nix::dir::Dir::openat(dir, c".", DIRECTORY, Mode::empty())?.into_iter())
}

fn is_directory(dir: BorrowedFd, name: &CStr, kind: Option<Type>) -> nix::Result<bool> {
    if let Some(kind) = kind {
        return Ok(kind == Type::Directory);
    }
    match stat_entry(dir, name) {
        Ok(stat) => Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// What an entry of a directory is; a link is a link.
///
/// # Errors
/// Errors of fstatat(2).
pub fn stat_entry<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Names of all entries of a directory, in no order.
///
/// # Errors
/// Errors of getdents(2).
pub fn names(dir: impl AsFd) -> nix::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in nix::dir::Dir::openat(dir, c".", DIRECTORY, Mode::empty())? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes an entry of a directory and, if it is a directory, all in it. Nothing outside is
/// touched: links are removed themselves, mount points stay. What is not there is no error.
///
/// # Errors
/// `EBUSY` for a mount point, `ENOTEMPTY` above one; `ESTALE` if the tree is being moved.
pub fn remove<P: NixPath + ?Sized>(parent: impl AsFd, name: &P) -> nix::Result<()> {
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(Errno::ENOENT) => return Ok(()),
        other => return other,
    }
    match child(&parent, name) {
        Ok(dir) => remove_content(dir)?,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EXDEV) => return Err(Errno::EBUSY),
        // No directory after all: one that must not be changed (chattr +i).
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(Errno::EPERM),
        Err(errno) => return Err(errno),
    }
    match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Removes all that is in a directory. As [`remove`].
///
/// # Errors
/// As [`remove`]: the first one, after trying everything.
pub fn remove_content(dir: OwnedFd) -> nix::Result<()> {
    let mut walk = Walk::new(dir)?;
    let mut first = Ok(());
    while let Some(found) = walk.advance()? {
        let removed = match &found {
            Found::Entered => Ok(()),
            Found::Entry(name) => unlinkat(walk.here(), &**name, UnlinkatFlags::NoRemoveDir),
            Found::Left(name) => unlinkat(walk.here(), &**name, UnlinkatFlags::RemoveDir),
            Found::Closed(_, Errno::ENOENT) => Ok(()),
            Found::Closed(_, Errno::EXDEV) => Err(Errno::EBUSY),
            Found::Closed(_, errno) => Err(*errno),
        };
        if !matches!(removed, Err(Errno::ENOENT)) {
            first = first.and(removed);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new() -> Self {
            let name = format!("carob-dir-{}", uuid::Uuid::new_v4());
            let root = std::env::temp_dir().join(name);
            std::fs::create_dir_all(root.join("t/a/b")).unwrap();
            std::fs::create_dir_all(root.join("outside")).unwrap();
            std::fs::write(root.join("outside/kept"), "").unwrap();
            std::fs::write(root.join("t/a/f"), "").unwrap();
            symlink("../outside", root.join("t/link")).unwrap();
            symlink("a", root.join("t/inside")).unwrap();
            Self(root)
        }

        fn open(&self) -> OwnedFd {
            open(&self.0.join("t")).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _gone = nix::mount::umount(&self.0.join("t/a/b"));
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn names_are_entered_only_if_they_are_directories_here() {
        let tree = Tree::new();
        let dir = tree.open();
        for enter in [child::<str>, child_without_openat2::<str>] {
            assert!(enter(&dir, "a").is_ok());
            assert_eq!(enter(&dir, "none").unwrap_err(), Errno::ENOENT);
            for name in ["link", "inside"] {
                let errno = enter(&dir, name).unwrap_err();
                assert!(matches!(errno, Errno::ELOOP | Errno::ENOTDIR), "{name} {errno}");
            }
        }
    }

    #[test]
    fn paths_stay_beneath_whatever_the_kernel_has() {
        let tree = Tree::new();
        let dir = tree.open();
        let path = Path::new;
        for find in [beneath, exactly, beneath_without_openat2] {
            assert!(find(&dir, path("a/b"), OFlag::O_PATH).is_ok());
            assert!(find(&dir, path("a/f"), OFlag::O_PATH).is_ok());
            for outside in ["../outside", "link", "link/kept", "/etc", "a/../../outside"] {
                assert!(find(&dir, path(outside), OFlag::O_PATH).is_err(), "{outside}");
            }
        }
        assert!(beneath(&dir, path("inside/b"), OFlag::O_PATH).is_ok());
        assert!(exactly(&dir, path("inside/b"), OFlag::O_PATH).is_err());
        assert!(beneath_without_openat2(&dir, path("inside/b"), OFlag::O_PATH).is_err());
    }

    #[test]
    fn a_walk_reports_everything_once() {
        let tree = Tree::new();
        let mut walk = Walk::new(tree.open()).unwrap();
        let mut seen = Vec::new();
        while let Some(found) = walk.advance().unwrap() {
            seen.push(match found {
                Found::Entered => "enter".to_owned(),
                Found::Entry(name) => format!("{name:?}"),
                Found::Left(name) => format!("left {name:?}"),
                Found::Closed(name, errno) => format!("{name:?} {errno}"),
            });
        }
        seen[1..3].sort();
        let expected = [
            "enter",
            "\"inside\"",
            "\"link\"",
            "enter",
            "\"f\"",
            "enter",
            "left \"b\"",
            "left \"a\"",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_directory_that_is_moved_out_ends_the_walk() {
        let tree = Tree::new();
        let mut walk = Walk::new(tree.open()).unwrap();
        let mut entered = 0;
        while entered < 3 {
            entered += usize::from(walk.advance().unwrap() == Some(Found::Entered));
        }
        std::fs::rename(tree.0.join("t/a/b"), tree.0.join("outside/b")).unwrap();
        assert_eq!(walk.advance(), Err(Errno::ESTALE));
    }

    #[test]
    fn a_wide_directory_is_read_in_pieces() {
        let tree = Tree::new();
        let dir = tree.open();
        for number in 0..BATCH + 10 {
            mkdirat(&dir, number.to_string().as_str(), Mode::S_IRWXU).unwrap();
        }
        let mut walk = Walk::new(tree.open()).unwrap();
        let (mut left, mut most) = (std::collections::BTreeSet::new(), 0);
        while let Some(found) = walk.advance().unwrap() {
            most = most.max(walk.waiting);
            if let Found::Left(name) = found {
                assert!(left.insert(name));
            }
        }
        assert_eq!(left.len(), BATCH + 12);
        assert!(most <= BATCH, "{most}");
        remove(open(&tree.0).unwrap(), "t").unwrap();
        assert!(!tree.0.join("t").exists());
    }

    #[test]
    fn removal_follows_no_link() {
        let tree = Tree::new();
        let parent = open(&tree.0).unwrap();
        remove(&parent, "t").unwrap();
        remove(&parent, "t").unwrap();
        assert!(!tree.0.join("t").exists() && tree.0.join("outside/kept").exists());
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn removal_enters_no_mount() {
        let tree = Tree::new();
        let none = None::<&str>;
        let bind = nix::mount::MsFlags::MS_BIND;
        let (from, to) = (tree.0.join("outside"), tree.0.join("t/a/b"));
        nix::mount::mount(Some(&from), &to, none, bind, none).unwrap();
        let parent = open(&tree.0).unwrap();
        assert_eq!(remove(&parent, "t"), Err(Errno::EBUSY));
        assert!(tree.0.join("outside/kept").exists());
        assert!(!tree.0.join("t/a/f").exists(), "the rest is gone");
    }
}
