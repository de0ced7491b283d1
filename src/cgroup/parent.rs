//! A cgroup for other cgroups: a pod's.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::dir::Dir;
use super::make::{self, Enable, Made};
use super::plan::{self, Plan, Scope};
use super::{Cgroup, CgroupDriver, apply, systemd};
use crate::error::Result;

impl Cgroup {
    /// Finds a cgroup for others: an absolute path in each hierarchy, or the name of a slice.
    ///
    /// # Errors
    /// As [`Cgroup::resolve`].
    pub fn resolve_parent(path: &Path) -> Result<Self> {
        let driver = CgroupDriver::of_parent(path);
        match driver {
            CgroupDriver::Cgroupfs => Self::resolve(Some(path), "", driver),
            CgroupDriver::Systemd => {
                let slice = format!("::{}", path.display());
                Self::resolve(Some(Path::new(&slice)), "", driver)
            }
        }
    }

    /// Makes directories in which containers will have theirs, and writes the limits for all of
    /// them together. What is there already is taken as it is, processes below it included. Device
    /// rules are each container's own.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn create_parent(&self, resources: Option<&LinuxResources>) -> Result<()> {
        let mut plan = Plan::new(self, resources, Scope::Update)?;
        let pure_v2 = plan::is_pure_v2(&self.hierarchies);
        let enable = if pure_v2 { Enable::All } else { Enable::Needed };
        self.start_slice(&mut plan)?;
        let mut made = Made::default();
        let result = self.hierarchies.iter().enumerate().try_for_each(|(index, hierarchy)| {
            let leaf = made.make(&hierarchy.dir())?;
            make::prepare((hierarchy, leaf), plan.settings_of(index), enable)?;
            if plan.is_idle(index) {
                return Ok(());
            }
            apply::settings(&Dir::open(hierarchy.dir())?, plan.settings_of(index))
        });
        if self.unit.is_some() {
            systemd::mark_slices(&made, &self.hierarchies);
        }
        if result.is_err() {
            made.undo();
        }
        result
    }
}
