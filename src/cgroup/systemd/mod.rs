//! The systemd driver: the container's cgroup is that of a transient unit, a scope in a slice.
//!
//! ```text
//! name.rs        cgroupsPath `slice:prefix:name` → unit, slice, path of the cgroup
//! properties.rs  limits → properties of the unit     gvariant.rs  annotations → properties
//! bandwidth.rs   CPU time as systemd counts it
//! address.rs     which socket                        bus.rs       calls, each with a deadline
//! message.rs     bytes of a call and of an answer    cgroup.rs    what Cgroup does with a unit
//! slices.rs      directories of slices in hierarchies that systemd does not look after
//! ```
//!
//! No call is made without `--systemd-cgroup`, and none by a verb that changes no unit (`start`,
//! `kill`, `state`, `pause`, `exec` but for a user in a session): those go by the path of the
//! cgroup, which is in the state.

mod address;
mod bandwidth;
mod bus;
mod cgroup;
mod gvariant;
mod message;
mod name;
mod properties;
mod slices;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde::{Deserialize, Serialize};
use zbus::Variant;

use self::address::{Address, Manager};
use self::bus::{Bus, Fault};
use self::gvariant::properties as annotated;
use self::name::Name;
use self::properties::Property;
pub(super) use self::slices::{mark as mark_slices, remove_above as remove_slices_above};
use crate::error::{Error, Result};

/// How long systemd may take to answer a call, and to do a job.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two attempts to find systemd back on the bus.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Whether the host was booted by systemd. Source: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// A transient unit, as it is kept in the container's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    name: String,
    slice: String,
    manager: Manager,
    /// Of config.json, until the unit is made.
    #[serde(skip)]
    annotations: BTreeMap<String, String>,
}

/// What is asked of a unit that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is somebody's.
    Refuse,
    /// It is taken as it is.
    Join,
}

/// Whether systemd has booted this host, and takes orders of this process.
pub(super) fn is_ours() -> bool {
    Path::new(BOOTED).is_dir() && Manager::of_caller() == Manager::System
}

impl Unit {
    /// The unit that `linux.cgroupsPath` names, and the path of its cgroup below the root of every
    /// hierarchy. Asks a user's manager where it is itself; changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for a path that is not `slice:prefix:name`; [`Error::Unsupported`] on a
    /// host that systemd has not booted.
    pub(super) fn resolve(cgroups_path: Option<&Path>, id: &str) -> Result<(Self, PathBuf)> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Error::Unsupported(
                "systemd not running on this host, cannot use systemd cgroups manager".to_owned(),
            ));
        }
        let manager = Manager::of_caller();
        let name = name::name(cgroups_path, id, manager)?;
        let below = name.path()?;
        let root = match manager {
            Manager::System => PathBuf::from("/"),
            Manager::User => {
                let own = ask(manager, |bus| bus.property("ControlGroup"));
                PathBuf::from(own.map_err(|fault| explain(fault, "systemd's user manager"))?)
            }
        };
        let Name { unit, slice } = name;
        let annotations = BTreeMap::new();
        let path = Path::new("/").join(root).join(below);
        Ok((Self { name: unit, slice, manager, annotations }, path))
    }

    /// Whether it is a slice, which has no processes of its own as far as systemd knows.
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// How many slices it is in, below the manager's own cgroup.
    pub(super) fn depth(&self) -> usize {
        name::slice_path(&self.slice).map_or(0, |path| path.components().count())
    }

    /// Makes the unit around a process and waits until the process is in it. One that has failed
    /// before under this name is forgotten.
    ///
    /// # Errors
    /// [`Error::Invalid`] with systemd's words, or if there is no answer in time.
    pub(super) fn start(
        &self,
        description: &str,
        pid: Option<u32>,
        wanted: Vec<Property>,
        existing: Existing,
    ) -> Result<()> {
        let mut properties = self.basics(description, pid);
        properties.extend(wanted);
        let mut has_reset = false;
        loop {
            let auxiliary: Vec<(String, Vec<Property>)> = Vec::new();
            let body = (&*self.name, "replace", &properties, auxiliary);
            let started = ask(self.manager, |bus| {
                bus.watch_jobs().map_err(Fault::Broken)?;
                bus.run_job("StartTransientUnit", &body)
            });
            match started {
                Ok(result) if result == "done" => return Ok(()),
                Ok(result) => {
                    return Err(Error::Invalid(format!(
                        "systemd could not start {}: the job's result is {result:?}; see systemctl \
                         status {0} and the journal",
                        self.name
                    )));
                }
                Err(Fault::Refused { name, .. }) if is(&name, "UnitExists") => {
                    // It was told twice if it went away in between.
                    if existing == Existing::Join || pid.is_some_and(|pid| self.has(pid)) {
                        return Ok(());
                    }
                    if has_reset {
                        return Err(Error::Invalid(format!(
                            "systemd has a unit {} already, and it is in use: see systemctl status {0}",
                            self.name
                        )));
                    }
                    has_reset = true;
                    // If it is not loaded any more, all the better.
                    let reset = ask(self.manager, |bus| {
                        bus.call::<_, ()>("ResetFailedUnit", &(&*self.name,))
                    });
                    match reset {
                        Ok(()) | Err(Fault::Refused { .. }) => {}
                        Err(fault) => return Err(explain(fault, &self.name)),
                    }
                }
                Err(Fault::Refused { name, text }) => {
                    let before = properties.len();
                    properties.retain(|(known, _)| !is_unknown_optional(&text, known));
                    if properties.len() == before {
                        return Err(explain(Fault::Refused { name, text }, &self.name));
                    }
                }
                Err(fault) => return Err(explain(fault, &self.name)),
            }
        }
    }

    /// Whether a process is in the unit's cgroup.
    fn has(&self, pid: u32) -> bool {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().any(|line| line.rsplit('/').next() == Some(&*self.name))
    }

    /// What every unit of carob's has. Accounting is what gives a cgroup the files with usage.
    fn basics(&self, description: &str, pid: Option<u32>) -> Vec<Property> {
        let text = |name: &str, text: &str| (name.to_owned(), Variant::from(text.to_owned()));
        let switch = |name: &str, on: bool| (name.to_owned(), Variant::Bool(on));
        let mut properties = vec![text("Description", description)];
        if self.is_slice() {
            let above = vec![self.slice.clone()];
            properties.push(("Wants".to_owned(), Variant::from(above)));
        } else {
            properties.push(text("Slice", &self.slice));
            // What is below the scope's cgroup is not systemd's to touch.
            properties.push(switch("Delegate", true));
            // One that ends with a failure is forgotten like any other.
            properties.push(text("CollectMode", "inactive-or-failed"));
        }
        if let Some(pid) = pid {
            properties.push(("PIDs".to_owned(), Variant::from(vec![pid])));
        }
        for name in ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"] {
            properties.push(switch(name, true));
        }
        // Not to be stopped before whoever made the container can end it at shutdown.
        properties.push(switch("DefaultDependencies", false));
        properties
    }

    /// Changes properties of the unit while it runs; they go with it.
    ///
    /// # Errors
    /// As [`Unit::start`].
    pub(super) fn set(&self, mut properties: Vec<Property>) -> Result<()> {
        while !properties.is_empty() {
            let body = (&*self.name, true, &properties);
            let set = ask(self.manager, |bus| bus.call::<_, ()>("SetUnitProperties", &body));
            match set {
                Ok(()) => return Ok(()),
                Err(Fault::Refused { name, text }) => {
                    let before = properties.len();
                    properties.retain(|(known, _)| !is_unknown_optional(&text, known));
                    if properties.len() == before {
                        return Err(explain(Fault::Refused { name, text }, &self.name));
                    }
                }
                Err(fault) => return Err(explain(fault, &self.name)),
            }
        }
        Ok(())
    }

    /// Moves a process to this place below the unit's cgroup, by systemd's rights.
    ///
    /// # Errors
    /// As [`Unit::start`].
    pub(super) fn attach(&self, pid: u32, place: &Path) -> Result<()> {
        let body = (&*self.name, &*place.to_string_lossy(), vec![pid]);
        let moved = ask(self.manager, |bus| bus.call::<_, ()>("AttachProcessesToUnit", &body));
        moved.map_err(|fault| explain(fault, &self.name))
    }

    /// Stops the unit, if there is one, and waits until systemd has forgotten it.
    ///
    /// # Errors
    /// As [`Unit::start`].
    pub(super) fn stop(&self) -> Result<()> {
        let stopped = ask(self.manager, |bus| {
            bus.watch_jobs().map_err(Fault::Broken)?;
            bus.run_job("StopUnit", &(&*self.name, "replace"))
        });
        match stopped {
            // Whatever the result: what is left is seen in the cgroup.
            Ok(_) => Ok(()),
            Err(Fault::Refused { name, .. }) if is(&name, "NoSuchUnit") => Ok(()),
            Err(fault) => Err(explain(fault, &self.name)),
        }
    }
}

/// Asks over a connection of its own, and again as long as systemd is only away: while it executes
/// itself anew (`systemctl daemon-reexec`, each update of its package), it is on no bus.
fn ask<R>(
    manager: Manager,
    question: impl FnMut(&mut Bus) -> std::result::Result<R, Fault>,
) -> std::result::Result<R, Fault> {
    ask_at(&manager.addresses(), LIMIT, question)
}

fn ask_at<R>(
    addresses: &[Address],
    limit: Duration,
    mut question: impl FnMut(&mut Bus) -> std::result::Result<R, Fault>,
) -> std::result::Result<R, Fault> {
    let deadline = Instant::now() + limit;
    let mut was_away = false;
    loop {
        let answer = match Bus::open(addresses, limit) {
            Ok(mut bus) => question(&mut bus),
            // Its own socket is closed meanwhile.
            Err(error) if was_away => Err(Fault::Away(error)),
            Err(error) => Err(Fault::Broken(error)),
        };
        match answer {
            Err(Fault::Away(_)) if Instant::now() < deadline => was_away = true,
            answer => return answer,
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn is(name: &str, error: &str) -> bool {
    name.strip_prefix("org.freedesktop.systemd1.") == Some(error)
}

/// Whether a refusal is about a property that this version of systemd does not have, and that can
/// be left out. systemd's words: "Cannot set property X, or unknown property."
fn is_unknown_optional(text: &str, property: &str) -> bool {
    properties::OPTIONAL.contains(&property)
        && text.contains("unknown property")
        && text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property)
}

fn explain(fault: Fault, unit: &str) -> Error {
    match fault {
        Fault::Broken(error) | Fault::Away(error) => error,
        Fault::Refused { name, text } => {
            Error::Invalid(format!("systemd refuses {unit}: {text} ({name})"))
        }
    }
}
