//! A layer's archive, unpacked into a directory of its own, as overlayfs wants layers.
//!
//! The archive is hostile. Every name is taken apart and given to the kernel below the directory's
//! descriptor, where no link is followed and no mount crossed; what an entry replaces is removed
//! first; so nothing is ever written outside, whatever links the archive has made before.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknodat};
use nix::unistd::{linkat, symlinkat};

use super::attributes::{self, Attributes};
use super::content;
use super::entry::{Entry, Kind, show};
use super::path::{relative, split};
use super::tar::Entries;
use super::whiteout::{self, Mark, Style};
use crate::error::{Error, OsContext, Result};
use crate::sys::dir;

/// Longest list of directories that is remembered, bytes of their paths: a layer of hundreds of
/// thousands of directories fits.
const MAX_REMEMBERED: usize = 64 << 20;
const BUFFER: usize = 256 << 10;
/// What a file takes on a disk is a multiple of it, bytes.
const DISK_BLOCK: u64 = 4096;

/// What has come of a layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What it takes on the disk, bytes.
    pub bytes: u64,
    /// It hides all that is below it.
    pub hides_all: bool,
    /// Attributes that the file system of the store does not take, by name.
    pub lost_attributes: std::collections::BTreeSet<String>,
}

/// Where a layer is unpacked to.
#[derive(Debug)]
pub struct Target<'a> {
    /// An empty directory, open.
    pub root: &'a OwnedFd,
    /// The layers below, the uppermost first: directories that this one does not describe look as
    /// they do there.
    pub below: &'a [OwnedFd],
    /// How deleted files are marked.
    pub style: Style,
}

/// Unpacks all entries.
///
/// # Errors
/// [`Error::Invalid`] naming the entry, for what is no layer or tries to leave its directory;
/// [`Error::Os`] if the disk is full, and the like. What was unpacked is the caller's to remove.
pub(super) fn unpack<R: Read>(entries: &mut Entries<R>, target: &Target) -> Result<Unpacked> {
    let mut unpacking = Unpacking::new(target);
    while let Some(entry) = entries.advance()? {
        unpacking
            .entry(&entry, entries)
            .map_err(|error| Error::Invalid(format!("{}: {error}", show(&entry.path))))?;
    }
    unpacking.finish()
}

struct Unpacking<'a> {
    target: &'a Target<'a>,
    /// The directory that the last entry was in: most are in the same one as the one before.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set when nothing changes in them any more.
    directories: Vec<(PathBuf, (i64, i64))>,
    remembered: usize,
    buffer: Vec<u8>,
    /// Names that are marked as deleted: a directory made in the place of one hides what is below.
    deleted: HashSet<PathBuf>,
    done: Unpacked,
}

impl<'a> Unpacking<'a> {
    fn new(target: &'a Target<'a>) -> Self {
        Self {
            target,
            parent: None,
            directories: Vec::new(),
            remembered: 0,
            buffer: vec![0; BUFFER],
            deleted: HashSet::new(),
            done: Unpacked::default(),
        }
    }

    fn entry<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<R>) -> Result<()> {
        let path = relative(&entry.path)?;
        let Some((directory, name)) = split(&path) else { return self.root(entry) };
        if let Some(mark) = whiteout::mark(name)? {
            return self.mark(directory, mark);
        }
        self.enter(directory)?;
        match &entry.kind {
            Kind::Directory => self.directory(&path, name, entry),
            Kind::File => {
                let file = self.new_file(&path, name)?;
                let mut content = entries.content();
                let written = content::copy(&mut content, &file, &mut self.buffer)?;
                self.attributes(&file, entry)?;
                self.count(written);
                Ok(())
            }
            Kind::Sparse(pieces) => {
                let file = self.new_file(&path, name)?;
                file.set_len(entry.size).os("resize", || "the file")?;
                let mut content = entries.content();
                for (offset, length) in pieces {
                    content::copy_piece(&mut content, &file, &mut self.buffer, (*offset, *length))?;
                    self.count(*length);
                }
                self.attributes(&file, entry)
            }
            Kind::HardLink(link) => self.hard_link(&path, name, &relative(link)?),
            Kind::Symlink(text) => {
                let text = OsStr::from_bytes(text);
                self.make(&path, name, |here| symlinkat(text, here, name))?;
                self.count(1);
                self.attributes_by_name(name, entry)
            }
            Kind::Fifo => self.node(&path, name, entry, (SFlag::S_IFIFO, 0)),
            Kind::Char(major, minor) => {
                let device = nix::sys::stat::makedev((*major).into(), (*minor).into());
                self.node(&path, name, entry, (SFlag::S_IFCHR, device))
            }
            Kind::Block(major, minor) => {
                let device = nix::sys::stat::makedev((*major).into(), (*minor).into());
                self.node(&path, name, entry, (SFlag::S_IFBLK, device))
            }
        }
    }

    /// The entry of the root itself.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::Invalid("the root of a layer must be a directory".into()));
        }
        let target = self.target;
        self.attributes(target.root, entry)?;
        self.remember(PathBuf::new(), entry.mtime)
    }

    /// The directory that was entered last.
    fn here(&self) -> Result<&OwnedFd> {
        match &self.parent {
            Some((_, fd)) => Ok(fd),
            None => Err(Error::Invalid("no directory is open".into())),
        }
    }

    /// Opens the directory of an entry; parts of the path that no entry has described are made.
    fn enter(&mut self, directory: &Path) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == directory) {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let root = self.target.root;
        let opened = if directory.as_os_str().is_empty() {
            root.try_clone().os("duplicate", || "a descriptor")?
        } else {
            match dir::exactly(root, directory, flags) {
                // Also for what is marked as deleted, and for a link or a file.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    self.make_implied(directory)?
                }
                other => other.os("open", || show(directory.as_os_str().as_bytes()))?,
            }
        };
        self.parent = Some((directory.to_owned(), opened));
        Ok(())
    }

    fn make_implied(&mut self, directory: &Path) -> Result<OwnedFd> {
        let mut at = self.target.root.try_clone().os("duplicate", || "a descriptor")?;
        let mut path = PathBuf::new();
        for name in directory {
            path.push(name);
            at = match dir::child(&at, name) {
                Err(Errno::ENOENT) => {
                    let made = dir::make_new(&at, name, 0o755).os("mkdir", || path.display())?;
                    attributes::copy_from_below(self.target.below, &path, &made)?;
                    self.count(1);
                    made
                }
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    // A name that was deleted, and has something below it all the same.
                    if !self.deleted.remove(&path) {
                        return Err(through_link(&path));
                    }
                    dir::remove(&at, name).os("remove", || path.display())?;
                    let made = dir::make_new(&at, name, 0o755).os("mkdir", || path.display())?;
                    whiteout::hide_below(&made, self.target.style)?;
                    made
                }
                other => other.os("open", || path.display())?,
            };
        }
        Ok(at)
    }

    fn directory(&mut self, path: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        let here = self.here()?;
        let made = match dir::make_new(here, name, 0o700) {
            Err(Errno::EEXIST) => match dir::child(here, name) {
                Ok(there) => there,
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let was_deleted = self.deleted.remove(path);
                    dir::remove(self.here()?, name).os("remove", || "what was there")?;
                    let made = dir::make_new(self.here()?, name, 0o700).os("mkdir", || "")?;
                    if was_deleted {
                        whiteout::hide_below(&made, self.target.style)?;
                    }
                    made
                }
                Err(errno) => return Err(errno).os("open", || "the directory"),
            },
            other => other.os("mkdir", || "")?,
        };
        self.count(1);
        self.attributes(&made, entry)?;
        self.remember(path.to_owned(), entry.mtime)
    }

    fn new_file(&mut self, path: &Path, name: &OsStr) -> Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o600);
        let create = |here: &OwnedFd| openat(here, name, flags | OFlag::O_CLOEXEC, mode);
        self.make(path, name, create).map(File::from)
    }

    /// Makes something under a name; what has it before is removed.
    fn make<T>(
        &mut self,
        path: &Path,
        name: &OsStr,
        make: impl Fn(&OwnedFd) -> nix::Result<T>,
    ) -> Result<T> {
        let made = match make(self.here()?) {
            Err(Errno::EEXIST) => {
                self.deleted.remove(path);
                dir::remove(self.here()?, name).os("remove", || "what was there before")?;
                make(self.here()?)
            }
            other => other,
        };
        made.os("make", || show(name.as_bytes()))
    }

    fn hard_link(&mut self, path: &Path, name: &OsStr, target: &Path) -> Result<()> {
        if target == path {
            return Err(Error::Invalid("a hard link to itself".into()));
        }
        let (directory, file) = split(target)
            .ok_or_else(|| Error::Invalid("a hard link to the root of the layer".into()))?;
        let shown =
            || format!("the target {} of the hard link", show(target.as_os_str().as_bytes()));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let root = self.target.root;
        let from = if directory.as_os_str().is_empty() {
            root.try_clone().os("duplicate", || "a descriptor")?
        } else {
            dir::exactly(root, directory, flags).os("open", shown)?
        };
        let is = dir::stat_entry(&from, file).os("find", shown)?;
        if SFlag::from_bits_truncate(is.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            return Err(Error::Invalid(format!("{} is a directory", shown())));
        }
        self.make(path, name, |here| linkat(&from, file, here, name, AtFlags::empty()))
    }

    fn node(
        &mut self,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
        (kind, device): (SFlag, libc::dev_t),
    ) -> Result<()> {
        let mode = Mode::from_bits_truncate(entry.mode);
        self.make(path, name, |here| mknodat(here, name, kind, mode, device))?;
        self.count(1);
        self.attributes_by_name(name, entry)?;
        // It is no link, and nobody else can reach it.
        fchmodat(self.here()?, name, mode, FchmodatFlags::FollowSymlink).os("chmod", || "")
    }

    fn mark(&mut self, directory: &Path, mark: Mark) -> Result<()> {
        match mark {
            Mark::Ignored => Ok(()),
            Mark::Opaque if directory.as_os_str().is_empty() => {
                self.done.hides_all = true;
                Ok(())
            }
            Mark::Opaque => {
                self.enter(directory)?;
                whiteout::hide_below(self.here()?, self.target.style)
            }
            Mark::Deleted(name) => {
                self.enter(directory)?;
                self.delete(directory, &name)
            }
        }
    }

    /// Marks are about the layers below: what this one has by the name stays.
    fn delete(&mut self, directory: &Path, name: &OsString) -> Result<()> {
        let path = directory.join(name);
        match whiteout::delete(self.here()?, name) {
            Err(Errno::EEXIST) => match dir::child(self.here()?, name.as_os_str()) {
                Ok(there) => whiteout::hide_below(&there, self.target.style),
                Err(_no_directory) => Ok(()),
            },
            other => {
                other.os("mknod", || "the mark of a deleted file")?;
                self.account(path.as_os_str().len())?;
                self.deleted.insert(path);
                Ok(())
            }
        }
    }

    fn attributes(&mut self, made: impl AsFd, entry: &Entry) -> Result<()> {
        let lost = attributes::set(made.as_fd(), &Attributes::of(entry))?;
        self.done.lost_attributes.extend(lost);
        Ok(())
    }

    /// For what cannot be opened.
    fn attributes_by_name(&mut self, name: &OsStr, entry: &Entry) -> Result<()> {
        let lost = attributes::set_by_name(self.here()?, name, &Attributes::of(entry))?;
        self.done.lost_attributes.extend(lost);
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.done.bytes += bytes.next_multiple_of(DISK_BLOCK);
    }

    fn remember(&mut self, path: PathBuf, mtime: (i64, i64)) -> Result<()> {
        self.account(path.as_os_str().len())?;
        self.directories.push((path, mtime));
        Ok(())
    }

    /// The archive decides how much there is to remember.
    fn account(&mut self, bytes: usize) -> Result<()> {
        self.remembered += bytes + size_of::<(PathBuf, (i64, i64))>();
        if self.remembered > MAX_REMEMBERED {
            return Err(Error::Invalid("the layer has too many directories".into()));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        for (path, mtime) in self.directories.drain(..).rev() {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            match dir::exactly(self.target.root, path, flags) {
                // A later entry has taken its place.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                opened => attributes::set_time(&opened.os("open", || path.display())?, mtime)
                    .os("set the time of", || path.display())?,
            }
        }
        Ok(self.done)
    }
}

fn through_link(directory: &Path) -> Error {
    let directory = show(directory.as_os_str().as_bytes());
    Error::Invalid(format!(
        "{directory} on the way there is a link or a file in the same layer, and no directory"
    ))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
