//! The process to start, by `create` or by `exec`.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{
    IOPriorityClass, LinuxCapabilities, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimitType,
    Process, Scheduler, Spec,
};

use super::platform::Platform;
use crate::error::{Error, Result};
use crate::oci::{capabilities, rlimits};
use crate::sys::sched::SchedAttr;
use crate::sys::tty::WindowSize;

/// The annotation by which engines ask that the caller's supplementary groups stay: those of a user
/// that no id map of theirs can name. Podman: `--group-add keep-groups`.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

fn keeps_groups(spec: &Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    annotations.and_then(|all| all.get(KEEP_GROUPS)).is_some_and(|value| value == "1")
}

/// What the process is, in the kernel's terms.
#[derive(Debug)]
pub struct ProcessPlan {
    /// Command and arguments, at least one.
    pub args: Vec<CString>,
    /// `KEY=VALUE`, each key once; an empty `HOME` counts as none.
    pub env: Vec<CString>,
    /// Working directory in the container.
    pub cwd: PathBuf,
    /// What it has from the container.
    pub platform: Platform,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; `None` leaves the caller's.
    pub groups: Option<Vec<u32>>,
    /// File mode creation mask, if it is to be changed.
    pub umask: Option<u32>,
    /// The five sets; `None` leaves what the kernel gives.
    pub capabilities: Option<Capabilities>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub rlimits: Vec<RlimitPlan>,
    /// `/proc/<pid>/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// A terminal of its own.
    pub terminal: Option<TerminalPlan>,
    /// AppArmor profile to enter at execve.
    pub apparmor_profile: Option<String>,
    /// SELinux label to enter at execve.
    pub selinux_label: Option<String>,
    /// Scheduling policy.
    pub scheduler: Option<SchedAttr>,
    /// I/O class and level.
    pub io_priority: Option<(i32, i32)>,
    /// CPUs while the process is made ready (`exec` only).
    pub affinity_initial: Option<Vec<usize>>,
    /// CPUs from execve on.
    pub affinity_final: Option<Vec<usize>>,
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Limit of what execve can give.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept across execve by files with inheritable capabilities.
    pub inheritable: u64,
    /// Kept across execve by ordinary files.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RlimitPlan {
    typ: PosixRlimitType,
    /// RLIMIT_*.
    pub resource: u32,
    /// In force.
    pub soft: u64,
    /// Ceiling of the soft one.
    pub hard: u64,
}

impl RlimitPlan {
    /// `RLIMIT_NOFILE`, …
    #[must_use]
    pub fn name(&self) -> String {
        self.typ.to_string()
    }
}

/// `process.terminal` with `process.consoleSize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalPlan {
    /// Size of the window at the start, if given.
    pub size: Option<WindowSize>,
}

impl ProcessPlan {
    /// Turns a validated process into a plan.
    ///
    /// # Errors
    /// [`Error::Config`] for a string with a NUL byte or without arguments.
    pub fn new(process: &Process, spec: &Spec) -> Result<Self> {
        let strings = |field: &str, list: Option<&[String]>| -> Result<Vec<CString>> {
            let list = list.unwrap_or_default().iter().enumerate();
            list.map(|(i, text)| {
                CString::new(text.as_str()).map_err(|_nul| {
                    Error::config(format!("process.{field}[{i}]"), "holds a NUL byte")
                })
            })
            .collect()
        };
        let args = strings("args", process.args().as_deref())?;
        if args.is_empty() {
            return Err(Error::config("process.args", "empty; name the program to run"));
        }
        let user = process.user();
        let affinity = process.exec_cpu_affinity().as_ref();
        Ok(Self {
            args,
            env: last_of_each(strings("env", process.env().as_deref())?),
            cwd: process.cwd().clone(),
            platform: Platform::new(spec.linux().as_ref()),
            uid: user.uid(),
            gid: user.gid(),
            groups: (!keeps_groups(spec))
                .then(|| user.additional_gids().clone().unwrap_or_default()),
            umask: user.umask(),
            // Without any it has none: all of root's would be a surprise.
            capabilities: Some(
                process.capabilities().as_ref().map(Capabilities::new).unwrap_or_default(),
            ),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
            oom_score_adj: process.oom_score_adj(),
            terminal: process
                .terminal()
                .unwrap_or(false)
                .then(|| TerminalPlan { size: process.console_size().and_then(window_size) }),
            apparmor_profile: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
            selinux_label: process.selinux_label().clone().filter(|l| !l.is_empty()),
            scheduler: process.scheduler().as_ref().map(scheduler),
            io_priority: process.io_priority().map(io_priority).transpose()?,
            affinity_initial: affinity.and_then(|a| a.initial().as_deref()).map(number_list),
            affinity_final: affinity
                .and_then(|a| a.cpu_affinity_final().as_deref())
                .map(number_list),
        })
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn env_value(&self, key: &str) -> Option<&[u8]> {
        self.env
            .iter()
            .find_map(|entry| entry.as_bytes().strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }
}

/// Of entries with the same key the last: programs differ in which one they would take.
fn last_of_each(env: Vec<CString>) -> Vec<CString> {
    let mut seen = HashSet::new();
    let is_last: Vec<bool> = env
        .iter()
        .rev()
        .map(|entry| {
            let key = entry.as_bytes().split(|byte| *byte == b'=').next();
            seen.insert(key) && entry.as_bytes() != b"HOME="
        })
        .collect();
    let entries = env.iter().zip(is_last.iter().rev());
    entries.filter(|(_, last)| **last).map(|(entry, _)| entry.clone()).collect()
}

impl Capabilities {
    /// What remains of the sets when only these capabilities can be granted, and what does not.
    #[must_use]
    pub fn within(self, grantable: u64) -> (Self, u64) {
        let Self { bounding, effective, permitted, inheritable, ambient } = self;
        let all = bounding | effective | permitted | inheritable | ambient;
        let sets = Self {
            bounding: bounding & grantable,
            effective: effective & grantable,
            permitted: permitted & grantable,
            inheritable: inheritable & grantable,
            ambient: ambient & grantable,
        };
        (sets, all & !grantable)
    }

    /// The sets of a configuration.
    #[must_use]
    pub fn new(caps: &LinuxCapabilities) -> Self {
        let mask = |set: &Option<oci_spec::runtime::Capabilities>| {
            set.as_ref().map_or(0, capabilities::mask)
        };
        Self {
            bounding: mask(caps.bounding()),
            effective: mask(caps.effective()),
            permitted: mask(caps.permitted()),
            inheritable: mask(caps.inheritable()),
            ambient: mask(caps.ambient()),
        }
    }
}

fn rlimit(limit: &oci_spec::runtime::PosixRlimit) -> RlimitPlan {
    RlimitPlan {
        typ: limit.typ(),
        resource: rlimits::resource(limit.typ()) as u32,
        soft: limit.soft(),
        hard: limit.hard(),
    }
}

/// 0 by 0 is what clients send when they do not know.
fn window_size(size: oci_spec::runtime::Box) -> Option<WindowSize> {
    let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    let size = WindowSize { rows: cells(size.height()), columns: cells(size.width()) };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

fn io_priority(priority: oci_spec::runtime::LinuxIOPriority) -> Result<(i32, i32)> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = i32::try_from(priority.priority())
        .map_err(|_range| Error::config("process.ioPriority.priority", "allowed are 0 to 7"))?;
    Ok((class, level))
}

fn scheduler(scheduler: &Scheduler) -> SchedAttr {
    use LinuxSchedulerFlag as Flag;
    use LinuxSchedulerPolicy as Policy;
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let flag = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    SchedAttr {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).unwrap_or(0),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..SchedAttr::default()
    }
}

/// `0-3,7` as numbers; validation has refused anything else.
pub(super) fn number_list(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grantable_capabilities_remain_in_any_set() {
        let sets = Capabilities {
            bounding: 0b1111,
            effective: 0b0011,
            permitted: 0b0110,
            inheritable: 0b1000,
            ambient: 0b1_0000,
        };
        assert_eq!(sets.within(u64::MAX), (sets, 0));
        assert_eq!(sets.within(0), (Capabilities::default(), 0b1_1111));
        let left =
            Capabilities { bounding: 0b10, effective: 0b10, permitted: 0b10, ..sets.within(0).0 };
        assert_eq!(sets.within(0b10_0010), (left, 0b1_1101));
    }
}
