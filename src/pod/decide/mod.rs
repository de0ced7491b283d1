//! What a pod needs next: rules, record and time in, actions out. Pure.
//!
//! ```text
//! loop {
//!     let decision = decide(&rules, &record, now);
//!     if decision.actions.is_empty() { sleep until an event or decision.wake }
//!     for each action, in order: do it, and write into the record what has become of it
//! }
//! ```
//! The ways to write it down are in [`transition`]; an action that is not written down comes
//! again.

mod start;
mod stop;
pub mod transition;

use super::clock::Moment;
use super::record::{
    ContainerRecord, ContainerState, KillCause, NetworkStep, PodRecord, StopCause,
};
use super::restart::{Verdict, should_restart};
use super::rules::{ContainerRules, Kind, PodRules, RestartPolicy};

/// What to do now, and when to ask again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// In this order; after them the question is to be asked again.
    pub actions: Vec<Action>,
    /// If there are no actions and nothing happens: when to ask again; `None` if never.
    pub wake: Option<Moment>,
}

/// One thing to do. Each is written into the record at once, whether it succeeds or fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pause container: [`transition::on_sandbox_started`] or
    /// [`transition::on_sandbox_failed`].
    StartSandbox,
    /// Create and start an instance: [`transition::on_started`] or
    /// [`transition::on_start_failed`]; then run the postStart hook if there is one.
    Start {
        /// Its name.
        container: String,
    },
    /// Begin to end a container: [`transition::on_stop_begun`] says whether the preStop hook is to
    /// be run. A postStart hook that still runs is dropped.
    BeginStop(BeginStop),
    /// Send the stop signal; [`transition::on_signalled`]. A preStop hook that still runs is left
    /// to itself.
    Signal {
        /// Its name.
        container: String,
        /// When SIGKILL follows.
        kill_at: Moment,
    },
    /// Send SIGKILL; [`transition::on_killed`].
    Kill {
        /// Its name.
        container: String,
    },
    /// The pod ends: [`transition::on_pod_stop`].
    StopPod {
        /// Why.
        cause: StopCause,
    },
    /// End the pause container: [`transition::on_sandbox_gone`]. Namespaces and mounts go with it.
    StopSandbox,
    /// Take the pod off its network, or stop putting it there: [`transition::on_network_releasing`],
    /// and [`transition::on_network_released`] when that is done.
    ReleaseNetwork,
    /// All containers are to run as in a new pod: [`transition::on_forget`].
    ForgetForRestart,
    /// Nothing runs any more: volumes and cgroup go, then `PodRecord::ended` is set.
    Finish,
}

/// The end of a container is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginStop {
    /// Its name.
    pub container: String,
    /// Why.
    pub why: KillCause,
    /// Seconds, preStop included.
    pub grace_seconds: u32,
}

impl Decision {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake_at(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |earlier| earlier.min(moment)));
    }
}

/// Decides. Repeated on an unchanged record it gives the same; it never asks to be woken at a
/// moment that has passed.
#[must_use]
pub fn decide(rules: &PodRules, record: &PodRecord, now: Moment) -> Decision {
    let mut decision = Decision::default();
    if record.ended.is_some() {
        return decision;
    }
    if let Some(pod_stop) = &record.stop {
        stop::pod(rules, record, pod_stop, &mut decision);
        stop::steps(rules, record, now, &mut decision);
        return decision;
    }
    if record.refusal.is_some() {
        decision.act(Action::StopPod { cause: StopCause::Refused });
        return decision;
    }
    if record.started.is_none() {
        return decision;
    }
    if let Some(cause) = end(rules, record, now, &mut decision) {
        decision.act(Action::StopPod { cause });
        return decision;
    }
    stop::steps(rules, record, now, &mut decision);
    if record.sandbox.is_none() {
        without_sandbox(rules, record, now, &mut decision);
    } else if record.usable_sandbox().is_none() {
        // Its network is being made.
    } else if restarts_all(rules, record) {
        if !stop::all(record, KillCause::RestartAll, 0, &mut decision) {
            decision.act(Action::ForgetForRestart);
        }
    } else {
        start::containers(rules, record, now, &mut decision);
    }
    decision
}

/// Ends a container whose liveness or startup probe has failed; `None` if it does not run, is
/// being ended already, or its pod is.
#[must_use]
pub fn kill_for_probe(
    rules: &PodRules,
    record: &PodRecord,
    container: &str,
    why: KillCause,
) -> Option<BeginStop> {
    let running = record.container(container)?.running()?;
    if running.stopping.is_some() || record.stop.is_some() {
        return None;
    }
    let of_container = rules.container(container)?;
    let probe = match why {
        KillCause::Liveness => of_container.liveness,
        KillCause::Startup => of_container.startup,
        KillCause::Pod | KillCause::PostStart | KillCause::RestartAll => None,
    };
    let grace = probe.and_then(|probe| probe.grace).unwrap_or(rules.grace);
    let grace_seconds = stop::whole_seconds(grace);
    Some(BeginStop { container: container.to_owned(), why, grace_seconds })
}

/// Ends a container whose postStart hook has failed; `None` as for [`kill_for_probe`].
#[must_use]
pub fn kill_for_post_start(
    rules: &PodRules,
    record: &PodRecord,
    container: &str,
) -> Option<BeginStop> {
    kill_for_probe(rules, record, container, KillCause::PostStart)
}

/// Whether all containers are being restarted because one has ended in a way that asks for it.
#[must_use]
pub fn restarts_all(rules: &PodRules, record: &PodRecord) -> bool {
    members(rules, record)
        .any(|(rules, container)| verdict(rules, container) == Some(Verdict::RestartAll))
}

/// Why the pod is to end now, if it is.
fn end(
    rules: &PodRules,
    record: &PodRecord,
    now: Moment,
    decision: &mut Decision,
) -> Option<StopCause> {
    if let (Some(started), Some(limit)) = (record.started, rules.active_deadline) {
        let deadline = started.at.after(limit);
        if now >= deadline {
            return Some(StopCause::Deadline);
        }
        decision.wake_at(deadline);
    }
    let finished = |(rules, container)| verdict(rules, container) == Some(Verdict::Stay);
    let apps_done = rules.apps.iter().zip(&record.apps).all(finished);
    let init_failed = rules.init.iter().zip(&record.init).any(|(rules, container)| {
        verdict(rules, container) == Some(Verdict::Stay) && !done(rules, container)
    });
    // A pod that must not run anything twice does not outlive its sandbox.
    let lost = record.sandbox.is_none()
        && rules.restart == RestartPolicy::Never
        && record.containers().any(|container| has_run(record, container));
    (apps_done || init_failed || lost).then_some(StopCause::Finished)
}

fn without_sandbox(rules: &PodRules, record: &PodRecord, now: Moment, decision: &mut Decision) {
    let grace = stop::whole_seconds(rules.grace).max(1);
    if stop::all(record, KillCause::RestartAll, grace, decision) {
        return;
    }
    let old = |(rules, container): (&ContainerRules, &ContainerRecord)| {
        matches!(container.state, ContainerState::Ended(_)) && !outlives_sandbox(rules, container)
    };
    if members(rules, record).any(old) {
        decision.act(Action::ForgetForRestart);
        return;
    }
    match (&record.network, record.sandbox_retry) {
        // That of the last sandbox: its addresses may be needed.
        (Some(_), _) => {
            release(record, decision);
        }
        (None, Some(retry)) if retry > now => decision.wake_at(retry),
        (None, _) => decision.act(Action::StartSandbox),
    }
}

/// Takes the pod off its network if that is not being done; returns whether it is on one. What is
/// attached for a sandbox that has died meanwhile comes to an end by itself.
pub(super) fn release(record: &PodRecord, decision: &mut Decision) -> bool {
    let Some(network) = &record.network else { return false };
    let wanted = record.stop.is_some() || network.step == NetworkStep::Attached;
    if wanted && network.step != NetworkStep::Releasing {
        decision.act(Action::ReleaseNetwork);
    }
    true
}

/// Whether an app container has done its work so that a new sandbox is no reason to repeat it.
fn outlives_sandbox(rules: &ContainerRules, container: &ContainerRecord) -> bool {
    rules.kind == Kind::App
        && rules.restart == RestartPolicy::OnFailure
        && verdict(rules, container) == Some(Verdict::Stay)
        && matches!(&container.state, ContainerState::Ended(ended) if ended.exit_code == 0)
}

/// Whether an app container has been started in the present sandbox.
pub(super) fn apps_begun(rules: &PodRules, record: &PodRecord) -> bool {
    rules.apps.iter().zip(&record.apps).any(|(rules, app)| {
        !matches!(app.state, ContainerState::Waiting { .. }) && !outlives_sandbox(rules, app)
    })
}

/// Whether an init container has done its work.
fn done(rules: &ContainerRules, container: &ContainerRecord) -> bool {
    rules.kind == Kind::Init
        && matches!(&container.state, ContainerState::Ended(ended) if ended.succeeded())
}

/// Whether it has had an instance in this life of the pod; a pod that had ended can be started
/// again, and remembers its last instances.
fn has_run(record: &PodRecord, container: &ContainerRecord) -> bool {
    let since = record.started.map(|started| started.at);
    container.last.as_ref().is_some_and(|last| Some(last.finished.at) >= since)
        || !matches!(container.state, ContainerState::Waiting { .. })
}

fn verdict(rules: &ContainerRules, container: &ContainerRecord) -> Option<Verdict> {
    match &container.state {
        ContainerState::Ended(ended) => Some(should_restart(rules, ended)),
        ContainerState::Waiting { .. } | ContainerState::Running(_) => None,
    }
}

/// Rules and record of each container, init containers first.
fn members<'a>(
    rules: &'a PodRules,
    record: &'a PodRecord,
) -> impl Iterator<Item = (&'a ContainerRules, &'a ContainerRecord)> {
    rules.init.iter().zip(&record.init).chain(rules.apps.iter().zip(&record.apps))
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;
