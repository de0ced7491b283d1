//! Scheduling policy, I/O priority, CPUs, memory nodes and execution domain, while the process may
//! still set them.

use nix::sys::personality::{Persona, set as set_personality};

use super::{Exec, Init, Task};
use crate::error::{OsContext, Result};
use crate::sys::sched;

/// Applies what the container's first process asks for, and gives it all CPUs of its cpuset.
pub(super) fn of_init(init: &mut Init) -> Result<()> {
    apply(&init.task)?;
    use_all_cpus()
}

/// Applies what a later process asks for. `execCPUAffinity` is for these only.
pub(super) fn of_exec(exec: &mut Exec) -> Result<()> {
    apply(&exec.task)?;
    let process = exec.task.process;
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
            .property(|| ("process.ioPriority", format!("set class {class}, priority {level}")))?;
    }
    if let Some(attr) = process.scheduler {
        sched::set_scheduler(attr).property(|| ("process.scheduler", format!("set {attr}")))?;
    }
    if let Some((mode, nodes)) = &process.platform.memory_policy {
        sched::set_memory_policy(*mode, nodes)
            .property(|| ("linux.memoryPolicy", format!("set mode {mode:#x}, nodes {nodes:x?}")))?;
    }
    if let Some(domain) = process.platform.personality {
        let persona = Persona::from_bits_retain(i32::try_from(domain).unwrap_or_default());
        set_personality(persona).os("personality", || format!("{domain:#x}"))?;
    }
    Ok(())
}
