//! Scheduling policy, I/O priority and CPUs of the process, while it may still set them.

use super::Task;
use crate::error::{OsContext, Result};
use crate::sys::sched;

/// Applies what the process asks for.
pub(super) fn apply(task: &Task) -> Result<()> {
    let process = task.process;
    if let Some((class, level)) = process.io_priority {
        sched::set_io_priority(class, level)
            .os("ioprio_set", || format!("class {class}, priority {level}"))?;
    }
    if let Some(attr) = process.scheduler {
        sched::set_scheduler(attr).os("sched_setattr", || format!("{attr:?}"))?;
    }
    if let Some(cpus) = &process.affinity_final {
        sched::set_affinity(cpus.iter().copied())
            .os("sched_setaffinity", || format!("CPUs {cpus:?}"))?;
    }
    Ok(())
}
