//! Hooks that run in carob's own namespaces.

use std::path::Path;

use oci_spec::runtime::Hooks;

use super::state::{Container, Status};
use crate::error::Result;
use crate::init::{Hook, run_hook};
use crate::oci::load;

/// Runs all hooks of one kind; the first that fails ends it.
pub(super) fn run_all(kind: Hook, hooks: &Hooks, state: &[u8], bundle: &Path) -> Result<()> {
    kind.of(hooks).iter().try_for_each(|hook| run_hook(kind, hook, state, bundle))
}

/// Runs hooks of a container that exists; its configuration is read only if it has any.
pub(super) fn run_late(kind: Hook, container: &Container, status: Status) -> Result<()> {
    if !container.state.late_hooks {
        return Ok(());
    }
    let spec = load::load_spec(&container.dir.config())?.spec;
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    run_all(kind, hooks, &container.oci_state(status), &container.state.bundle)
}
