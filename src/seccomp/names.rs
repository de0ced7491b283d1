//! The words of `linux.seccomp` and what they mean to libseccomp and to the kernel.
//!
//! The compiler looks its input up here and `carob features` prints the same tables, so a new
//! row is the whole change.

use libseccomp::{ScmpAction, ScmpArch, ScmpCompareOp, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};

use crate::sys::seccomp as kernel;

/// An action's `errnoRet`: whether it takes one, and up to which value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The action has no value; `errnoRet` must be absent.
    None,
    /// From 0 up to this. The kernel caps an errno at 4095, libseccomp refuses that one too.
    UpTo(u16),
}

/// One action of the specification.
#[derive(Debug)]
pub(super) struct ActionRow {
    pub(super) name: Action,
    pub(super) value: Value,
    pub(super) scmp: fn(u16) -> ScmpAction,
    /// `SECCOMP_RET_*`, where it is newer than seccomp(2) itself and must be asked for.
    pub(super) probe: Option<u32>,
    /// Whether a system call that is too new for the profile keeps this default action; if not,
    /// it gets `ENOSYS`. A tracer answers for itself, and log lets the call through.
    pub(super) permissive: bool,
}

const fn row(name: Action, value: Value, scmp: fn(u16) -> ScmpAction) -> ActionRow {
    ActionRow { name, value, scmp, probe: None, permissive: false }
}

const fn since(probe: u32, row: ActionRow) -> ActionRow {
    ActionRow { probe: Some(probe), ..row }
}

const fn permissive(row: ActionRow) -> ActionRow {
    ActionRow { permissive: true, ..row }
}

pub(super) const ACTIONS: &[ActionRow] = &[
    row(Action::ScmpActKill, Value::None, |_| ScmpAction::KillThread),
    since(
        libc::SECCOMP_RET_KILL_PROCESS,
        row(Action::ScmpActKillProcess, Value::None, |_| ScmpAction::KillProcess),
    ),
    row(Action::ScmpActKillThread, Value::None, |_| ScmpAction::KillThread),
    row(Action::ScmpActTrap, Value::None, |_| ScmpAction::Trap),
    row(Action::ScmpActErrno, Value::UpTo(4094), |errno| ScmpAction::Errno(errno.into())),
    permissive(row(Action::ScmpActTrace, Value::UpTo(u16::MAX), ScmpAction::Trace)),
    permissive(row(Action::ScmpActAllow, Value::None, |_| ScmpAction::Allow)),
    permissive(since(
        libc::SECCOMP_RET_LOG,
        row(Action::ScmpActLog, Value::None, |_| ScmpAction::Log),
    )),
    since(
        libc::SECCOMP_RET_USER_NOTIF,
        row(Action::ScmpActNotify, Value::None, |_| ScmpAction::Notify),
    ),
];

/// Makes an operator of `value`, which is the mask of a masked comparison.
type MakeOperator = fn(u64) -> ScmpCompareOp;

pub(super) const OPERATORS: &[(Operator, MakeOperator)] = &[
    (Operator::ScmpCmpNe, |_| ScmpCompareOp::NotEqual),
    (Operator::ScmpCmpLt, |_| ScmpCompareOp::Less),
    (Operator::ScmpCmpLe, |_| ScmpCompareOp::LessOrEqual),
    (Operator::ScmpCmpEq, |_| ScmpCompareOp::Equal),
    (Operator::ScmpCmpGe, |_| ScmpCompareOp::GreaterEqual),
    (Operator::ScmpCmpGt, |_| ScmpCompareOp::Greater),
    (Operator::ScmpCmpMaskedEq, ScmpCompareOp::MaskedEqual),
];

pub(super) const ARCHS: &[(Arch, ScmpArch)] = &[
    (Arch::ScmpArchNative, ScmpArch::Native),
    (Arch::ScmpArchX86, ScmpArch::X86),
    (Arch::ScmpArchX86_64, ScmpArch::X8664),
    (Arch::ScmpArchX32, ScmpArch::X32),
    (Arch::ScmpArchArm, ScmpArch::Arm),
    (Arch::ScmpArchAarch64, ScmpArch::Aarch64),
    (Arch::ScmpArchLoongarch64, ScmpArch::Loongarch64),
    (Arch::ScmpArchM68k, ScmpArch::M68k),
    (Arch::ScmpArchMips, ScmpArch::Mips),
    (Arch::ScmpArchMips64, ScmpArch::Mips64),
    (Arch::ScmpArchMips64n32, ScmpArch::Mips64N32),
    (Arch::ScmpArchMipsel, ScmpArch::Mipsel),
    (Arch::ScmpArchMipsel64, ScmpArch::Mipsel64),
    (Arch::ScmpArchMipsel64n32, ScmpArch::Mipsel64N32),
    (Arch::ScmpArchPpc, ScmpArch::Ppc),
    (Arch::ScmpArchPpc64, ScmpArch::Ppc64),
    (Arch::ScmpArchPpc64le, ScmpArch::Ppc64Le),
    (Arch::ScmpArchRiscv64, ScmpArch::Riscv64),
    (Arch::ScmpArchS390, ScmpArch::S390),
    (Arch::ScmpArchS390x, ScmpArch::S390X),
    (Arch::ScmpArchParisc, ScmpArch::Parisc),
    (Arch::ScmpArchParisc64, ScmpArch::Parisc64),
    (Arch::ScmpArchSh, ScmpArch::Sh),
    (Arch::ScmpArchSheb, ScmpArch::Sheb),
];

/// Filter flags and their bits. TSYNC has none: it spreads a filter over the other threads of
/// the process, and a container's process has just one when the filter is loaded.
pub(super) const FLAGS: &[(Flag, u32)] = &[
    (Flag::SeccompFilterFlagTsync, 0),
    (Flag::SeccompFilterFlagSpecAllow, kernel::FLAG_SPEC_ALLOW),
    (Flag::SeccompFilterFlagLog, kernel::FLAG_LOG),
    (Flag::SeccompFilterFlagWaitKillableRecv, kernel::FLAG_WAIT_KILLABLE_RECV),
];

/// Whether the linked libseccomp has this architecture: every one of them has `read`.
pub(super) fn arch_known(arch: ScmpArch) -> bool {
    ScmpSyscall::from_name_by_arch("read", arch).is_ok()
}

/// Whether the running kernel takes these flag bits.
pub(super) fn flags_known(bits: u32) -> nix::Result<bool> {
    match bits {
        0 => Ok(true),
        bits if bits & kernel::FLAG_WAIT_KILLABLE_RECV != 0 => {
            kernel::flags_known(bits | kernel::FLAG_NEW_LISTENER)
        }
        bits => kernel::flags_known(bits),
    }
}

/// Every action, as `carob features` prints it.
pub fn actions() -> Vec<String> {
    ACTIONS.iter().map(|row| row.name.to_string()).collect()
}

/// Every comparison operator.
pub fn operators() -> Vec<String> {
    OPERATORS.iter().map(|(name, _)| name.to_string()).collect()
}

/// Every architecture that the linked libseccomp has.
pub fn archs() -> Vec<String> {
    let known = ARCHS.iter().filter(|(_, arch)| arch_known(*arch));
    known.map(|(name, _)| name.to_string()).collect()
}

/// Every filter flag carob knows.
pub fn known_flags() -> Vec<String> {
    FLAGS.iter().map(|(name, _)| name.to_string()).collect()
}

/// The filter flags that the running kernel knows, too. One system call for each.
pub fn supported_flags() -> Vec<String> {
    let known = FLAGS.iter().filter(|(_, bits)| flags_known(*bits).unwrap_or(false));
    known.map(|(name, _)| name.to_string()).collect()
}
