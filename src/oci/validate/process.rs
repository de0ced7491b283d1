//! `process`.

use std::collections::HashSet;

use oci_spec::runtime::{LinuxCapabilities, LinuxSchedulerPolicy, Process, Scheduler};

use super::values::{absolute, environment, fail, id, no_nul, no_nuls, number_list};
use crate::{
    error::Result,
    oci::{Warning, capabilities},
};

type Rule = fn(&Process, &mut Vec<Warning>) -> Result<()>;

const RULES: &[Rule] = &[
    program,
    working_directory,
    user,
    terminal,
    rlimits,
    capability_sets,
    oom_score,
    scheduler,
    io_priority,
    cpu_affinity,
    labels,
];

pub(super) fn check(process: &Process, warnings: &mut Vec<Warning>) -> Result<()> {
    RULES.iter().try_for_each(|rule| rule(process, warnings))
}

fn program(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let args = process.args().as_deref();
    if args.unwrap_or_default().is_empty() {
        return fail("process.args", "must not be empty, the program to run is required");
    }
    no_nuls("process.args", args)?;
    environment("process.env", process.env().as_deref())
}

fn working_directory(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    absolute("process.cwd", process.cwd())
}

fn user(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let user = process.user();
    id("process.user.uid", user.uid())?;
    id("process.user.gid", user.gid())?;
    for (i, gid) in user.additional_gids().iter().flatten().enumerate() {
        id(format_args!("process.user.additionalGids[{i}]"), *gid)?;
    }
    match user.umask() {
        Some(umask @ 0o1000..) => {
            let text = format_args!("{umask} is no umask, allowed are 0 to 511 (octal 777)");
            fail("process.user.umask", text)
        }
        _ => Ok(()),
    }
}

/// `consoleSize` must be ignored without a terminal.
fn terminal(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let Some(size) = process.console_size().filter(|_| process.terminal() == Some(true)) else {
        return Ok(());
    };
    for (name, cells) in [("height", size.height()), ("width", size.width())] {
        if cells > u64::from(u16::MAX) {
            let text = format_args!("{cells}, allowed are at most {}", u16::MAX);
            return fail(format_args!("process.consoleSize.{name}"), text);
        }
    }
    Ok(())
}

fn rlimits(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    for (i, limit) in rlimits.iter().enumerate() {
        let name = limit.typ();
        if rlimits[..i].iter().any(|before| before.typ() == name) {
            let field = format_args!("process.rlimits[{i}].type");
            return fail(field, format_args!("{name} is there twice"));
        }
        if limit.soft() > limit.hard() {
            let field = format_args!("process.rlimits[{i}].soft");
            let (soft, hard) = (limit.soft(), limit.hard());
            return fail(field, format_args!("{name}: {soft} is above the hard limit {hard}"));
        }
    }
    Ok(())
}

/// The kernel refuses these; the specification says to go on without what cannot be granted.
fn capability_sets(process: &Process, warnings: &mut Vec<Warning>) -> Result<()> {
    let Some(sets) = process.capabilities() else { return Ok(()) };
    let mask = |set: fn(&LinuxCapabilities) -> &Option<HashSet<_>>| {
        set(sets).as_ref().map_or(0, capabilities::mask)
    };
    let permitted = mask(LinuxCapabilities::permitted);
    for (name, beyond, failed) in [
        ("effective", mask(LinuxCapabilities::effective) & !permitted, "can't set capability"),
        (
            "ambient",
            mask(LinuxCapabilities::ambient) & !permitted,
            "can't raise ambient capability",
        ),
    ] {
        if beyond != 0 {
            let names: Vec<_> = capabilities::in_mask(beyond).collect();
            let text = format_args!("{failed} {}: not in permitted", names.join(", "));
            warnings.push(Warning::new(format!("process.capabilities.{name}"), text));
        }
    }
    Ok(())
}

fn oom_score(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    match process.oom_score_adj() {
        None | Some(-1000..=1000) => Ok(()),
        Some(score) => {
            fail("process.oomScoreAdj", format_args!("{score}, allowed are -1000 to 1000"))
        }
    }
}

/// Source: sched_setattr(2), sched(7).
fn scheduler(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    let policy = *scheduler.policy();
    if policy == LinuxSchedulerPolicy::SchedIso {
        return fail("process.scheduler.policy", "SCHED_ISO is reserved, no Linux has it");
    }
    if let Some(nice) = scheduler.nice().filter(|nice| !(-20..=19).contains(nice)) {
        return fail("process.scheduler.nice", format_args!("{nice}, allowed are -20 to 19"));
    }
    let realtime =
        matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let priority = scheduler.priority().unwrap_or(0);
    match (realtime, priority) {
        (true, 1..=99) | (false, 0) => {}
        (true, _) => {
            let text = format_args!("{priority}, allowed with {policy} are 1 to 99");
            return fail("process.scheduler.priority", text);
        }
        (false, _) => {
            let text = format_args!("{priority}, {policy} has none, only SCHED_FIFO and SCHED_RR");
            return fail("process.scheduler.priority", text);
        }
    }
    deadline(scheduler, policy)
}

fn deadline(scheduler: &Scheduler, policy: LinuxSchedulerPolicy) -> Result<()> {
    let [runtime, deadline, period] =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|n| n.unwrap_or(0));
    if policy != LinuxSchedulerPolicy::SchedDeadline {
        for (name, value) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
            if value != 0 {
                let text = format_args!("{value}, only SCHED_DEADLINE has one, not {policy}");
                return fail(format_args!("process.scheduler.{name}"), text);
            }
        }
        return Ok(());
    }
    if runtime == 0 || runtime > deadline {
        let text =
            format_args!("{runtime} ns, must be above 0 and at most the deadline {deadline}");
        return fail("process.scheduler.runtime", text);
    }
    if period != 0 && deadline > period {
        let text = format_args!("{deadline} ns, must be at most the period {period}");
        return fail("process.scheduler.deadline", text);
    }
    Ok(())
}

fn io_priority(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    match process.io_priority().map(|io| io.priority()) {
        None | Some(0..=7) => Ok(()),
        Some(priority) => {
            fail("process.ioPriority.priority", format_args!("{priority}, allowed are 0 to 7"))
        }
    }
}

fn cpu_affinity(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(()) };
    for (name, cpus) in [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())]
    {
        if let Some(cpus) = cpus {
            number_list(format_args!("process.execCPUAffinity.{name}"), cpus)?;
        }
    }
    Ok(())
}

fn labels(process: &Process, _: &mut Vec<Warning>) -> Result<()> {
    no_nul("process.apparmorProfile", process.apparmor_profile().as_deref().unwrap_or_default())?;
    no_nul("process.selinuxLabel", process.selinux_label().as_deref().unwrap_or_default())
}
