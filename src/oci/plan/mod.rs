//! The Plan: all that init needs, resolved, checked and owned. After it, no JSON is read.

mod memory;
mod mounts;
mod platform;
mod process;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Hooks, LinuxIdMapping, LinuxNamespaceType, Spec};

use crate::error::{Error, Result};
use crate::oci::{namespaces as oci_namespaces, sysctl as oci_sysctl};
pub use memory::{FLAGS as MEMORY_FLAGS, MODES as MEMORY_MODES};
pub use mounts::{DevicePlan, MountPlan, MountSource};
pub use platform::Platform;
pub use process::{Capabilities, KEEP_GROUPS, ProcessPlan, RlimitPlan, TerminalPlan};

/// Everything about a container that its init acts on.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces to make and to join.
    pub namespaces: Namespaces,
    /// Maps of a new user namespace; empty without one.
    pub id_maps: IdMaps,
    /// Offsets of a new time namespace: clock, seconds, nanoseconds.
    pub time_offsets: Vec<(String, i64, u32)>,
    /// The rootfs and how it is mounted.
    pub root: RootPlan,
    /// Mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// `linux.devices`; the default ones are not in it.
    pub devices: Vec<DevicePlan>,
    /// Paths hidden from the container.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// UTS names.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Keys with slashes, and values.
    pub sysctls: Vec<(String, String)>,
    /// The process.
    pub process: ProcessPlan,
    /// Hooks, as in the specification.
    pub hooks: Hooks,
    /// SELinux label of mounts.
    pub mount_label: Option<String>,
    /// Network devices that move into the container.
    pub net_devices: Vec<NetDevicePlan>,
}

/// A network device of the host that becomes the container's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetDevicePlan {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container; the kernel completes one with `%d` in it.
    pub name_inside: String,
}

/// What to make and what to join.
#[derive(Debug)]
pub struct Namespaces {
    /// CLONE_NEW* of all namespaces that are new.
    pub new: CloneFlags,
    /// Those to join.
    pub join: Vec<JoinPlan>,
    /// Whether carob has no right to come back to its own pid namespace, so that somebody else has
    /// to go.
    pub is_return_barred: bool,
}

/// A namespace that exists.
#[derive(Debug)]
pub struct JoinPlan {
    /// Its place in `linux.namespaces`, for errors.
    pub index: usize,
    /// Its kind.
    pub kind: LinuxNamespaceType,
    /// The file that stands for it.
    pub path: PathBuf,
}

impl JoinPlan {
    /// The JSON path of `path`.
    #[must_use]
    pub fn field(&self) -> String {
        format!("linux.namespaces[{}].path", self.index)
    }
}

impl Namespaces {
    /// Whether this kind is new.
    #[must_use]
    pub fn is_new(&self, flag: CloneFlags) -> bool {
        self.new.contains(flag)
    }

    /// Whether the container has its own of this kind, new or joined.
    #[must_use]
    pub fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.is_new(clone_flag(kind)) || self.joined(kind).is_some()
    }

    /// The namespace of a kind that is joined.
    #[must_use]
    pub fn joined(&self, kind: LinuxNamespaceType) -> Option<&JoinPlan> {
        self.join.iter().find(|joined| joined.kind == kind)
    }
}

/// The CLONE_NEW* flag of a kind of namespace.
#[must_use]
pub fn clone_flag(kind: LinuxNamespaceType) -> CloneFlags {
    oci_namespaces::of(kind).flag
}

/// The two maps of a user namespace.
#[derive(Debug, Default, Clone)]
pub struct IdMaps {
    /// `uid_map`.
    pub uids: Vec<LinuxIdMapping>,
    /// `gid_map`.
    pub gids: Vec<LinuxIdMapping>,
}

/// The text that `/proc/<pid>/uid_map` takes.
#[must_use]
pub fn id_map_text(map: &[LinuxIdMapping]) -> String {
    use std::fmt::Write;
    map.iter().fold(String::new(), |mut text, line| {
        let (inside, outside, size) = (line.container_id(), line.host_id(), line.size());
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{inside} {outside} {size}");
        text
    })
}

/// The rootfs.
#[derive(Debug)]
pub struct RootPlan {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// `root.readonly`.
    pub readonly: bool,
    /// `linux.rootfsPropagation` as MS_* with or without MS_REC; `None` when not given.
    pub propagation: Option<nix::mount::MsFlags>,
}

impl RootPlan {
    /// A path of the host as the container will know it, if it leads straight into the rootfs. Where
    /// that is the host's own root, a path is one of the host: what the container mounts in its root is
    /// not meant.
    #[must_use]
    pub fn path_inside(&self, path: &Path) -> Option<PathBuf> {
        if self.path == Path::new("/") {
            return None;
        }
        let rest = path.strip_prefix(&self.path).ok()?;
        let is_straight = |part| matches!(part, std::path::Component::Normal(_));
        rest.components().all(is_straight).then(|| Path::new("/").join(rest))
    }
}

impl Plan {
    /// Turns a validated specification into a plan; `bundle` is absolute.
    ///
    /// # Errors
    /// [`Error::Config`] for what only shows here: no process, no root.
    pub fn new(spec: &Spec, bundle: &Path) -> Result<Self> {
        let linux = spec.linux().clone().unwrap_or_default_empty();
        let process = spec.process().as_ref().ok_or_else(|| {
            Error::config("process", "missing; a container needs a process to run")
        })?;
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Error::config("root", "missing; a container needs a root filesystem"))?;
        let root_path = bundle.join(root.path());
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        Ok(Self {
            namespaces: namespaces(linux.namespaces().as_deref().unwrap_or_default()),
            id_maps: IdMaps {
                uids: linux.uid_mappings().clone().unwrap_or_default(),
                gids: linux.gid_mappings().clone().unwrap_or_default(),
            },
            time_offsets: linux.time_offsets().iter().flatten().map(time_offset).collect(),
            root: RootPlan {
                path: root_path.clone(),
                readonly: root.readonly().unwrap_or(false),
                propagation: linux.rootfs_propagation().as_deref().and_then(mounts::propagation),
            },
            mounts: mounts.iter().map(|mount| MountPlan::new(mount, bundle, &root_path)).collect(),
            devices: linux.devices().iter().flatten().map(DevicePlan::new).collect(),
            masked_paths: once(paths(linux.masked_paths().as_deref())),
            readonly_paths: paths(linux.readonly_paths().as_deref()),
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            sysctls: linux.sysctl().iter().flatten().map(sysctl).collect(),
            process: ProcessPlan::new(process, spec)?,
            hooks: spec.hooks().clone().unwrap_or_default(),
            mount_label: linux.mount_label().clone().filter(|label| !label.is_empty()),
            net_devices: net_devices(&linux),
        })
    }
}

/// Without repetitions: one mask hides a path.
fn once(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    paths
}

/// `Linux::default()` of oci-spec is a whole example container; an absent section is empty.
trait EmptyLinux {
    fn unwrap_or_default_empty(self) -> oci_spec::runtime::Linux;
}

impl EmptyLinux for Option<oci_spec::runtime::Linux> {
    fn unwrap_or_default_empty(self) -> oci_spec::runtime::Linux {
        self.or_else(|| serde_json::from_slice(b"{}").ok()).unwrap_or_default()
    }
}

fn namespaces(list: &[oci_spec::runtime::LinuxNamespace]) -> Namespaces {
    let mut namespaces =
        Namespaces { new: CloneFlags::empty(), join: Vec::new(), is_return_barred: false };
    for (index, namespace) in list.iter().enumerate() {
        let kind = namespace.typ();
        match oci_namespaces::path(namespace) {
            Some(path) => {
                namespaces.join.push(JoinPlan { index, kind, path: path.to_owned() });
            }
            None => namespaces.new |= clone_flag(kind),
        }
    }
    namespaces
}

fn time_offset(
    (clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset),
) -> (String, i64, u32) {
    (clock.clone(), offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
}

/// Sorted: their order in JSON means nothing, and the same configuration does the same thing.
fn net_devices(linux: &oci_spec::runtime::Linux) -> Vec<NetDevicePlan> {
    let devices = linux.net_devices().iter().flatten().map(|(name, device)| NetDevicePlan {
        name: name.clone(),
        name_inside: device.name().clone().filter(|new| !new.is_empty()).unwrap_or(name.clone()),
    });
    let mut devices: Vec<_> = devices.collect();
    devices.sort();
    devices
}

fn sysctl((key, value): (&String, &String)) -> (String, String) {
    // Validation has refused a key that is none.
    let path = oci_sysctl::path(key).map_or_else(|| key.clone(), std::borrow::Cow::into_owned);
    (path, value.clone())
}

fn paths(list: Option<&[String]>) -> Vec<PathBuf> {
    list.unwrap_or_default().iter().map(PathBuf::from).collect()
}
