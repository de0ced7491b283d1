//! Scheduling policy, I/O priority and CPUs of the process, while it may still set them.

use super::Task;
use crate::error::{OsContext, Result};
use crate::sys::sched;

/// Applies what the container's first process asks for, and gives it all CPUs of its cpuset.
pub(super) fn of_init(task: &Task) -> Result<()> {
    apply(task)?;
    use_all_cpus()
}

/// Applies what a later process asks for. `execCPUAffinity` is for these only.
pub(super) fn of_exec(task: &Task) -> Result<()> {
    apply(task)?;
    let process = task.process;
    match (&process.affinity_initial, &process.affinity_final) {
        (_, Some(cpus)) => sched::set_affinity(cpus.iter().copied())
            .os("sched_setaffinity", || format!("CPUs {cpus:?}")),
        (Some(_), None) => Ok(()),
        (None, None) => use_all_cpus(),
    }
}

/// Where carob itself may run, its service manager's affinity, is not the container's concern.
fn use_all_cpus() -> Result<()> {
    sched::use_all_cpus().os("sched_setaffinity", || "all CPUs")
}

fn apply(task: &Task) -> Result<()> {
    let process = task.process;
    if let Some((class, level)) = process.io_priority {
        sched::set_io_priority(class, level)
            .os("ioprio_set", || format!("class {class}, priority {level}"))?;
    }
    if let Some(attr) = process.scheduler {
        sched::set_scheduler(attr).os("sched_setattr", || format!("{attr:?}"))?;
    }
    Ok(())
}
