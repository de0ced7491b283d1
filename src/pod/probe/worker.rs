//! When an attempt is due and what the attempts add up to: one [`Worker`] per container and kind.
//!
//! Pure: it is told the time and what is known of the container. The supervisor calls
//! [`Worker::see`] after each change of the container, sleeps until [`Worker::due`], calls
//! [`Worker::begin`], runs the attempt and gives its outcome to [`Worker::finish`].
//!
//! The ticks are those of the kubelet: they count from the start of the worker, not of the
//! container; an attempt that outlasts a tick is followed by the next one at once, further ticks
//! are lost. A worker that is not to probe has no due moment, so it wakes nobody up.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use super::Health;
use crate::pod::clock::Moment;
use crate::pod::record::{ContainerRecord, ContainerState, HookState};
use crate::pod::rules::{ContainerRules, ProbeRules};

/// How often an attempt that could not be run is made before it is discarded.
const RUNS: u8 = 3;
/// Longest text of an event, bytes: as the API's limit for a note.
const EVENT_BYTES: usize = 1024;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Tells when the container has started up.
    Startup,
    /// Tells whether it has to be restarted.
    Liveness,
    /// Tells whether it can serve.
    Readiness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The numbers of a container's probe of this kind.
    #[must_use]
    pub fn rules(self, container: &ContainerRules) -> Option<ProbeRules> {
        match self {
            Self::Startup => container.startup,
            Self::Liveness => container.liveness,
            Self::Readiness => container.readiness,
        }
    }

    /// The manifest's probe of this kind.
    #[must_use]
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// As the manifest's field begins, and `carob/probe-periods` names it: `liveness`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }

    /// As an event begins: `Liveness`.
    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// What holds of a new instance.
    fn initial(self) -> Verdict {
        match self {
            Self::Startup => Verdict::Unknown,
            Self::Liveness => Verdict::Success,
            Self::Readiness => Verdict::Failure,
        }
    }
}

/// What the attempts add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet; only of a startup probe.
    Unknown,
    /// Well.
    Success,
    /// Not well.
    Failure,
}

/// A running instance of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Tells it from every other instance of the container: its restart count.
    pub number: u32,
    /// Since when it runs.
    pub since: Moment,
}

/// What a worker has to know of its container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The running instance, once its postStart hook is done: the kubelet does not publish a
    /// container before.
    pub instance: Option<Instance>,
    /// Whether its startup probe has succeeded, or there is none.
    pub startup_done: bool,
    /// Whether it is being ended, with its pod or alone.
    pub stopping: bool,
}

impl Facts {
    /// What the record says.
    #[must_use]
    pub fn of(record: &ContainerRecord) -> Self {
        match &record.state {
            ContainerState::Running(running) if running.post_start != HookState::Pending => Self {
                instance: Some(Instance { number: record.restart_count, since: running.since.at }),
                startup_done: running.startup_done,
                stopping: running.stopping.is_some(),
            },
            _ => Self::default(),
        }
    }
}

/// An attempt under way; goes back to the worker with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the worker makes no other attempt before this one is finished"]
pub struct Attempt {
    number: u64,
}

/// What an attempt has led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be reported; a `Warning`.
    pub event: Option<ProbeEvent>,
    /// Set if the verdict has changed.
    pub change: Option<Change>,
}

/// The kubelet's event about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeEvent {
    /// `Unhealthy` or `ProbeWarning`.
    pub reason: &'static str,
    /// At most 1024 bytes of what the container said.
    pub message: String,
}

/// A verdict has changed; what then is the caller's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// To success: `started` of a startup probe, `ready` of a readiness probe.
    Succeeded,
    /// To failure: the container has to be killed, or, of a readiness probe, is not ready.
    Failed,
}

/// One probe of one container, over all its instances.
#[derive(Debug, Clone)]
pub struct Worker {
    kind: Kind,
    rules: ProbeRules,
    facts: Facts,
    verdict: Verdict,
    /// Tick zero; the others follow each period.
    ticker: Moment,
    /// Ticks before this moment are gone: nothing was to be probed then, or they were used.
    from: Moment,
    /// Waits for another instance.
    on_hold: bool,
    under_way: Option<Attempt>,
    attempts: u64,
    /// Runs of the current attempt that could not be run.
    errored: u8,
    /// Whether the last result was a success, and how many in a row were like it.
    last: Option<bool>,
    streak: u32,
}

impl Worker {
    /// A worker that starts now: with the pod, before its containers.
    #[must_use]
    pub fn new(kind: Kind, rules: ProbeRules, now: Moment) -> Self {
        Self {
            kind,
            rules,
            facts: Facts::default(),
            verdict: kind.initial(),
            ticker: now,
            from: now,
            on_hold: false,
            under_way: None,
            attempts: 0,
            errored: 0,
            last: None,
            streak: 0,
        }
    }

    /// The workers of a container, one for each probe it has. Init containers that are no
    /// sidecars have none.
    pub fn all(container: &ContainerRules, now: Moment) -> impl Iterator<Item = Self> {
        Kind::ALL
            .into_iter()
            .filter_map(move |kind| Some(Self::new(kind, kind.rules(container)?, now)))
    }

    /// A worker for a container that another supervisor has watched before: what was `ready`
    /// stays ready until a probe says otherwise.
    #[must_use]
    pub fn resume(kind: Kind, rules: ProbeRules, record: &ContainerRecord, now: Moment) -> Self {
        let facts = Facts::of(record);
        let mut worker = Self::new(kind, rules, now);
        worker.see(facts, now);
        let succeeded = match kind {
            Kind::Startup => facts.startup_done,
            Kind::Liveness => true,
            Kind::Readiness => record.ready,
        };
        if facts.instance.is_some() && succeeded {
            worker.verdict = Verdict::Success;
        }
        worker
    }

    /// Which probe it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its numbers.
    #[must_use]
    pub fn rules(&self) -> &ProbeRules {
        &self.rules
    }

    /// What the attempts at the current instance add up to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes note of what the container is doing; to be called after each change of it.
    ///
    /// A new instance begins with the initial verdict: startup unknown, liveness success,
    /// readiness failure; no [`Change`] tells of that. An attempt at an instance that is gone is
    /// void: its outcome changes nothing, and it may be dropped.
    pub fn see(&mut self, facts: Facts, now: Moment) {
        let before = self.is_wanted();
        let new = facts.instance.filter(|new| self.facts.instance != Some(*new));
        if facts.instance != self.facts.instance {
            self.under_way = None;
            self.errored = 0;
            if self.facts.instance.is_some() && self.kind == Kind::Readiness {
                self.verdict = Verdict::Failure;
            }
        }
        if new.is_some() {
            self.verdict = self.kind.initial();
            self.on_hold = false;
        }
        self.facts = facts;
        if !self.is_wanted() || (before && new.is_none()) {
            return;
        }
        self.from = now;
        // A container that has just started up is asked at once whether it is ready.
        if self.kind == Kind::Readiness && self.verdict != Verdict::Success {
            self.ticker = now;
        }
    }

    /// When the next attempt is to begin, in the past if it is late; `None` if something else
    /// has to happen first.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        let instance = self.facts.instance?;
        if self.under_way.is_some() || !self.is_wanted() {
            return None;
        }
        if self.errored > 0 {
            return Some(self.from);
        }
        let delayed = instance.since.after(self.rules.initial_delay);
        Some(self.tick_from(self.from.max(delayed)))
    }

    /// An attempt begins; ends with [`Worker::finish`].
    pub fn begin(&mut self, now: Moment) -> Attempt {
        self.attempts += 1;
        let attempt = Attempt { number: self.attempts };
        self.under_way = Some(attempt);
        if self.errored == 0 {
            self.from = now.after(Duration::from_nanos(1));
        }
        attempt
    }

    /// An attempt has ended.
    ///
    /// One that could not be run is made again at once, three times in all, and then discarded.
    pub fn finish(&mut self, attempt: Attempt, health: &Health) -> Outcome {
        if self.under_way != Some(attempt) {
            return Outcome::default();
        }
        self.under_way = None;
        if self.facts.stopping && self.kind != Kind::Readiness {
            return Outcome::default();
        }
        if matches!(health, Health::Unknown(_)) && self.errored + 1 < RUNS {
            self.errored += 1;
            return Outcome::default();
        }
        self.errored = 0;
        let change = match health {
            Health::Success | Health::Warning(_) => self.count(true),
            Health::Failure(_) => self.count(false),
            Health::Unknown(_) => None,
        };
        Outcome { event: event(self.kind, health), change }
    }

    /// Whether the container is to be probed as it is, apart from the time.
    fn is_wanted(&self) -> bool {
        let Facts { instance, startup_done, stopping } = self.facts;
        let its_turn = match self.kind {
            Kind::Startup => !startup_done && !stopping,
            Kind::Liveness => startup_done && !stopping,
            Kind::Readiness => startup_done,
        };
        instance.is_some() && its_turn && !self.on_hold
    }

    /// The first tick at or after a moment.
    fn tick_from(&self, moment: Moment) -> Moment {
        let period = self.rules.period.max(Duration::from_millis(1)).as_nanos();
        let ticks = moment.since(self.ticker).as_nanos().div_ceil(period);
        let offset = u64::try_from(ticks.saturating_mul(period)).unwrap_or(u64::MAX);
        self.ticker.after(Duration::from_nanos(offset))
    }

    fn count(&mut self, success: bool) -> Option<Change> {
        if self.last != Some(success) {
            self.last = Some(success);
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        let (threshold, verdict, change) = if success {
            (self.rules.success_threshold, Verdict::Success, Change::Succeeded)
        } else {
            (self.rules.failure_threshold, Verdict::Failure, Change::Failed)
        };
        if self.streak < threshold {
            return None;
        }
        let changed = self.verdict != verdict;
        self.verdict = verdict;
        if !success && self.kind != Kind::Readiness {
            self.on_hold = true;
            self.streak = 0;
        }
        changed.then_some(change)
    }
}

fn event(kind: Kind, health: &Health) -> Option<ProbeEvent> {
    let (reason, said, text) = match health {
        Health::Success => return None,
        Health::Warning(text) => ("ProbeWarning", "warning", text),
        Health::Failure(text) => ("Unhealthy", "failed", text),
        Health::Unknown(text) => ("Unhealthy", "errored and resulted in unknown state", text),
    };
    let mut message = format!("{} probe {said}: ", kind.title());
    for letter in text.chars().take(EVENT_BYTES) {
        // The container chose it, and people look at events in their terminals.
        match letter {
            '\n' | '\t' => message.push(letter),
            _ if letter.is_control() => message.extend(letter.escape_default()),
            _ => message.push(letter),
        }
    }
    message.truncate(message.floor_char_boundary(EVENT_BYTES));
    Some(ProbeEvent { reason, message })
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
