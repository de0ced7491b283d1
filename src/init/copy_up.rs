//! `tmpcopyup`: a new tmpfs starts with what it hides.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::error::{OsContext, Result};
use crate::sys::path::Rootfs;

/// Copies the content of a directory of the rootfs into a mount that is attached nowhere yet.
///
/// Depth is bounded by the number of open files; a tree deeper than that is refused.
pub(super) fn copy(rootfs: &Rootfs, path: &Path, to: BorrowedFd) -> Result<()> {
    let from =
        rootfs.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).os("open", || path.display())?;
    let to =
        openat(to, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .os("open", || "the new tmpfs")?;
    let mut pending = vec![(from, to)];
    while let Some((from, to)) = pending.pop() {
        copy_entries(from, &to, &mut pending).os("copy up", || path.display())?;
    }
    Ok(())
}

fn copy_entries(
    from: OwnedFd,
    to: &OwnedFd,
    pending: &mut Vec<(OwnedFd, OwnedFd)>,
) -> nix::Result<()> {
    let directory = from.try_clone().or(Err(Errno::EMFILE))?;
    for entry in Dir::from_fd(directory)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fstatat(&from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | nofollow;
                let new = openat(to, name, flags, Mode::empty())?;
                fchownat(&new, c"", owner.0, owner.1, AtFlags::AT_EMPTY_PATH)?;
                fchmod(&new, permissions(&stat))?;
                pending.push((openat(&from, name, flags, Mode::empty())?, new));
            }
            libc::S_IFREG => {
                let source = openat(&from, name, OFlag::O_RDONLY | nofollow, Mode::empty())?;
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | nofollow;
                let new = openat(to, name, flags, Mode::from_bits_truncate(0o600))?;
                fchownat(&new, c"", owner.0, owner.1, AtFlags::AT_EMPTY_PATH)?;
                fchmod(&new, permissions(&stat))?;
                copy_content(source, new)?;
            }
            libc::S_IFLNK => {
                let target = readlinkat(&from, name)?;
                symlinkat(target.as_os_str(), to, name)?;
                fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            kind => {
                let kind = SFlag::from_bits_truncate(kind);
                mknodat(to.as_fd(), name, kind, permissions(&stat), stat.st_rdev)?;
                fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
        }
    }
    Ok(())
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn copy_content(from: OwnedFd, to: OwnedFd) -> nix::Result<()> {
    let copied = io::copy(&mut File::from(from), &mut File::from(to));
    copied.map(drop).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
}
