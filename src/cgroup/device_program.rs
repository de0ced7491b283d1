//! The eBPF program that is the device controller of cgroup v2. Pure.
//!
//! The kernel hands it `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }` with the type
//! in the low and the accesses in the high half of the first word; it answers 1 (granted) or 0.
//!
//! The rules are tried from the last to the first. r3 holds the accesses that no rule has granted
//! yet: an allowing rule clears its bits and ends the program when none is left, a denying one
//! ends it when it names one of those left.

use super::device_rules::{Kind, Rule, Verdict};
use crate::sys::bpf::Instruction;

/// `BPF_LDX | BPF_MEM | BPF_W`
const LOAD_WORD: u8 = 0x61;
/// `BPF_ALU | BPF_MOV | BPF_X`: 32 bits, clears the upper half.
const MOVE: u8 = 0xbc;
/// `BPF_ALU | BPF_MOV | BPF_K`
const MOVE_IMMEDIATE: u8 = 0xb4;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`
const SHIFT_RIGHT: u8 = 0x74;
/// `BPF_JMP32 | BPF_JNE | BPF_K`: 32 bits, so that device numbers are not sign-extended.
const JUMP_NOT_EQUAL: u8 = 0x56;
/// `BPF_JMP | BPF_EXIT`
const EXIT: u8 = 0x95;

/// Answer, and scratch.
const R0: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program for a list of rules.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        load(KIND, 0),
        register(MOVE, LEFT, KIND),
        immediate(SHIFT_RIGHT, LEFT, 16),
        immediate(AND, KIND, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev().filter(|rule| rule.access != 0) {
        if rule.decides_all() {
            // Whatever is left is decided here; what came after it could not be reached, and
            // kernels before 5.0 refuse such code.
            code.extend(answer(rule.verdict));
            return code;
        }
        code.extend(test(rule));
    }
    code.extend(answer(Verdict::Deny));
    code
}

/// One rule: jump over its action unless it names the device.
fn test(rule: &Rule) -> Vec<Instruction> {
    let access = rule.access.cast_signed();
    let mut action = match rule.verdict {
        Verdict::Allow => {
            vec![immediate(AND, LEFT, !access), jump(LEFT, 0, 2)]
        }
        // r0 = left & access; nothing to deny if zero: step over the jump's target.
        Verdict::Deny => {
            vec![register(MOVE, R0, LEFT), immediate(AND, R0, access), jump(R0, 0, 1), always(2)]
        }
    };
    action.extend(answer(rule.verdict));
    let devices = &rule.devices;
    let kind = devices.kind.map(|kind| match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    });
    let tests = [(KIND, kind), (MAJOR, devices.major), (MINOR, devices.minor)];
    let given = tests.iter().filter_map(|(register, value)| Some((*register, (*value)?)));
    let mut code = Vec::with_capacity(3 + action.len());
    let mut distance = tests.iter().filter(|(_, value)| value.is_some()).count() + action.len();
    for (register, value) in given {
        distance -= 1;
        code.push(jump(register, value.cast_signed(), i16::try_from(distance).unwrap_or(i16::MAX)));
    }
    code.extend(action);
    code
}

fn answer(verdict: Verdict) -> [Instruction; 2] {
    let value = match verdict {
        Verdict::Allow => 1,
        Verdict::Deny => 0,
    };
    [immediate(MOVE_IMMEDIATE, R0, value), instruction(EXIT, 0, 0, 0)]
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

fn load(destination: u8, offset: i16) -> Instruction {
    instruction(LOAD_WORD, pair(destination, CONTEXT), offset, 0)
}

fn register(code: u8, destination: u8, source: u8) -> Instruction {
    instruction(code, pair(destination, source), 0, 0)
}

fn immediate(code: u8, destination: u8, value: i32) -> Instruction {
    instruction(code, pair(destination, 0), 0, value)
}

/// Skips `distance` instructions unless the register has the value.
fn jump(register: u8, value: i32, distance: i16) -> Instruction {
    instruction(JUMP_NOT_EQUAL, pair(register, 0), distance, value)
}

/// `BPF_JMP | BPF_JA`
fn always(distance: i16) -> Instruction {
    instruction(0x05, 0, distance, 0)
}

/// Where C puts the two four-bit fields depends on the byte order.
fn pair(destination: u8, source: u8) -> u8 {
    if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::device_rules::tests::{any_rule, from_json, granted, requests};
    use super::super::device_rules::{ALL, MKNOD, READ};
    use super::*;

    /// Runs a program as the kernel would, and fails on anything the verifier would refuse.
    fn run(program: &[Instruction], context: [u32; 3]) -> bool {
        let mut registers = [None::<u64>; 11];
        let mut at = 0;
        for _ in 0..program.len() {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            let forward = usize::try_from(offset).expect("only forward");
            let word = u64::from(immediate.cast_unsigned());
            match code {
                LOAD_WORD => {
                    assert_eq!((from, forward % 4), (1, 0));
                    registers[to] = Some(context[forward / 4].into());
                }
                MOVE => registers[to] = registers[from].unwrap().into(),
                MOVE_IMMEDIATE => registers[to] = Some(word),
                AND => registers[to] = Some(registers[to].unwrap() & word),
                SHIFT_RIGHT => registers[to] = Some(registers[to].unwrap() >> word),
                JUMP_NOT_EQUAL if registers[to].unwrap() == word => {}
                JUMP_NOT_EQUAL | 0x05 => at += forward,
                EXIT => return registers[0].unwrap() == 1,
                _ => panic!("unknown instruction {code:#x}"),
            }
        }
        panic!("ran past the end");
    }

    fn ask(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        let kind = match kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        run(program, [access << 16 | kind, major, minor])
    }

    #[test]
    fn the_usual_container() {
        let program = program(
            &from_json(
                r#"[{"allow":false,"access":"rwm"},
                    {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
            )
            .unwrap(),
        );
        assert!(ask(&program, Kind::Char, 1, 3, ALL));
        assert!(ask(&program, Kind::Char, 10, 229, READ));
        assert!(ask(&program, Kind::Char, 10, 229, ALL), "mknod of any node is a default");
        assert!(ask(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!ask(&program, Kind::Block, 8, 0, READ | MKNOD));
        assert!(!ask(&program, Kind::Char, 1, 1, READ));
    }

    #[test]
    fn numbers_beyond_31_bits_are_not_sign_extended() {
        let json = format!(
            r#"[{{"allow":true,"type":"c","major":{0},"minor":{0},"access":"r"}}]"#,
            u32::MAX
        );
        let program = program(&from_json(&json).unwrap());
        assert!(ask(&program, Kind::Char, u32::MAX, u32::MAX, READ));
        assert!(!ask(&program, Kind::Char, u32::MAX, 1, READ));
    }

    proptest! {
        #[test]
        fn program_agrees_with_the_rules(rules in prop::collection::vec(any_rule(), 0..8)) {
            let program = program(&rules);
            for (kind, major, minor, access) in requests() {
                prop_assert_eq!(
                    ask(&program, kind, major, minor, access),
                    granted(&rules, kind, major, minor, access),
                    "{:?} {}:{} {}", kind, major, minor, access
                );
            }
        }
    }
}
