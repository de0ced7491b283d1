//! `linux.seccomp`, as far as it can be judged without libseccomp.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall, Spec};

use super::values::{fail, no_nul};
use crate::{error::Result, oci::Warning};

/// A system call has six arguments.
const MAX_INDEX: usize = 5;
/// Source: the kernel's `MAX_ERRNO`, to which it clamps.
const MAX_ERRNO: u32 = 4095;
/// What `SECCOMP_RET_DATA` holds.
const MAX_TRACE: u32 = 0xffff;

pub(super) fn seccomp(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    let action = seccomp.default_action();
    // The container could not even tell the listener's descriptor to anybody.
    if action == Action::ScmpActNotify {
        return fail("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default");
    }
    errno_of(action, seccomp.default_errno_ret(), "linux.seccomp.defaultErrnoRet")?;
    for (i, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        rule(&format!("linux.seccomp.syscalls[{i}]"), syscall)?;
    }
    listener(seccomp)
}

fn errno_of(action: Action, errno: Option<u32>, field: &str) -> Result<()> {
    let max = match (action, errno) {
        (_, None) => return Ok(()),
        (Action::ScmpActErrno, _) => MAX_ERRNO,
        (Action::ScmpActTrace, _) => MAX_TRACE,
        (action, Some(errno)) => {
            let text =
                format_args!("{errno}, {action} returns none, only SCMP_ACT_ERRNO and _TRACE");
            return fail(field, text);
        }
    };
    match errno.filter(|errno| *errno > max) {
        Some(errno) => fail(field, format_args!("{errno}, allowed are 0 to {max}")),
        None => Ok(()),
    }
}

fn rule(field: &str, syscall: &LinuxSyscall) -> Result<()> {
    if syscall.names().is_empty() {
        return fail(format_args!("{field}.names"), "must not be empty");
    }
    for (i, name) in syscall.names().iter().enumerate() {
        let field = format_args!("{field}.names[{i}]");
        if name.is_empty() {
            return fail(field, "must not be empty");
        }
        no_nul(field, name)?;
        // It is what sends the listener's descriptor on.
        if name == "write" && syscall.action() == Action::ScmpActNotify {
            return fail(field, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
        }
    }
    errno_of(syscall.action(), syscall.errno_ret(), &format!("{field}.errnoRet"))?;
    for (i, arg) in syscall.args().iter().flatten().enumerate() {
        if arg.index() > MAX_INDEX {
            let text = format_args!("{}, allowed are 0 to {MAX_INDEX}", arg.index());
            return fail(format_args!("{field}.args[{i}].index"), text);
        }
    }
    Ok(())
}

fn listener(seccomp: &LinuxSeccomp) -> Result<()> {
    let path = seccomp.listener_path().as_deref().filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().as_deref().unwrap_or_default();
    let mut rules = seccomp.syscalls().iter().flatten();
    match path {
        Some(path) => no_nul("linux.seccomp.listenerPath", path),
        None if !metadata.is_empty() => {
            fail("linux.seccomp.listenerMetadata", "is not allowed without listenerPath")
        }
        None if rules.any(|rule| rule.action() == Action::ScmpActNotify) => {
            fail("linux.seccomp.listenerPath", "is missing, SCMP_ACT_NOTIFY needs it")
        }
        None => Ok(()),
    }
}
