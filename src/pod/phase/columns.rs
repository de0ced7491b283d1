//! The columns of `kubectl get pods`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::status::{Surroundings, status};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::record::{ContainerRecord, ContainerState, PodRecord, StopCause};
use crate::pod::rules::{Kind, PodRules};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// `NAME`.
    pub name: String,
    /// `READY`: `1/2`.
    pub ready: String,
    /// `STATUS`: the phase, or what is the matter.
    pub status: String,
    /// `RESTARTS`: `3 (2m ago)`.
    pub restarts: String,
    /// `AGE`.
    pub age: String,
    /// `IP`: of the wide table.
    pub ip: String,
}

/// What `kubectl get pods` would show.
///
/// Times are counted by the clock that nobody sets.
#[must_use]
pub fn columns(pod: &Pod, rules: &PodRules, record: &PodRecord, now: Stamp) -> Columns {
    let status = status(pod, rules, record, &Surroundings::default(), now.at);
    let mut row = Row::new(&status);
    let initializing = row.init(rules, record, &status);
    if !initializing || has_condition(&status, "Initialized") {
        row.apps(record, &status);
    }
    let deleted = record.stop.as_ref().is_some_and(|stop| stop.cause == StopCause::Asked);
    if deleted && !row.over {
        row.reason = "Terminating".to_owned();
    }
    let sidecars = rules.init.iter().filter(|own| own.kind == Kind::Sidecar).count();
    Columns {
        name: rules.name.clone(),
        ready: format!("{}/{}", row.ready, rules.apps.len().saturating_add(sidecars)),
        status: row.reason,
        restarts: row.restarts.text(now.at),
        age: human_duration(now.at.since(record.created.at)),
        ip: status.pod_ip.unwrap_or_else(|| "<none>".to_owned()),
    }
}

/// A column of restarts.
#[derive(Debug, Default, Clone, Copy)]
struct Restarts {
    count: u32,
    last: Option<Moment>,
}

impl Restarts {
    fn add(&mut self, container: Option<&ContainerRecord>, status: &ContainerStatus) {
        self.count = self.count.saturating_add(u32::try_from(status.restart_count).unwrap_or(0));
        // Only an instance that is shown as the last one counts.
        let shown = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        let Some(container) = container.filter(|_| shown) else { return };
        let finished = match &container.state {
            ContainerState::Ended(ended) if waits(status) => Some(ended),
            _ => container.last.as_ref(),
        };
        self.last = self.last.max(finished.map(|ended| ended.finished.at));
    }

    fn text(self, now: Moment) -> String {
        match self.last {
            Some(last) if self.count > 0 => {
                format!("{} ({} ago)", self.count, human_duration(now.since(last)))
            }
            _ => self.count.to_string(),
        }
    }
}

struct Row {
    reason: String,
    /// The phase is a terminal one: nobody waits for a start any more.
    over: bool,
    ready: usize,
    restarts: Restarts,
    restarts_of_sidecars: Restarts,
}

impl Row {
    fn new(status: &PodStatus) -> Self {
        let phase = status.phase.clone().unwrap_or_default();
        Self {
            over: matches!(phase.as_str(), "Succeeded" | "Failed"),
            reason: status.reason.clone().unwrap_or(phase),
            ready: 0,
            restarts: Restarts::default(),
            restarts_of_sidecars: Restarts::default(),
        }
    }

    /// Walks the init containers up to the first that is not done; returns whether there is one.
    fn init(&mut self, rules: &PodRules, record: &PodRecord, status: &PodStatus) -> bool {
        let all = status.init_container_statuses.as_deref().unwrap_or_default();
        for (index, container) in all.iter().enumerate() {
            let own = record.container(&container.name);
            let sidecar = rules.init.get(index).is_some_and(|rules| rules.kind == Kind::Sidecar);
            self.restarts.add(own, container);
            if sidecar {
                self.restarts_of_sidecars.add(own, container);
            }
            let state = container.state.clone().unwrap_or_default();
            if state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
                continue;
            }
            if sidecar && container.started == Some(true) {
                self.ready = self.ready.saturating_add(usize::from(container.ready));
                continue;
            }
            let what = ended_as(container)
                .or_else(|| waits_for(container).filter(|reason| reason != "PodInitializing"))
                .or_else(|| (!self.over).then(|| format!("{index}/{}", all.len())));
            if let Some(what) = what {
                self.reason = format!("Init:{what}");
            }
            return true;
        }
        false
    }

    /// Walks the app containers from the last to the first.
    fn apps(&mut self, record: &PodRecord, status: &PodStatus) {
        self.restarts = self.restarts_of_sidecars;
        let mut any_runs = false;
        let mut error = None;
        let all = status.container_statuses.as_deref().unwrap_or_default();
        for container in all.iter().rev() {
            self.restarts.add(record.container(&container.name), container);
            if let Some(reason) = waits_for(container) {
                if !self.over || !STARTING.contains(&reason.as_str()) {
                    self.reason = reason;
                }
            } else if let Some(reason) = ended_as(container) {
                if exit_code(container) != Some(0) {
                    error = Some(reason.clone());
                }
                self.reason = reason;
            } else if container.state.as_ref().is_some_and(|state| state.running.is_some()) {
                any_runs = true;
                self.ready = self.ready.saturating_add(usize::from(container.ready));
            }
        }
        if self.reason == "Completed" {
            match error {
                _ if any_runs && has_condition(status, "Ready") => {
                    "Running".clone_into(&mut self.reason)
                }
                Some(error) => self.reason = error,
                None if any_runs => "NotReady".clone_into(&mut self.reason),
                None => {}
            }
        }
    }
}

/// Reasons of those that only wait for their turn.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

fn waits(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.waiting.is_some())
}

fn waits_for(container: &ContainerStatus) -> Option<String> {
    container.state.as_ref()?.waiting.as_ref()?.reason.clone().filter(|text| !text.is_empty())
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn ended_as(container: &ContainerStatus) -> Option<String> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    Some(match (&ended.reason, ended.signal) {
        (Some(reason), _) => reason.clone(),
        (None, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        (None, _) => format!("ExitCode:{}", ended.exit_code),
    })
}

fn has_condition(status: &PodStatus, kind: &str) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// A time span as kubectl shows it: two units at most, fewer the longer it is.
///
/// Source: apimachinery `duration.HumanDuration`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        two(days, "d", hours % 24, "h")
    } else if days < 730 {
        format!("{days}d")
    } else if days < 2920 {
        two(years, "y", days % 365, "d")
    } else {
        format!("{years}y")
    }
}
