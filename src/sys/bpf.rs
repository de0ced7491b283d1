//! bpf(2), as far as the device program of a cgroup needs it.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// `BPF_PROG_LOAD` of bpf(2).
const PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_ATTACH`.
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_DETACH`.
const PROG_DETACH: libc::c_int = 9;
/// `BPF_PROG_GET_FD_BY_ID`.
const PROG_GET_FD_BY_ID: libc::c_int = 13;
/// `BPF_PROG_QUERY`.
const PROG_QUERY: libc::c_int = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`, the attach type.
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: every attached program must agree, those of ancestors too.
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE`.
const REPLACE: u32 = 1 << 2;
/// The kernel's `BPF_CGROUP_MAX_PROGS`.
const MAX_PROGRAMS: usize = 64;
/// Enough for the verifier to say what it dislikes.
const LOG_SIZE: usize = 4096;

/// One eBPF instruction, laid out as `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, size or operation, source.
    pub code: u8,
    /// Destination register in the low, source register in the high four bits.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
    pad: u32,
}

/// The one call: `attr` is one of the structures above, matching `command`.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> nix::Result<libc::c_long> {
    // SAFETY: `attr` is a live, exclusively borrowed structure of exactly the size passed, without
    // uninitialised padding; the pointers it holds outlive the call (see the callers).
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    Errno::result(ret)
}

fn owned(ret: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(ret).or(Err(Errno::EOVERFLOW))?;
    // SAFETY: bpf(2) has just created `fd`, close-on-exec, for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs()
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr().addr() as u64
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
///
/// # Errors
/// The errno and what the verifier said (empty unless it refused the program): `EPERM` without
/// CAP_BPF and CAP_NET_ADMIN or, before Linux 5.11, when RLIMIT_MEMLOCK is used up.
/// Source: bpf(2).
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, (Errno, String)> {
    match load(program, &mut []) {
        // Only the verifier says EACCES or EINVAL: ask again for its reasons.
        Err(Errno::EACCES | Errno::EINVAL) => {
            let mut log = vec![0; LOG_SIZE];
            load(program, &mut log).map_err(|errno| {
                let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
                (errno, String::from_utf8_lossy(text).trim().to_owned())
            })
        }
        other => other.map_err(|errno| (errno, String::new())),
    }
}

fn load(program: &[Instruction], log: &mut [u8]) -> nix::Result<OwnedFd> {
    let too_big = |_| Errno::E2BIG;
    let mut attr = LoadAttr {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(too_big)?,
        insns: address(program),
        license: c"Apache-2.0".as_ptr().addr() as u64,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).map_err(too_big)?;
        attr.log_buf = log.as_mut_ptr().addr() as u64;
    }
    owned(bpf(PROG_LOAD, &mut attr)?)
}

/// Attaches a device program to a cgroup beside those that are there; all of them must allow.
///
/// # Errors
/// `EPERM` if an ancestor's program was attached exclusively. Source: bpf(2).
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(&cgroup),
        attach_bpf_fd: number(&program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
        ..AttachAttr::default()
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Puts `program` in the place of `old` in one step.
///
/// # Errors
/// `EINVAL` before Linux 5.6, `ENOENT` if `old` is not attached.
pub fn replace_device_program(
    cgroup: impl AsFd,
    program: impl AsFd,
    old: impl AsFd,
) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(&cgroup),
        attach_bpf_fd: number(&program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | REPLACE,
        replace_bpf_fd: number(&old),
        ..AttachAttr::default()
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program.
///
/// # Errors
/// `ENOENT` if it is not attached.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(&cgroup),
        attach_bpf_fd: number(&program),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// The device programs attached to this very cgroup, in the order they run.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN (and CAP_SYS_ADMIN for opening them by id).
pub fn device_programs(cgroup: impl AsFd) -> nix::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: number(&cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr().addr() as u64,
        prog_cnt: 64,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(MAX_PROGRAMS).min(MAX_PROGRAMS);
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut by_id = IdAttr { prog_id: *id, ..IdAttr::default() };
        programs.push(owned(bpf(PROG_GET_FD_BY_ID, &mut by_id)?)?);
    }
    Ok(programs)
}
