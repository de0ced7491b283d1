//! Processes: pidfds.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// Opens a handle that keeps naming this process even after its pid is reused.
///
/// # Errors
/// `ESRCH` if the process is gone and reaped. Source: pidfd_open(2).
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: two integers passed by value; the kernel touches no memory of ours.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(Errno::result(ret)?).or(Err(Errno::EOVERFLOW))?;
    // SAFETY: the kernel has just created `fd` for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to exactly the process behind the pidfd.
///
/// # Errors
/// `ESRCH` if it has been reaped. Source: pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> nix::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: integers by value; a null siginfo is allowed and means "as kill(2) would".
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0, 0) };
    Errno::result(ret).map(drop)
}
