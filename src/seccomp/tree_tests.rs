//! Our programs answer as libseccomp's: both run in the interpreter, over the same calls.

use libseccomp::{ScmpAction, ScmpArch, ScmpSyscall};
use oci_spec::runtime::LinuxSeccompOperator as Operator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conditions::Condition;
use super::enosys::{Instruction, X32_BIT};
use super::numbers::Numbers;
use super::rules::compile_with;
use super::tests::{decode, parse, run};
use super::tree::{self, Answer, Rule};

/// Calls that all have, that some have, that go through others on 32-bit x86, and one that nobody has.
const NAMES: [&str; 32] = [
    "read",
    "write",
    "openat",
    "clone",
    "personality",
    "socket",
    "socketpair",
    "bind",
    "accept",
    "accept4",
    "recv",
    "send",
    "recvmmsg",
    "sendmmsg",
    "getsockopt",
    "shutdown",
    "socketcall",
    "ipc",
    "semop",
    "semget",
    "semtimedop",
    "msgctl",
    "shmat",
    "shmctl",
    "waitpid",
    "cacheflush",
    "set_tls",
    "arch_prctl",
    "io_uring_setup",
    "fchmodat2",
    "stime",
    "no_such_call",
];
const ACTIONS: [&str; 5] =
    ["SCMP_ACT_ALLOW", "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const VALUES: [u64; 12] = [
    0,
    1,
    2,
    7,
    16,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0007,
    0x8000_0000_0000_0001,
    u64::MAX,
];
/// Name, AUDIT_ARCH_*, libseccomp's name, whether arguments have 64 bits.
const ARCHS: [(&str, u32, ScmpArch, bool); 5] = [
    ("SCMP_ARCH_X86_64", 0xc000_003e, ScmpArch::X8664, true),
    ("SCMP_ARCH_X32", 0xc000_003e, ScmpArch::X32, true),
    ("SCMP_ARCH_X86", 0x4000_0003, ScmpArch::X86, false),
    ("SCMP_ARCH_AARCH64", 0xc000_00b7, ScmpArch::Aarch64, true),
    ("SCMP_ARCH_ARM", 0x4000_0028, ScmpArch::Arm, false),
];

pub(super) fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => proptest::sample::select(&VALUES[..]),
        1 => any::<u64>(),
        1 => (proptest::sample::select(&VALUES[..]), -1_i64..=1)
            .prop_map(|(value, by)| value.wrapping_add_signed(by)),
    ]
}

pub(super) fn condition() -> impl Strategy<Value = Value> {
    let operator = prop_oneof![
        1 => proptest::sample::select(&OPERATORS[..]),
        1 => Just("SCMP_CMP_EQ"),
    ];
    (0_usize..4, operator, value(), value()).prop_map(|(index, op, value, value_two)| {
        json!({"index": index, "op": op, "value": value, "valueTwo": value_two})
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let names = proptest::sample::subsequence(&NAMES[..], 1..6);
    let args = prop_oneof![
        2 => Just(Vec::new()),
        3 => proptest::collection::vec(condition(), 1..4),
    ];
    (names, proptest::sample::select(&ACTIONS[..]), args).prop_map(|(names, action, args)| {
        let mut rule = json!({"names": names, "action": action});
        if action == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = json!(5);
        }
        if !args.is_empty() {
            rule["args"] = json!(args);
        }
        rule
    })
}

fn profile() -> impl Strategy<Value = Value> {
    let archs = proptest::sample::subsequence(&ARCHS[..], 0..=ARCHS.len());
    let default = proptest::sample::select(
        &["SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ALLOW"][..],
    );
    (default, archs, proptest::collection::vec(rule(), 1..8)).prop_map(|(default, archs, rules)| {
        let archs: Vec<&str> = archs.into_iter().map(|(name, ..)| name).collect();
        // One that all architectures have and that does not do what would be done anyway:
        // libseccomp's programs are wrong without.
        let mut all = vec![json!({"names": ["getpid", "getuid"], "action": "SCMP_ACT_TRACE"})];
        all.extend(rules);
        json!({"defaultAction": default, "architectures": archs, "syscalls": all})
    })
}

pub(super) fn instructions(bytes: &[u8]) -> Vec<Instruction> {
    bytes.chunks(8).map(decode).collect()
}

/// The numbers of all names on an architecture, their neighbours, and some far away.
fn numbers(arch: ScmpArch) -> Vec<u32> {
    let mut all = vec![0, 1, 102, 117, 335, 450, 1000, 0x000f_0002, X32_BIT - 1, X32_BIT, u32::MAX];
    for name in NAMES.iter().chain(&["getpid", "getuid"]) {
        let found = ScmpSyscall::from_name_by_arch(name, arch).map(|call| call.as_raw_syscall());
        if let Some(number) = found.ok().and_then(|raw| u32::try_from(raw).ok()) {
            all.extend([number.saturating_sub(1), number, number + 1, number | X32_BIT]);
        }
    }
    all.extend(359..=373);
    all.extend(393..=402);
    all.sort_unstable();
    all.dedup();
    all
}

/// Leaves all to libseccomp.
fn none(_: ScmpAction, _: &[Rule], _: &[Numbers]) -> Option<Vec<Instruction>> {
    None
}

/// Whether libseccomp is right about the rules: no call has several that could all match.
fn is_plain(profile: &Value) -> bool {
    fn check(default: ScmpAction, rules: &[Rule], archs: &[Numbers]) -> Option<Vec<Instruction>> {
        let default = tree::value_of(default)?;
        let is_plain = archs.iter().all(|numbers| {
            let width = tree::width_of(numbers.arch).unwrap();
            let answers = tree::answers(default, rules, numbers, width).unwrap();
            answers.values().all(|answers| are_plain(answers))
        });
        let marker = Instruction::new(super::enosys::RETURN, 0, 0, 0);
        Some(if is_plain { Vec::new() } else { vec![marker] })
    }
    // The prologue is there either way.
    let checked = compile_with(&parse(profile), check).unwrap();
    let plain = compile_with(&parse(profile), |_, _, _| Some(Vec::new())).unwrap();
    checked == plain
}

fn are_plain(answers: &[Answer]) -> bool {
    let is_always = |answer: &Answer| answer.conditions.is_empty();
    let is_same = |answer: &Answer| answer.value == answers[0].value;
    let is_settled =
        |answer: &Answer| is_same(answer) || is_always(&answers[0]) && is_always(answer);
    if answers.iter().any(is_always) && answers.iter().all(is_settled) {
        return true;
    }
    let others = |i: usize| answers.iter().skip(i + 1);
    answers.len() == 1
        || answers.iter().all(is_simple)
            && answers.iter().enumerate().all(|(i, a)| others(i).all(|b| goes_with(a, b)))
}

/// Values that arguments have, or one value that an argument has not.
fn is_simple(answer: &Answer) -> bool {
    let equal = |one: &Condition| one.operator == Operator::ScmpCmpEq;
    let all = &answer.conditions;
    !all.is_empty() && (all.iter().all(equal) || all.len() == 1 && denies(answer))
}

fn denies(answer: &Answer) -> bool {
    answer.conditions.iter().any(|one| one.operator == Operator::ScmpCmpNe)
}

/// Different answers must exclude each other. As to equal ones: libseccomp (2.5.4) takes several
/// values together with the opposite of one of them for less than each alone.
fn goes_with(a: &Answer, b: &Answer) -> bool {
    if a.value != b.value {
        let excludes = |one: &Condition| b.conditions.iter().any(|their| excludes(*one, *their));
        return a.conditions.iter().any(excludes);
    }
    let is_mixed = |a: &Answer, b: &Answer| a.conditions.len() > 1 && denies(b);
    !is_mixed(a, b) && !is_mixed(b, a)
}

/// Whether the two cannot both hold, as far as that is easy to see: one of them names a value.
fn excludes(a: Condition, b: Condition) -> bool {
    let one_way = |a: Condition, b: Condition| {
        a.operator == Operator::ScmpCmpEq
            && match b.operator {
                Operator::ScmpCmpNe => a.value == b.value,
                Operator::ScmpCmpEq => a.value != b.value,
                _ => false,
            }
    };
    a.argument == b.argument && (one_way(a, b) || one_way(b, a))
}

fn agree(profile: &Value, arguments: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let ours = instructions(&compile_with(&parse(profile), tree::program).unwrap());
    let theirs = instructions(&compile_with(&parse(profile), none).unwrap());
    for (name, audit, arch, is_64) in ARCHS {
        for number in numbers(arch) {
            for arguments in arguments {
                let arguments = arguments.map(|one| if is_64 { one } else { one & 0xffff_ffff });
                let answers =
                    [&ours, &theirs].map(|program| run(program, audit, number, arguments));
                prop_assert_eq!(
                    answers[0],
                    answers[1],
                    "{} {:#x} {:x?} {}",
                    name,
                    number,
                    arguments,
                    profile
                );
            }
        }
    }
    let foreign = [&ours, &theirs].map(|program| run(program, 0x8000_0016, 1, [0; 6]));
    prop_assert_eq!(foreign[0], foreign[1], "a foreign architecture");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn our_program_answers_as_libseccomps(
        profile in profile(),
        arguments in proptest::collection::vec(proptest::array::uniform6(value()), 12),
    ) {
        prop_assume!(is_plain(&profile));
        agree(&profile, &arguments)?;
    }
}

/// Each argument has each of a few values.
fn all_of(some: &[u64]) -> Vec<[u64; 6]> {
    some.iter()
        .flat_map(|a| {
            some.iter().flat_map(move |b| some.iter().map(move |c| [*a, *b, *c, 0, 0, 0]))
        })
        .collect()
}

#[test]
fn socket_and_ipc_calls_are_found_both_ways() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["getpid", "semtimedop", "accept", "bind"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["shmctl", "socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "op": "SCMP_CMP_EQ", "value": 16},
                {"index": 2, "op": "SCMP_CMP_EQ", "value": 9},
            ]},
        ],
    });
    assert!(is_plain(&profile));
    agree(&profile, &all_of(&[0, 1, 2, 4, 5, 9, 16, 24])).unwrap();
}

/// As the engines' profile has it for a container without CAP_AUDIT_WRITE.
#[test]
fn different_answers_that_exclude_each_other_are_both_given() {
    let socket =
        |action: &str, args: Value| json!({"names": ["socket"], "action": action, "args": args});
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"},
            socket("SCMP_ACT_TRAP", json!([
                {"index": 0, "op": "SCMP_CMP_EQ", "value": 16},
                {"index": 2, "op": "SCMP_CMP_EQ", "value": 9},
            ])),
            socket("SCMP_ACT_ALLOW", json!([{"index": 2, "op": "SCMP_CMP_NE", "value": 9}])),
            socket("SCMP_ACT_ALLOW", json!([{"index": 0, "op": "SCMP_CMP_NE", "value": 16}])),
        ],
    });
    assert!(is_plain(&profile), "the conditions of socket exclude each other");
    agree(&profile, &all_of(&[0, 1, 2, 9, 16])).unwrap();
}

/// As the engines' profile has it for `setns` and others, whatever the capabilities are.
#[test]
fn the_first_rule_without_conditions_counts() {
    let clone =
        |action: &str, args: Value| json!({"names": ["clone"], "action": action, "args": args});
    let some = json!([{"index": 0, "op": "SCMP_CMP_LT", "value": 5}]);
    let (trap, allow) = ("SCMP_ACT_TRAP", "SCMP_ACT_ALLOW");
    let orders = [
        vec![clone(allow, json!([])), clone(trap, json!([]))],
        vec![clone(allow, some.clone()), clone(allow, json!([]))],
    ];
    for rules in orders {
        let mut all = vec![json!({"names": ["getpid"], "action": allow})];
        all.extend(rules);
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": all});
        assert!(is_plain(&profile), "{profile}");
        agree(&profile, &all_of(&[0, 4, 5, 6])).unwrap();
    }
}

/// A profile as long as an engine's has a program that a jump of one byte does not reach across.
#[test]
fn a_long_profile_is_reached_in_all_its_parts() {
    let every_other: Vec<String> =
        (0..440).step_by(2).filter_map(|raw| ScmpSyscall::from(raw).get_name().ok()).collect();
    let masked =
        json!([{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7e02_0000, "valueTwo": 0}]);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": every_other, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality", "dup2", "clone3"], "action": "SCMP_ACT_TRAP", "args": masked},
        ],
    });
    assert!(is_plain(&profile));
    let program = instructions(&compile_with(&parse(&profile), tree::program).unwrap());
    assert!(program.len() > 600, "{}", program.len());
    let theirs = instructions(&compile_with(&parse(&profile), none).unwrap());
    for number in (0..500).flat_map(|number| [number, number | X32_BIT]) {
        for (_, audit, ..) in ARCHS {
            for first in [0, 0x0002_0000] {
                let arguments = [first, 0, 0, 0, 0, 0];
                let answers =
                    [&program, &theirs].map(|program| run(program, audit, number, arguments));
                assert_eq!(answers[0], answers[1], "{audit:#x} {number}");
            }
        }
    }
}
