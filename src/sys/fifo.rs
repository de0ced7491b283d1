//! Fifos named below a directory handle.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{Mode, SFlag, mknodat};

/// Makes a fifo that nobody but its owner may open.
///
/// # Errors
/// `EEXIST`; errors of mknod(2).
pub fn make_in(dir: impl AsFd, name: &str) -> nix::Result<()> {
    mknodat(dir, name, SFlag::S_IFIFO, Mode::S_IRUSR | Mode::S_IWUSR, 0)
}

/// Opens a fifo for what `access` says.
///
/// Never waits for the other side; what is read or written later does.
///
/// # Errors
/// `ENXIO` for [`OFlag::O_WRONLY`] if nobody has it open for reading; `ENOENT`; others of open(2).
/// Source: fifo(7).
pub fn open_in(dir: impl AsFd, name: &str, access: OFlag) -> nix::Result<OwnedFd> {
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = loop {
        match openat(&dir, name, flags, Mode::empty()) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    fcntl(&fd, FcntlArg::F_SETFL(access))?;
    Ok(fd)
}
