//! A tree of files copied with all that they are: what `image unpack` writes.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, mknodat};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::layer::set_time_at;
use crate::error::{Error, OsContext, Result};
use crate::sys::dir::{self, Found, Walk};
use crate::sys::{fd, xattr};

/// Copies the content of a directory into an empty one: owners, modes, times, extended attributes
/// and hard links.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub(super) fn copy(from: OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut copying = Copying {
        above: Vec::new(),
        here: to.try_clone().os("duplicate", || "a descriptor")?,
        path: PathBuf::new(),
        links: HashMap::new(),
        to,
    };
    let mut walk = Walk::new(from).os("read", || "the image")?;
    let mut is_root = true;
    while let Some(found) = walk.advance().os("read", || copying.path.display().to_string())? {
        match found {
            Found::Entered if std::mem::take(&mut is_root) => {}
            Found::Entered => copying.enter(&walk)?,
            Found::Entry(name) => copying.entry(&walk, &name)?,
            Found::Left(name) => copying.leave(&walk, &name)?,
            Found::Closed(name, errno) => {
                return Err(errno).os("enter", || copying.name(&name).display().to_string());
            }
        }
    }
    let path = fd::proc_path(walk.here());
    copying.looks(&stat_of(walk.here())?, &path, to)
}

struct Copying<'a> {
    to: &'a OwnedFd,
    above: Vec<OwnedFd>,
    here: OwnedFd,
    path: PathBuf,
    /// The first name of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

fn stat_of(file: impl AsFd) -> Result<FileStat> {
    nix::sys::stat::fstat(file).os("stat", || "a directory")
}

impl Copying<'_> {
    fn name(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    /// The walk has entered a directory, whose name only its path in procfs tells.
    fn enter(&mut self, walk: &Walk) -> Result<()> {
        let name = walk.entered().ok_or_else(|| Error::Invalid("the walk has no name".into()))?;
        let name = OsStr::from_bytes(name.to_bytes()).to_owned();
        self.path.push(&name);
        let made = dir::make_new(&self.here, name.as_os_str(), 0o700)
            .os("mkdir", || self.path.display())?;
        self.above.push(std::mem::replace(&mut self.here, made));
        Ok(())
    }

    fn leave(&mut self, walk: &Walk, name: &CStr) -> Result<()> {
        let source = dir::child(walk.here(), name).os("open", || self.path.display())?;
        let (stat, path) = (stat_of(&source)?, fd::proc_path(&source));
        self.looks(&stat, &path, &self.here)?;
        self.path.pop();
        if let Some(above) = self.above.pop() {
            self.here = above;
        }
        Ok(())
    }

    /// Owner, mode, attributes and times of an open file or directory.
    fn looks(&self, stat: &FileStat, source: &str, made: &OwnedFd) -> Result<()> {
        let name = || self.path.display();
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        nix::unistd::fchown(made, Some(uid), Some(gid)).os("chown", name)?;
        fchmod(made, Mode::from_bits_truncate(stat.st_mode)).os("chmod", name)?;
        self.attributes(source, &fd::proc_path(made))?;
        super::layer::set_time(made, (stat.st_mtime, stat.st_mtime_nsec))
            .os("set the time of", name)
    }

    fn attributes(&self, from: &str, to: &str) -> Result<()> {
        let name = || self.path.display();
        for (attribute, value) in xattr::all_of(from).os("read the attributes of", name)? {
            match xattr::set_of(to, &attribute, &value) {
                // As when it was unpacked: of another security module, of another kernel.
                Err(Errno::ENOTSUP | Errno::EPERM)
                    if attribute.as_c_str() != c"security.capability" => {}
                other => other.os("set an attribute of", name)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, walk: &Walk, name: &CStr) -> Result<()> {
        let path = self.name(name);
        let shown = || path.display().to_string();
        let stat = dir::stat_entry(walk.here(), name).os("stat", shown)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let parent = first.parent().unwrap_or(Path::new(""));
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
                let parent = dir::exactly(self.to, parent, flags).os("open", shown)?;
                let file = first.file_name().unwrap_or_default();
                return linkat(&parent, file, &self.here, name, AtFlags::empty()).os("link", shown);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        self.make(walk, name, &stat)
            .map_err(|error| Error::Invalid(format!("{}: {error}", shown())))
    }

    fn make(&mut self, walk: &Walk, name: &CStr, stat: &FileStat) -> Result<()> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let mode = Mode::from_bits_truncate(stat.st_mode);
        let open = |flags| openat(walk.here(), name, flags | OFlag::O_CLOEXEC, Mode::empty());
        if kind == SFlag::S_IFREG {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let source = open(flags).os("open", || "it")?;
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
            let private = Mode::from_bits_truncate(0o600);
            let made = openat(&self.here, name, flags | OFlag::O_CLOEXEC, private);
            let made = made.os("create", || "it")?;
            let mut output = File::from(made.try_clone().os("duplicate", || "it")?);
            io::copy(&mut File::from(source.try_clone().os("duplicate", || "it")?), &mut output)
                .os("copy", || "it")?;
            return self.looks(stat, &fd::proc_path(&source), &made);
        }
        if kind == SFlag::S_IFLNK {
            let text = readlinkat(walk.here(), name).os("readlink", || "it")?;
            symlinkat(text.as_os_str(), &self.here, name).os("symlink", || "")?;
        } else {
            mknodat(&self.here, name, kind, mode, stat.st_rdev).os("mknod", || "")?;
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(&self.here, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .os("chown", || "it")?;
        let path_only = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let source = open(path_only).os("open", || "it")?;
        let made = openat(&self.here, name, path_only, Mode::empty()).os("open", || "it")?;
        self.attributes(&fd::proc_path(&source), &fd::proc_path(&made))?;
        if kind != SFlag::S_IFLNK {
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            nix::sys::stat::fchmodat(&self.here, name, mode, follow).os("chmod", || "it")?;
        }
        set_time_at(&self.here, name, (stat.st_mtime, stat.st_mtime_nsec)).os("set the time", || "")
    }
}
