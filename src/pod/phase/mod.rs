//! Phase, conditions, statuses and the columns of a list, computed from rules and record. Pure.

mod columns;
mod conditions;
mod status;

pub use columns::{Columns, columns, human_duration};
pub use conditions::{conditions, update_conditions};
pub use status::{Surroundings, back_off_left, status};

use super::decide::{apps_begun, restarts_all};
use super::record::{
    ContainerRecord, ContainerState, Ended, HookState, PodRecord, Running, StopCause,
};
use super::restart::{Verdict, should_restart};
use super::rules::{ContainerRules, Kind, PodRules};

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have been started.
    Pending,
    /// They have, and some run or will run again.
    Running,
    /// All have ended with exit code 0 and none will run again.
    Succeeded,
    /// All have ended, not all well.
    Failed,
}

impl Phase {
    /// As in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Whether it is the last one.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The phase of a pod. A terminal one shows only when nothing runs nor will, so it never changes.
#[must_use]
pub fn phase(rules: &PodRules, record: &PodRecord) -> Phase {
    let torn_down =
        record.stop.is_some() && record.containers().all(|container| container.running().is_none());
    let counts = Counts::of(rules, record);
    let computed = counts.phase(torn_down);
    let cause = record.stop.as_ref().map(|stop| stop.cause);
    if torn_down {
        return match (cause, computed) {
            (Some(StopCause::Asked | StopCause::Finished), Phase::Succeeded) => Phase::Succeeded,
            _ => Phase::Failed,
        };
    }
    match computed {
        Phase::Succeeded | Phase::Failed if counts.init_failed => Phase::Pending,
        Phase::Succeeded | Phase::Failed => Phase::Running,
        Phase::Pending | Phase::Running => computed,
    }
}

/// What the phase is made of.
#[derive(Debug, Default)]
struct Counts {
    init_failed: bool,
    init_pending: bool,
    sidecar_pending: bool,
    app_exists: bool,
    running: bool,
    waiting: bool,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

impl Counts {
    fn of(rules: &PodRules, record: &PodRecord) -> Self {
        let mut counts = Self { app_exists: apps_begun(rules, record), ..Self::default() };
        for (rules, container) in rules.init.iter().zip(&record.init) {
            match rules.kind {
                Kind::Sidecar => counts.sidecar(container),
                Kind::Init | Kind::App => counts.init(rules, container),
            }
        }
        for (rules, container) in rules.apps.iter().zip(&record.apps) {
            counts.app(rules, container);
        }
        counts
    }

    fn init(&mut self, rules: &ContainerRules, container: &ContainerRecord) {
        match seen(container) {
            Seen::Running | Seen::New => self.init_pending = true,
            Seen::Stopped(ended) => {
                let failed = ended.exit_code != 0;
                self.init_failed |= failed && should_restart(rules, ended) == Verdict::Stay;
            }
        }
    }

    fn sidecar(&mut self, container: &ContainerRecord) {
        match seen(container) {
            Seen::Running => {
                self.running = true;
                self.sidecar_pending |= !container.started;
            }
            Seen::New => {
                self.waiting = true;
                self.sidecar_pending = true;
            }
            Seen::Stopped(_) => {}
        }
    }

    fn app(&mut self, rules: &ContainerRules, container: &ContainerRecord) {
        match seen(container) {
            Seen::Running => self.running = true,
            Seen::New => self.waiting = true,
            Seen::Stopped(ended) => {
                let again = should_restart(rules, ended) != Verdict::Stay;
                self.stopped = self.stopped.saturating_add(1);
                self.stopped_for_good = self.stopped_for_good.saturating_add(usize::from(!again));
                let well = ended.exit_code == 0;
                self.succeeded = self.succeeded.saturating_add(usize::from(well));
            }
        }
    }

    /// The tests of the kubelet, in its order. Source: `getPhase`.
    fn phase(&self, torn_down: bool) -> Phase {
        let ended = if self.succeeded == self.stopped { Phase::Succeeded } else { Phase::Failed };
        if self.init_failed {
            Phase::Failed
        } else if self.init_pending || (self.sidecar_pending && !self.app_exists) || self.waiting {
            Phase::Pending
        } else if self.running {
            Phase::Running
        } else if self.stopped == 0 {
            Phase::Pending
        } else if torn_down || self.stopped_for_good == self.stopped {
            ended
        } else {
            Phase::Running
        }
    }
}

/// A container as the phase counts it.
enum Seen<'a> {
    /// It has not run, or its postStart hook has not ended: until then nothing is published of a
    /// new instance.
    New,
    Running,
    Stopped(&'a Ended),
}

fn seen(container: &ContainerRecord) -> Seen<'_> {
    let before = container.last.as_ref().map_or(Seen::New, Seen::Stopped);
    match &container.state {
        ContainerState::Waiting { .. } => before,
        ContainerState::Running(running) if is_unpublished(running) => before,
        ContainerState::Running(_) => Seen::Running,
        ContainerState::Ended(ended) => Seen::Stopped(ended),
    }
}

fn is_unpublished(running: &Running) -> bool {
    running.post_start == HookState::Pending && running.stopping.is_none()
}

/// Whether the restart of all containers is under way.
fn restarting_all(rules: &PodRules, record: &PodRecord) -> bool {
    record.stop.is_none() && record.sandbox.is_some() && restarts_all(rules, record)
}

/// Times of the API are whole seconds.
fn seconds_of(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
