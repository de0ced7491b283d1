//! Files by relative paths: of a directory, or of a tar file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Error, OsContext, Result};
use crate::image::layer::archive::{self, Kind};
use crate::image::manifest::MAX_DOCUMENT;
use crate::sys::dir;
use crate::sys::fd::read_bounded;

/// Most entries of an archive of images, and bytes of their names.
const MAX_ENTRIES: usize = 100_000;
const MAX_NAMES: usize = 16 << 20;
/// Links of an archive that lead to links: `docker save` of old makes one.
const MAX_LINKS: usize = 8;

/// Files by their paths.
pub(super) trait Files {
    /// Opens a regular file; `None` if there is none.
    fn find(&self, path: &str) -> Result<Option<Box<dyn Read>>>;

    /// What errors call the whole.
    fn name(&self) -> String;

    /// Opens a file that must be there.
    fn open(&self, path: &str) -> Result<Box<dyn Read>> {
        self.find(path)?
            .ok_or_else(|| Error::Invalid(format!("{}: {path} is not in it", self.name())))
    }

    /// Reads a manifest, a configuration or the like.
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        read_bounded(self.open(path)?, MAX_DOCUMENT, &format!("{path} in {}", self.name()))
    }
}

/// A directory. What it contains may be anybody's: no link is followed.
#[derive(Debug)]
pub(super) struct Directory {
    root: OwnedFd,
    name: String,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = File::open(path).os("open", || path.display())?;
        if !root.metadata().os("stat", || path.display())?.is_dir() {
            return Err(Error::Invalid(format!("{} must be a directory", path.display())));
        }
        Ok(Self { root: root.into(), name: path.display().to_string() })
    }
}

impl Files for Directory {
    fn find(&self, path: &str) -> Result<Option<Box<dyn Read>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let name = || format!("{}/{path}", self.name);
        let file = match dir::exactly(&self.root, Path::new(path), flags) {
            Err(Errno::ENOENT) => return Ok(None),
            other => File::from(other.os("open", name)?),
        };
        if !file.metadata().os("stat", name)?.is_file() {
            return Err(Error::Invalid(format!("{} must be a regular file", name())));
        }
        Ok(Some(Box::new(file)))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A tar file, of which an index is made.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    name: String,
    entries: HashMap<String, Place>,
}

#[derive(Debug, Clone)]
enum Place {
    /// Offset and length.
    At(u64, u64),
    /// The path of another entry.
    Link(String),
}

impl Archive {
    /// Opens a file, `-` for the standard input. One that is compressed, or cannot be read twice,
    /// is written to an unnamed file in `scratch` first.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = if path == Path::new("-") {
            spool(io::stdin().lock(), scratch)?
        } else {
            let file = File::open(path).os("open", || path.display())?;
            if file.metadata().os("stat", || path.display())?.is_dir() {
                return Err(Error::Invalid(format!("{name} is a directory and must be a file")));
            }
            file
        };
        let in_archive = |error: Error| Error::Invalid(format!("{name}: {error}"));
        let mut magic = [0; 6];
        let count = file.read_at(&mut magic, 0).unwrap_or(0);
        let file = if archive::is_compressed(&magic[..count]) {
            let plain = archive::decompress(&file).map_err(in_archive)?;
            spool(plain, scratch).map_err(in_archive)?
        } else {
            file
        };
        let entries = index(&file).map_err(in_archive)?;
        Ok(Self { file, name, entries })
    }
}

/// Copies to a file that goes with its last descriptor.
fn spool(mut input: impl Read, scratch: &Path) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(scratch)
        .os("create a file in", || scratch.display())?;
    io::copy(&mut input, &mut file).os("copy to", || scratch.display())?;
    file.rewind().os("seek", || scratch.display())?;
    Ok(file)
}

/// Where each file of an archive lies. Later entries of a name win.
fn index(file: &File) -> Result<HashMap<String, Place>> {
    let mut entries = HashMap::new();
    let mut names = 0;
    let mut archive = archive::Index::new(file);
    while let Some((entry, offset)) = archive.advance()? {
        let Ok(path) = String::from_utf8(entry.path) else { continue };
        let path = clean(&path);
        names += path.len();
        if entries.len() >= MAX_ENTRIES || names > MAX_NAMES {
            return Err(Error::Invalid("too many entries for an archive of images".into()));
        }
        let place = match entry.kind {
            Kind::File => Place::At(offset, entry.size),
            Kind::Symlink(target) => match String::from_utf8(target) {
                Ok(target) => Place::Link(beside(&path, &target)),
                Err(_) => continue,
            },
            Kind::HardLink(target) => match String::from_utf8(target) {
                Ok(target) => Place::Link(clean(&target)),
                Err(_) => continue,
            },
            _ => continue,
        };
        entries.insert(path, place);
    }
    Ok(entries)
}

fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

/// The path of a link's target within the archive.
fn beside(link: &str, target: &str) -> String {
    match (target.starts_with('/'), link.rsplit_once('/')) {
        (false, Some((directory, _))) => clean(&format!("{directory}/{target}")),
        _ => clean(target),
    }
}

impl Files for Archive {
    fn find(&self, path: &str) -> Result<Option<Box<dyn Read>>> {
        let mut path = clean(path);
        for _ in 0..MAX_LINKS {
            match self.entries.get(&path) {
                None => return Ok(None),
                Some(Place::Link(target)) => path.clone_from(target),
                Some(Place::At(offset, length)) => {
                    let file = self.file.try_clone().os("duplicate", || &self.name)?;
                    return Ok(Some(Box::new(Section { file, at: *offset, left: *length })));
                }
            }
        }
        Err(Error::Invalid(format!("{}: too many links at {path}", self.name)))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A part of a file; others read of the same one.
struct Section {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
