//! Files in a directory that are replaced all at once, while they are being read.
//!
//! ```text
//! ..2026_01_31_23_59_59.1234567890/   the files, mode 0755
//! ..data -> ..2026_…                  replaced by rename: the moment of the update
//! name -> ..data/name                 for each first component of a path
//! ```
//!
//! Nothing is written through what is found in the directory: each descriptor is of a directory
//! just made or opened without following links, each file is new, links are replaced, not
//! followed. A container that could write there gains nothing by what it leaves (CVE-2025-9566).
//!
//! Source: Kubernetes, `pkg/volume/util/atomic_writer.go`: layout only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File as StdFile;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, symlinkat};

use crate::error::{Error, OsContext, Result};
use crate::sys::dir::{self, Found, Walk};

/// A file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for File {
    /// Without the content: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File {{ {} bytes, mode: {:04o} }}", self.data.len(), self.mode)
    }
}

/// Files by their path in the volume, for which [`check_path`] holds.
pub type Payload = BTreeMap<String, File>;

/// Whether anything had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The files were these already.
    Unchanged,
    /// They have been replaced.
    Replaced,
}

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
/// Longest path, bytes.
const PATH_BYTES: usize = 4096;
/// Longest component, bytes.
const NAME_BYTES: usize = 255;
const DIRECTORY_MODE: u32 = 0o755;

/// Refuses a path that would leave the volume, or clash with the layout.
///
/// # Errors
/// What is wrong, for people.
pub fn check_path(path: &str) -> std::result::Result<(), String> {
    let wrong = |why: &str| Err(format!("invalid path {path:?}: {why}"));
    if path.is_empty() {
        return wrong("must not be empty");
    }
    if path.starts_with('/') {
        return wrong("must be a relative path");
    }
    if path.len() > PATH_BYTES {
        return wrong("must be no longer than 4096 bytes");
    }
    if path.contains('\0') {
        return wrong("must not contain a zero byte");
    }
    for name in path.split('/') {
        match name {
            "" | "." => return wrong("must not contain empty components or '.'"),
            ".." => return wrong("must not contain '..'"),
            name if name.len() > NAME_BYTES => {
                return wrong("components must be no longer than 255 bytes");
            }
            _ => {}
        }
    }
    if path.starts_with("..") {
        return wrong("must not start with '..'");
    }
    Ok(())
}

/// Makes a directory hold these files and nothing else. `group` is `fsGroup`: it then owns them
/// and may read them. Directories and files belong to root otherwise.
///
/// # Errors
/// [`Error::Invalid`] for a path; [`Error::Os`] if it cannot be written: then all is as before.
pub fn write(volume: &OwnedFd, payload: &Payload, group: Option<u32>) -> Result<Written> {
    payload.keys().try_for_each(|path| check_path(path)).map_err(Error::Invalid)?;
    let current = current_directory(volume);
    if let Some(current) = &current
        && holds(volume, current, payload, group)
    {
        tidy(volume, payload, current)?;
        return Ok(Written::Unchanged);
    }
    let name = new_directory(volume, payload, group)?;
    let switched = switch(volume, &name);
    if switched.is_err() {
        // What is half-made is of no use; that it is in the way is the lesser evil.
        let _left = dir::remove(volume, name.as_str());
    }
    switched?;
    tidy(volume, payload, &name)?;
    Ok(Written::Replaced)
}

/// The directory that `..data` leads to, if it could be one of ours.
fn current_directory(volume: &OwnedFd) -> Option<String> {
    let target = readlinkat(volume, DATA).ok()?.into_string().ok()?;
    let is_ours = target.starts_with("..") && target.len() > 2 && !target.contains('/');
    (is_ours && target != DATA && target != NEW_DATA).then_some(target)
}

fn holds(volume: &OwnedFd, current: &str, payload: &Payload, group: Option<u32>) -> bool {
    let Ok(dir) = dir::child(volume, current) else { return false };
    let same = payload.iter().all(|(path, file)| is_there(&dir, path, file, group));
    same && count_files(dir, payload.len()).is_ok_and(|count| count == payload.len())
}

/// How many things that are no directories there are below one; gives up above `most`.
fn count_files(dir: OwnedFd, most: usize) -> nix::Result<usize> {
    let mut walk = Walk::new(dir)?;
    let mut count = 0;
    while let Some(found) = walk.advance()? {
        count += usize::from(matches!(found, Found::Entry(_) | Found::Closed(..)));
        if count > most {
            break;
        }
    }
    Ok(count)
}

fn is_there(root: &OwnedFd, path: &str, file: &File, group: Option<u32>) -> bool {
    let same = || -> Option<bool> {
        let (parents, name) = split(path);
        let mut parent = root.try_clone().ok()?;
        for name in parents {
            parent = dir::child(&parent, name).ok()?;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&parent, name, flags, Mode::empty()).ok()?;
        let stat = fstat(&opened).ok()?;
        let wanted = libc::S_IFREG | file_mode(file.mode, group);
        if stat.st_mode != wanted || stat.st_gid != group.unwrap_or(0) || stat.st_uid != 0 {
            return Some(false);
        }
        let mut content = Vec::with_capacity(file.data.len() + 1);
        let most = u64::try_from(file.data.len()).ok()?.checked_add(1)?;
        StdFile::from(opened).take(most).read_to_end(&mut content).ok()?;
        Some(content == file.data)
    };
    same().unwrap_or(false)
}

fn split(path: &str) -> (impl Iterator<Item = &str>, &str) {
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parents.split('/').filter(|name| !name.is_empty()), name)
}

fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    mode & 0o777 | if group.is_some() { 0o440 } else { 0 }
}

/// Makes the directory with all files; it is removed again if one cannot be written.
fn new_directory(volume: &OwnedFd, payload: &Payload, group: Option<u32>) -> Result<String> {
    let (name, made) = loop {
        let stamp = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let name = format!("{stamp}.{}", uuid::Uuid::new_v4().as_fields().0);
        match dir::make_new(volume, name.as_str(), DIRECTORY_MODE) {
            Err(Errno::EEXIST) => {}
            other => break (name, other.os("create", || "a directory of the volume")?),
        }
    };
    let filled = own_directory(&made, group).and_then(|()| {
        payload.iter().try_for_each(|(path, file)| {
            write_file(&made, path, file, group).os("write", || format!("{path:?} of the volume"))
        })
    });
    if let Err(error) = filled {
        let _left = dir::remove(volume, name.as_str());
        return Err(error);
    }
    Ok(name)
}

fn own_directory(dir: &OwnedFd, group: Option<u32>) -> Result<()> {
    let owned = || -> nix::Result<()> {
        fchown(dir, Some(Uid::from_raw(0)), Some(Gid::from_raw(group.unwrap_or(0))))?;
        let of_group = if group.is_some() { 0o2550 } else { 0 };
        fchmod(dir, Mode::from_bits_truncate(DIRECTORY_MODE | of_group))
    };
    owned().os("set the owner of", || "a directory of the volume")
}

fn write_file(
    root: &OwnedFd,
    path: &str,
    file: &File,
    group: Option<u32>,
) -> std::result::Result<(), std::io::Error> {
    let (parents, name) = split(path);
    let mut parent = root.try_clone()?;
    for name in parents {
        parent = match dir::make_new(&parent, name, DIRECTORY_MODE) {
            Ok(made) => {
                own_directory(&made, group).map_err(std::io::Error::other)?;
                made
            }
            Err(Errno::EEXIST) => dir::child(&parent, name)?,
            Err(errno) => return Err(errno.into()),
        };
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let made = openat(&parent, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600))?;
    let mut made = StdFile::from(made);
    made.write_all(&file.data)?;
    fchown(&made, Some(Uid::from_raw(0)), Some(Gid::from_raw(group.unwrap_or(0))))?;
    fchmod(&made, Mode::from_bits_truncate(file_mode(file.mode, group)))?;
    Ok(())
}

/// The moment of the update.
fn switch(volume: &OwnedFd, name: &str) -> Result<()> {
    let switched = || -> nix::Result<()> {
        link(volume, name, NEW_DATA)?;
        match renameat(volume, NEW_DATA, volume, DATA) {
            // Not ours: nobody reads the volume through a directory of that name.
            Err(Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST) => {
                dir::remove(volume, DATA)?;
                renameat(volume, NEW_DATA, volume, DATA)
            }
            other => other,
        }
    };
    switched().os("replace", || "the files of the volume")
}

/// Makes a link, in the place of whatever is there.
fn link(volume: &OwnedFd, target: &str, name: &str) -> nix::Result<()> {
    match symlinkat(target, volume, name) {
        Err(Errno::EEXIST) => {
            dir::remove(volume, name)?;
            symlinkat(target, volume, name)
        }
        other => other,
    }
}

/// Makes the links that users see, and removes whatever else there is.
fn tidy(volume: &OwnedFd, payload: &Payload, current: &str) -> Result<()> {
    let tops: BTreeSet<&str> =
        payload.keys().map(|path| path.split_once('/').map_or(&**path, |(top, _)| top)).collect();
    for top in &tops {
        let target = format!("{DATA}/{top}");
        let is_right = readlinkat(volume, *top).is_ok_and(|found| *found == *target);
        if !is_right {
            link(volume, &target, top).os("link", || format!("{top:?} of the volume"))?;
        }
    }
    let keeps = |name: &OsStr| {
        name == DATA || name == current || name.to_str().is_some_and(|name| tops.contains(name))
    };
    remove_others(volume.as_fd(), keeps).os("clean", || "the directory of the volume")
}

fn remove_others(volume: BorrowedFd, keeps: impl Fn(&OsStr) -> bool) -> nix::Result<()> {
    for name in dir::names(volume)? {
        if !keeps(OsStr::from_bytes(name.to_bytes())) {
            dir::remove(volume, name.as_c_str())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
