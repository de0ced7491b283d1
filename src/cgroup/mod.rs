//! Cgroups: v1, hybrid and v2. The only place that knows where they are mounted, which files they
//! have, and the crate `cgroups-rs`.
//!
//! A container has one directory in every hierarchy that is mounted: each v1 hierarchy, named
//! ones too, and the unified tree, which on a hybrid host has few controllers or none.
//!
//! `cgroups-rs` reads the statistics. Creating, joining and removing cgroups is on the path of
//! every `create`, `run` and `delete` and writes the files directly: `cgroups-rs` parses
//! mountinfo each time, opens every file by its full path and reads values back, cannot do
//! devices or `unified` on v2, and does not place processes by `tasks` or `CLONE_INTO_CGROUP`.
//!
//! ```text
//! mod.rs       Cgroup: what the container layer calls
//! layout.rs    hierarchies of this host, carob's own place in them
//! settings.rs  linux.resources → (file, value); v1.rs, v2.rs: the files of each version
//! plan.rs      settings → hierarchies; a missing controller is found here
//! create.rs    the order in which all of it is made
//! make.rs      directories, cpuset inheritance, subtree_control
//! apply.rs     writes settings; device_rules.rs, device_program.rs: devices
//! join.rs      descriptors for the child        walk.rs  processes of a subtree, removal
//! survey.rs    the cgroups of a host, for people
//! access.rs    what a caller without all rights may make
//! stats.rs     the shape of `events --stats`; readings.rs: where the numbers come from
//! freezer.rs   kill.rs   oom.rs   mounts.rs   delegate.rs   what their names say
//! sub.rs       exec --cgroup                    systemd/  --systemd-cgroup: units
//! ```

mod access;
mod apply;
mod controller;
mod create;
mod delegate;
mod device_program;
mod device_rules;
mod dir;
mod driver;
mod freezer;
mod group;
mod join;
mod kill;
mod layout;
mod make;
mod mounts;
mod oom;
mod parent;
mod plan;
mod readings;
mod settings;
mod stats;
mod sub;
mod survey;
mod systemd;
mod v1;
mod v2;
mod walk;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

pub use self::access::Chosen;
use self::access::Limited;
use self::controller::{Controller, Version};
pub use self::create::Creation;
use self::dir::Dir;
pub use self::driver::CgroupDriver;
use self::freezer::Freezer;
pub use self::freezer::WrittenFreezer;
pub use self::group::Group;
pub use self::join::{Entrance, Join, Unified};
pub use self::layout::is_host_pure_v2;
pub(crate) use self::layout::parse_tables;
use self::layout::{Hierarchy, Tree};
pub use self::make::Made;
pub use self::mounts::{CgroupMount, V1Mount};
pub use self::oom::{OomEvent, OomWatch};
use self::plan::{Plan, Scope};
pub use self::stats::*;
pub use self::survey::{Survey, survey};
use self::systemd::Unit;
use crate::error::{Error, Result};

/// How long a dying process may keep a cgroup busy before its removal is given up.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// The cgroup of one container: its place in every hierarchy.
///
/// A value, not a resource: it can be written to the container's state and read back, and nothing
/// happens when it is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    hierarchies: Vec<Hierarchy>,
    /// What the maker lacks; `None` for one with all rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limited: Option<Limited>,
    /// The unit whose cgroup it is: systemd makes it, and is told of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

impl Cgroup {
    /// Finds the container's place in every hierarchy; touches nothing.
    ///
    /// `cgroups_path` is `linux.cgroupsPath`. An absolute one counts from the root of each
    /// hierarchy, a relative one (or `id`, where there is none) from carob's own cgroup, on a pure
    /// v2 host from the parent of that. `..` cannot leave the place it counts from. For the systemd
    /// driver it is `slice:prefix:name`.
    ///
    /// # Errors
    /// [`Error::Config`] if the path names no cgroup below its start, [`Error::Unsupported`] on a
    /// host without cgroups, and for the systemd driver on one without systemd.
    pub fn resolve(cgroups_path: Option<&Path>, id: &str, driver: CgroupDriver) -> Result<Self> {
        match driver {
            CgroupDriver::Cgroupfs => {
                let hierarchies = layout::hierarchies(cgroups_path, id)?;
                Ok(Self { hierarchies, limited: None, unit: None })
            }
            CgroupDriver::Systemd => {
                let (unit, path) = Unit::resolve(cgroups_path, id)?;
                let hierarchies = layout::hierarchies(Some(&path), id)?;
                Ok(Self { hierarchies, limited: None, unit: Some(unit) }.within_delegation())
            }
        }
    }

    /// Refuses, before anything is made, what cannot be applied here.
    ///
    /// # Errors
    /// [`Error::Config`] with the JSON path: a value out of range, or a limit whose controller is
    /// not mounted or not enabled on this host; for the systemd driver also the annotations.
    pub fn check(&self, resources: Option<&LinuxResources>) -> Result<()> {
        if self.unit.is_none() && resources.is_none() {
            return Ok(());
        }
        self.check_unit(&Plan::new(self, resources, Scope::Create)?)
    }

    /// Opens what a child needs to enter the cgroup.
    ///
    /// # Errors
    /// [`Error::Os`] if one of the directories is missing.
    pub fn join(&self) -> Result<Join> {
        Join::open(self.hierarchies.iter())
    }

    /// As [`Cgroup::join`], for one more process of a container with this init: it goes where that is,
    /// if the container has processes only in cgroups below its own.
    ///
    /// # Errors
    /// As there.
    pub fn join_init(&self, init: i32) -> Result<Join> {
        let mut join = self.join()?;
        if let Some(unified) = self.hierarchies.iter().find(|one| one.tree == Tree::Unified) {
            join.follow(init, unified);
        }
        Ok(join)
    }

    /// As [`Cgroup::join`], for the unified tree alone.
    ///
    /// # Errors
    /// As there.
    pub fn join_unified(&self) -> Result<Join> {
        Join::open(self.hierarchies.iter().filter(|one| one.tree == Tree::Unified))
    }

    /// Pids, as seen from carob's pid namespace, of all processes in the cgroup and below it.
    ///
    /// Sorted; empty if the cgroup does not exist.
    ///
    /// # Errors
    /// [`Error::Os`] if the cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        walk::processes(&self.primary()?.dir())
    }

    /// Stops all processes; returns when they have stopped.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a freezer; `EBUSY` if a process does not stop in 2 s, after
    /// which all of them run again.
    pub fn freeze(&self) -> Result<()> {
        if self.is_missing() {
            return Err(access::missing("pause it"));
        }
        Freezer::open(&self.hierarchies)?.freeze()
    }

    /// Lets stopped processes run again; without the cgroup there are none.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        freezer::thaw(&self.hierarchies)
    }

    /// Whether the processes are stopped by [`Cgroup::freeze`]; on v1 also by that of a cgroup above.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn is_frozen(&self) -> Result<bool> {
        freezer::is_frozen(&self.hierarchies)
    }

    /// Sends a signal to every process in the cgroup and below it, until no new one appears.
    ///
    /// After SIGKILL nothing is frozen any more; another signal leaves frozen processes frozen.
    ///
    /// # Errors
    /// [`Error::Os`] if a process may not be signalled or new ones keep coming.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        kill::all(&self.hierarchies, self.primary()?, signal)
    }

    /// Changes the limits that are given; unset and zero leave what is there. Devices are not
    /// touched.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; [`Error::Config`] if `checkBeforeUpdate` asks for it and more memory
    /// is in use than the new limit.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let mut plan = Plan::new(self, Some(resources), Scope::Update)?;
        let mut concerned = Vec::new();
        for (index, hierarchy) in self.hierarchies.iter().enumerate() {
            if !plan.is_idle(index) {
                let dir = Dir::open(hierarchy.dir())?;
                check_usage(&dir, resources)?;
                concerned.push((index, dir));
            }
        }
        self.update_unit(&mut plan)?;
        let mut concerned = concerned.iter();
        concerned.try_for_each(|(index, dir)| apply::settings(dir, plan.settings_of(*index)))
    }

    /// What the cgroup has used so far, in the shape of `events --stats`.
    ///
    /// # Errors
    /// [`Error::Os`] if the cgroup does not exist.
    pub fn stats(&self) -> Result<Stats> {
        if self.is_missing() {
            return Err(access::missing("read what it uses"));
        }
        readings::read(&self.hierarchies)
    }

    /// A descriptor that polls readable when the cgroup runs out of memory.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without the memory controller; [`Error::Os`] if the cgroup does not
    /// exist.
    pub fn oom_watch(&self) -> Result<OomWatch> {
        if self.is_missing() {
            return Err(access::missing("see it run out of memory"));
        }
        OomWatch::open(&self.hierarchies)
    }

    /// How many in it, on v2 also below it, the OOM killer has taken; `None` if the cgroup has gone.
    ///
    /// # Errors
    /// As [`Cgroup::oom_watch`].
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        oom::kills(&self.hierarchies)
    }

    /// Removes the container's directories and all below them; above them only slices it has marked.
    ///
    /// What is missing is fine. All hierarchies are tried; the first error is returned.
    ///
    /// # Errors
    /// `EBUSY`, with the processes that are still inside, after 10 s of trying.
    pub fn delete(&self) -> Result<()> {
        self.remove_where(|_| true)
    }

    fn remove_where(&self, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        self.stop_unit();
        let mut result = Ok(());
        // One for all: who keeps the first hierarchy busy keeps the others busy too.
        let deadline = Instant::now() + REMOVE_LIMIT;
        let ours = self.hierarchies.iter().map(|hierarchy| (hierarchy, hierarchy.dir()));
        for (hierarchy, dir) in ours.filter(|(_, dir)| is_ours(dir)) {
            let removed = walk::remove(&dir, deadline);
            if removed.is_ok() && self.unit.is_some() {
                systemd::remove_slices_above(hierarchy);
            }
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }

    /// Paths of the cgroup, by the names `/proc/self/cgroup` uses (empty for the unified tree).
    pub fn paths(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.hierarchies.iter().map(|hierarchy| match &hierarchy.tree {
            Tree::V1(names) => (names.as_str(), hierarchy.dir()),
            Tree::Unified => ("", hierarchy.dir()),
        })
    }

    /// What a mount of type `cgroup` shows inside the container.
    #[must_use]
    pub fn mount(&self) -> CgroupMount {
        mounts::of(&self.hierarchies)
    }

    /// The hierarchy that is asked which processes the container has: one that processes inside
    /// have the least reason to move about in.
    fn primary(&self) -> Result<&Hierarchy> {
        let by = |controller| self.hierarchies.iter().find(move |h| h.has_v1(controller));
        by(Controller::Devices)
            .or_else(|| by(Controller::Freezer))
            .or_else(|| by(Controller::Pids))
            .or_else(|| self.hierarchies.iter().find(|h| h.version() == Version::V2))
            .or_else(|| self.hierarchies.first())
            .ok_or_else(|| access::missing("find its processes"))
    }
}

/// `memory.checkBeforeUpdate`: on v2 a limit below the usage would kill instead of being refused.
fn check_usage(dir: &Dir, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    let limit = memory.limit().filter(|limit| *limit > 0);
    let (Some(limit), Some(true)) = (limit, memory.check_before_update()) else { return Ok(()) };
    let Some(usage) = dir.read_if_exists("memory.current")? else { return Ok(()) };
    match usage.trim().parse::<i64>() {
        Ok(usage) if usage > limit => Err(Error::config(
            "linux.resources.memory.limit",
            format!("{limit} is below the memory in use, {usage} bytes"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
