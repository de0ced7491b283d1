//! Our own programs: for each architecture a binary tree over the numbers of the calls.
//!
//! libseccomp takes 13 ms for an engine's default profile, most of them for jumps whose number grows
//! with the square of the program's length; this takes a twentieth. Numbers in a row with the same
//! answer are one leaf, so the program is a third as long, and the kernel, which runs it once for
//! each number when it is loaded, takes it faster.
//!
//! What a rule means is what it means to libseccomp, peculiarities included, and a test compares
//! the answers of both. Several rules for a call that could all match are beyond libseccomp: it
//! (2.5.4) takes for ever for some, and answers others in an order of its own or wrongly. Here one
//! without conditions counts before all others, as with libseccomp; of several with conditions the
//! most restrictive one that matches, as the kernel chooses where several filters answer.
//!
//! libseccomp makes the program on machines that this is not tested on.

use std::collections::BTreeMap;

use libseccomp::{ScmpAction, ScmpArch};
use oci_spec::runtime::Arch;

use super::conditions::{Condition, Width};
use super::enosys::{ARCH, Instruction, JUMP, JUMP_EQ, JUMP_GE, LOAD, NR, RETURN, X32_BIT};
use super::numbers::{Call, Numbers};

/// A foreign architecture. libseccomp's default, which nobody changes.
const BAD_ARCH: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// One entry of `syscalls`, checked.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: ScmpAction,
    /// It matches if all conditions of any of these hold.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

/// What is answered when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) conditions: Vec<Condition>,
    pub(super) value: u32,
}

/// What one number, or each in a row of them, leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leaf {
    Return(u32),
    /// The first that matches, else the default action.
    Answers(Vec<Answer>),
}

/// The program for these rules, whose calls have these numbers on each architecture; `None` if that
/// is for libseccomp to make.
pub(super) fn program(
    default: ScmpAction,
    rules: &[Rule],
    archs: &[Numbers],
) -> Option<Vec<Instruction>> {
    let default = value_of(default)?;
    width_of(ScmpArch::native())?;
    let mut sections: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for numbers in archs {
        let audit = audit_arch(numbers.name);
        if sections.iter().any(|(seen, _)| *seen == audit) {
            continue;
        }
        // No call is ever made with the architecture of another machine.
        let Some(width) = width_of(numbers.arch) else { continue };
        let leaves = if audit == Arch::ScmpArchX86_64 as u32 {
            let find = |arch| archs.iter().find(|numbers| numbers.arch == arch);
            shared_leaves(default, rules, find(ScmpArch::X8664), find(ScmpArch::X32))?
        } else {
            spread(&table(default, rules, numbers, width)?, 0, default)
        };
        let mut code = vec![Instruction::new(LOAD, 0, 0, NR)];
        code.extend(tree(&leaves, default)?);
        sections.push((audit, code));
    }
    let mut program = vec![Instruction::new(LOAD, 0, 0, ARCH)];
    for (audit, code) in sections {
        program.push(Instruction::new(JUMP_EQ, 1, 0, audit));
        program.push(Instruction::new(JUMP, 0, 0, u32::try_from(code.len()).ok()?));
        program.extend(code);
    }
    program.push(Instruction::new(RETURN, 0, 0, BAD_ARCH));
    Some(program)
}

/// x32 comes with the architecture of x86_64 and a bit in the number. One of the two that the
/// profile does not have is a foreign architecture.
fn shared_leaves(
    default: u32,
    rules: &[Rule],
    x86_64: Option<&Numbers>,
    x32: Option<&Numbers>,
) -> Option<Vec<(u32, Leaf)>> {
    let half = |numbers: Option<&Numbers>, first: u32, width: Width| {
        let Some(numbers) = numbers else { return Some(vec![(first, Leaf::Return(BAD_ARCH))]) };
        Some(spread(&table(default, rules, numbers, width)?, first, default))
    };
    // Conditions know their width: x32 compares 32 bits only.
    let mut leaves = half(x86_64, 0, Width::Bits64)?;
    leaves.extend(half(x32, X32_BIT, Width::Bits32)?);
    if x32.is_none() {
        // What a tracer sets to have no call made has that bit, too.
        leaves.push((u32::MAX, Leaf::Return(default)));
    }
    Some(leaves)
}

/// The kernel's AUDIT_ARCH_*, which libseccomp's names of architectures are, but for x32.
fn audit_arch(name: Arch) -> u32 {
    if name == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 as u32 } else { name as u32 }
}

/// Of an argument, as libseccomp compares it; `None` for what no test has compared.
pub(super) fn width_of(arch: ScmpArch) -> Option<Width> {
    if cfg!(target_endian = "big") {
        return None;
    }
    if matches!(arch, ScmpArch::X8664 | ScmpArch::Aarch64) {
        Some(Width::Bits64)
    } else if matches!(arch, ScmpArch::X86 | ScmpArch::X32 | ScmpArch::Arm) {
        Some(Width::Bits32)
    } else {
        None
    }
}

/// As the kernel returns it. Source: seccomp(2).
pub(super) fn value_of(action: ScmpAction) -> Option<u32> {
    Some(match action {
        ScmpAction::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        ScmpAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        ScmpAction::Trap => libc::SECCOMP_RET_TRAP,
        ScmpAction::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::try_from(errno).ok()?,
        ScmpAction::Trace(value) => libc::SECCOMP_RET_TRACE | u32::from(value),
        ScmpAction::Log => libc::SECCOMP_RET_LOG,
        ScmpAction::Notify => libc::SECCOMP_RET_USER_NOTIF,
        ScmpAction::Allow => libc::SECCOMP_RET_ALLOW,
        _ => return None,
    })
}

/// What each number of an architecture leads to, where that is not the default action.
fn table(
    default: u32,
    rules: &[Rule],
    numbers: &Numbers,
    width: Width,
) -> Option<BTreeMap<u32, Leaf>> {
    let all = answers(default, rules, numbers, width)?;
    Some(all.into_iter().map(|(number, answers)| (number, leaf(answers))).collect())
}

/// All answers that the rules have for each number, in their order.
pub(super) fn answers(
    default: u32,
    rules: &[Rule],
    numbers: &Numbers,
    width: Width,
) -> Option<BTreeMap<u32, Vec<Answer>>> {
    let mut answers: BTreeMap<u32, Vec<Answer>> = BTreeMap::new();
    for (rule, calls) in rules.iter().zip(&numbers.calls) {
        let value = value_of(rule.action)?;
        if value == default {
            continue;
        }
        for (call, alternative) in
            calls.iter().flat_map(|call| rule.alternatives.iter().map(move |all| (call, all)))
        {
            for (number, conditions) in places(*call, alternative, width) {
                let of_number = answers.entry(number).or_default();
                let answer = Answer { conditions, value };
                if !of_number.contains(&answer) {
                    of_number.push(answer);
                }
            }
        }
    }
    Some(answers)
}

/// Where a rule for a call is to be looked up: one number or, where the call can also be made through
/// another one, two.
fn places(call: Call, all: &[Condition], width: Width) -> Vec<(u32, Vec<Condition>)> {
    let conditions: Vec<Condition> = all.iter().map(|one| one.of_width(width)).collect();
    match call {
        Call::Number(number) => vec![(number, conditions)],
        Call::Through { number, selector, direct } => {
            // As libseccomp does: the selector takes the place of the first argument.
            let mut selected = vec![Condition::equal(0, selector.into(), width)];
            selected.extend(conditions.iter().copied().filter(|one| one.argument() != 0));
            let mut places = vec![(number, selected)];
            places.extend(direct.map(|direct| (direct, conditions)));
            places
        }
    }
}

fn leaf(mut answers: Vec<Answer>) -> Leaf {
    if let Some(always) = answers.iter().find(|answer| answer.conditions.is_empty()) {
        return Leaf::Return(always.value);
    }
    answers.sort_by_key(|answer| permissiveness(answer.value));
    Leaf::Answers(answers)
}

/// In the order that the kernel has for the answers of several filters. Source: seccomp(2).
fn permissiveness(value: u32) -> i32 {
    (value & libc::SECCOMP_RET_ACTION_FULL).cast_signed()
}

/// From each of these numbers on, up to the next one.
fn spread(table: &BTreeMap<u32, Leaf>, first: u32, default: u32) -> Vec<(u32, Leaf)> {
    let mut leaves = vec![(first, Leaf::Return(default))];
    for (&number, leaf) in table {
        push(&mut leaves, number, leaf.clone());
        if table.get(&number.saturating_add(1)).is_none() {
            push(&mut leaves, number.saturating_add(1), Leaf::Return(default));
        }
    }
    leaves
}

fn push(leaves: &mut Vec<(u32, Leaf)>, number: u32, leaf: Leaf) {
    match leaves.last_mut() {
        Some((_, last)) if *last == leaf => {}
        Some((start, last)) if *start == number => *last = leaf,
        _ => leaves.push((number, leaf)),
    }
}

/// ```text
///     jump if number ≥ first of the right half, right
///     left half
///     right half
/// ```
fn tree(leaves: &[(u32, Leaf)], default: u32) -> Option<Vec<Instruction>> {
    let (left, right) = match leaves {
        [] => return None,
        [(_, Leaf::Return(value))] => return Some(vec![Instruction::new(RETURN, 0, 0, *value)]),
        [(_, Leaf::Answers(answers))] => return compare(answers, default),
        more => more.split_at(more.len() / 2),
    };
    let (from, _) = right.first()?;
    let mut code = tree(left, default)?;
    let mut all = match u8::try_from(code.len()) {
        Ok(over) => vec![Instruction::new(JUMP_GE, over, 0, *from)],
        // Conditional jumps reach no further than that.
        Err(_) => vec![
            Instruction::new(JUMP_GE, 0, 1, *from),
            Instruction::new(JUMP, 0, 0, u32::try_from(code.len()).ok()?),
        ],
    };
    all.append(&mut code);
    all.append(&mut tree(right, default)?);
    Some(all)
}

fn compare(answers: &[Answer], default: u32) -> Option<Vec<Instruction>> {
    let mut code = Vec::new();
    for answer in answers {
        code.extend(super::conditions::all_hold(&answer.conditions)?);
        code.push(Instruction::new(RETURN, 0, 0, answer.value));
    }
    code.push(Instruction::new(RETURN, 0, 0, default));
    Some(code)
}
