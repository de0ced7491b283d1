use std::collections::HashSet;

use libseccomp::{ScmpArch, ScmpSyscall};

use super::*;
use crate::seccomp::compile;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386.
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

const SYS_ADMIN: u64 = 1 << 21;

struct Program(Vec<(u16, usize, usize, u32)>);

impl Program {
    fn new(capabilities: u64) -> Self {
        let bytes = compile(&profile(capabilities), None).unwrap().program;
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        let decode =
            |i: &[u8]| (u16::from_ne_bytes([i[0], i[1]]), i[2].into(), i[3].into(), word(&i[4..8]));
        Self(bytes.chunks(8).map(decode).collect())
    }

    /// What the kernel would do: the subset of classic BPF that libseccomp emits.
    fn run(&self, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = [nr.to_ne_bytes(), arch.to_ne_bytes(), [0; 4], [0; 4]].concat();
        args.iter().for_each(|arg| data.extend_from_slice(&arg.to_ne_bytes()));
        let (mut pc, mut a) = (0, 0);
        loop {
            let (code, if_true, if_false, k) = self.0[pc];
            let branch = |taken: bool| if taken { if_true } else { if_false };
            let at = k as usize;
            pc += 1;
            match code {
                0x20 => a = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap()),
                0x54 => a &= k,
                0x05 => pc += at,
                0x15 => pc += branch(a == k),
                0x25 => pc += branch(a > k),
                0x35 => pc += branch(a >= k),
                0x45 => pc += branch(a & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn call(&self, name: &str, args: [u64; 6]) -> u32 {
        let call = ScmpSyscall::from_name_by_arch(name, ScmpArch::X8664).unwrap();
        self.run(X86_64, call.as_raw_syscall().try_into().unwrap(), args)
    }
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

fn everybody() -> impl Iterator<Item = &'static str> {
    ALLOWED.iter().flat_map(|group| group.iter().copied())
}

#[test]
fn each_name_is_there_once() {
    let mut seen = HashSet::new();
    for name in everybody().chain(WITH_CAPABILITY.iter().flat_map(|row| row.1.iter().copied())) {
        assert!(seen.insert(name), "{name} is there twice");
    }
    for name in ["clone", "personality", "socket", "socketcall", "clone3"] {
        assert!(!everybody().any(|allowed| allowed == name), "{name} has conditions");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_ordinary_programs_do() {
    let program = Program::new(0);
    for name in [
        "read",
        "openat",
        "execve",
        "mmap",
        "futex",
        "fork",
        "vfork",
        "wait4",
        "kill",
        "ptrace",
        "rt_sigaction",
        "epoll_wait",
        "accept4",
        "bind",
        "connect",
        "setsockopt",
        "getrandom",
        "memfd_create",
        "setuid",
        "setgroups",
        "chown",
        "mknod",
        "prctl",
        "seccomp",
        "statx",
        "inotify_add_watch",
        "timerfd_create",
        "shmget",
        "mq_open",
        "sched_setaffinity",
        "prlimit64",
        "close_range",
        "pidfd_open",
        "rseq",
        "clock_nanosleep",
        "arch_prctl",
        "copy_file_range",
        "landlock_create_ruleset",
        "io_setup",
        "sendfile",
        "utimensat",
        "flock",
        "capset",
    ] {
        assert_eq!(program.call(name, [0; 6]), ALLOW, "{name}");
    }
    // fork of a C library, a thread, vfork.
    for flags in [0x0120_0011, 0x003d_0f00, 0x4111] {
        assert_eq!(program.call("clone", first(flags)), ALLOW, "{flags:#x}");
    }
    for family in [1, 2, 10, 16, 17, 37, 39, 41, 44, 45] {
        assert_eq!(program.call("socket", first(family)), ALLOW, "{family}");
    }
    for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(program.call("personality", first(domain)), ALLOW, "{domain:#x}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_refused() {
    let program = Program::new(0);
    for name in [
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "reboot",
        "swapon",
        "swapoff",
        "open_by_handle_at",
        "userfaultfd",
        "ioperm",
        "iopl",
        "settimeofday",
        "clock_settime",
        "sethostname",
        "syslog",
        "quotactl",
        "acct",
        "chroot",
        "fsopen",
        "fsmount",
        "move_mount",
        "open_tree",
        "kcmp",
        "vhangup",
        "mbind",
        "uselib",
        "nfsservctl",
        "sysfs",
        "ustat",
        "lookup_dcookie",
        "io_uring_setup",
        "io_uring_enter",
    ] {
        assert_eq!(program.call(name, [0; 6]), EPERM, "{name}");
    }
    for flags in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000] {
        assert_eq!(program.call("clone", first(flags | 17)), EPERM, "{flags:#x}");
    }
    assert_eq!(program.call("clone", first(0x4000_0011)), EPERM);
    for family in [38, 40] {
        assert_eq!(program.call("socket", first(family)), EPERM, "{family}");
    }
    // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC.
    for domain in [0x4_0000, 0x40_0000] {
        assert_eq!(program.call("personality", first(domain)), EPERM, "{domain:#x}");
    }
    assert_eq!(program.call("clone3", [0; 6]), ENOSYS);
    assert_eq!(program.run(X86_64, 9999, [0; 6]), ENOSYS);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_32_bit_interface_is_no_way_round() {
    let program = Program::new(0);
    for (name, number, args, expected) in [
        ("read", 3, [0; 6], ALLOW),
        ("clone", 120, first(17), ALLOW),
        ("clone", 120, first(0x1000_0011), EPERM),
        ("socket", 359, first(2), ALLOW),
        ("socket", 359, first(40), EPERM),
        ("socketcall", 102, first(1), ENOSYS),
        ("socketcall", 102, first(3), ENOSYS),
        ("mount", 21, [0; 6], EPERM),
        ("unshare", 310, [0; 6], EPERM),
        ("vm86", 166, [0; 6], EPERM),
        ("clone3", 435, [0; 6], ENOSYS),
    ] {
        assert_eq!(program.run(X86, number, args), expected, "{name} {args:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn capabilities_bring_their_calls() {
    for (needed, calls) in WITH_CAPABILITY {
        for cap in *needed {
            let program = Program::new(cap.bitmask());
            for name in *calls {
                if ScmpSyscall::from_name_by_arch(name, ScmpArch::X8664)
                    .is_ok_and(|call| call.as_raw_syscall() >= 0)
                {
                    assert_eq!(program.call(name, [0; 6]), ALLOW, "{cap} {name}");
                }
            }
        }
    }
    let admin = Program::new(SYS_ADMIN);
    assert_eq!(admin.call("clone", first(0x1000_0011)), ALLOW);
    assert_eq!(admin.call("keyctl", [0; 6]), EPERM);
    assert_eq!(admin.call("kexec_load", [0; 6]), EPERM);
}
