//! What a pidfd knows of its process, also of one that is gone.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::process::{Exit, pid_of};

/// How a process ended that is not our child: of what it left behind when its parent reaped it.
///
/// The pidfd must be older than that. It polls readable at the exit and hangs up (POLLHUP) when the
/// process has been reaped; before that the answer is `None`, as it is before Linux 6.15.
/// Source: PIDFD_GET_INFO, PIDFD_INFO_EXIT.
#[must_use]
pub fn exit_of_stranger(pidfd: impl AsFd) -> Option<Exit> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    nix::ioctl_readwrite!(pidfd_get_info, 0xff, 11, PidfdInfo);
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the ioctl's number carries the size of `info`, which the kernel fills no further;
    // on a descriptor that is no pidfd, or an older kernel, it fails without writing.
    unsafe { pidfd_get_info(pidfd.as_fd().as_raw_fd(), &raw mut info) }.ok()?;
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    Some(Exit::of_code(info.exit_code))
}

/// The pid behind the pidfd of a child, as [`pid_of`]; where /proc does not say, the pid that was
/// `told`, if that is one of our children.
///
/// # Errors
/// `ESRCH` if the process is gone, `ECHILD` if what was told is not ours.
pub fn pid_of_child(pidfd: impl AsFd, told: Pid) -> nix::Result<Pid> {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    match pid_of(pidfd) {
        Err(Errno::EACCES) => {
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(told), look).map(|_| told)
        }
        other => other,
    }
}
