//! Scheduling policy, I/O priority, CPUs and memory nodes, while the process may still set them.

use super::{Exec, Init, Task};
use crate::error::{OsContext, Result};
use crate::sys::sched;

/// Applies what a container's process asks for; `execCPUAffinity` is not for it.
pub(super) fn of_init(init: &mut Init) -> Result<()> {
    if let Some((mode, nodes)) = &init.plan.memory_policy {
        sched::set_memory_policy(*mode, nodes)
            .os("set_mempolicy", || format!("mode {mode:#x}, nodes {nodes:#x?}"))?;
    }
    apply(&init.task)
}

/// Applies what a joining process asks for.
pub(super) fn of_exec(exec: &mut Exec) -> Result<()> {
    apply(&exec.task)?;
    match &exec.task.process.affinity_final {
        Some(cpus) => sched::set_affinity(cpus.iter().copied())
            .os("sched_setaffinity", || format!("CPUs {cpus:?}")),
        None => Ok(()),
    }
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
