//! Scheduling policy, I/O priority, CPU affinity, NUMA memory policy.

use std::fmt;

use nix::errno::Errno;

/// What `sched_setattr(2)` takes; times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    /// Size of this structure; set by [`set_scheduler`].
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub runtime: u64,
    /// For SCHED_DEADLINE.
    pub deadline: u64,
    /// For SCHED_DEADLINE.
    pub period: u64,
}

/// The policies, by their numbers. Source: sched(7).
const POLICIES: [&str; 7] = [
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
];

/// The policy and what is set of its parameters: `SCHED_FIFO priority 10`.
impl fmt::Display for SchedAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.policy).ok().and_then(|policy| POLICIES.get(policy)) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "policy {}", self.policy)?,
        }
        if self.nice != 0 {
            write!(f, " nice {}", self.nice)?;
        }
        if self.flags != 0 {
            write!(f, " flags {:#x}", self.flags)?;
        }
        for (name, value) in [
            ("priority", self.priority.into()),
            ("runtime", self.runtime),
            ("deadline", self.deadline),
            ("period", self.period),
        ] {
            if value != 0 {
                write!(f, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

/// Sets policy and parameters of this process.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EBUSY` (no bandwidth). Source: sched_setattr(2).
pub fn set_scheduler(attr: SchedAttr) -> nix::Result<()> {
    let size = u32::try_from(size_of::<SchedAttr>()).or(Err(Errno::EINVAL))?;
    let attr = SchedAttr { size, ..attr };
    // SAFETY: `attr` is a valid sched_attr (its first version) that states its own size.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    Errno::result(ret).map(drop)
}

/// Sets I/O class (1 to 3) and level (0 to 7) of this process. Source: ioprio_set(2).
///
/// # Errors
/// `EPERM` for the real-time class without privilege, `EINVAL`.
pub fn set_io_priority(class: i32, level: i32) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: i32 = 13;
    let value = class << IOPRIO_CLASS_SHIFT | level;
    // SAFETY: integers by value.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    Errno::result(ret).map(drop)
}

/// Binds this process to the CPUs given by number. Source: sched_setaffinity(2).
///
/// # Errors
/// `EINVAL` if none of them exists or the cpuset allows none.
pub fn set_affinity(cpus: impl IntoIterator<Item = usize>) -> nix::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        set.set(cpu)?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}

/// Lets this process run on every CPU that its cpuset allows. Source: sched_setaffinity(2).
///
/// # Errors
/// `EPERM` where a sandbox forbids it.
pub fn use_all_cpus() -> nix::Result<()> {
    // More than any kernel is built for; the kernel drops what is not there.
    const CPUS: usize = 8192;
    let mask = [u64::MAX; CPUS / 64];
    // SAFETY: the mask is live and has the size given.
    let ret =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()) };
    Errno::result(ret).map(drop)
}

/// Sets the NUMA memory policy of this process; `nodes` is a bit mask. Source: set_mempolicy(2).
///
/// # Errors
/// `EINVAL`, `ENOSYS` on a kernel without NUMA.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> nix::Result<()> {
    let (mask, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel reads one bit less than it is told.
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the mask is null or a live slice of the number of bits given.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    Errno::result(ret).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_in_the_configuration() {
        let none = SchedAttr::default();
        for (attr, text) in [
            (none, "SCHED_OTHER"),
            (SchedAttr { policy: 1, priority: 10, ..none }, "SCHED_FIFO priority 10"),
            (SchedAttr { policy: 3, nice: -5, flags: 1, ..none }, "SCHED_BATCH nice -5 flags 0x1"),
            (
                SchedAttr { policy: 6, runtime: 1, deadline: 2, period: 3, ..none },
                "SCHED_DEADLINE runtime 1 deadline 2 period 3",
            ),
            (SchedAttr { policy: 7, ..none }, "policy 7"),
        ] {
            assert_eq!(attr.to_string(), text);
        }
    }
}
