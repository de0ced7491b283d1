//! Whether the kernel has a system call: asked by calling it so that it can do no harm.
//!
//! A call that is there complains about its arguments; one that is not, or that a seccomp filter
//! hides, answers `ENOSYS`.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::process;

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It is there.
    Works,
    /// It is not; with what the kernel answered.
    Missing(Errno),
    /// It cannot be told from here.
    Unknown,
}

/// No descriptor has this number.
const NO_FD: libc::c_int = -1;

impl Probe {
    /// A call that is known to fail if it is there.
    fn of(ret: libc::c_long) -> Self {
        Self::unless(ret, &[Errno::ENOSYS])
    }

    /// The same where an older kernel has the call, but not what is asked of it.
    fn unless(ret: libc::c_long, absent: &[Errno]) -> Self {
        match Errno::result(ret) {
            Err(errno) if absent.contains(&errno) => Self::Missing(errno),
            // A filter that hides the call may also answer so; who lacks a right gets it too.
            Ok(_) | Err(_) => Self::Works,
        }
    }
}

/// clone3(2), with arguments that have no size.
#[must_use]
pub fn clone3() -> Probe {
    // SAFETY: the size says that there is nothing at the null pointer.
    Probe::of(unsafe { libc::syscall(libc::SYS_clone3, 0, 0) })
}

/// CLONE_INTO_CGROUP of clone3(2), into a cgroup that is no descriptor.
#[must_use]
pub fn clone_into_cgroup() -> Probe {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments = [0_u64; 11];
    arguments[0] = CLONE_INTO_CGROUP;
    // The largest number that is a descriptor: nobody has it open.
    arguments[10] = u64::from(i32::MAX.cast_unsigned());
    let size = size_of_val(&arguments);
    // SAFETY: `arguments` has the layout of clone_args, of the size given, and outlives the call,
    // which fails before a process is made.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::E2BIG, Errno::EINVAL])
}

/// pidfd_open(2) of this process.
#[must_use]
pub fn pidfd_open() -> Probe {
    match process::pidfd_open(Pid::this()) {
        Err(Errno::ENOSYS) => Probe::Missing(Errno::ENOSYS),
        _ => Probe::Works,
    }
}

/// pidfd_getfd(2).
#[must_use]
pub fn pidfd_getfd() -> Probe {
    // SAFETY: integers by value.
    Probe::of(unsafe { libc::syscall(libc::SYS_pidfd_getfd, NO_FD, NO_FD, 0) })
}

/// waitid(2) by pidfd.
#[must_use]
pub fn wait_by_pidfd() -> Probe {
    let Ok(own) = process::pidfd_open(Pid::this()) else { return Probe::Unknown };
    let (own, flags) = (own.as_raw_fd(), libc::WEXITED | libc::WNOHANG);
    // SAFETY: integers by value; a null siginfo is allowed, and we are not our own child.
    let ret = unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, own, 0, flags, 0) };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::EINVAL])
}

/// setns(2) by pidfd: into the own UTS namespace.
#[must_use]
pub fn setns_by_pidfd() -> Probe {
    let Ok(own) = process::pidfd_open(Pid::this()) else { return Probe::Unknown };
    // SAFETY: integers by value.
    let ret = unsafe { libc::syscall(libc::SYS_setns, own.as_raw_fd(), libc::CLONE_NEWUTS) };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::EINVAL])
}

/// openat2(2).
#[must_use]
pub fn openat2() -> Probe {
    // SAFETY: the size says that there is nothing at the null pointers.
    Probe::of(unsafe { libc::syscall(libc::SYS_openat2, NO_FD, 0, 0, 0) })
}

/// fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2): they came together.
#[must_use]
pub fn mount_by_descriptor() -> Probe {
    let calls = [
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
    ];
    for call in calls {
        // SAFETY: descriptors that are none, null pointers and flags that do not exist: each of
        // these calls refuses that.
        let ret = unsafe { libc::syscall(call, NO_FD, 0, NO_FD, 0, NO_FD) };
        if let missing @ Probe::Missing(_) = Probe::of(ret) {
            return missing;
        }
    }
    Probe::Works
}

/// mount_setattr(2).
#[must_use]
pub fn mount_setattr() -> Probe {
    // SAFETY: the size says that there is nothing at the null pointers.
    Probe::of(unsafe { libc::syscall(libc::SYS_mount_setattr, NO_FD, 0, 0, 0, 0) })
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC (Linux 5.11), of descriptors that nobody can have.
#[must_use]
pub fn close_range() -> Probe {
    let last = libc::c_uint::MAX;
    // SAFETY: integers by value.
    let ret =
        unsafe { libc::syscall(libc::SYS_close_range, last, last, libc::CLOSE_RANGE_CLOEXEC) };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::EINVAL])
}

/// Whether a process can change its file: PR_SET_MM, asked for the size of its argument.
#[must_use]
pub fn set_mm() -> Probe {
    let mut size = 0_u32;
    // SAFETY: the kernel writes one unsigned int to `size`.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_MM,
            libc::PR_SET_MM_MAP_SIZE,
            &raw mut size,
            0,
            0,
        )
    };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::EINVAL])
}

/// memfd_create(2), with flags that do not exist.
#[must_use]
pub fn memfd_create() -> Probe {
    // SAFETY: a C string that lives during the call, and an integer.
    Probe::of(unsafe { libc::syscall(libc::SYS_memfd_create, c"".as_ptr(), libc::c_uint::MAX) })
}

/// bpf(2), with a command that does not exist.
#[must_use]
pub fn bpf() -> Probe {
    // SAFETY: the size says that there is nothing at the null pointer.
    Probe::of(unsafe { libc::syscall(libc::SYS_bpf, -1, 0, 0) })
}

/// keyctl(2), with an operation that does not exist.
#[must_use]
pub fn keyctl() -> Probe {
    // SAFETY: integers by value.
    Probe::of(unsafe { libc::syscall(libc::SYS_keyctl, -1, 0, 0, 0, 0) })
}

/// Whether seccomp(2) has an action, by its number. Source: SECCOMP_GET_ACTION_AVAIL.
#[must_use]
pub fn seccomp_action(action: u32) -> Probe {
    // SAFETY: the kernel reads one u32, which lives during the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    Probe::unless(ret, &[Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EINVAL])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [fn() -> Probe; 13] = [
        clone3,
        clone_into_cgroup,
        pidfd_open,
        pidfd_getfd,
        wait_by_pidfd,
        openat2,
        mount_by_descriptor,
        mount_setattr,
        close_range,
        set_mm,
        memfd_create,
        bpf,
        keyctl,
    ];

    /// Asks in a process of its own, where no other test opens files or has children.
    #[test]
    fn asking_leaves_no_descriptor_and_no_process() {
        // SAFETY: the child works on its own copy and leaves by `_exit`; its allocator is
        // usable after a fork.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let count = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0);
            let before = count();
            for probe in ALL {
                let _answer = probe();
            }
            let no_child = nix::sys::wait::wait() == Err(Errno::ECHILD);
            let code = i32::from(count() != before) + 2 * i32::from(!no_child);
            // SAFETY: ends this process, without the handlers of the test program.
            unsafe { libc::_exit(code) };
        }
        let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
        let expected = nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(child), 0);
        assert_eq!(ended, Ok(expected), "1: a descriptor is left, 2: a process");
    }

    #[test]
    fn an_action_that_nobody_knows_is_missing() {
        assert_eq!(seccomp_action(libc::SECCOMP_RET_ALLOW), Probe::Works);
        assert!(matches!(seccomp_action(0x1234_0000), Probe::Missing(_)));
    }
}
