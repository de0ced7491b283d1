//! Several rules for one call, as many as there are: against a model that reads the profile, as
//! libseccomp takes for ever for some of these and is wrong about others.

use libseccomp::{ScmpArch, ScmpSyscall};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::enosys::Instruction;
use super::rules::compile;
use super::tests::{parse, run};
use super::tree_tests::{condition, instructions, value};

/// Calls that all of the architectures have by numbers of their own.
const NAMES: [&str; 3] = ["clone", "personality", "openat"];
/// Name, AUDIT_ARCH_*, libseccomp's name, bits of an argument that count.
const ARCHS: [(&str, u32, ScmpArch, u64); 4] = [
    ("SCMP_ARCH_X86_64", 0xc000_003e, ScmpArch::X8664, u64::MAX),
    ("SCMP_ARCH_X86", 0x4000_0003, ScmpArch::X86, 0xffff_ffff),
    ("SCMP_ARCH_AARCH64", 0xc000_00b7, ScmpArch::Aarch64, u64::MAX),
    ("SCMP_ARCH_ARM", 0x4000_0028, ScmpArch::Arm, 0xffff_ffff),
];
/// From the most restrictive to the least, with what the kernel reads in a filter's answer.
const ACTIONS: [(&str, u32); 6] = [
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_TRAP", 0x0003_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0000),
    ("SCMP_ACT_TRACE", 0x7ff0_0000),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
];

fn rule() -> impl Strategy<Value = Value> {
    let names = proptest::sample::subsequence(&NAMES[..], 1..=2);
    let args = proptest::collection::vec(condition(), 0..4);
    (names, proptest::sample::select(&ACTIONS[..]), 1_u32..4, args).prop_map(
        |(names, (action, _), errno, args)| {
            let mut rule = json!({"names": names, "action": action, "args": args});
            if action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_TRACE" {
                rule["errnoRet"] = json!(errno);
            }
            rule
        },
    )
}

fn profile(default: &str, rules: &[Value]) -> Value {
    let archs = ARCHS.map(|(name, ..)| name);
    let mut all = vec![json!({"names": NAMES, "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 5, "op": "SCMP_CMP_EQ", "value": 77}]})];
    all.extend_from_slice(rules);
    json!({"defaultAction": default, "architectures": archs, "syscalls": all})
}

fn holds(condition: &Value, arguments: &[u64; 6], bits: u64) -> bool {
    let number = |key: &str| condition[key].as_u64().unwrap_or(0) & bits;
    let index = usize::try_from(condition["index"].as_u64().unwrap()).unwrap();
    let (argument, value) = (arguments[index] & bits, number("value"));
    match condition["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        "SCMP_CMP_MASKED_EQ" => argument & value == number("valueTwo") & value,
        other => panic!("{other}"),
    }
}

fn matches(rule: &Value, arguments: &[u64; 6], bits: u64) -> bool {
    let conditions = rule["args"].as_array().unwrap();
    let index = |one: &Value| one["index"].as_u64().unwrap();
    let mut seen: Vec<u64> = conditions.iter().map(index).collect();
    seen.sort_unstable();
    seen.dedup();
    let mut all = conditions.iter().map(|one| holds(one, arguments, bits));
    // Several on one argument are alternatives.
    if seen.len() == conditions.len() { all.all(|one| one) } else { all.any(|one| one) }
}

/// Its place in [`ACTIONS`], and the answer.
fn answer(rule: &Value) -> (usize, u32) {
    let name = rule["action"].as_str().unwrap();
    let place = ACTIONS.iter().position(|(known, _)| *known == name).unwrap();
    let data = u32::try_from(rule["errnoRet"].as_u64().unwrap_or(0)).unwrap();
    (place, ACTIONS[place].1 | data)
}

fn model(profile: &Value, name: &str, arguments: &[u64; 6], bits: u64) -> u32 {
    let default = match profile["defaultAction"].as_str().unwrap() {
        "SCMP_ACT_ERRNO" => 0x0005_0001,
        other => ACTIONS.iter().find(|(known, _)| *known == other).unwrap().1,
    };
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["names"].as_array().unwrap().contains(&json!(name)));
    // A rule that does what would be done anyway is none.
    let rules: Vec<&Value> = rules.filter(|rule| answer(rule).1 != default).collect();
    let is_always = |rule: &&&Value| rule["args"].as_array().unwrap().is_empty();
    if let Some(always) = rules.iter().find(is_always) {
        return answer(always).1;
    }
    let matching = rules.iter().filter(|rule| matches(rule, arguments, bits));
    // The first of the smallest.
    matching.map(|rule| answer(rule)).min_by_key(|(place, _)| *place).map_or(default, |(_, v)| v)
}

fn check(profile: &Value, arguments: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let program: Vec<Instruction> = instructions(&compile(&parse(profile)).unwrap());
    for (arch, audit, scmp, bits) in ARCHS {
        for name in NAMES {
            let number = ScmpSyscall::from_name_by_arch(name, scmp).unwrap().as_raw_syscall();
            for arguments in arguments {
                // A 32-bit call has no more.
                let arguments = arguments.map(|one| one & bits);
                let expected = model(profile, name, &arguments, bits);
                let given = run(&program, audit, u32::try_from(number).unwrap(), arguments);
                let about = format!("{arch} {name} {arguments:x?} {profile}");
                prop_assert_eq!(given, expected, "{}", about);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn several_rules_for_a_call_mean_what_the_profile_says(
        default in proptest::sample::select(
            &["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ALLOW"][..]),
        rules in proptest::collection::vec(rule(), 1..8),
        arguments in proptest::collection::vec(proptest::array::uniform6(value()), 24),
    ) {
        check(&profile(default, &rules), &arguments)?;
    }
}

fn clone(action: &str, conditions: &[(u64, &str, u64)]) -> Value {
    let args = conditions.iter().map(
        |(index, op, value)| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value}),
    );
    json!({"names": ["clone"], "action": action, "args": args.collect::<Vec<_>>()})
}

/// libseccomp 2.5.4 does not come back from these, or has answered wrongly.
#[test]
fn overlapping_conditions_are_compiled_at_once() {
    let (allow, trap) = ("SCMP_ACT_ALLOW", "SCMP_ACT_TRAP");
    let values = [0, 1, 3, 5, 0x1_0000_0000, u64::MAX];
    let arguments: Vec<[u64; 6]> =
        values.iter().flat_map(|a| values.map(|b| [*a, b, *a, b, 0, 0])).collect();
    for rules in [
        [clone(allow, &[(3, "LT", 0x1_0000_0000)]), clone(allow, &[(3, "LT", 0)])],
        [clone(allow, &[(0, "NE", 3)]), clone(allow, &[(0, "EQ", 3), (1, "EQ", 1)])],
        [clone(allow, &[(0, "NE", 3)]), clone(trap, &[(0, "EQ", 3)])],
        [clone(allow, &[(0, "GE", 3)]), clone(trap, &[(1, "EQ", 3)])],
        [clone(allow, &[(0, "EQ", 5)]), clone(trap, &[(0, "EQ", 5)])],
        [clone(trap, &[(0, "EQ", 5)]), clone(allow, &[])],
    ] {
        check(&profile("SCMP_ACT_ERRNO", &rules), &arguments).unwrap();
    }
}

#[test]
fn an_architecture_of_other_machines_changes_nothing_unless_it_can_be_none_of_them() {
    let mut profile = profile("SCMP_ACT_ERRNO", &[clone("SCMP_ACT_TRAP", &[(0, "GE", 3)])]);
    profile["architectures"][1] = json!("SCMP_ARCH_RISCV64");
    let program = instructions(&compile(&parse(&profile)).unwrap());
    for arguments in [[2, 0, 0, 0, 0, 77], [3, 0, 0, 0, 0, 77]] {
        let expected = model(&profile, "clone", &arguments, u64::MAX);
        assert_eq!(run(&program, ARCHS[0].1, 56, arguments), expected);
    }
    profile["architectures"][1] = json!("SCMP_ARCH_S390X");
    let error = compile(&parse(&profile)).unwrap_err().to_string();
    assert!(error.contains("linux.seccomp.architectures[1]: SCMP_ARCH_S390X"), "{error}");
}
