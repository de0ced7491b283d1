//! Sandboxes without a supervisor: for CRI shims, and for containers of any OCI runtime that join
//! the namespaces by their paths.
//!
//! ```text
//! <root>/@sandboxes/          flock: one change at a time
//!     <name>/sandbox.json     [`Stored`]
//!     <name>/etc/             hosts, hostname, resolv.conf
//!     <name>/…                as in a pod's directory
//! ```

mod etc;
mod network;
mod report;
mod stored;

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::spec::{PidScope, Shape, pause_spec};
use super::user_namespace::{lock_bases, lowest_free_base};
use super::{Shm, Start, cgroup};
use crate::container::{ContainerId, Runtime};
use crate::error::{Error, OsContext, Result};
use crate::pod::store::{CGROUP_PARENT, PodDirs};
use crate::sys::credentials;

pub use network::{Network, id_on_network};
pub use report::Report;
use report::report;
pub use stored::bases_in_use;
use stored::{FILE, Stored, all, lock, names, read, read_file};

/// The kubelet's, for pause.
const OOM_SCORE_ADJ: i32 = -998;
const CAP_SYS_RESOURCE: u32 = 24;

/// What a sandbox was asked to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    /// Whether network and host name are the host's.
    pub host_network: bool,
    /// The network that plugins put it on; without one it has a loopback device.
    #[serde(default)]
    pub network: Option<Network>,
    /// Whether IPC and `/dev/shm` are the host's.
    pub host_ipc: bool,
    /// `container`, `pod` or `host`.
    pub pid: Pid,
    /// Whether it has a user namespace.
    pub user_namespace: bool,
    /// Host name; the sandbox's name if there is none.
    pub hostname: Option<String>,
    /// Kernel parameters of its namespaces.
    pub sysctls: Vec<(String, String)>,
    /// The pod's cgroup, absolute in each hierarchy; `/carob/sandbox-<name>` if there is none.
    pub cgroup: Option<PathBuf>,
    /// Limits of that cgroup.
    pub resources: Option<LinuxResources>,
    /// Lines of `/etc/hosts`: address, names.
    pub hosts: Vec<(String, Vec<String>)>,
    /// Text of `resolv.conf`; the host's if there is none.
    pub resolv_conf: Option<String>,
}

/// Pid namespaces of a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pid {
    /// Each container its own.
    #[default]
    Container,
    /// One, of which pause is the first process.
    Pod,
    /// The host's.
    Host,
}

/// Makes a sandbox and starts it.
///
/// # Errors
/// [`Error::Invalid`] if the name is taken or the cgroup has processes; else as [`super::start`], or
/// what a plugin of its network says. Nothing is left then.
pub fn create(runtime: &Runtime, name: &str, options: Options) -> Result<Report> {
    let mut stored = make(runtime, name, options)?;
    match connect(runtime, &mut stored).and_then(|()| report(runtime, &stored)) {
        Ok(report) => Ok(report),
        Err(error) => {
            let _lock = lock(&runtime.root)?;
            // Not another one of its name.
            if read_file(&stored.dirs.state)?.is_some_and(|now| now.uid == stored.uid)
                && let Err(left) = clear(runtime, &stored)
            {
                crate::log::warn(left);
            }
            Err(error)
        }
    }
}

fn make(runtime: &Runtime, name: &str, options: Options) -> Result<Stored> {
    let root = &runtime.root;
    let name = ContainerId::new(name)?.to_string();
    etc::check_hostname(options.hostname.as_deref().unwrap_or(&name))?;
    crate::pod::rights::check()?;
    if let Some(network) = &options.network {
        network.list()?;
    }
    let _lock = lock(root)?;
    let _bases = options.user_namespace.then(|| lock_bases(root)).transpose()?;
    let base = match options.user_namespace {
        true => Some(lowest_free_base(bases_in_use(root)?)?),
        false => None,
    };
    let state = all(root).join(&name);
    let default = || Path::new(CGROUP_PARENT).join(format!("sandbox-{name}"));
    let dirs = PodDirs {
        data: state.clone(),
        logs: state.clone(),
        cgroup: options.cgroup.clone().unwrap_or_else(default),
        state,
    };
    let inside = cgroup(&dirs)?.processes()?;
    if !inside.is_empty() {
        let cgroup = dirs.cgroup.display();
        return Err(Error::Invalid(format!("cgroup {cgroup} is in use: processes {inside:?}")));
    }
    if dirs.state.join(FILE).exists() {
        return Err(Error::Invalid(format!("sandbox {name:?} already exists")));
    }
    // Of somebody who was killed before he had done anything else.
    remove_directory(&dirs.state)?;
    let made = DirBuilder::new().mode(0o700).create(&dirs.state);
    made.os("mkdir", || dirs.state.display())?;
    let uid = uuid::Uuid::new_v4().to_string();
    let mut stored =
        Stored { name, options, dirs, uid, attempt: 0, user_namespace_base: base, record: None };
    let made = etc::write_files(&stored.dirs.state, &stored.options, stored.hostname())
        .and_then(|()| up(runtime, &mut stored));
    match made {
        Ok(()) => Ok(stored),
        Err(error) => {
            if let Err(left) = clear(runtime, &stored) {
                crate::log::warn(left);
            }
            Err(error)
        }
    }
}

/// Starts a sandbox that is stopped; one that runs stays as it is.
///
/// # Errors
/// As [`create`]; the sandbox stays, stopped.
pub fn start(runtime: &Runtime, name: &str) -> Result<Report> {
    let mut stored = {
        let _lock = lock(&runtime.root)?;
        let mut stored = read(&runtime.root, name)?;
        if is_running(runtime, &stored)? {
            return report(runtime, &stored);
        }
        up(runtime, &mut stored)?;
        stored
    };
    if let Err(error) = connect(runtime, &mut stored) {
        if let Err(left) = stop(runtime, name) {
            crate::log::warn(left);
        }
        return Err(error);
    }
    report(runtime, &stored)
}

/// Puts it on its network, if it is to be on one. Not locked meanwhile: others would wait for plugins.
fn connect(runtime: &Runtime, stored: &mut Stored) -> Result<()> {
    let Some(network) = stored.options.network.clone() else { return Ok(()) };
    let ips = network::join(stored, &network)?;
    let _lock = lock(&runtime.root)?;
    let now = read_file(&stored.dirs.state)?;
    let same = |now: Stored| (now.uid, now.attempt) == (stored.uid.clone(), stored.attempt);
    if !now.is_some_and(same) || !is_running(runtime, stored)? {
        network::leave(stored, false)?;
        let name = &stored.name;
        return Err(Error::Invalid(format!("sandbox {name:?} has been stopped meanwhile")));
    }
    network::write_hosts(stored, &ips)?;
    if let Some(record) = &mut stored.record {
        record.ips = ips;
    }
    stored.write()
}

/// Takes it off its network; that it cannot be is a warning, and no reason to keep the sandbox.
fn disconnect(runtime: &Runtime, stored: &Stored) -> Result<()> {
    if let Err(error) = network::leave(stored, is_running(runtime, stored)?) {
        crate::log::warn(error);
    }
    Ok(())
}

/// Stops a sandbox, and whatever runs in its cgroup; its directory and its host ids stay.
///
/// # Errors
/// As [`super::stop`].
pub fn stop(runtime: &Runtime, name: &str) -> Result<()> {
    disconnect(runtime, &read(&runtime.root, name)?)?;
    let _lock = lock(&runtime.root)?;
    let mut stored = read(&runtime.root, name)?;
    super::stop(runtime, &stored.id(), &stored.dirs)?;
    stored.record = None;
    stored.write()
}

/// Stops a sandbox and removes all of it.
///
/// # Errors
/// As [`super::stop`].
pub fn remove(runtime: &Runtime, name: &str) -> Result<()> {
    disconnect(runtime, &read(&runtime.root, name)?)?;
    let _lock = lock(&runtime.root)?;
    clear(runtime, &read(&runtime.root, name)?)
}

/// Looks at all sandboxes, in the order of their names; one that goes meanwhile is left out.
///
/// # Errors
/// [`Error::Os`] if one cannot be read.
pub fn list(runtime: &Runtime) -> Result<Vec<Report>> {
    let mut names = names(&runtime.root)?;
    names.sort();
    let stored = names.iter().map(|name| read_file(&all(&runtime.root).join(name)));
    let stored = stored.filter_map(Result::transpose);
    stored.map(|stored| report(runtime, &stored?)).collect()
}

/// Looks at a sandbox.
///
/// # Errors
/// [`Error::Invalid`] if there is none.
pub fn inspect(runtime: &Runtime, name: &str) -> Result<Report> {
    report(runtime, &read(&runtime.root, name)?)
}

/// What is on disk says first what there will be, and then what there is.
fn up(runtime: &Runtime, stored: &mut Stored) -> Result<()> {
    super::stop(runtime, &stored.id(), &stored.dirs)?;
    stored.record = None;
    stored.attempt += 1;
    stored.write()?;
    let options = &stored.options;
    let may_lower = credentials::permitted().is_ok_and(|own| own & (1 << CAP_SYS_RESOURCE) != 0);
    let spec = pause_spec(&Shape {
        host_network: options.host_network,
        host_ipc: options.host_ipc,
        pid: match options.pid {
            Pid::Container => PidScope::Container,
            Pid::Pod => PidScope::Pod,
            Pid::Host => PidScope::Node,
        },
        user_namespace_base: stored.user_namespace_base,
        hostname: Some(stored.hostname()),
        sysctls: &options.sysctls,
        oom_score_adj: may_lower.then_some(OOM_SCORE_ADJ),
    })?;
    let network = options.network.as_ref().map(Network::list).transpose()?;
    let network = network.map(|(list, _)| list.name);
    let (record, _child) = super::start(
        runtime,
        Start {
            dirs: &stored.dirs,
            id: &stored.id(),
            spec,
            resources: options.resources.as_ref(),
            shm: if options.host_ipc { Shm::Host } else { Shm::Own },
            user_namespace_base: stored.user_namespace_base,
            ips: Vec::new(),
            network,
            held: None,
        },
    )?;
    stored.record = Some(record);
    stored.write()
}

fn clear(runtime: &Runtime, stored: &Stored) -> Result<()> {
    disconnect(runtime, stored)?;
    super::stop(runtime, &stored.id(), &stored.dirs)?;
    remove_directory(&stored.dirs.state)
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.os("remove", || path.display()),
    }
}

fn is_running(runtime: &Runtime, stored: &Stored) -> Result<bool> {
    match runtime.init_of(&stored.id()) {
        Err(Error::NotFound { .. }) => Ok(false),
        other => Ok(other?.is_some() && stored.record.is_some()),
    }
}
