//! `RuntimeDefault`: the seccomp profile of containers that need nothing special.
//!
//! A list of what is allowed. Left out is what is of no use to a program in a container, has been
//! a way to attack the kernel, or needs a capability that such a container does not have; what
//! comes with a capability is allowed to those who have it. Everything else fails with `EPERM`,
//! and system calls newer than the newest one named here with `ENOSYS` (`seccomp::enosys`).
//!
//! Left out for good, whatever the capabilities: kernel keyrings (`add_key`, `keyctl`,
//! `request_key`: not separate for each container), `userfaultfd` and `io_uring_*` (the kernel's
//! most exploited interfaces), `kexec_*`, `swapon`, `swapoff`, `pivot_root`, `nfsservctl`, `uselib`,
//! `ustat`, `sysfs`, `vm86*`; of sockets, `AF_VSOCK` (leads out of a virtual machine) and `AF_ALG`
//! (the kernel's cryptography, with a history).

use caps::Capability as Cap;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

/// Allowed to everybody. Names that an architecture does not have are skipped.
#[rustfmt::skip]
const ALLOWED: &[&[&str]] = &[
    // Files and directories.
    &["access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "creat", "dup",
      "dup2", "dup3", "faccessat", "faccessat2", "fallocate", "fadvise64", "fadvise64_64",
      "arm_fadvise64_64", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32",
      "fchownat", "fcntl", "fcntl64", "fdatasync", "flock", "fstat", "fstat64", "fstatat64",
      "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futimesat", "getcwd",
      "getdents", "getdents64", "lchown", "lchown32", "link", "linkat", "lseek", "_llseek",
      "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at",
      "newfstatat", "open", "openat", "openat2", "readahead", "readlink", "readlinkat", "rename",
      "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs", "statfs64", "statx", "symlink",
      "symlinkat", "sync", "sync_file_range", "sync_file_range2", "arm_sync_file_range", "syncfs",
      "truncate", "truncate64", "umask", "unlink", "unlinkat", "utime", "utimensat",
      "utimensat_time64", "utimes", "file_getattr", "file_setattr", "cachestat"],
    // Extended attributes.
    &["fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat",
      "lgetxattr", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr",
      "removexattr", "removexattrat", "setxattr", "setxattrat"],
    // Reading and writing.
    &["copy_file_range", "ioctl", "pread64", "preadv", "preadv2", "pwrite64", "pwritev",
      "pwritev2", "read", "readv", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "write",
      "writev", "pipe", "pipe2", "io_setup", "io_submit", "io_cancel", "io_destroy",
      "io_getevents", "io_pgetevents", "io_pgetevents_time64"],
    // Waiting for events.
    &["epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
      "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "inotify_add_watch",
      "inotify_init", "inotify_init1", "inotify_rm_watch", "fanotify_mark", "_newselect", "poll",
      "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd", "signalfd4"],
    // Memory.
    &["brk", "madvise", "map_shadow_stack", "membarrier",
      "memfd_create", "memfd_secret", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2",
      "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc",
      "pkey_free", "pkey_mprotect", "remap_file_pages"],
    // Processes and threads. clone is below.
    &["capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "get_robust_list",
      "get_thread_area", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrlimit",
      "getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set", "landlock_add_rule",
      "landlock_create_ruleset", "landlock_restrict_self", "lsm_get_self_attr",
      "lsm_list_modules", "lsm_set_self_attr", "nice", "pidfd_open", "pidfd_send_signal", "prctl",
      "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace", "rseq",
      "seccomp", "set_robust_list", "set_thread_area", "set_tid_address", "setpgid",
      "setpriority", "setrlimit", "setsid", "sysinfo", "times", "ugetrlimit", "uname",
      "uretprobe", "uprobe", "vfork", "wait4", "waitid", "waitpid", "getcpu"],
    // Scheduling.
    &["sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
      "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
      "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
      "sched_setscheduler", "sched_yield"],
    // Users and groups.
    &["getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
      "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32",
      "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
      "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
      "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32"],
    // Signals.
    &["kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
      "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
      "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction", "sigaltstack", "signal",
      "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "tgkill", "tkill"],
    // Time. Reading and slewing: the kernel asks for CAP_SYS_TIME where it matters.
    &["adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres",
      "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
      "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep", "setitimer", "time",
      "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
      "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
      "timerfd_gettime64", "timerfd_settime", "timerfd_settime64"],
    // Sockets. socket itself is below.
    &["accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
      "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
      "sendto", "setsockopt", "shutdown", "socketpair"],
    // Between processes.
    &["futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "ipc",
      "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
      "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
      "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
      "shmget"],
    // Looking at mounts: of the own namespace only.
    &["listmount", "statmount"],
    // Random numbers.
    &["getrandom"],
    // Of one architecture.
    &["arch_prctl", "modify_ldt", "breakpoint", "cacheflush", "set_tls", "get_tls",
      "riscv_flush_icache", "riscv_hwprobe", "s390_pci_mmio_read", "s390_pci_mmio_write",
      "s390_runtime_instr", "s390_guarded_storage", "swapcontext"],
];

/// Allowed to those who have one of these capabilities.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(&[Cap], &[&str])] = &[
    (&[Cap::CAP_SYS_ADMIN],
     &["clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
       "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
       "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "umount", "umount2",
       "unshare"]),
    (&[Cap::CAP_BPF, Cap::CAP_SYS_ADMIN], &["bpf"]),
    (&[Cap::CAP_PERFMON, Cap::CAP_SYS_ADMIN], &["perf_event_open"]),
    (&[Cap::CAP_SYSLOG, Cap::CAP_SYS_ADMIN], &["syslog"]),
    (&[Cap::CAP_DAC_READ_SEARCH], &["open_by_handle_at"]),
    (&[Cap::CAP_SYS_BOOT], &["reboot"]),
    (&[Cap::CAP_SYS_CHROOT], &["chroot"]),
    (&[Cap::CAP_SYS_MODULE], &["delete_module", "finit_module", "init_module"]),
    (&[Cap::CAP_SYS_NICE],
     &["get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy",
       "set_mempolicy_home_node"]),
    (&[Cap::CAP_SYS_PACCT], &["acct"]),
    (&[Cap::CAP_SYS_PTRACE], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&[Cap::CAP_SYS_RAWIO], &["ioperm", "iopl"]),
    (&[Cap::CAP_SYS_TIME], &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (&[Cap::CAP_SYS_TTY_CONFIG], &["vhangup"]),
];

/// Every flag of clone(2) that makes a namespace. CLONE_NEWTIME is none: its bit is part of the
/// exit signal there.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Execution domains: Linux, its 32-bit form, each with the version 2.6, and the query.
///
/// Source: personality(2); PER_LINUX, PER_LINUX32, UNAME26.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families: all below AF_ALG, the one between it and AF_VSOCK, all above that.
const FAMILIES: &[(Operator, u64)] =
    &[(Operator::ScmpCmpLt, 38), (Operator::ScmpCmpEq, 39), (Operator::ScmpCmpGt, 40)];

/// The profile for a container that has these capabilities, as the kernel's mask.
#[must_use]
pub fn profile(capabilities: u64) -> LinuxSeccomp {
    let has = |all: &[Cap]| all.iter().any(|cap| capabilities & cap.bitmask() != 0);
    let mut names: Vec<&str> = ALLOWED.iter().flat_map(|group| group.iter().copied()).collect();
    for (needed, calls) in WITH_CAPABILITY {
        if has(needed) {
            names.extend(*calls);
        }
    }
    // First, as the architecture's rules for single calls of it would otherwise come before.
    let mut rules = vec![not_there("socketcall"), rule(names, Action::ScmpActAllow)];
    if !has(&[Cap::CAP_SYS_ADMIN]) {
        let flags = usize::from(cfg!(target_arch = "s390x"));
        let none = condition(flags, NAMESPACE_FLAGS, Operator::ScmpCmpMaskedEq);
        rules.extend(allow_if("clone", none));
        rules.push(not_there("clone3"));
    }
    for value in PERSONALITIES {
        rules.extend(allow_if("personality", condition(0, *value, Operator::ScmpCmpEq)));
    }
    for (operator, value) in FAMILIES {
        rules.extend(allow_if("socket", condition(0, *value, *operator)));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Action::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    profile
}

/// Those that a program may also be built for on this machine.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn rule(names: Vec<&str>, action: Action) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.into_iter().map(str::to_owned).collect()).set_action(action);
    rule
}

/// What these do is told in memory, where no filter can look: C libraries that hear that the call
/// does not exist use the plain one, `clone` and `socket`.
fn not_there(name: &str) -> LinuxSyscall {
    let mut rule = rule(vec![name], Action::ScmpActErrno);
    rule.set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
    rule
}

/// Without its condition the call stays forbidden.
fn allow_if(name: &str, condition: Option<LinuxSeccompArg>) -> Option<LinuxSyscall> {
    let mut rule = rule(vec![name], Action::ScmpActAllow);
    rule.set_args(Some(vec![condition?]));
    Some(rule)
}

/// Of a masked comparison, `value` is the mask, and nothing of it may be set.
fn condition(index: usize, value: u64, operator: Operator) -> Option<LinuxSeccompArg> {
    let argument = LinuxSeccompArgBuilder::default().index(index).value(value).op(operator);
    argument.value_two(0_u64).build().ok()
}

#[cfg(test)]
#[path = "seccomp_default_tests.rs"]
mod tests;
