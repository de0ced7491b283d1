//! From `linux.seccomp` to a program: by [`super::tree`], or by libseccomp where that has none. The
//! slow path: [`super::cache`] avoids it.

use std::{fs::File, os::unix::fs::FileExt};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpFilterContext, ScmpSyscall, error::SeccompError,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use super::{
    conditions::Condition,
    enosys::{self, Instruction},
    names::{self, ActionRow, Value},
    numbers::Numbers,
    tree::{self, Rule},
};
use crate::{
    error::{Error, OsContext, Result},
    sys::seccomp as kernel,
};

/// A system call has arguments 0 to 5.
const MAX_ARGS: usize = 6;

/// Profiles with more system calls than this get a binary tree from libseccomp, too, instead of a
/// chain of comparisons.
///
/// Measured with an engine's default profile (x86_64, x86, x32) on Linux 6.18: the kernel loads
/// the tree in 0.27 ms and the chain in 0.56 ms, as it runs the filter for each number to learn
/// which calls it always allows. A denied call takes 121 ns instead of 166 ns (107 ns without a
/// profile); an allowed one costs the same either way. Compiling takes 11 ms instead of 7 ms,
/// once per profile.
const TREE_FROM: usize = 32;

/// Compiles a profile to an array of `struct sock_filter`.
///
/// # Errors
/// A value that libseccomp or the kernel does not have, by its JSON path.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    compile_with(profile, tree::program)
}

/// Makes a program of checked rules, or leaves that to libseccomp.
type Compiler = fn(ScmpAction, &[Rule], &[Numbers]) -> Option<Vec<Instruction>>;

/// As [`compile`], with a compiler that may be none.
pub(super) fn compile_with(profile: &LinuxSeccomp, compiler: Compiler) -> Result<Vec<u8>> {
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let row = action_row(profile.default_action(), "defaultAction")?;
    let default = action(row, profile.default_errno_ret(), "defaultErrnoRet")?;
    let archs = archs(profile)?;
    let rules: Vec<Rule> = syscalls
        .iter()
        .enumerate()
        .map(|(index, entry)| rule(entry, index))
        .collect::<Result<_>>()?;
    let numbers: Vec<Numbers> =
        archs.iter().map(|(_, arch)| Numbers::new(syscalls, *arch)).collect();

    let mut program = Vec::new();
    if !row.permissive && default != ScmpAction::Errno(libc::ENOSYS) {
        let newest = |numbers: &Numbers| Some((numbers.name, numbers.newest()?));
        let newest: Vec<(Arch, u32)> = numbers.iter().filter_map(newest).collect();
        program.extend(enosys::prologue(&newest).into_iter().flat_map(Instruction::to_bytes));
    }
    match compiler(default, &rules, &numbers) {
        Some(code) => {
            if archs.iter().any(|(_, (_, arch))| tree::width_of(*arch).is_none()) {
                // It says which architectures do not go together.
                context(default, &archs)?;
            }
            program.extend(code.into_iter().flat_map(Instruction::to_bytes));
        }
        None => {
            let mut filter = context(default, &archs)?;
            if needs_tree(syscalls, &numbers) {
                filter.set_ctl_optimize(2).map_err(|e| refused("syscalls", &e))?;
            }
            for (index, (entry, rule)) in syscalls.iter().zip(&rules).enumerate() {
                add_rule(&mut filter, default, (entry, rule), index)?;
            }
            export(&filter, &mut program)?;
        }
    }
    let count = program.len() / kernel::INSTRUCTION_BYTES;
    if count > kernel::MAX_INSTRUCTIONS {
        let max = kernel::MAX_INSTRUCTIONS;
        let reason = format!("the filter has {count} instructions, the kernel takes {max}");
        return Err(Error::config("linux.seccomp.syscalls", reason));
    }
    Ok(program)
}

/// A filter of libseccomp without rules.
fn context(default: ScmpAction, archs: &[(String, (Arch, ScmpArch))]) -> Result<ScmpFilterContext> {
    let mut filter = ScmpFilterContext::new(default).map_err(|e| refused("defaultAction", &e))?;
    for (field, (name, arch)) in archs {
        filter.add_arch(*arch).map_err(|e| refused(&format!("{field}: {name}"), &e))?;
    }
    Ok(filter)
}

/// Whether libseccomp shall make a tree.
///
/// Its chain (as of 2.5.4) puts calls with conditions last and loads the number of the call for the
/// first one only. Where an architecture has none of the calls before those with conditions, nobody
/// loads it, and no condition ever holds. Its tree is wrong for an architecture without any call.
fn needs_tree(syscalls: &[LinuxSyscall], archs: &[Numbers]) -> bool {
    let count: usize = syscalls.iter().map(|rule| rule.names().len()).sum();
    let has_conditions = syscalls.iter().any(|rule| rule.args().is_some());
    (count > TREE_FROM || has_conditions) && archs.iter().all(|numbers| numbers.newest().is_some())
}

/// An error about `linux.seccomp.{field}` in libseccomp's words.
fn refused(field: &str, cause: &SeccompError) -> Error {
    Error::config(format!("linux.seccomp.{field}"), format!("libseccomp: {cause}"))
}

/// The profile's architectures with their fields; the native one is always there.
fn archs(profile: &LinuxSeccomp) -> Result<Vec<(String, (Arch, ScmpArch))>> {
    let native = ScmpArch::native();
    let own = names::ARCHS.iter().find(|(_, arch)| *arch == native);
    let mut all: Vec<(String, (Arch, ScmpArch))> =
        own.map(|row| ("architectures".to_owned(), *row)).into_iter().collect();
    for (index, name) in profile.architectures().iter().flatten().enumerate() {
        let field = format!("architectures[{index}]");
        let Some(row) = names::ARCHS.iter().find(|(known, _)| known == name) else {
            return Err(unknown(&field, name));
        };
        if !names::arch_known(row.1) {
            return Err(unknown(&field, name));
        }
        if row.1 != ScmpArch::Native && all.iter().all(|(_, seen)| seen != row) {
            all.push((field, *row));
        }
    }
    Ok(all)
}

fn unknown(field: &str, value: impl std::fmt::Display) -> Error {
    let reason = format!("{value} is not supported by the linked libseccomp");
    Error::config(format!("linux.seccomp.{field}"), reason)
}

/// One entry of `syscalls`.
fn rule(entry: &LinuxSyscall, index: usize) -> Result<Rule> {
    let field = format!("syscalls[{index}]");
    let row = action_row(entry.action(), &format!("{field}.action"))?;
    let action = action(row, entry.errno_ret(), &format!("{field}.errnoRet"))?;
    let alternatives = alternatives(entry.args().as_deref().unwrap_or_default(), &field)?;
    if entry.names().iter().any(String::is_empty) {
        return Err(Error::config(format!("linux.seccomp.{field}.names"), "an empty name"));
    }
    Ok(Rule { action, alternatives })
}

/// Adds one entry: each of its names, under its conditions.
fn add_rule(
    filter: &mut ScmpFilterContext,
    default: ScmpAction,
    (entry, rule): (&LinuxSyscall, &Rule),
    index: usize,
) -> Result<()> {
    // libseccomp refuses a rule that does what would be done anyway.
    if rule.action == default {
        return Ok(());
    }
    for name in entry.names() {
        // Profiles are written for all kernels and architectures: an unknown name is no error.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        for all_of in &rule.alternatives {
            let all_of: Vec<ScmpArgCompare> = all_of.iter().map(|one| one.compare()).collect();
            filter
                .add_rule_conditional(rule.action, call, &all_of)
                .map_err(|e| refused(&format!("syscalls[{index}]: {name}"), &e))?;
        }
    }
    Ok(())
}

/// The alternatives under which a rule matches, each a list of conditions that all must hold.
///
/// libseccomp takes one condition per argument. A rule with several on the same argument
/// becomes one alternative per condition, as it always has for runc, so that profiles mean the
/// same everywhere.
fn alternatives(args: &[LinuxSeccompArg], field: &str) -> Result<Vec<Vec<Condition>>> {
    let mut seen = [false; MAX_ARGS];
    let mut repeated = false;
    let mut all = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        let at = |name: &str| format!("linux.seccomp.{field}.args[{i}].{name}");
        let (Some(seen), Ok(index)) = (seen.get_mut(arg.index()), u32::try_from(arg.index()))
        else {
            return Err(Error::config(at("index"), format!("{} is not 0 to 5", arg.index())));
        };
        repeated |= std::mem::replace(seen, true);
        if !names::OPERATORS.iter().any(|(name, _)| *name == arg.op()) {
            return Err(Error::config(at("op"), format!("{} is not supported", arg.op())));
        }
        let value_two = arg.value_two().unwrap_or_default();
        all.push(Condition::new(index, arg.op(), arg.value(), value_two));
    }
    Ok(if repeated { all.into_iter().map(|one| vec![one]).collect() } else { vec![all] })
}

/// The row of an action, checked against the running kernel.
fn action_row(name: LinuxSeccompAction, field: &str) -> Result<&'static ActionRow> {
    let Some(row) = names::ACTIONS.iter().find(|row| row.name == name) else {
        return Err(unknown(field, name));
    };
    match row.probe {
        Some(ret) if !kernel::action_known(ret).os("seccomp", || name)? => {
            let reason = format!("{name} is not supported by this kernel");
            Err(Error::config(format!("linux.seccomp.{field}"), reason))
        }
        _ => Ok(row),
    }
}

/// The action with its value, `EPERM` by default.
fn action(row: &ActionRow, errno_ret: Option<u32>, field: &str) -> Result<ScmpAction> {
    let reject = |reason| Err(Error::config(format!("linux.seccomp.{field}"), reason));
    match (row.value, errno_ret) {
        (Value::None, None) => Ok((row.scmp)(0)),
        (Value::None, Some(value)) => reject(format!("{value}: {} takes none", row.name)),
        (Value::UpTo(max), value) => {
            let value = value.unwrap_or(libc::EPERM.unsigned_abs());
            match u16::try_from(value) {
                Ok(value) if value <= max => Ok((row.scmp)(value)),
                _ => reject(format!("{value} is above {max}, the highest for {}", row.name)),
            }
        }
    }
}

/// Appends libseccomp's program. It can only write to a file before 2.6.
fn export(filter: &ScmpFilterContext, program: &mut Vec<u8>) -> Result<()> {
    let fd = memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC).os("memfd_create", || "seccomp")?;
    filter.export_bpf(&fd).map_err(|e| refused("syscalls", &e))?;
    let file = File::from(fd);
    let len = file.metadata().os("fstat", || "seccomp memfd")?.len();
    let start = program.len();
    program.resize(start + usize::try_from(len).unwrap_or_default(), 0);
    let rest = program.get_mut(start..).unwrap_or_default();
    file.read_exact_at(rest, 0).os("read", || "seccomp memfd")
}
