//! Where each limit goes: settings and device rules, assigned to hierarchies. Reads at most
//! `cgroup.controllers`; writes nothing.

use std::cell::OnceCell;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use super::access::Limited;
use super::controller::{Controller, Version};
use super::device_rules::{self, Exceptions, Rule};
use super::layout::{Hierarchy, Tree};
use super::settings::{Setting, settings};
use super::systemd::Unit;
use super::{Cgroup, access, v2};
use crate::error::{Error, Result};
use crate::sys::fd;

/// Whether device rules are part of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// A new container: limits and devices.
    Create,
    /// `update` leaves devices alone.
    Update,
}

/// The device rules in the form of the hierarchy that enforces them.
#[derive(Debug)]
pub(super) enum DeviceForm {
    V1(Exceptions),
    V2(Vec<Rule>),
}

/// What is to be written, by index into the list of hierarchies.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Vec<(usize, Setting)>,
    devices: Option<(usize, DeviceForm)>,
}

impl Plan {
    /// Assigns everything `resources` asks for.
    ///
    /// # Errors
    /// [`Error::Config`] with the JSON path, for a value that cannot be, and for a limit whose
    /// controller this host does not have.
    pub(super) fn new(
        cgroup: &Cgroup,
        resources: Option<&LinuxResources>,
        scope: Scope,
    ) -> Result<Self> {
        let host = Host {
            hierarchies: &cgroup.hierarchies,
            limited: cgroup.limited.as_ref(),
            slices: cgroup.unit.as_ref().map_or(0, Unit::depth),
            unified: OnceCell::new(),
        };
        let mut assigned = Vec::new();
        if let Some(resources) = resources {
            let form = |controller| host.place(controller).map_or(Version::V1, |place| place.1);
            let form = |controller| if host.pure_v2() { Version::V2 } else { form(controller) };
            for setting in settings(resources, form)? {
                assigned.push((host.require(setting.controller, &setting.field)?, setting));
            }
            let unified = v2::unified(resources)?;
            if let Some(first) = unified.first()
                && !host.pure_v2()
            {
                return Err(Error::config(
                    first.field.clone(),
                    "unified needs cgroup v2, and this host has v1 hierarchies",
                ));
            }
            for setting in unified {
                assigned.push((host.require(setting.controller, &setting.field)?, setting));
            }
        }
        let devices = match scope {
            Scope::Create if host.has_devices() => Some(host.devices(resources)?),
            Scope::Create => None,
            Scope::Update => None,
        };
        Ok(Self { settings: assigned, devices })
    }

    pub(super) fn settings_of(&self, index: usize) -> impl Iterator<Item = &Setting> + Clone {
        self.settings.iter().filter(move |(at, _)| *at == index).map(|(_, setting)| setting)
    }

    /// Whether a hierarchy has nothing to be written.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        self.settings_of(index).next().is_none() && self.devices_of(index).is_none()
    }

    /// All of them, wherever they go.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> + Clone {
        self.settings.iter().map(|(_, setting)| setting)
    }

    /// As [`Plan::settings`], to be changed.
    pub(super) fn settings_mut(&mut self) -> impl Iterator<Item = &mut Setting> {
        self.settings.iter_mut().map(|(_, setting)| setting)
    }

    /// The device rules, wherever they go.
    pub(super) fn devices(&self) -> Option<&DeviceForm> {
        self.devices.as_ref().map(|(_, form)| form)
    }

    pub(super) fn devices_of(&self, index: usize) -> Option<&DeviceForm> {
        self.devices.as_ref().filter(|(at, _)| *at == index).map(|(_, form)| form)
    }
}

/// The hierarchies, and what the root of the unified one offers once somebody asks.
struct Host<'a> {
    hierarchies: &'a [Hierarchy],
    limited: Option<&'a Limited>,
    /// How many cgroups above are slices, to which systemd brings what a unit inside needs.
    slices: usize,
    unified: OnceCell<String>,
}

impl Host<'_> {
    fn pure_v2(&self) -> bool {
        self.all().all(|hierarchy| hierarchy.tree == Tree::Unified)
    }

    /// Those that the host has, be they denied.
    fn all(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter().chain(self.limited.iter().flat_map(|limited| &limited.denied))
    }

    fn has_devices(&self) -> bool {
        self.limited.is_none_or(|limited| limited.devices)
    }

    /// The hierarchy a controller is attached to.
    fn place(&self, controller: Controller) -> Option<(usize, Version)> {
        let v1 = self.hierarchies.iter().position(|h| h.has_v1(controller));
        if let Some(index) = v1 {
            return Some((index, Version::V1));
        }
        let index = self.hierarchies.iter().position(|h| h.tree == Tree::Unified)?;
        let available = match (controller, controller.v2_name()) {
            (_, Some(name)) => self.offered(index).split_whitespace().any(|one| one == name),
            (Controller::Devices | Controller::Freezer | Controller::Core, None) => true,
            (_, None) => false,
        };
        available.then_some((index, Version::V2))
    }

    fn offered(&self, unified: usize) -> &str {
        self.unified.get_or_init(|| {
            fd::read_record(self.offer(&self.hierarchies[unified])).unwrap_or_default()
        })
    }

    /// The file that lists what there is: of the host, or of what was delegated to the caller.
    fn offer(&self, unified: &Hierarchy) -> PathBuf {
        let dir = unified.dir();
        let delegated = dir.ancestors().skip(1 + self.slices).find(|dir| dir.exists());
        let from = delegated.filter(|_| self.limited.is_some()).unwrap_or(&unified.mount);
        from.join("cgroup.controllers")
    }

    fn require(&self, controller: Controller, field: &str) -> Result<usize> {
        if let Some((index, _)) = self.place(controller) {
            return Ok(index);
        }
        let name = if self.pure_v2() { controller.v2_name() } else { None };
        if let Some(denied) = self.denied(controller) {
            let (name, dir) = (name.unwrap_or(controller.v1_name()), denied.dir());
            return Err(Error::config(
                field,
                format!(
                    "needs the cgroup controller {name}, and you may not make {}; {}",
                    dir.display(),
                    access::WAY_OUT
                ),
            ));
        }
        Err(Error::config(
            field,
            format!(
                "needs the cgroup controller {}, which this host does not have ({})",
                name.unwrap_or(controller.v1_name()),
                match self.hierarchies {
                    [unified] if self.pure_v2() =>
                        format!("cgroup v2, not in {}", self.offer(unified).display()),
                    _ => "no v1 hierarchy of it is mounted and the unified tree does not list it"
                        .to_owned(),
                }
            ),
        ))
    }

    /// The hierarchy that would have had the controller, had the caller the rights.
    fn denied(&self, controller: Controller) -> Option<&Hierarchy> {
        let denied = &self.limited?.denied;
        let v1 = denied.iter().find(|hierarchy| hierarchy.has_v1(controller));
        v1.or_else(|| denied.iter().find(|hierarchy| hierarchy.tree == Tree::Unified))
    }

    fn devices(&self, resources: Option<&LinuxResources>) -> Result<(usize, DeviceForm)> {
        let configured = resources.and_then(|resources| resources.devices().as_deref());
        let rules = device_rules::rules(configured.unwrap_or_default())?;
        let index = self.require(Controller::Devices, "linux.resources.devices")?;
        let form = match self.hierarchies[index].version() {
            Version::V1 => DeviceForm::V1(device_rules::exceptions(&rules)?),
            Version::V2 => DeviceForm::V2(rules),
        };
        Ok((index, form))
    }
}

/// Whether there is nothing but the unified tree.
pub(super) fn is_pure_v2(hierarchies: &[Hierarchy]) -> bool {
    hierarchies.iter().all(|hierarchy| hierarchy.tree == Tree::Unified)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(tree: Tree) -> Hierarchy {
        // A mount point without files: the unified tree offers no controller.
        Hierarchy { tree, mount: "/nonexistent".into(), path: "c1".into() }
    }

    fn plan(trees: &[&str], json: &str) -> Result<Plan> {
        let tree = |name: &&str| match *name {
            "" => Tree::Unified,
            names => Tree::V1(names.to_owned()),
        };
        let hierarchies: Vec<_> = trees.iter().map(tree).map(hierarchy).collect();
        let resources = serde_json::from_str(json).unwrap();
        Plan::new(
            &Cgroup { hierarchies, limited: None, unit: None },
            Some(&resources),
            Scope::Create,
        )
    }

    #[test]
    fn limits_go_to_their_hierarchy() {
        let trees = ["cpu,cpuacct", "memory", "devices", ""];
        let plan = plan(&trees, r#"{"memory":{"limit":5000},"cpu":{"shares":2}}"#).unwrap();
        assert_eq!(plan.settings_of(0).count(), 1);
        assert_eq!(plan.settings_of(1).count(), 1);
        assert!(matches!(plan.devices_of(2), Some(DeviceForm::V1(_))));
    }

    #[test]
    fn without_v1_devices_the_unified_tree_enforces_them() {
        let plan = plan(&["memory", ""], "{}").unwrap();
        assert!(matches!(plan.devices_of(1), Some(DeviceForm::V2(_))));
    }

    #[test]
    fn a_missing_controller_is_named() {
        let v1 = ["devices"];
        let cases: &[(&[&str], &str, &str)] = &[
            (
                &v1,
                r#"{"pids":{"limit":1}}"#,
                "linux.resources.pids.limit: needs the cgroup controller pids",
            ),
            (
                &v1,
                r#"{"cpu":{"cpus":"0"}}"#,
                "linux.resources.cpu.cpus: needs the cgroup controller cpuset",
            ),
            (
                &v1,
                r#"{"unified":{"memory.high":"1"}}"#,
                "linux.resources.unified[\"memory.high\"]: unified needs",
            ),
            (
                &v1,
                r#"{"network":{"classID":1}}"#,
                "linux.resources.network.classID: needs the cgroup controller net_cls",
            ),
            (&["memory"], "{}", "linux.resources.devices: needs the cgroup controller devices"),
            (
                &[""],
                r#"{"blockIO":{"weight":50}}"#,
                "linux.resources.blockIO.weight: needs the cgroup controller io",
            ),
        ];
        for (trees, json, want) in cases {
            let error = plan(trees, json).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn zeros_need_no_controller() {
        let json = r#"{"cpu":{"shares":0},"blockIO":{"weight":0},"pids":{"limit":0},
                       "memory":{"limit":0},"network":{}}"#;
        plan(&["devices"], json).unwrap();
    }
}
