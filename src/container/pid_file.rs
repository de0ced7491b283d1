//! Who a process is, for the caller: in a pid file, the number alone, there as a whole or not at all;
//! or as a descriptor through a socket.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Pid;

use crate::error::{Error, OsContext, Result};
use crate::sys::process::Child;
use crate::sys::socket;

/// Writes it beside its place and renames it. No newline: clients parse the whole content.
pub(super) fn write(path: &Path, pid: Pid) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::Invalid(format!("--pid-file {:?} names no file", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = path.with_file_name(hidden);
    // Of a carob that was killed in the middle of this.
    let _stale = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .custom_flags(libc::O_CLOEXEC)
        .open(&new)
        .os("create", || new.display())?;
    let written = file
        .write_all(pid.to_string().as_bytes())
        .and_then(|()| fs::rename(&new, path))
        .os("write", || path.display());
    if written.is_err() {
        let _nothing_left = fs::remove_file(&new);
    }
    written
}

/// Sends a handle of the process to whoever listens there.
pub(super) fn send_pidfd(path: &Path, child: &Child) -> Result<()> {
    let here = || path.display();
    let socket = socket::connect_stream(path).os("connect to pidfd socket", here)?;
    socket::send(&socket, b"pidfd", Some(child.pidfd.as_fd())).os("send a pidfd to", here)
}
