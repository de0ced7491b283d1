//! The prologue that answers `ENOSYS` to system calls newer than the profile.
//!
//! A C library tries a new system call first and falls back to the old one on `ENOSYS`; on
//! `EPERM` it gives up. A profile that denies by default was written when the newest calls did
//! not exist, so its author never meant to forbid them: answering `EPERM` (or killing) breaks
//! containers whenever their C library is newer than the profile or than libseccomp. For each
//! architecture the highest number that the profile names tells how new it is; every number
//! above gets `ENOSYS`, as from a kernel of that age. runc does the same, and images rely on it.

use oci_spec::runtime::Arch;

use super::numbers::ARM_PRIVATE;

/// `BPF_LD | BPF_W | BPF_ABS`: load a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const JUMP_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(super) const JUMP_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const JUMP_GE: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(super) const JUMP_SET: u16 = 0x45;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// Offset of `nr` in `struct seccomp_data`, in bytes.
pub(super) const NR: u32 = 0;
/// Offset of `arch` in `struct seccomp_data`, in bytes.
pub(super) const ARCH: u32 = 4;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
pub(super) const RET_ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// Set in the number of an x32 call, which otherwise looks like one of x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) k: u32,
}

impl Instruction {
    pub(super) const fn new(code: u16, if_true: u8, if_false: u8, k: u32) -> Self {
        Self { code, if_true, if_false, k }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [e, f, g, h] = self.k.to_ne_bytes();
        [a, b, self.if_true, self.if_false, e, f, g, h]
    }
}

/// The prologue for the given architectures and the highest number of each; it falls through
/// to the filter that follows it.
pub(super) fn prologue(newest: &[(Arch, u32)]) -> Vec<Instruction> {
    let of = |wanted: Arch| newest.iter().find(|(arch, _)| *arch == wanted).map(|(_, nr)| *nr);
    let mut sections: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for &(arch, max) in newest {
        // libseccomp's names of architectures are the kernel's AUDIT_ARCH_*, but for x32: its
        // calls come with the architecture of x86_64, and the two share a section.
        let (audit, tests) = if matches!(arch, Arch::ScmpArchX86_64 | Arch::ScmpArchX32) {
            let (x86_64, x32) = (of(Arch::ScmpArchX86_64), of(Arch::ScmpArchX32));
            (Arch::ScmpArchX86_64 as u32, x86_64_tests(x86_64, x32))
        } else {
            (arch as u32, tests(arch, max))
        };
        if sections.iter().all(|(seen, _)| *seen != audit) {
            sections.push((audit, tests));
        }
    }
    assemble(&sections)
}

/// Falls to the instruction after the last on `ENOSYS`, and skips one more otherwise.
fn tests(arch: Arch, max: u32) -> Vec<Instruction> {
    let above = Instruction::new(JUMP_GT, 0, 1, max);
    if arch == Arch::ScmpArchArm {
        vec![Instruction::new(JUMP_GT, 0, 2, max), Instruction::new(JUMP_GE, 1, 0, ARM_PRIVATE)]
    } else if matches!(arch, Arch::ScmpArchS390 | Arch::ScmpArchS390x) {
        // There a number too high for the system call instruction arrives as 0, once that of
        // setup(2), which no longer exists.
        vec![Instruction::new(JUMP_EQ, 1, 0, 0), above]
    } else {
        vec![above]
    }
}

/// As [`tests`]. Without x32 in the profile (`None`) its calls are left to the filter, which
/// treats them as a foreign architecture: no number is above `u32::MAX`.
fn x86_64_tests(x86_64: Option<u32>, x32: Option<u32>) -> Vec<Instruction> {
    vec![
        Instruction::new(JUMP_SET, 1, 0, X32_BIT),
        Instruction::new(JUMP_GT, 1, 2, x86_64.unwrap_or(u32::MAX)),
        Instruction::new(JUMP_GT, 0, 1, x32.unwrap_or(u32::MAX)),
    ]
}

/// ```text
///     load arch
///     jump if not A, next section
///     load nr
///     tests
///     return ENOSYS
///     jump filter
///     (next section)
///     filter
/// ```
fn assemble(sections: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    /// Load, return and jump around the tests.
    const AROUND: usize = 3;
    if sections.is_empty() {
        return Vec::new();
    }
    let total: usize = sections.iter().map(|(_, tests)| 1 + tests.len() + AROUND).sum();
    let mut program = vec![Instruction::new(LOAD, 0, 0, ARCH)];
    for (audit, tests) in sections {
        let skip = u8::try_from(tests.len() + AROUND).unwrap_or(u8::MAX);
        program.push(Instruction::new(JUMP_EQ, 0, skip, *audit));
        program.push(Instruction::new(LOAD, 0, 0, NR));
        program.extend_from_slice(tests);
        program.push(Instruction::new(RETURN, 0, 0, RET_ENOSYS));
        let left = u32::try_from(total - program.len()).unwrap_or(u32::MAX);
        program.push(Instruction::new(JUMP, 0, 0, left));
    }
    program
}
