//! seccomp(2), and handing a notify fd to the agent that answers it.
//!
//! Only moves bytes: what a filter says is the business of `crate::seccomp`.

use std::{
    io::{self, IoSlice, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    ptr,
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
};

/// Log every action but allow. `SECCOMP_FILTER_FLAG_LOG`, Linux 4.14.
pub const FLAG_LOG: u32 = 1 << 1;
/// No Speculative Store Bypass mitigation. `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, Linux 4.17.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Return a notify fd. `SECCOMP_FILTER_FLAG_NEW_LISTENER`, Linux 5.0.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// Only fatal signals interrupt a notification that the agent has received; needs
/// [`FLAG_NEW_LISTENER`]. `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Bytes of one `struct sock_filter`.
pub const INSTRUCTION_BYTES: usize = size_of::<libc::sock_filter>();
/// The longest program the kernel takes, in instructions: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Adds a filter to the calling thread; `program` is an array of `struct sock_filter`.
///
/// Returns the notify fd, close-on-exec, when `flags` has [`FLAG_NEW_LISTENER`].
/// One system call and no allocation: it runs just before `execve`.
///
/// # Errors
/// `EINVAL` for a program or flag the kernel refuses; `EACCES` without both `no_new_privs` and
/// `CAP_SYS_ADMIN`; `EBUSY` if the thread already has a listener. Source: seccomp(2).
pub fn load(program: &[u8], flags: u32) -> nix::Result<Option<OwnedFd>> {
    let count = program.len() / INSTRUCTION_BYTES;
    if !program.len().is_multiple_of(INSTRUCTION_BYTES) || count > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let fprog = libc::sock_fprog {
        len: u16::try_from(count).or(Err(Errno::EINVAL))?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `fprog` spans exactly `program`, which outlives the call; the kernel copies it
    // byte by byte, so its alignment does not matter, and writes to neither.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
    };
    let ret = Errno::result(ret)?;
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = RawFd::try_from(ret).or(Err(Errno::EOVERFLOW))?;
    // SAFETY: the kernel has just created `fd` for us; nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether the kernel knows all of `flags`, in this combination. Loads nothing.
///
/// # Errors
/// `ENOSYS` without seccomp, or what an outer filter answers. Source: seccomp(2).
pub fn flags_known(flags: u32) -> nix::Result<bool> {
    // SAFETY: the program is the null pointer, which the kernel answers with EFAULT once it has
    // accepted the flags; no memory of ours is passed.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    match Errno::result(ret) {
        Err(Errno::EFAULT) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(e) => Err(e),
        // Cannot be: there was no program to load.
        Ok(_) => Err(Errno::EPROTO),
    }
}

/// Whether the kernel knows a filter return value such as `SECCOMP_RET_LOG`. Before Linux 4.14,
/// which cannot tell, the answer is no.
///
/// # Errors
/// `ENOSYS` without seccomp, or what an outer filter answers. Source: seccomp(2).
pub fn action_known(action: u32) -> nix::Result<bool> {
    // SAFETY: the kernel reads one u32 from a local that outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    match Errno::result(ret) {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Connects to a seccomp agent, sends it the notify fd and the container process state, and
/// closes the connection. Runs in the parent: the container's process may be stopped in a
/// system call that only the agent can answer.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED`, `EACCES` from connect(2); `EPIPE` if the agent hangs up.
/// Source: runtime-spec config-linux.md, "The Container Process State".
pub fn send_listener(path: &Path, fd: BorrowedFd<'_>, state_json: &[u8]) -> io::Result<()> {
    let mut agent = UnixStream::connect(path)?;
    let rights = [fd.as_raw_fd()];
    let sent = sendmsg::<UnixAddr>(
        agent.as_raw_fd(),
        &[IoSlice::new(state_json)],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    // A stream may take less than all of it; the fd has gone with the first byte.
    agent.write_all(state_json.get(sent..).unwrap_or_default())
}
