//! Pid files: the number alone, there as a whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Pid;

use crate::error::{Error, OsContext, Result};

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
