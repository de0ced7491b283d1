//! What a cgroup does otherwise when it is that of a unit.

use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

use super::super::access::Limited;
use super::super::create::refuse_in_use;
use super::super::dir::Dir;
use super::super::layout::{self, Hierarchy, Tree};
use super::super::plan::{self, DeviceForm, Plan, Scope};
use super::super::{Cgroup, Controller, Made, Unified, Version};
use super::address::Manager;
use super::bandwidth::{Bandwidth, round_quotas};
use super::properties::{Property, of, of_devices};
use super::{Existing, Unit, annotated, slices};
use crate::error::{Error, OsContext, Result};
use crate::log;

/// How long systemd has to see by itself that a cgroup is empty.
const OWN_WAY: Duration = Duration::from_secs(2);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Whether it is made around a process that is there already: by [`Cgroup::start_around`].
    #[must_use]
    pub fn needs_process(&self) -> bool {
        self.unit.is_some()
    }

    /// Leaves out what a user's manager has no say in: v1's controllers, and rules for devices.
    #[must_use]
    pub(in crate::cgroup) fn within_delegation(mut self) -> Self {
        if self.unit.as_ref().is_none_or(|unit| unit.manager == Manager::System) {
            return self;
        }
        let is_tracked = |h: &Hierarchy| match &h.tree {
            Tree::Unified => true,
            Tree::V1(names) => names == "name=systemd",
        };
        let (tracked, denied) = self.hierarchies.into_iter().partition(is_tracked);
        self.hierarchies = tracked;
        self.limited = Some(Limited { denied, devices: false });
        self
    }

    /// Annotations of config.json; those that are properties of a unit are for [`Cgroup::check`].
    #[must_use]
    pub fn with_annotations<'a>(
        mut self,
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        if let Some(unit) = &mut self.unit {
            let owned = annotations.into_iter().map(|(key, value)| (key.clone(), value.clone()));
            unit.annotations = owned.collect();
        }
        self
    }

    /// Refuses a cgroup that is in use, before a unit is made for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the processes inside.
    pub fn refuse_existing(&self) -> Result<()> {
        let mut existing = self.hierarchies.iter().filter(|hierarchy| hierarchy.dir().exists());
        existing.try_for_each(refuse_in_use)
    }

    /// Makes the unit with the process in it, which is given by its pid as carob sees it and waits
    /// meanwhile. On failure there is no such unit, or it is somebody's.
    ///
    /// # Errors
    /// As [`Cgroup::check`]; [`Error::Invalid`] if systemd refuses, or does not answer in time.
    pub fn start_around(
        &self,
        pid: i32,
        id: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let plan = Plan::new(self, resources, Scope::Create)?;
        let mut properties = unit_properties(&self.hierarchies, &plan, Bandwidth::DEFAULT)?;
        properties.extend(annotated(unit.annotations.iter())?);
        let description = format!("carob container {id}");
        let member = u32::try_from(pid).ok().filter(|_| !unit.is_slice());
        unit.start(&description, member, properties, Existing::Refuse)
    }

    /// Does what [`Cgroup::create`] does in the cgroup of a unit that has been started.
    ///
    /// # Errors
    /// As [`Cgroup::create`]. What is there then, [`Cgroup::delete`] takes away.
    pub fn fill_around(&self, pid: i32, resources: Option<&LinuxResources>) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let mut plan = Plan::new(self, resources, Scope::Create)?;
        round_quotas(plan.settings_mut(), Bandwidth::DEFAULT);
        let mut made = Made::default();
        let filled = self.fill(&plan, &mut made, |_| true, |_| Ok(()));
        slices::mark(&made, &self.hierarchies);
        filled?;
        for hierarchy in &self.hierarchies {
            // systemd has put it into a scope where it has one: all there is on v2.
            if unit.is_slice() || hierarchy.version() == Version::V1 {
                let dir = hierarchy.dir();
                Dir::open(dir.clone())?
                    .write_raw("cgroup.procs", &pid.to_string())
                    .os("move init to", || dir.display())?;
            }
        }
        Ok(())
    }

    /// Refuses limits and annotations that cannot be properties of a unit.
    pub(in crate::cgroup) fn check_unit(&self, plan: &Plan) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        unit_properties(&self.hierarchies, plan, Bandwidth::DEFAULT)?;
        annotated(unit.annotations.iter()).map(drop)
    }

    /// Has systemd forget the unit. That there is no answer is only warned of: systemd sees by itself
    /// that a cgroup is empty, but never if somebody else is faster to take it away.
    pub(in crate::cgroup) fn stop_unit(&self) {
        let named = |h: &&Hierarchy| h.tree == Tree::V1("name=systemd".to_owned());
        let unified = |h: &&Hierarchy| h.tree == Tree::Unified;
        let own = self.hierarchies.iter().find(named);
        let own = own.or_else(|| self.hierarchies.iter().find(unified)).map(Hierarchy::dir);
        let (Some(unit), Some(own)) = (&self.unit, own) else { return };
        // Without a cgroup it is forgotten already: most that have ended by themselves.
        if !own.exists() {
            return;
        }
        if let Err(error) = unit.stop() {
            log::warn(error);
            let deadline = Instant::now() + OWN_WAY;
            while own.exists() && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Whether a process that was cloned like this gets in only by [`Cgroup::attach`]: a user may not
    /// move it there from a session, which is not below the user's own systemd. Beside v1 as well:
    /// systemd moves it in all that a user's cgroups are in.
    #[must_use]
    pub fn admits_by_asking(&self, cloned: Unified) -> bool {
        let of_user = |unit: &Unit| unit.manager == Manager::User && !unit.is_slice();
        cloned == Unified::Enter
            && self.hierarchies.iter().any(|hierarchy| hierarchy.tree == Tree::Unified)
            && self.unit.as_ref().is_some_and(of_user)
    }

    /// Has systemd move a process into the unit, or to where its init has gone below that, as with
    /// [`Cgroup::join_init`]. It must wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Invalid`] if systemd refuses, or does not answer in time.
    pub fn attach(&self, pid: i32, init: i32) -> Result<()> {
        let (Some(unit), Ok(pid)) = (&self.unit, u32::try_from(pid)) else { return Ok(()) };
        unit.attach(pid, Path::new("/")).or_else(|error| {
            let unified = self.hierarchies.iter().find(|one| one.tree == Tree::Unified);
            match unified.and_then(|one| layout::place_below(&one.path, init)) {
                Some(below) if below != Path::new("") => {
                    unit.attach(pid, &Path::new("/").join(below))
                }
                _ => Err(error),
            }
        })
    }

    /// Tells systemd of new limits, so that it does not bring back the old ones, and has the plan say
    /// what systemd makes of them.
    pub(in crate::cgroup) fn update_unit(&self, plan: &mut Plan) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let current = self.bandwidth()?;
        unit.set(unit_properties(&self.hierarchies, plan, current)?)?;
        round_quotas(plan.settings_mut(), current);
        Ok(())
    }

    /// Makes the slice, in which there will be other units; one that is there is taken as it is.
    pub(in crate::cgroup) fn start_slice(&self, plan: &mut Plan) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        if !unit.is_slice() {
            return Err(Error::config(
                "linux.cgroupsPath",
                format!("{:?} is no slice, and cannot have other units in it", unit.name),
            ));
        }
        let properties = unit_properties(&self.hierarchies, plan, Bandwidth::DEFAULT)?;
        unit.start("carob pod", None, properties, Existing::Join)?;
        round_quotas(plan.settings_mut(), Bandwidth::DEFAULT);
        Ok(())
    }

    /// The bandwidth in force.
    fn bandwidth(&self) -> Result<Bandwidth> {
        let v1 = self.hierarchies.iter().find(|h| h.has_v1(Controller::Cpu));
        let unified = || self.hierarchies.iter().find(|h| h.tree == Tree::Unified);
        let Some(hierarchy) = v1.or_else(unified) else { return Ok(Bandwidth::DEFAULT) };
        let dir = Dir::open(hierarchy.dir())?;
        let read = |file| dir.read_if_exists(file).map(Option::unwrap_or_default);
        let text = match v1 {
            // -1 is no number without a sign, and so no limit.
            Some(_) => format!("{} {}", read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
            None => read("cpu.max")?,
        };
        Ok(Bandwidth::DEFAULT.with_max(&text))
    }
}

/// Limits, and on v1 devices.
fn unit_properties(
    hierarchies: &[Hierarchy],
    plan: &Plan,
    current: Bandwidth,
) -> Result<Vec<Property>> {
    let version = if plan::is_pure_v2(hierarchies) { Version::V2 } else { Version::V1 };
    let mut properties = of(plan.settings(), version, current)?;
    if let Some(DeviceForm::V1(rules)) = plan.devices() {
        const DRIVERS: &str = "/proc/devices";
        let majors = std::fs::read_to_string(DRIVERS).os("read", || DRIVERS)?;
        properties.extend(of_devices(rules, &majors));
    }
    Ok(properties)
}
