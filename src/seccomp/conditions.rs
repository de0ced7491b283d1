//! Conditions on the arguments of a call, and the instructions that test them.

use libseccomp::{ScmpArgCompare, ScmpCompareOp};
use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::enosys::{Instruction, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD};
use super::names::OPERATORS;

/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// Offset of the arguments in `struct seccomp_data`, in bytes.
const ARGS: u32 = 16;

/// How much of an argument counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The lower half of it, and of what it is compared with.
    Bits32,
    /// All of it.
    Bits64,
}

/// One condition: an argument, masked, is related to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) operator: Operator,
    mask: u64,
    pub(super) value: u64,
    width: Width,
}

impl Condition {
    /// As a profile has it: a masked comparison has its mask in `value`, and in `value_two` what must
    /// remain.
    pub(super) fn new(argument: u32, operator: Operator, value: u64, value_two: u64) -> Self {
        let (mask, value) = match operator {
            Operator::ScmpCmpMaskedEq => (value, value & value_two),
            _ => (u64::MAX, value),
        };
        Self { argument, operator, mask, value, width: Width::Bits64 }
    }

    /// The same for libseccomp.
    pub(super) fn compare(self) -> ScmpArgCompare {
        let row = OPERATORS.iter().find(|(name, _)| *name == self.operator);
        let operator = row.map_or(ScmpCompareOp::Equal, |(_, make)| make(self.mask));
        ScmpArgCompare::new(self.argument, operator, self.value)
    }

    /// The argument has this value.
    pub(super) fn equal(argument: u32, value: u64, width: Width) -> Self {
        Self::new(argument, Operator::ScmpCmpEq, value, 0).of_width(width)
    }

    /// The same on an architecture of this width.
    pub(super) fn of_width(self, width: Width) -> Self {
        let keep = |value: u64| match width {
            Width::Bits32 => value & u64::from(u32::MAX),
            Width::Bits64 => value,
        };
        Self { mask: keep(self.mask), value: keep(self.value), width, ..self }
    }

    /// The number of the argument, from 0.
    pub(super) fn argument(self) -> u32 {
        self.argument
    }

    /// Loads the halves that count, upper half first, and compares.
    fn steps(self) -> Vec<Step> {
        use Operator as Op;
        use To::{Fail, Hold, Next};
        let upper = u32::try_from(self.value >> 32).unwrap_or_default();
        let mut steps = Vec::with_capacity(7);
        if self.width == Width::Bits64 {
            self.load(&mut steps, true);
            match self.operator {
                Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => {
                    steps.push(Step::jump(JUMP_EQ, upper, Next, Fail));
                }
                Op::ScmpCmpNe => steps.push(Step::jump(JUMP_EQ, upper, Next, Hold)),
                Op::ScmpCmpGt | Op::ScmpCmpGe => {
                    steps.push(Step::jump(JUMP_GT, upper, Hold, Next));
                    steps.push(Step::jump(JUMP_EQ, upper, Next, Fail));
                }
                Op::ScmpCmpLt | Op::ScmpCmpLe => {
                    steps.push(Step::jump(JUMP_GT, upper, Fail, Next));
                    steps.push(Step::jump(JUMP_EQ, upper, Next, Hold));
                }
            }
        }
        self.load(&mut steps, false);
        let (code, yes, no) = match self.operator {
            Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => (JUMP_EQ, Hold, Fail),
            Op::ScmpCmpNe => (JUMP_EQ, Fail, Hold),
            Op::ScmpCmpGt => (JUMP_GT, Hold, Fail),
            Op::ScmpCmpGe => (JUMP_GE, Hold, Fail),
            Op::ScmpCmpLt => (JUMP_GE, Fail, Hold),
            Op::ScmpCmpLe => (JUMP_GT, Fail, Hold),
        };
        let lower = u32::try_from(self.value & u64::from(u32::MAX)).unwrap_or_default();
        steps.push(Step::jump(code, lower, yes, no));
        steps
    }

    fn load(self, steps: &mut Vec<Step>, upper: bool) {
        let half = if upper { 4 } else { 0 };
        steps.push(Step::plain(LOAD, ARGS + 8 * self.argument + half));
        if self.operator == Operator::ScmpCmpMaskedEq {
            let mask = if upper { self.mask >> 32 } else { self.mask & u64::from(u32::MAX) };
            steps.push(Step::plain(AND, u32::try_from(mask).unwrap_or_default()));
        }
    }
}

/// Where a comparison leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// The next instruction.
    Next,
    /// The condition holds.
    Hold,
    /// It does not, and nothing else matters.
    Fail,
}

/// An instruction whose jumps are not measured yet.
#[derive(Clone, Copy, Debug)]
struct Step {
    code: u16,
    k: u32,
    yes: To,
    no: To,
}

impl Step {
    fn plain(code: u16, k: u32) -> Self {
        Self { code, k, yes: To::Next, no: To::Next }
    }

    fn jump(code: u16, k: u32, yes: To, no: To) -> Self {
        Self { code, k, yes, no }
    }
}

/// Goes on with the instruction after the last if all conditions hold, and else with the one after
/// that. `None` where the way is too far.
pub(super) fn all_hold(conditions: &[Condition]) -> Option<Vec<Instruction>> {
    let steps: Vec<Vec<Step>> = conditions.iter().map(|condition| condition.steps()).collect();
    let end = steps.iter().map(Vec::len).sum::<usize>();
    let mut code = Vec::with_capacity(end);
    let mut done = 0;
    for condition in steps {
        done += condition.len();
        for step in condition {
            let after = code.len() + 1;
            let distance = |to| {
                u8::try_from(match to {
                    To::Next => 0,
                    To::Hold => done - after,
                    To::Fail => end + 1 - after,
                })
            };
            let (yes, no) = (distance(step.yes).ok()?, distance(step.no).ok()?);
            code.push(Instruction::new(step.code, yes, no, step.k));
        }
    }
    Some(code)
}
