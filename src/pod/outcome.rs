//! What a pod that has ended says to the shell.

use super::phase::{Phase, phase};
use super::record::{ContainerState, PodRecord};
use super::rules::PodRules;

/// The exit status for a pod that has ended: that of its container if it has one app container,
/// else 0 for Succeeded and 1 for Failed.
#[must_use]
pub fn exit_code(rules: &PodRules, record: &PodRecord) -> i32 {
    let failed = i32::from(phase(rules, record) != Phase::Succeeded);
    match record.apps.as_slice() {
        [only] => match &only.state {
            ContainerState::Ended(ended) if ended.exit_code != 0 => ended.exit_code,
            ContainerState::Ended(_)
            | ContainerState::Waiting { .. }
            | ContainerState::Running(_) => failed,
        },
        _ => failed,
    }
}
