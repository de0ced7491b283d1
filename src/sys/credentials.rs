//! User and group ids, capability sets.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::fd;

/// The three sets that `capset(2)` writes, one bit per capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What is checked.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What survives an execve of a file with inheritable capabilities.
    pub inheritable: u64,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

impl Header {
    /// Version 3 of the interface: two triples of words, one bit per capability.
    const OF_THIS_PROCESS: Self = Self { version: 0x2008_0522, pid: 0 };
}

/// The permitted capabilities of this process, one bit per capability number.
///
/// # Errors
/// None that the kernel documents for the own process. Source: capget(2).
pub fn permitted() -> nix::Result<u64> {
    let mut data = [0_u32; 6];
    let mut header = Header::OF_THIS_PROCESS;
    // SAFETY: `header` and `data` have the layout of version 3 of the interface (two triples of
    // 32-bit words) and are writable during the call.
    let ret = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(ret)?;
    let [_, low, _, _, high, _] = data;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// The bounding set of a process, one bit per capability number.
///
/// # Errors
/// `ESRCH` or `ENOENT` if there is none; `EINVAL` if the kernel does not say. Source: `proc_pid_status(5)`.
pub fn bounding(pid: Pid) -> std::io::Result<u64> {
    let status = fd::read_page(format!("/proc/{pid}/status"))?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.ok_or_else(|| Errno::EINVAL.into())
}

/// Whether this process is in a user namespace other than the machine's first one.
///
/// One system call: the first one's inode is the same on every Linux since 3.8.
/// Source: `USER_NS_INIT_INO` in `linux/nsfs.h`.
#[must_use]
pub fn in_user_namespace() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFD;
    // Without /proc nobody can tell; nothing of carob works then anyway.
    nix::sys::stat::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL)
}

/// Whether this process is root, and of the whole machine.
#[must_use]
pub fn is_host_root() -> bool {
    nix::unistd::geteuid().is_root() && !in_user_namespace()
}

/// Sets all three capability sets of this process with one call.
///
/// # Errors
/// `EPERM` when a permitted bit is set that the process does not have. Source: capset(2).
pub fn capset(sets: CapabilitySets) -> nix::Result<()> {
    let halves = |set: u64| [(set & 0xffff_ffff) as u32, (set >> 32) as u32];
    let (e, p, i) = (halves(sets.effective), halves(sets.permitted), halves(sets.inheritable));
    let data: [u32; 6] = [e[0], p[0], i[0], e[1], p[1], i[1]];
    let mut header = Header::OF_THIS_PROCESS;
    // SAFETY: `header` and `data` have the layout of version 3 of the interface (two triples of
    // 32-bit words) and outlive the call.
    let ret = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    Errno::result(ret).map(drop)
}

/// Sets user and group ids with the raw calls, which affect this thread and so all of carob.
///
/// # Errors
/// `EINVAL` for an id that is not mapped in the user namespace, `EPERM`, `EAGAIN`.
pub fn set_ids(uid: u32, gid: u32) -> nix::Result<()> {
    // SAFETY: integers by value.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: integers by value.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Replaces the supplementary groups.
///
/// # Errors
/// `EPERM` (also where `/proc/<pid>/setgroups` says deny), `EINVAL`. Source: setgroups(2).
pub fn set_groups(gids: &[u32]) -> nix::Result<()> {
    // SAFETY: pointer and length describe one live slice of gid_t.
    let ret = unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) };
    Errno::result(ret).map(drop)
}
