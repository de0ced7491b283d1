//! Resource limits: set late, since they hold for init's own work too, and before the rights go.

use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::{Exec, Init};
use crate::error::{OsContext, Result};
use crate::oci::plan::ProcessPlan;
use crate::sys::process;

/// In a user namespace nobody may raise a limit; carob does it from outside then.
pub(super) fn of_init(init: &mut Init) -> Result<()> {
    if init.plan.namespaces.has(Kind::User) {
        return Ok(());
    }
    set_rlimits(Pid::from_raw(0), init.task.process)
}

/// As [`of_init`].
pub(super) fn of_exec(exec: &mut Exec) -> Result<()> {
    if exec.namespaces.user {
        return Ok(());
    }
    set_rlimits(Pid::from_raw(0), exec.task.process)
}

/// Sets the limits of a process; pid 0 is this one.
///
/// # Errors
/// [`crate::error::Error::Config`] naming the limit, e.g. `EPERM` to raise one without
/// CAP_SYS_RESOURCE.
pub fn set_rlimits(pid: Pid, plan: &ProcessPlan) -> Result<()> {
    for limit in &plan.rlimits {
        process::prlimit(pid, limit.resource, limit.soft, limit.hard).property(|| {
            let tried = format!("set {} to soft {}, hard {}", limit.name(), limit.soft, limit.hard);
            ("process.rlimits", tried)
        })?;
    }
    Ok(())
}
