//! Every rule that a configuration has to keep, each failing with the JSON path.
//!
//! Pure: what depends on the host (does a path exist, is a namespace the host's, is a controller
//! mounted) is checked where it is used. The rules hold for any configuration, so a front end
//! can call them before it has a container.
//!
//! To add a rule, write a function in the file of its topic and add it to that file's list.

use oci_spec::runtime::{Hook, LinuxResources, Process, Spec};

use self::values::{absolute, environment, fail, no_nul, no_nuls};
use super::Warning;
use crate::error::Result;

mod devices;
mod mounts;
mod namespaces;
mod platform;
mod process;
mod resources;
mod seccomp;
mod values;

/// A rule about the whole configuration.
type Rule = fn(&Spec, &mut Vec<Warning>) -> Result<()>;

const RULES: &[Rule] = &[
    process_present,
    root,
    hooks,
    annotations,
    namespaces::kinds,
    namespaces::user_mappings,
    namespaces::process_ids_are_mapped,
    namespaces::host_name,
    namespaces::domain_name,
    namespaces::time_offsets,
    namespaces::sysctls,
    namespaces::net_devices,
    mounts::destinations,
    mounts::sources,
    mounts::id_maps,
    mounts::rootfs_propagation,
    mounts::masked_and_readonly_paths,
    devices::devices,
    resources::in_spec,
    resources::cgroups_path,
    seccomp::seccomp,
    platform::intel_rdt,
    platform::memory_policy,
    platform::personality,
    platform::mount_label,
];

/// Checks a whole `config.json`.
///
/// # Errors
/// [`Error::Config`](crate::error::Error::Config) for the first rule that is broken.
pub fn validate(spec: &Spec) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for rule in RULES {
        rule(spec, &mut warnings)?;
    }
    Ok(warnings)
}

/// Checks a process, that of a configuration or one to `exec`; fields are below `process`.
///
/// # Errors
/// [`Error::Config`](crate::error::Error::Config) for the first rule that is broken.
pub fn validate_process(process: &Process) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    process::check(process, &mut warnings)?;
    Ok(warnings)
}

/// Checks resources, those of a configuration or of an update; fields are below
/// `linux.resources`.
///
/// # Errors
/// [`Error::Config`](crate::error::Error::Config) for the first rule that is broken.
pub fn validate_resources(resources: &LinuxResources) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    resources::check(resources, &mut warnings)?;
    Ok(warnings)
}

fn process_present(spec: &Spec, warnings: &mut Vec<Warning>) -> Result<()> {
    match spec.process() {
        Some(process) => process::check(process, warnings),
        None => fail("process", "is missing, the program to run is required"),
    }
}

fn root(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let Some(root) = spec.root() else {
        return fail("root", "is missing, the path of the root filesystem is required");
    };
    if root.path().as_os_str().is_empty() {
        return fail("root.path", "must not be empty, the root filesystem is required");
    }
    no_nul("root.path", root.path())
}

/// The kinds of hook, in the order in which they run. `carob features` prints them.
pub const HOOK_NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hooks(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    #[allow(deprecated, reason = "Docker's network hook is a prestart hook")]
    let lists = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    for (name, list) in HOOK_NAMES.into_iter().zip(lists) {
        for (i, one) in list.iter().flatten().enumerate() {
            hook(&format!("hooks.{name}[{i}]"), one)?;
        }
    }
    Ok(())
}

fn hook(field: &str, hook: &Hook) -> Result<()> {
    absolute(format_args!("{field}.path"), hook.path())?;
    no_nuls(format_args!("{field}.args"), hook.args().as_deref())?;
    environment(format_args!("{field}.env"), hook.env().as_deref())?;
    match hook.timeout() {
        Some(seconds @ ..=0) => {
            let text = format_args!("{seconds} seconds, must be greater than 0");
            fail(format_args!("{field}.timeout"), text)
        }
        _ => Ok(()),
    }
}

fn annotations(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    match spec.annotations() {
        Some(all) if all.contains_key("") => fail("annotations", "a key must not be empty"),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
