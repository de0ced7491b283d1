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
//! make.rs      directories, cpuset inheritance, subtree_control
//! apply.rs     writes settings; device_rules.rs, device_program.rs: devices
//! join.rs      descriptors for the child        walk.rs  processes of a subtree, removal
//! survey.rs    the cgroups of a host, for people
//! access.rs    what a caller without all rights may make
//! stats.rs     the shape of `events --stats`; readings.rs: where the numbers come from
//! freezer.rs   kill.rs   oom.rs   mounts.rs   delegate.rs   what their names say
//! ```

mod access;
mod apply;
mod controller;
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
mod survey;
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
use self::dir::Dir;
pub use self::driver::CgroupDriver;
use self::freezer::Freezer;
pub use self::group::Group;
pub use self::join::{Join, Unified};
pub use self::layout::is_host_pure_v2;
use self::layout::{Hierarchy, Tree};
use self::make::{Enable, Leaf, Made};
pub use self::mounts::{CgroupMount, V1Mount};
pub use self::oom::{OomEvent, OomWatch};
use self::plan::{Plan, Scope};
pub use self::stats::*;
pub use self::survey::{Survey, survey};
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
}

impl Cgroup {
    /// Finds the container's place in every hierarchy; touches nothing.
    ///
    /// `cgroups_path` is `linux.cgroupsPath`. An absolute one counts from the root of each
    /// hierarchy, a relative one (or `id`, where there is none) from carob's own cgroup, on a pure
    /// v2 host from the parent of that. `..` cannot leave the place it counts from.
    ///
    /// # Errors
    /// [`Error::Config`] if the path names no cgroup below its start, [`Error::Unsupported`] for
    /// the systemd driver and on a host without cgroups.
    pub fn resolve(cgroups_path: Option<&Path>, id: &str, driver: CgroupDriver) -> Result<Self> {
        match driver {
            CgroupDriver::Cgroupfs => {}
            CgroupDriver::Systemd => return Err(no_systemd()),
        }
        Ok(Self { hierarchies: layout::hierarchies(cgroups_path, id)?, limited: None })
    }

    /// Refuses, before anything is made, what cannot be applied here.
    ///
    /// # Errors
    /// [`Error::Config`] with the JSON path: a value out of range, or a limit whose controller is
    /// not mounted or not enabled on this host.
    pub fn check(&self, resources: &LinuxResources) -> Result<()> {
        Plan::new(self, Some(resources), Scope::Create).map(drop)
    }

    /// Makes the directories, joins those that exist, and writes limits and device rules.
    ///
    /// Without resources the device rules of every container still apply. On failure, what was
    /// made is removed.
    ///
    /// # Errors
    /// As [`Cgroup::check`]; [`Error::Invalid`] for a cgroup that is in use or frozen;
    /// [`Error::Os`] naming file, value and JSON path where the kernel refuses.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<()> {
        let plan = Plan::new(self, resources, Scope::Create)?;
        let pure_v2 = plan::is_pure_v2(&self.hierarchies);
        let enable = if pure_v2 { Enable::All } else { Enable::Needed };
        let mut made = Made::default();
        let result = self.hierarchies.iter().enumerate().try_for_each(|(index, hierarchy)| {
            let dir = hierarchy.dir();
            let leaf = made.make(&dir)?;
            if leaf == Leaf::Joined {
                self.refuse_in_use(hierarchy)?;
            }
            make::prepare((hierarchy, leaf), plan.settings_of(index), enable)?;
            if index_is_idle(&plan, index) {
                return Ok(());
            }
            let dir = Dir::open(dir)?;
            apply::settings(&dir, plan.settings_of(index))?;
            plan.devices_of(index).map_or(Ok(()), |form| apply::devices(&dir, form))
        });
        if result.is_err() {
            made.undo();
        }
        result
    }

    /// A cgroup that was there before must be nobody's: signals, the freezer and `delete` reach
    /// all that is inside. In a frozen one init would not run.
    fn refuse_in_use(&self, hierarchy: &Hierarchy) -> Result<()> {
        let path = hierarchy.dir();
        let inside = walk::processes(&path)?;
        if !inside.is_empty() {
            let path = path.display();
            return Err(Error::Invalid(format!(
                "container's cgroup is not empty: processes {inside:?} in {path}"
            )));
        }
        let freezes = hierarchy.tree == Tree::Unified || hierarchy.has_v1(Controller::Freezer);
        if freezes && self.is_frozen()? {
            let path = path.display();
            return Err(Error::Invalid(format!("container's cgroup unexpectedly frozen: {path}")));
        }
        Ok(())
    }

    /// Opens what a child needs to enter the cgroup.
    ///
    /// # Errors
    /// [`Error::Os`] if one of the directories is missing.
    pub fn join(&self) -> Result<Join> {
        Join::open(&self.hierarchies)
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

    /// Lets stopped processes run again.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<()> {
        Freezer::open(&self.hierarchies)?.thaw()
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
        let plan = Plan::new(self, Some(resources), Scope::Update)?;
        for (index, hierarchy) in self.hierarchies.iter().enumerate() {
            if index_is_idle(&plan, index) {
                continue;
            }
            let dir = Dir::open(hierarchy.dir())?;
            check_usage(&dir, resources)?;
            apply::settings(&dir, plan.settings_of(index))?;
        }
        Ok(())
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

    /// Number of processes of the cgroup that the OOM killer has killed so far.
    ///
    /// # Errors
    /// As [`Cgroup::oom_watch`].
    pub fn oom_killed(&self) -> Result<u64> {
        oom::killed(&self.hierarchies)
    }

    /// Removes the container's directories and all below them; never those above.
    ///
    /// What is missing is fine. All hierarchies are tried; the first error is returned.
    ///
    /// # Errors
    /// `EBUSY`, with the processes that are still inside, after 10 s of trying.
    pub fn delete(&self) -> Result<()> {
        let mut result = Ok(());
        // One for all: who keeps the first hierarchy busy keeps the others busy too.
        let deadline = Instant::now() + REMOVE_LIMIT;
        for hierarchy in &self.hierarchies {
            let removed = walk::remove(&hierarchy.dir(), deadline);
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }

    /// A cgroup below the container's, for `exec --cgroup [controller,…:]path`.
    ///
    /// Each element moves the named v1 hierarchies, or all of them. Hierarchies not named stay
    /// at the container's own cgroup.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that leaves the container's cgroup, does not exist, or names
    /// a controller that this host does not have.
    pub fn sub(&self, sub_cgroups: &[String]) -> Result<Self> {
        let mut below = self.clone();
        for argument in sub_cgroups {
            below.descend(self, argument)?;
        }
        Ok(below)
    }

    fn descend(&mut self, container: &Self, argument: &str) -> Result<()> {
        let bad = |why: &str| Error::Invalid(format!("--cgroup {argument:?}: {why}"));
        let (names, path) = match argument.split_once(':') {
            Some((names, path)) => (Some(names), path),
            None => (None, argument),
        };
        if Path::new(path).components().any(|part| part == std::path::Component::ParentDir) {
            return Err(bad("bad sub cgroup path, .. would leave the container's cgroup"));
        }
        let path = layout::clean(Path::new(path));
        let chosen = |hierarchy: &Hierarchy, name: &str| match &hierarchy.tree {
            Tree::V1(list) => list.split(',').any(|one| one == name),
            Tree::Unified => false,
        };
        for name in names.iter().flat_map(|names| names.split(',')) {
            if !container.hierarchies.iter().any(|hierarchy| chosen(hierarchy, name)) {
                return Err(bad(&format!("no v1 hierarchy has the controller {name:?}")));
            }
        }
        for (mine, own) in self.hierarchies.iter_mut().zip(&container.hierarchies) {
            if names.is_none_or(|names| names.split(',').any(|name| chosen(own, name))) {
                mine.path = own.path.join(&path);
                if !mine.dir().is_dir() {
                    return Err(bad(&format!("{} does not exist", mine.dir().display())));
                }
            }
        }
        Ok(())
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

fn index_is_idle(plan: &Plan, index: usize) -> bool {
    plan.settings_of(index).next().is_none() && plan.devices_of(index).is_none()
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

fn no_systemd() -> Error {
    Error::Unsupported(if Path::new("/run/systemd/system").is_dir() {
        "the systemd cgroup driver is not supported yet; run without --systemd-cgroup".to_owned()
    } else {
        "systemd not running on this host, cannot use systemd cgroups manager".to_owned()
    })
}

#[cfg(test)]
mod tests;
