//! File descriptors: their names under `/proc`, close-on-exec, whole-file reads and writes.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, OsContext, Result};

/// The magic link that names an open descriptor of this process.
///
/// It resolves to the very object, whatever has happened to the path it was opened by. `Copy` keeps an
/// `OwnedFd` out, which would be closed before the path is used.
#[must_use]
pub fn proc_path(fd: impl AsFd + Copy) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Locks a file for writing, for as long as the file that was opened is in use; `false` if somebody
/// else has it locked. Source: fcntl_locking(2), open file description locks.
///
/// # Errors
/// Errors of fcntl(2).
pub fn try_lock(file: &File) -> nix::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Whether somebody else has a file locked; unlike an attempt to lock it that is in nobody's way.
///
/// # Errors
/// Errors of fcntl(2).
pub fn is_locked(file: &File) -> nix::Result<bool> {
    let mut found = whole(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
}

/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// With others who lock it so.
    Shared,
    /// With nobody.
    Exclusive,
}

/// Locks one byte of a file, which need not be there, for as long as the file that was opened is in
/// use; `false` if somebody else has it locked. The file must be open for writing, to lock it
/// alone, or reading. Source: fcntl_locking(2), open file description locks.
///
/// # Errors
/// Errors of fcntl(2).
pub fn try_lock_byte(file: &File, offset: i64, access: Access) -> nix::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(offset, access))) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        other => other.map(|_| true),
    }
}

/// As [`try_lock_byte`]; waits for the others.
///
/// # Errors
/// Errors of fcntl(2).
pub fn lock_byte(file: &File, offset: i64, access: Access) -> nix::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&byte(offset, access))) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn byte(offset: i64, access: Access) -> libc::flock {
    let kind = match access {
        Access::Shared => libc::F_RDLCK,
        Access::Exclusive => libc::F_WRLCK,
    };
    libc::flock { l_start: offset, l_len: 1, ..whole(kind) }
}

/// Writes what a file system has in memory to its disk. Source: syncfs(2).
///
/// # Errors
/// `EIO`, `ENOSPC`.
pub fn sync_file_system(file: impl AsFd) -> nix::Result<()> {
    // SAFETY: an open descriptor by value.
    let ret = unsafe { libc::syncfs(file.as_fd().as_raw_fd()) };
    Errno::result(ret).map(drop)
}

/// All of a file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Marks every descriptor from `first` on close-on-exec, open or not.
///
/// # Errors
/// Where the kernel has no such call (before 5.11): `ENOENT` without `/proc`.
/// Source: close_range(2).
pub fn cloexec_from(first: u32) -> nix::Result<()> {
    // SAFETY: three integers by value; with CLOSE_RANGE_CLOEXEC no descriptor is closed, so none
    // that somebody owns becomes invalid.
    let ret = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match Errno::result(ret) {
        Err(Errno::EINVAL | Errno::ENOSYS) => cloexec_one_by_one(first),
        other => other.map(drop),
    }
}

fn cloexec_one_by_one(first: u32) -> nix::Result<()> {
    let listing = std::fs::read_dir("/proc/self/fd").or(Err(Errno::ENOENT))?;
    let numbers = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for number in numbers.filter(|number: &u32| *number >= first) {
        let open = i32::try_from(number).ok().and_then(|number| inherited(number).ok());
        if let Some(open) = open {
            set_cloexec(open, true)?;
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on but those in `kept`, whoever owns them.
///
/// For a process that ends by `execve` or `_exit`: what owns a closed descriptor is never dropped.
///
/// # Errors
/// `ENOSYS` before Linux 5.9. Source: close_range(2).
pub fn close_others(first: u32, kept: &[BorrowedFd]) -> nix::Result<()> {
    let mut kept: Vec<u32> =
        kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut from = first;
    for end in kept.into_iter().chain([u32::MAX]) {
        if from < end {
            // SAFETY: three integers by value; see above for the owners.
            let ret = unsafe { libc::syscall(libc::SYS_close_range, from, end - 1, 0) };
            Errno::result(ret)?;
        }
        from = from.max(end.saturating_add(1));
    }
    Ok(())
}

/// Closes descriptors with few calls: those whose numbers follow each other go together.
pub fn close_together(fds: impl IntoIterator<Item = OwnedFd>) {
    let mut numbers: Vec<RawFd> = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let [first, .., last] = run else {
            // SAFETY: the number comes from an owner who has just given it up.
            run.iter().for_each(|number| drop(unsafe { OwnedFd::from_raw_fd(*number) }));
            continue;
        };
        // SAFETY: three integers by value; all numbers in the range were given up just now.
        let ret = unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) };
        if ret != 0 {
            // SAFETY: as above; before Linux 5.9 nothing is closed yet.
            run.iter().for_each(|number| drop(unsafe { OwnedFd::from_raw_fd(*number) }));
        }
    }
}

/// Descriptors that are not needed any more, closed many at a time.
#[derive(Debug, Default)]
pub struct Spent(RefCell<Vec<OwnedFd>>);

impl Spent {
    /// So few that they hardly count against a limit.
    const MOST: usize = 64;

    /// Closes it later.
    pub fn put(&self, fd: OwnedFd) {
        let mut spent = self.0.borrow_mut();
        spent.push(fd);
        if spent.len() == Self::MOST {
            close_together(spent.drain(..));
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        close_together(self.0.take());
    }
}

/// Borrows a descriptor by its number: a standard stream, or one that `--preserve-fds` names.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn inherited(fd: RawFd) -> nix::Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD takes the number by value and fails with EBADF if nothing is open there.
    let ret = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    Errno::result(ret)?;
    // SAFETY: just checked to be open; it came with the process and nothing in carob closes it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// As [`inherited`], but only what an execve has let through: our own are all close-on-exec.
///
/// # Errors
/// `EBADF` also for one of our own that has taken the number.
pub fn from_caller(fd: RawFd) -> nix::Result<BorrowedFd<'static>> {
    let fd = inherited(fd)?;
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD)?;
    if flags & libc::FD_CLOEXEC == 0 { Ok(fd) } else { Err(Errno::EBADF) }
}

/// Clears or sets close-on-exec on one descriptor.
///
/// # Errors
/// `EBADF` if it is not open. Source: fcntl(2), F_SETFD.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> nix::Result<()> {
    let flags = if on { nix::fcntl::FdFlag::FD_CLOEXEC } else { nix::fcntl::FdFlag::empty() };
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(flags)).map(drop)
}

/// Closes a descriptor in a cloned child that ends by execve or `exit_now`, so that its owner's
/// drop never runs there. What a drop would do besides, as unlock a file, does not happen.
pub fn close_in_child(fd: BorrowedFd) {
    // SAFETY: the owner exists only in memory that this process will not run the drops of.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Makes these three the standard streams of this process.
///
/// # Errors
/// `EMFILE`. Source: dup2(2).
pub fn replace_standard_streams(streams: [BorrowedFd; 3]) -> nix::Result<()> {
    use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
    // Out of the way first: one of them may have the number of another's place.
    let mut moved: [Option<OwnedFd>; 3] = Default::default();
    for (place, stream) in moved.iter_mut().zip(streams) {
        if stream.as_raw_fd() <= libc::STDERR_FILENO {
            *place = Some(owned(fcntl(stream, FcntlArg::F_DUPFD_CLOEXEC(3))?.into())?);
        }
    }
    let stream = |place: usize| moved[place].as_ref().map_or(streams[place], |fd| fd.as_fd());
    dup2_stdin(stream(0))?;
    dup2_stdout(stream(1))?;
    dup2_stderr(stream(2))
}

/// Wraps a descriptor number that a system call has just returned.
///
/// # Errors
/// The errno if the call failed.
pub(super) fn owned(ret: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(ret)?).or(Err(Errno::EOVERFLOW))?;
    // SAFETY: the kernel has just created `fd` for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens what exists; it is closed on exec. With one call: musl's `open`, which [`File::open`] comes
/// to, makes a second one for kernels that knew no `O_CLOEXEC`.
///
/// # Errors
/// Errors of openat(2).
pub fn open<P: ?Sized + NixPath>(path: &P, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens an existing file for writing and writes `value` with one call, as kernel interfaces want.
///
/// # Errors
/// [`Error::Os`] naming the file; the value is in the text when the kernel refused it.
pub fn write_file(path: impl AsRef<Path>, value: impl AsRef<[u8]>) -> Result<()> {
    let (path, value) = (path.as_ref(), value.as_ref());
    let file = open(path, OFlag::O_WRONLY | OFlag::O_NOFOLLOW).os("open", || path.display())?;
    File::from(file).write_all(value).map_err(|source| Error::Os {
        op: "write",
        target: format!("{:?} to {}", String::from_utf8_lossy(value), path.display()),
        source,
    })
}

/// Reads what one call gives of a file of procfs, which is all of it up to a page.
///
/// # Errors
/// Errors of open(2) and read(2).
pub fn read_page(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut page = [0; 4096];
    let length = File::from(open(path.as_ref(), OFlag::O_RDONLY)?).read(&mut page)?;
    Ok(String::from_utf8_lossy(&page[..length]).into_owned())
}

/// Reads a file of which a read gives as much as there is: one in memory, or one that the kernel
/// makes up as a whole, as most of procfs and of cgroups. What does not fill the buffer is all of
/// it, and needs no second read to find the end.
///
/// # Errors
/// Errors of open(2) and read(2).
pub fn read_record(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut file = File::from(open(path.as_ref(), OFlag::O_RDONLY)?);
    let mut content = vec![0; 4096];
    let length = file.read(&mut content)?;
    if length == content.len() {
        file.read_to_end(&mut content)?;
    } else {
        content.truncate(length);
    }
    Ok(String::from_utf8(content)
        .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
}

/// Reads a small file completely; `limit_bytes` bounds what a hostile or broken file can cost.
///
/// # Errors
/// [`Error::Os`] naming the file; [`Error::Invalid`] if it is larger than the limit.
pub fn read_file(path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = File::from(open(path, OFlag::O_RDONLY).os("open", || path.display())?);
    read_bounded(file, limit_bytes, &path.display())
}

/// As [`read_file`], for a file that is already open.
///
/// # Errors
/// As [`read_file`]; `name` is what the error calls the file.
pub fn read_bounded(
    file: impl Read,
    limit_bytes: u64,
    name: &impl fmt::Display,
) -> Result<Vec<u8>> {
    // Without a guess the reader asks in steps of 32 bytes.
    let mut content = Vec::with_capacity(4096);
    file.take(limit_bytes + 1).read_to_end(&mut content).os("read", || name)?;
    if content.len() as u64 > limit_bytes {
        return Err(Error::Invalid(format!("{name} is larger than {limit_bytes} bytes")));
    }
    Ok(content)
}

/// Whether a file has an extended attribute.
#[must_use]
pub fn has_attribute(path: &Path, name: &std::ffi::CStr) -> bool {
    let size = path.with_nix_path(|path| {
        // SAFETY: two C strings that live during the call; with no room nothing is written.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) }
    });
    size.is_ok_and(|size| size >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_closed_together_and_no_other() {
        // A file that no other test opens: the numbers may be in use again at once.
        let path = std::env::temp_dir().join(format!("carob-close-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "").unwrap();
        let open = || OwnedFd::from(File::open(&path).unwrap());
        let mut fds: Vec<OwnedFd> = (0..6).map(|_| open()).collect();
        let kept = fds.remove(3);
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let lead_there = |numbers: &[RawFd]| {
            let link = |number: &RawFd| std::fs::read_link(format!("/proc/self/fd/{number}"));
            numbers.iter().filter(|number| link(number).is_ok_and(|link| link == path)).count()
        };
        assert_eq!(lead_there(&numbers), 5);
        close_together(fds);
        assert_eq!(lead_there(&numbers), 0);
        assert_eq!(lead_there(&[kept.as_raw_fd()]), 1);
        close_together([]);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_record_is_read_whole() {
        let long = "x".repeat(10_000);
        let path = std::env::temp_dir().join(format!("carob-record-{}", uuid::Uuid::new_v4()));
        for text in ["", "short\n", &long[..4096], &long] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_record(&path).unwrap(), text);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
