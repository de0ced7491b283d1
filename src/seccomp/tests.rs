//! Runs compiled filters in a small interpreter of classic BPF; loads a few for real.

use std::{
    fs,
    io::{IoSliceMut, Read},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::PathBuf,
};

use libseccomp::{ScmpArch, ScmpSyscall};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg},
    unistd::{Pid, getpgid},
};
use oci_spec::runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, StateBuilder,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{enosys::Instruction, *};

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = enosys::RET_ENOSYS;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

pub(super) fn parse(profile: &Value) -> LinuxSeccomp {
    serde_json::from_value(profile.clone()).expect("profile")
}

fn program(profile: &Value) -> Vec<Instruction> {
    let bytes = compile(&parse(profile), None).expect("compile").program;
    assert!(bytes.len().is_multiple_of(8));
    bytes.chunks(8).map(decode).collect()
}

pub(super) fn decode(bytes: &[u8]) -> Instruction {
    Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        if_true: bytes[2],
        if_false: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// What the kernel would do: the subset of classic BPF that libseccomp emits.
pub(super) fn run(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&nr.to_ne_bytes());
    data.extend_from_slice(&arch.to_ne_bytes());
    data.extend_from_slice(&0u64.to_ne_bytes());
    args.iter().for_each(|arg| data.extend_from_slice(&arg.to_ne_bytes()));
    let (mut pc, mut a) = (0usize, 0u32);
    loop {
        let Instruction { code, if_true, if_false, k } = program[pc];
        let branch = |taken: bool| usize::from(if taken { if_true } else { if_false });
        pc += 1;
        match code {
            enosys::LOAD => {
                let at = k as usize;
                a = u32::from_ne_bytes(data[at..at + 4].try_into().expect("word"));
            }
            0x54 => a &= k,
            enosys::JUMP => pc += k as usize,
            enosys::JUMP_EQ => pc += branch(a == k),
            enosys::JUMP_GT => pc += branch(a > k),
            enosys::JUMP_GE => pc += branch(a >= k),
            enosys::JUMP_SET => pc += branch(a & k != 0),
            enosys::RETURN => return k,
            other => panic!("instruction {other:#x} is not one of libseccomp's"),
        }
    }
}

fn args(first: u64) -> [u64; 6] {
    [first, 0, 0, 0, 0, 0]
}

/// A profile for all architectures of these tests, whatever the host is.
fn profile(default: &str, syscalls: Value) -> Value {
    json!({
        "defaultAction": default,
        "architectures":
            ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": syscalls,
    })
}

#[test]
fn every_action_returns_its_value() {
    let cases = [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(4094), 0x0005_0ffe),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
    ];
    for (action, errno, expected) in cases {
        let mut rule = json!({"names": ["getpid"], "action": action});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        let mut profile = profile("SCMP_ACT_ALLOW", json!([rule]));
        profile["listenerPath"] = json!("/run/agent.sock");
        let program = program(&profile);
        for (arch, getpid) in [(X86_64, 39), (X86_64, X32_BIT + 39), (X86, 20), (AARCH64, 172)] {
            assert_eq!(run(&program, arch, getpid, args(0)), expected, "{action} {arch:#x}");
            assert_eq!(run(&program, arch, 0, args(0)), ALLOW, "{action} {arch:#x}");
        }
    }
}

#[test]
fn every_default_action_returns_its_value() {
    let cases = [
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(13), 0x0005_000d),
        ("SCMP_ACT_TRACE", Some(7), 0x7ff0_0007),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ];
    for (action, errno, expected) in cases {
        let rules = json!([{"names": ["getpid", "getppid"], "action": "SCMP_ACT_ALLOW"}]);
        let mut profile = profile(action, rules);
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = json!(errno);
        }
        let program = program(&profile);
        assert_eq!(run(&program, X86_64, 39, args(0)), ALLOW, "{action}");
        assert_eq!(run(&program, X86_64, 40, args(0)), expected, "{action}");
    }
}

#[test]
fn operators_compare_all_64_bits() {
    const BIG: u64 = 0x0000_0002_0000_0005;
    /// Operator, `value`, `valueTwo`, arguments that match, arguments that do not.
    type Case = (&'static str, u64, u64, &'static [u64], &'static [u64]);
    let cases: &[Case] = &[
        ("NE", BIG, 0, &[0, 5, BIG + 1], &[BIG]),
        ("LT", BIG, 0, &[0, BIG - 1, 0x1_ffff_ffff], &[BIG, u64::MAX]),
        ("LE", BIG, 0, &[0, BIG], &[BIG + 1, 0x3_0000_0000]),
        ("EQ", BIG, 0, &[BIG], &[5, 0x2_0000_0000, 0]),
        ("GE", BIG, 0, &[BIG, 0x3_0000_0000], &[BIG - 1, 0x1_ffff_ffff]),
        ("GT", BIG, 0, &[BIG + 1, u64::MAX], &[BIG, 0]),
        // `value` is the mask, `valueTwo` what remains.
        ("MASKED_EQ", 0xf0, 0x20, &[0x20, 0x2f, 0x1_0000_0020], &[0x30, 0, 0xf0]),
        ("MASKED_EQ", 0x2_0000_0001, 0x2_0000_0000, &[0x2_0000_0000], &[1, 0x2_0000_0001]),
    ];
    for (operator, value, value_two, hits, misses) in cases {
        let op = format!("SCMP_CMP_{operator}");
        let arg = json!({"index": 0, "value": value, "valueTwo": value_two, "op": op});
        let rules = json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "args": [arg]}]);
        let program = program(&profile("SCMP_ACT_ALLOW", rules));
        for hit in *hits {
            assert_eq!(run(&program, X86_64, 121, args(*hit)), EPERM, "{operator} {hit:#x}");
        }
        for miss in *misses {
            assert_eq!(run(&program, X86_64, 121, args(*miss)), ALLOW, "{operator} {miss:#x}");
        }
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold_and_on_one_any() {
    let arg = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let rule =
        |args: Value| json!([{"names": ["setpgid"], "action": "SCMP_ACT_ERRNO", "args": args}]);
    let all = program(&profile("SCMP_ACT_ALLOW", rule(json!([arg(0, 1), arg(1, 2)]))));
    let any = program(&profile("SCMP_ACT_ALLOW", rule(json!([arg(0, 1), arg(0, 2), arg(1, 3)]))));
    let cases = [(1, 2, EPERM, EPERM), (1, 9, ALLOW, EPERM), (2, 9, ALLOW, EPERM)];
    let cases = cases.into_iter().chain([(9, 3, ALLOW, EPERM), (9, 9, ALLOW, ALLOW)]);
    for (a, b, with_all, with_any) in cases {
        assert_eq!(run(&all, X86_64, 109, [a, b, 0, 0, 0, 0]), with_all, "all {a} {b}");
        assert_eq!(run(&any, X86_64, 109, [a, b, 0, 0, 0, 0]), with_any, "any {a} {b}");
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    // The newest is statx: 332 on x86_64, 383 on x86, 291 on aarch64, 397 on arm.
    let names = json!(["read", "statx", "cacheflush", "no_such_call"]);
    let rules = json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]);
    let cases = [
        (X86_64, 0, ALLOW, "read"),
        (X86_64, 1, EPERM, "older than the newest"),
        (X86_64, 332, ALLOW, "the newest"),
        (X86_64, 333, ENOSYS, "above it"),
        (X86_64, 0x3fff_ffff, ENOSYS, "far above it"),
        (X86_64, X32_BIT, ALLOW, "read of x32"),
        (X86_64, X32_BIT + 1, EPERM, "older, x32"),
        (X86_64, X32_BIT + 332, ALLOW, "the newest of x32"),
        (X86_64, X32_BIT + 333, ENOSYS, "above it, x32"),
        (X86_64, u32::MAX, ENOSYS, "no call"),
        (X86, 383, ALLOW, "the newest of x86"),
        (X86, 384, ENOSYS, "above it, x86"),
        (X86, 332, EPERM, "the number of x86_64"),
        (AARCH64, 291, ALLOW, "the newest of aarch64"),
        (AARCH64, 292, ENOSYS, "above it, aarch64"),
        (ARM, 397, ALLOW, "the newest of arm"),
        (ARM, 398, ENOSYS, "above it, arm"),
        (ARM, 0xe_ffff, ENOSYS, "below arm's own"),
        (ARM, 0xf_0002, ALLOW, "cacheflush"),
        (ARM, 0xf_0005, EPERM, "set_tls, not allowed"),
        (0x8000_0016, 500, KILL, "an architecture that is not in the profile"),
    ];
    let program = program(&profile("SCMP_ACT_ERRNO", rules));
    for (arch, nr, expected, what) in cases {
        assert_eq!(run(&program, arch, nr, args(0)), expected, "{arch:#x} {nr:#x}: {what}");
    }
}

#[test]
fn x32_calls_stay_foreign_unless_the_profile_has_x32() {
    let mut profile = profile(
        "SCMP_ACT_ERRNO",
        json!([{"names": ["read", "statx"], "action": "SCMP_ACT_ALLOW"}]),
    );
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    let program = program(&profile);
    assert_eq!(run(&program, X86_64, 333, args(0)), ENOSYS);
    assert_eq!(run(&program, X86_64, X32_BIT, args(0)), KILL);
    assert_eq!(run(&program, X86_64, X32_BIT + 333, args(0)), KILL);
}

#[test]
fn permissive_defaults_have_no_prologue() {
    let cases = [
        ("SCMP_ACT_ALLOW", None, ALLOW),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_KILL", None, ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", None, ENOSYS),
        ("SCMP_ACT_TRAP", None, ENOSYS),
        ("SCMP_ACT_ERRNO", None, ENOSYS),
        ("SCMP_ACT_ERRNO", Some(libc::ENOSYS), ENOSYS),
    ];
    for (default, errno, expected) in cases {
        let rules =
            json!([{"names": ["read", "write"], "action": "SCMP_ACT_TRACE", "errnoRet": 5}]);
        let mut profile = profile(default, rules);
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = json!(errno);
        }
        assert_eq!(run(&program(&profile), X86_64, 400, args(0)), expected, "{default}");
    }
}

#[test]
fn s390_calls_beyond_its_instruction_do_not_exist() {
    const S390X: u32 = 0x8000_0016;
    let mut stub = enosys::prologue(&[(Arch::ScmpArchS390x, 379), (Arch::ScmpArchRiscv64, 300)]);
    stub.push(Instruction { code: enosys::RETURN, if_true: 0, if_false: 0, k: EPERM });
    let cases = [(S390X, 0, ENOSYS), (S390X, 1, EPERM), (S390X, 379, EPERM), (S390X, 380, ENOSYS)];
    let cases = cases.into_iter().chain([(0xc000_00f3, 0, EPERM), (0xc000_00f3, 301, ENOSYS)]);
    for (arch, nr, expected) in cases {
        assert_eq!(run(&stub, arch, nr, args(0)), expected, "{arch:#x} {nr}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Long profiles become a tree, short ones a chain; both must say what the profile says.
    #[test]
    fn a_filter_allows_exactly_what_its_profile_names(
        picked in proptest::collection::btree_set(0i32..440, 1..120),
    ) {
        let name = |nr: &i32| ScmpSyscall::from(*nr).get_name_by_arch(ScmpArch::X8664).ok();
        let names: Vec<String> = picked.iter().filter_map(name).collect();
        prop_assume!(!names.is_empty());
        let rules = json!([
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
             "args": [{"index": 0, "value": 77, "op": "SCMP_CMP_EQ"}]},
        ]);
        let program = program(&profile("SCMP_ACT_ERRNO", rules));
        let on = |arch: ScmpArch| move |name: &String| {
            ScmpSyscall::from_name_by_arch(name, arch).ok()
                .and_then(|call| u32::try_from(call.as_raw_syscall()).ok())
        };
        for (arch, audit) in
            [(ScmpArch::X8664, X86_64), (ScmpArch::X32, X86_64), (ScmpArch::Aarch64, AARCH64)]
        {
            let allowed: Vec<u32> = names.iter().filter_map(on(arch)).collect();
            let getpgid = on(arch)(&"getpgid".to_owned()).expect("getpgid");
            let newest = allowed.iter().copied().max().max(Some(getpgid)).expect("one");
            let first = if arch == ScmpArch::X32 { X32_BIT } else { 0 };
            for nr in first..first + 600 {
                let expected = match nr {
                    nr if allowed.contains(&nr) => ALLOW,
                    nr if nr > newest => ENOSYS,
                    _ => EPERM,
                };
                prop_assert_eq!(run(&program, audit, nr, args(0)), expected, "{:?} {}", arch, nr);
            }
            if !allowed.contains(&getpgid) {
                prop_assert_eq!(run(&program, audit, getpgid, args(77)), 0x0005_0063, "{:?}", arch);
            }
        }
    }
}

#[test]
fn conditions_hold_where_the_calls_without_conditions_do_not_exist() {
    let getpgid = json!({"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
        "args": [{"index": 0, "value": 77, "op": "SCMP_CMP_EQ"}]});
    // Neither exists on aarch64.
    let access = json!({"names": ["access", "open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 98});
    let program = program(&profile("SCMP_ACT_ALLOW", json!([access, getpgid])));
    for (arch, access, getpgid) in [(X86_64, Some(21), 121), (AARCH64, None, 155)] {
        assert_eq!(run(&program, arch, getpgid, args(77)), 0x0005_0063, "{arch:#x}");
        assert_eq!(run(&program, arch, getpgid, args(78)), ALLOW, "{arch:#x}");
        if let Some(access) = access {
            assert_eq!(run(&program, arch, access, args(0)), 0x0005_0062, "{arch:#x}");
        }
    }
}

#[test]
fn a_profile_of_unknown_calls_is_its_default_action() {
    let names: Vec<String> = (0..40).map(|n| format!("no_such_call_{n}")).collect();
    let rules = json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
    let program = program(&profile("SCMP_ACT_ALLOW", rules));
    for (arch, nr) in [(X86_64, 1), (X86_64, X32_BIT + 1), (X86, 1), (AARCH64, 1), (ARM, 1)] {
        assert_eq!(run(&program, arch, nr, args(0)), ALLOW, "{arch:#x} {nr:#x}");
    }
}

#[test]
fn redundant_and_repeated_rules_are_no_error() {
    let rules = json!([
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["read", "read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ]);
    let program = program(&profile("SCMP_ACT_ERRNO", rules));
    assert_eq!(run(&program, X86_64, 0, args(0)), ALLOW);
    assert_eq!(run(&program, X86_64, 1, args(0)), EPERM);
}

#[test]
fn a_profile_without_rules_is_its_default_action() {
    for (default, expected) in [("SCMP_ACT_ALLOW", ALLOW), ("SCMP_ACT_ERRNO", EPERM)] {
        let program = program(&json!({"defaultAction": default}));
        assert_eq!(run(&program, ScmpArchOfHost::AUDIT, 1, args(0)), expected);
    }
}

/// The native architecture's AUDIT_ARCH_*.
struct ScmpArchOfHost;
impl ScmpArchOfHost {
    const AUDIT: u32 = if cfg!(target_arch = "x86_64") { X86_64 } else { AARCH64 };
}

#[test]
fn errors_name_the_field_and_the_value() {
    let notify = json!([{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}]);
    let mkdir = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    let with_errno = |action: &str, errno: u32| json!([{"names": ["read"], "action": action, "errnoRet": errno}]);
    let with_index = json!([{"names": ["read"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]);
    let allow = |syscalls: &Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls});
    let with = |key: &str, value: Value| {
        let mut profile = allow(&json!([]));
        profile[key] = value;
        profile
    };
    let cases = [
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            allow(&notify),
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (allow(&mkdir), "linux.seccomp.listenerPath: not set"),
        (
            allow(&with_errno("SCMP_ACT_ERRNO", 4095)),
            "linux.seccomp.syscalls[0].errnoRet: 4095 is above 4094",
        ),
        (
            allow(&with_errno("SCMP_ACT_TRACE", 65536)),
            "linux.seccomp.syscalls[0].errnoRet: 65536 is above 65535",
        ),
        (
            allow(&with_errno("SCMP_ACT_LOG", 1)),
            "linux.seccomp.syscalls[0].errnoRet: 1: SCMP_ACT_LOG takes none",
        ),
        (
            with("defaultErrnoRet", json!(1)),
            "linux.seccomp.defaultErrnoRet: 1: SCMP_ACT_ALLOW takes none",
        ),
        (allow(&with_index), "linux.seccomp.syscalls[0].args[0].index: 6 is not 0 to 5"),
        (
            allow(&json!([{"names": [""], "action": "SCMP_ACT_LOG"}])),
            "linux.seccomp.syscalls[0].names: an empty name",
        ),
        (
            with("architectures", json!(["SCMP_ARCH_S390X"])),
            "linux.seccomp.architectures[0]: SCMP_ARCH_S390X: libseccomp: ",
        ),
        (
            with("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            "linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV ",
        ),
    ];
    for (profile, expected) in cases {
        let error = compile(&parse(&profile), None).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn an_architecture_that_libseccomp_lacks_is_an_error() {
    let lacking = names::ARCHS.iter().filter(|(_, arch)| !names::arch_known(*arch));
    for (name, _) in lacking {
        let profile =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name.to_string()]});
        let error = compile(&parse(&profile), None).expect_err("unknown").to_string();
        assert!(error.contains(&format!("{name} is not supported")), "{error}");
    }
}

#[test]
fn absent_flags_are_spec_allow_and_an_empty_list_is_none() {
    let allow = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let flags = |list: Option<Value>| {
        let mut profile = allow.clone();
        if let Some(list) = list {
            profile["flags"] = list;
        }
        compile(&parse(&profile), None).expect("compile").flags
    };
    assert_eq!(flags(None), kernel::FLAG_SPEC_ALLOW);
    assert_eq!(flags(Some(json!([]))), 0);
    assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_TSYNC"]))), 0);
    let both = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    assert_eq!(flags(Some(both)), kernel::FLAG_LOG | kernel::FLAG_SPEC_ALLOW);
}

#[test]
fn every_word_is_one_that_a_profile_may_use() {
    fn read<T: serde::de::DeserializeOwned>(words: Vec<String>, count: usize) {
        assert_eq!(words.len(), count, "{words:?}");
        for word in words {
            serde_json::from_value::<T>(json!(word)).expect(&word);
        }
    }
    read::<LinuxSeccompAction>(actions(), 9);
    read::<LinuxSeccompOperator>(operators(), 7);
    read::<LinuxSeccompFilterFlag>(known_flags(), 4);
    read::<LinuxSeccompFilterFlag>(supported_flags(), supported_flags().len());
    read::<Arch>(names::ARCHS.iter().map(|(name, _)| name.to_string()).collect(), 24);
    assert!(archs().contains(&"SCMP_ARCH_AARCH64".to_owned()));
}

/// A directory of this test alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("carob-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).expect("scratch");
        Self(path)
    }

    fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    fn entries(&self) -> Vec<PathBuf> {
        let list = fs::read_dir(self.cache()).expect("cache");
        list.map(|entry| entry.expect("entry").path()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn small(errno: u32) -> LinuxSeccomp {
    parse(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno,
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}))
}

#[test]
fn the_cache_gives_back_what_was_compiled() {
    let scratch = Scratch::new("hit");
    let fresh = compile(&small(1), None).expect("compile");
    for _ in 0..2 {
        assert_eq!(compile(&small(1), Some(&scratch.cache())).expect("cached"), fresh);
    }
    assert_eq!(scratch.entries().len(), 1);
    let other = compile(&small(2), Some(&scratch.cache())).expect("cached");
    assert_ne!(other, fresh, "another profile");
    assert_eq!(scratch.entries().len(), 2);
    let mode = fs::metadata(scratch.cache()).expect("cache").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_cached_program_is_used() {
    let scratch = Scratch::new("used");
    compile_keyed(&small(1), b"key", Some(&scratch.cache())).expect("compile");
    // The key stands for the profile: with the same one, the cached program wins.
    let cached = compile_keyed(&small(2), b"key", Some(&scratch.cache())).expect("cached");
    assert_eq!(cached, compile(&small(1), None).expect("compile"));
}

#[test]
fn a_damaged_or_foreign_entry_is_compiled_again() {
    let fresh = compile(&small(1), None).expect("compile");
    type Damage = fn(&PathBuf, Vec<u8>);
    let damages: &[(&str, Damage)] = &[
        ("empty", |path, _| fs::write(path, b"").expect("write")),
        ("short", |path, entry| fs::write(path, &entry[..entry.len() - 1]).expect("write")),
        ("long", |path, entry| fs::write(path, [&entry[..], b"x"].concat()).expect("write")),
        ("program", |path, mut entry| {
            entry[30] ^= 1;
            fs::write(path, entry).expect("write");
        }),
        ("length", |path, mut entry| {
            entry[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
            fs::write(path, entry).expect("write");
        }),
        ("key", |path, mut entry| {
            *entry.last_mut().expect("key") ^= 1;
            fs::write(path, entry).expect("write");
        }),
        ("writable by others", |path, _| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o622)).expect("chmod");
        }),
        ("link", |path, entry| {
            let target = path.with_extension("target");
            fs::write(&target, entry).expect("write");
            fs::remove_file(path).expect("unlink");
            symlink(target, path).expect("symlink");
        }),
    ];
    for (what, damage) in damages {
        let scratch = Scratch::new(&format!("damage-{}", what.replace(' ', "-")));
        // The wrong program under the right key: whoever trusts the entry shows it.
        compile_keyed(&small(2), b"key", Some(&scratch.cache())).expect("compile");
        let path = scratch.entries().remove(0);
        damage(&path, fs::read(&path).expect("entry"));
        for _ in 0..2 {
            let filter = compile_keyed(&small(1), b"key", Some(&scratch.cache())).expect(what);
            assert_eq!(filter, fresh, "{what}");
        }
        let meta = fs::symlink_metadata(&path).expect("entry");
        assert!(meta.is_file() && meta.permissions().mode() & 0o777 == 0o600, "{what}: replaced");
    }
}

#[test]
fn an_unusable_cache_is_no_error() {
    let scratch = Scratch::new("unusable");
    let fresh = compile(&small(1), None).expect("compile");
    fs::write(scratch.cache(), b"a file").expect("write");
    for dir in [scratch.cache(), scratch.0.join("missing/dir")] {
        assert_eq!(compile(&small(1), Some(&dir)).expect("compile"), fresh);
    }
    let huge = vec![b' '; 200 * 1024];
    let dir = scratch.0.join("huge");
    assert_eq!(compile_keyed(&small(1), &huge, Some(&dir)).expect("compile"), fresh);
    assert!(!dir.exists());
}

#[test]
fn the_cache_does_not_grow_without_end() {
    let scratch = Scratch::new("prune");
    for key in 0..80u32 {
        compile_keyed(&small(1), &key.to_ne_bytes(), Some(&scratch.cache())).expect("compile");
    }
    assert_eq!(scratch.entries().len(), 64);
}

/// Filters stay with the thread that loads them, and each test has one of its own.
#[test]
fn the_kernel_does_what_the_interpreter_does() {
    let rules = json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
        "args": [{"index": 0, "value": 0x00ab_cdef, "op": "SCMP_CMP_EQ"}]}]);
    let filter = compile(&parse(&profile("SCMP_ACT_ALLOW", rules)), None).expect("compile");
    let pid = Some(Pid::from_raw(0x00ab_cdef));
    assert_eq!(getpgid(pid), Err(Errno::ESRCH));
    nix::sys::prctl::set_no_new_privs().expect("no_new_privs");
    assert!(kernel::load(&filter.program, filter.flags).expect("load").is_none());
    assert_eq!(getpgid(pid), Err(Errno::EOPNOTSUPP));
    assert_eq!(kernel::load(b"", 0).err(), Some(Errno::EINVAL));
    assert_eq!(kernel::load(b"seven b", 0).err(), Some(Errno::EINVAL));
}

#[test]
fn an_agent_receives_the_notify_fd_and_the_state() {
    let scratch = Scratch::new("agent");
    let path = scratch.0.join("agent.sock");
    let agent = UnixListener::bind(&path).expect("bind");
    let rules = json!([{"names": ["getpgid"], "action": "SCMP_ACT_NOTIFY",
        "args": [{"index": 0, "value": 0x00ab_cdee, "op": "SCMP_CMP_EQ"}]}]);
    let mut profile = profile("SCMP_ACT_ALLOW", rules);
    profile["listenerPath"] = json!(path);
    profile["listenerMetadata"] = json!("opaque");
    if supported_flags().contains(&"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned()) {
        profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    }
    let filter = compile(&parse(&profile), None).expect("compile");
    let listener = filter.listener.expect("listener");
    assert_eq!(listener.path, path);

    nix::sys::prctl::set_no_new_privs().expect("no_new_privs");
    let fd = kernel::load(&filter.program, filter.flags).expect("load").expect("notify fd");
    let state = StateBuilder::default().version("1.3.0").id("c1").bundle("/b").build();
    let state = listener.process_state(42, state.expect("state")).expect("json");
    kernel::send_listener(&path, fd.as_fd(), &state).expect("send");

    let (mut peer, _) = agent.accept().expect("accept");
    let mut text = vec![0; state.len()];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<UnixAddr>(
        peer.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .expect("recvmsg");
    let rights: Vec<ControlMessageOwned> = message.cmsgs().expect("cmsgs").collect();
    assert!(matches!(&rights[..], [ControlMessageOwned::ScmRights(fds)] if fds.len() == 1));
    let state: Value = serde_json::from_slice(&text).expect("json");
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], 42);
    assert_eq!(state["metadata"], "opaque");
    assert_eq!(state["state"]["id"], "c1");
    assert_eq!(peer.read(&mut [0]).expect("closed"), 0, "one state per connection");
}
