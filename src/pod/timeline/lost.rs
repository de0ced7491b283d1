//! Starts and ends that the record knows of: the log of events is bounded.

use std::time::Duration;

use crate::pod::clock::{Moment, Stamp};
use crate::pod::event::{Event, EventKind};
use crate::pod::record::{ContainerRecord, ContainerState, PodRecord};

/// `terminated.reason` of the kubelet.
const OOM_KILLED: &str = "OOMKilled";
/// Two stamps of one thing are not further apart.
const SAME: Duration = Duration::from_millis(500);

/// The events, and those that the record knows of and the log has lost.
pub(super) fn complete(events: &[Event], record: Option<&PodRecord>) -> Vec<Event> {
    let mut all = events.to_vec();
    let Some(record) = record else { return all };
    for container in record.containers() {
        let mine = |event: &&Event| event.container.as_ref() == Some(&container.name);
        let mut add = |stamp, reason: &str, message| {
            let (reason, container) = (reason.to_owned(), Some(container.name.clone()));
            all.push(Event { stamp, kind: EventKind::Transition, reason, container, message });
        };
        for (stamp, reasons, message) in known(container) {
            let says = |event: &Event| {
                let reason = reasons.first().copied().unwrap_or_default();
                reasons.contains(&event.reason.as_str())
                    || (reason == OOM_KILLED && event.message.contains(reason))
            };
            let near = |event: &Event| says(event) && apart(event.stamp.at, stamp.at) < SAME;
            if !events.iter().filter(mine).any(near) {
                add(stamp, reasons.first().copied().unwrap_or_default(), message);
            }
        }
        if let ContainerState::Running(running) = &container.state {
            let after =
                |event: &Event| event.stamp.at >= running.since.at && event.reason == "Ready";
            if container.ready && !events.iter().filter(mine).any(after) {
                add(running.since, "Ready", String::new());
            }
        }
    }
    all.sort_by_key(|event| event.stamp.at);
    all
}

type Known = (Stamp, &'static [&'static str], String);

/// What a record says about starts and ends, and the reasons of events that say the same.
fn known(container: &ContainerRecord) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let (running, ended) = match &container.state {
        ContainerState::Running(running) => (Some(running), None),
        ContainerState::Ended(ended) => (None, Some(ended)),
        ContainerState::Waiting { .. } => (None, None),
    };
    for ended in container.last.iter().chain(ended) {
        if let Some(started) = ended.started {
            known.push((started, &["Running", "Started"], String::new()));
        }
        let message = format!("exit code {}", ended.exit_code);
        known.push((ended.finished, &["Exited"], message.clone()));
        if ended.reason == OOM_KILLED {
            known.push((ended.finished, &[OOM_KILLED, "OOMKilling"], message));
        }
    }
    if let Some(running) = running {
        known.push((running.since, &["Running", "Started"], String::new()));
    }
    known
}

fn apart(one: Moment, other: Moment) -> Duration {
    one.since(other).max(other.since(one))
}
