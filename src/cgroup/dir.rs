//! One cgroup directory, opened once: its files are read and written relative to it.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::write;

use crate::error::{OsContext, Result};
use crate::sys::fd;

/// No file of a cgroup that carob reads is larger; `cgroup.procs` of 100 000 processes fits.
const READ_LIMIT_BYTES: u64 = 4 << 20;

/// An open cgroup directory and the path it was opened by, for messages.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a cgroup directory; cgroup file systems hold no symbolic links, so none is followed.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = fd::open(&path, flags).os("open cgroup", || path.display())?;
        Ok(Self { fd, path })
    }

    /// As [`Dir::open`]; a cgroup that does not exist is `None`.
    pub(super) fn open_if_exists(path: PathBuf) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if gone(error.errno()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open_file(&self, name: &str, access: OFlag) -> nix::Result<OwnedFd> {
        openat(&self.fd, name, access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// Writes one value with one `write`; the errno is the kernel's verdict on the value.
    pub(super) fn write_raw(&self, name: &str, value: &str) -> nix::Result<()> {
        let file = self.open_file(name, OFlag::O_WRONLY)?;
        write(&file, value.as_bytes()).map(drop)
    }

    pub(super) fn write(&self, name: &str, value: &str) -> Result<()> {
        self.write_raw(name, value)
            .os("write", || format!("{value:?} to {}/{name}", self.path.display()))
    }

    pub(super) fn read_raw(&self, name: &str) -> std::io::Result<String> {
        let file = std::fs::File::from(self.open_file(name, OFlag::O_RDONLY)?);
        let mut text = String::new();
        file.take(READ_LIMIT_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn read(&self, name: &str) -> Result<String> {
        self.read_raw(name).os("read", || format!("{}/{name}", self.path.display()))
    }

    /// As [`Dir::read`]; a file that this kernel does not have is `None`.
    pub(super) fn read_if_exists(&self, name: &str) -> Result<Option<String>> {
        match self.read(name) {
            Ok(text) => Ok(Some(text)),
            Err(error) if gone(error.errno()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether an errno says that the file or the whole cgroup is not there (any more): `ENODEV` is
/// what a file that was open when its cgroup was removed answers.
pub(super) fn gone(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ENOENT | Errno::ENODEV))
}
