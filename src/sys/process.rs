//! Making, naming, signalling, waiting for and ending processes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

pub use super::disposition::reset_signals;
use super::fd::{self, owned};
pub use super::pidfd_info::{exit_of_stranger, pid_of_child};
pub use super::proc_stat::{Stat, stat};

/// A namespace flag that `nix` does not have. Source: time_namespaces(7).
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Too wide for the type that libc gives it. Source: clone(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child of this process, held so that its pid cannot come to mean another process.
#[derive(Debug)]
pub struct Child {
    /// For printing, and for `/proc/<pid>`.
    pub pid: Pid,
    /// For everything else; polls readable when the process has exited.
    pub pidfd: OwnedFd,
}

/// Which side of [`clone3`] is running.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with a handle of the new process.
    Parent(Child),
    /// The new process.
    Child,
}

/// Where the new process goes, beyond `flags`.
#[derive(Debug, Default)]
pub struct CloneTarget<'a> {
    /// Make the child a sibling (CLONE_PARENT) instead of a child.
    pub sibling: bool,
    /// Put it straight into this cgroup v2 directory (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a copy of this process in new namespaces.
///
/// The child has its own copy of memory and descriptors, as after `fork`. Who calls this has one
/// thread, so every lock is free in the copy and the child may allocate.
///
/// # Errors
/// `EPERM`, `ENOSPC` (namespace limits), `EINVAL`, `EBUSY`/`EACCES` (cgroup). Source: clone(2).
pub fn clone3(flags: CloneFlags, target: &CloneTarget) -> nix::Result<Cloned> {
    super::disposition::learn();
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from((flags.bits() | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd).addr() as u64,
        // A sibling's exit is reported to our parent with the signal that ours would have.
        exit_signal: if target.sibling { 0 } else { u64::from(libc::SIGCHLD.cast_unsigned()) },
        ..CloneArgs::default()
    };
    if target.sibling {
        args.flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
    }
    if let Some(cgroup) = target.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a valid clone_args of the size given and outlives the call; `pidfd` is
    // the only memory the kernel writes. Without CLONE_VM the child runs on a copy of this stack.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let cloned = match Errno::result(ret) {
        // Filters cannot look into clone3's arguments; some refuse it, and expect clone instead.
        Err(Errno::ENOSYS | Errno::EPERM) if args.cgroup == 0 => clone(&args, &mut pidfd),
        other => other,
    };
    match cloned? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(Child {
            pid: Pid::from_raw(i32::try_from(pid).or(Err(Errno::EOVERFLOW))?),
            pidfd: owned(pidfd.into())?,
        })),
    }
}

/// The same by the older call, which has no cgroup and takes flags and signal as one number.
fn clone(args: &CloneArgs, pidfd: &mut RawFd) -> nix::Result<libc::c_long> {
    let (flags, pidfd) = (args.flags | args.exit_signal, std::ptr::from_mut(pidfd));
    // SAFETY: as for clone3. The two arguments whose order depends on the processor are null.
    Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, pidfd, 0, 0) })
}

/// Opens a handle that keeps naming this process even after its pid is reused.
///
/// # Errors
/// `ESRCH` if the process is gone and reaped; `ENOSYS` before Linux 5.3. Source: pidfd_open(2).
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: two integers passed by value; the kernel touches no memory of ours.
    match owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) }) {
        // The process is gone, but its number lives on as that of a session or group of others.
        Err(Errno::EINVAL) => Err(Errno::ESRCH),
        other => other,
    }
}

/// Sends a signal through a pidfd; 0 only checks that the process exists.
///
/// # Errors
/// `ESRCH` if it has exited and been reaped; `EPERM`, `EINVAL`. Source: pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> nix::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: integers by value and a null siginfo, which the call allows.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0, 0) };
    Errno::result(ret).map(drop)
}

/// Copies a descriptor out of another process.
///
/// # Errors
/// `EBADF`, `EPERM` (ptrace access), `ESRCH`; `ENOSYS` before Linux 5.6. Source: pidfd_getfd(2).
pub fn pidfd_getfd(pidfd: impl AsFd, fd: RawFd) -> nix::Result<OwnedFd> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: three integers by value.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0) })
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this status, 0 to 255.
    Status(i32),
    /// A signal with this number killed it.
    Signal(i32),
}

impl Exit {
    /// The shell's number for it: the status, or 128 plus the signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// From what the kernel keeps of an ended process. Source: wait(2), WEXITSTATUS.
    pub(super) fn of_code(code: i32) -> Self {
        match code & 0x7f {
            0 => Self::Status((code >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

/// Waits for a child to exit and reaps it.
///
/// # Errors
/// `ECHILD` if it is not a child of this process, or reaped already. Source: waitid(2).
pub fn wait(pidfd: impl AsFd) -> nix::Result<Exit> {
    // Not nix's: it cannot represent the death by a real-time signal.
    let fd = pidfd.as_fd().as_raw_fd().cast_unsigned();
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the kernel writes one siginfo_t into the memory given; the rest is by value.
        let ret = unsafe { libc::waitid(libc::P_PIDFD, fd, info.as_mut_ptr(), libc::WEXITED) };
        match Errno::result(ret) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    // SAFETY: all-zero is a valid siginfo_t, and waitid has filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid the SIGCHLD member of the union is the one in use.
    let status = unsafe { info.si_status() };
    Ok(if info.si_code == libc::CLD_EXITED { Exit::Status(status) } else { Exit::Signal(status) })
}

/// Our standard input.
pub const STDIN: BorrowedFd<'static> = standard(0);
/// Our standard output.
pub const STDOUT: BorrowedFd<'static> = standard(1);
/// Our standard error.
pub const STDERR: BorrowedFd<'static> = standard(2);

const fn standard(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the standard streams are never closed by carob, only replaced (dup2).
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Reaps children that have exited, but for `spared`, whose status somebody else wants: what a
/// subreaper owes to orphans. Does not wait.
pub fn reap_others(spared: Pid) {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let Ok(status) = waitid(Id::All, look) else { return };
        match status.pid() {
            // The spared one hides those behind it; they come with a later SIGCHLD, or go with us.
            Some(pid) if pid != spared && status != WaitStatus::StillAlive => {
                let _reaped = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            _ => return,
        }
    }
}

/// Replaces the program; returns only on failure.
pub fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(path, argv, env) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

/// Replaces the program by an open file; returns only on failure. Source: execveat(2).
pub fn fexecve(file: impl AsFd, argv: &[CString], env: &[CString]) -> Errno {
    use nix::fcntl::AtFlags;
    match nix::unistd::execveat(file, c"", argv, env, AtFlags::AT_EMPTY_PATH) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

/// Ends a cloned child: no exit handlers, no flushing of what the parent had buffered.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(status) }
}

/// The `prctl` operations that take one integer, by name.
#[derive(Debug, Clone, Copy)]
pub enum Prctl {
    /// PR_SET_DUMPABLE: whether others may ptrace us and read our `/proc/<pid>`.
    Dumpable(bool),
    /// PR_SET_CHILD_SUBREAPER: orphaned descendants become our children.
    ChildSubreaper(bool),
    /// PR_SET_KEEPCAPS: permitted capabilities survive the change to a non-root uid.
    KeepCaps(bool),
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivs,
    /// PR_CAPBSET_DROP of a capability number.
    DropBounding(u8),
    /// PR_CAP_AMBIENT_RAISE of a capability number.
    RaiseAmbient(u8),
    /// PR_CAP_AMBIENT_CLEAR_ALL.
    ClearAmbient,
}

/// Sets the name that `ps` shows for this process, at most 15 bytes. Source: PR_SET_NAME.
pub fn set_name(name: &CStr) {
    // SAFETY: `name` is a C string that lives during the call, of which 15 bytes are read.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Calls `prctl(2)`.
///
/// # Errors
/// `EINVAL` for what the kernel does not know, `EPERM`.
pub fn prctl(op: Prctl) -> nix::Result<()> {
    let ambient = |op: libc::c_int| libc::c_ulong::from(op.cast_unsigned());
    let (option, arg2, arg3) = match op {
        Prctl::Dumpable(on) => (libc::PR_SET_DUMPABLE, libc::c_ulong::from(on), 0),
        Prctl::ChildSubreaper(on) => (libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0),
        Prctl::KeepCaps(on) => (libc::PR_SET_KEEPCAPS, libc::c_ulong::from(on), 0),
        Prctl::NoNewPrivs => (libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        Prctl::DropBounding(cap) => (libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0),
        Prctl::RaiseAmbient(cap) => {
            (libc::PR_CAP_AMBIENT, ambient(libc::PR_CAP_AMBIENT_RAISE), libc::c_ulong::from(cap))
        }
        Prctl::ClearAmbient => (libc::PR_CAP_AMBIENT, ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0),
    };
    // SAFETY: these options take integers only; unused arguments are zero as they require.
    let ret = unsafe { libc::prctl(option, arg2, arg3, 0 as libc::c_ulong, 0 as libc::c_ulong) };
    Errno::result(ret).map(drop)
}

/// Whether others may ptrace this process. Source: PR_GET_DUMPABLE.
#[must_use]
pub fn is_dumpable() -> bool {
    // SAFETY: an integer by value; the answer is the return value.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 }
}

/// Lets a program be started with no signal blocked, whatever this process blocks.
pub fn unblock_signals_in(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let blocked = SigSet::thread_get_mask();
    // Without a hook of its own the program is started faster.
    if blocked.is_ok_and(|set| set == SigSet::empty()) {
        return;
    }
    // SAFETY: between fork and execve only an async-signal-safe system call is made.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
}

/// Sets a resource limit of another process.
///
/// # Errors
/// `EPERM` to raise a hard limit without CAP_SYS_RESOURCE, `EINVAL`, `ESRCH`. Source: prlimit(2).
pub fn prlimit(pid: Pid, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; the old limit is not asked for.
    let ret =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid.as_raw(), resource, &raw const limit, 0) };
    Errno::result(ret).map(drop)
}

/// The hard limit of this process.
///
/// # Errors
/// `EINVAL` for a resource that the kernel does not know. Source: prlimit(2).
pub fn hard_limit(resource: u32) -> nix::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable during the call; there is no new limit.
    let ret = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0, &raw mut limit) };
    Errno::result(ret)?;
    Ok(limit.rlim_max)
}

/// Joins a new anonymous session keyring. Source: keyctl_join_session_keyring(3).
///
/// # Errors
/// `ENOSYS` or `EPERM` where keyrings are not available; `EDQUOT`.
pub fn new_session_keyring(name: &CStr) -> nix::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: `name` is a valid C string for the duration of the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    Errno::result(ret).map(drop)
}

/// Ends this process at the signals that ask for it, also where it is the first of a pid
/// namespace, which default actions spare. An execve undoes it.
pub fn exit_on_termination_signals() {
    extern "C" fn end(signal: libc::c_int) {
        exit_now(128 + signal)
    }
    let handler: extern "C" fn(libc::c_int) = end;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: the handler only calls _exit, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Sets the NIS domain name of the UTS namespace. Source: setdomainname(2).
///
/// # Errors
/// `EPERM`; `EINVAL` over 64 bytes.
pub fn set_domain_name(name: &str) -> nix::Result<()> {
    // SAFETY: pointer and length describe one live string.
    let ret = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    Errno::result(ret).map(drop)
}

/// The pid behind a pidfd, as `/proc` numbers it. Source: pidfd_open(2), fdinfo.
///
/// # Errors
/// `ESRCH` if the process is gone; `EACCES` before Linux 5.14 for a user's process that is not
/// dumpable: its fdinfo belongs to root.
pub fn pid_of(pidfd: impl AsFd) -> nix::Result<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let info = fd::read_page(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Errno::EACCES,
        _ => Errno::ESRCH,
    })?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    match line.and_then(|pid| pid.trim().parse().ok()) {
        Some(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ => Err(Errno::ESRCH),
    }
}
