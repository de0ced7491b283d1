//! What of this host carob needs, what it makes do without, and what to do about the rest.
//!
//! Looks and asks; changes nothing and needs no rights.
//!
//! ```text
//! host.rs        kernel, security modules, seccomp, user namespaces, where state is kept
//! cgroups.rs     layout, controllers, what is delegated to the caller
//! systemd.rs     the service manager and its buses
//! ids.rs         subordinate ids and the helpers that map them
//! interfaces.rs  the table of kernel interfaces, with what each falls back to
//! clients.rs     the table of clients, with how each is pointed at carob
//! ```

mod cgroups;
mod clients;
mod host;
mod ids;
mod interfaces;
mod systemd;

use std::path::Path;

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something does not work, or works in another way.
    Warn,
    /// Not there. Without it carob works all the same.
    Missing,
    /// Without it carob cannot run a container here.
    Fatal,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What belongs together.
    pub section: &'static str,
    /// What it is.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What is there.
    pub found: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn new(
        section: &'static str,
        name: impl Into<String>,
        status: Status,
        found: impl Into<String>,
    ) -> Self {
        Self { section, name: name.into(), status, found: found.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of carob.
    pub version: &'static str,
    /// Whether it can run containers here.
    pub usable: bool,
    /// In the order of the sections.
    pub checks: Vec<Check>,
}

/// Looks at this host; `state_root` is where state would be kept.
#[must_use]
pub fn examine(state_root: &Path) -> Report {
    let mut checks = host::checks(state_root);
    checks.extend(cgroups::checks());
    checks.extend(systemd::checks());
    checks.extend(ids::checks());
    checks.extend(interfaces::checks());
    checks.extend(clients::checks());
    let usable = checks.iter().all(|check| check.status != Status::Fatal);
    Report { version: env!("CARGO_PKG_VERSION"), usable, checks }
}

/// A file of `/proc` or `/sys` without its last newline; none if it cannot be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}
