//! How containers are ended: preStop, turn, stop signal, SIGKILL.

use std::time::Duration;

use super::{Action, BeginStop, Decision};
use crate::pod::clock::Moment;
use crate::pod::record::{KillCause, PodRecord, PodStop, Running, StopStep, Stopping};
use crate::pod::rules::{Kind, PodRules};

/// However short the grace: what a process has between the stop signal and SIGKILL.
const FLOOR: Duration = Duration::from_secs(2);

/// The pod ends: all containers at once, then the network, then the sandbox.
pub(super) fn pod(
    rules: &PodRules,
    record: &PodRecord,
    pod_stop: &PodStop,
    decision: &mut Decision,
) {
    if all(record, KillCause::Pod, pod_grace_seconds(rules, pod_stop), decision) {
        return;
    }
    // Its plugins may want to look into the pod's namespace.
    if super::release(record, decision) {
        return;
    }
    decision.act(match record.sandbox {
        Some(_) => Action::StopSandbox,
        None => Action::Finish,
    });
}

/// Begins to end all containers that run; returns whether any does.
pub(super) fn all(
    record: &PodRecord,
    why: KillCause,
    grace_seconds: u32,
    decision: &mut Decision,
) -> bool {
    let mut any = false;
    for container in record.containers() {
        let Some(running) = container.running() else { continue };
        any = true;
        if running.stopping.is_none() {
            decision.act(Action::BeginStop(BeginStop {
                container: container.name.clone(),
                why,
                grace_seconds,
            }));
        }
    }
    any
}

/// The next step of each container that is being ended.
pub(super) fn steps(rules: &PodRules, record: &PodRecord, now: Moment, decision: &mut Decision) {
    for container in record.containers() {
        let Some(running) = container.running() else { continue };
        let Some(stopping) = &running.stopping else { continue };
        let end = grace_end(rules, record, stopping);
        let container = container.name.clone();
        match stopping.step {
            StopStep::Signalled { kill_at } if now >= kill_at => {
                decision.act(Action::Kill { container });
            }
            StopStep::Signalled { kill_at } => decision.wake_at(kill_at),
            StopStep::Killed => {}
            StopStep::AwaitingTurn if has_turn(rules, record, &container, stopping) => {
                decision.act(signal(container, end, now));
            }
            StopStep::PreStop | StopStep::AwaitingTurn if now >= end => {
                decision.act(signal(container, end, now));
            }
            StopStep::PreStop | StopStep::AwaitingTurn => decision.wake_at(end),
        }
    }
}

fn signal(container: String, end: Moment, now: Moment) -> Action {
    Action::Signal { container, kill_at: end.max(now.after(FLOOR)) }
}

/// Sidecars go after the app containers, the last one first; the others have no order.
fn has_turn(rules: &PodRules, record: &PodRecord, name: &str, stopping: &Stopping) -> bool {
    let ordered = match stopping.why {
        KillCause::Pod | KillCause::RestartAll => stopping.grace_seconds > 0,
        KillCause::Liveness | KillCause::Startup | KillCause::PostStart => false,
    };
    let index = rules.init.iter().position(|rules| rules.name == name);
    let Some(index) = index.filter(|_| ordered) else { return true };
    if rules.init.get(index).is_none_or(|rules| rules.kind != Kind::Sidecar) {
        return true;
    }
    let later = rules.init.iter().zip(&record.init).skip(index.saturating_add(1));
    let mut later = later.filter(|(rules, _)| rules.kind == Kind::Sidecar);
    record.apps.iter().all(|app| app.running().is_none())
        && later.all(|(_, sidecar)| sidecar.running().is_none())
}

/// When the grace of a container is over; that of the pod, if it ends meanwhile, shortens it.
fn grace_end(rules: &PodRules, record: &PodRecord, stopping: &Stopping) -> Moment {
    let own = stopping.since.after(seconds(stopping.grace_seconds));
    match &record.stop {
        Some(stop) => own.min(stop.since.at.after(seconds(pod_grace_seconds(rules, stop)))),
        None => own,
    }
}

/// The grace of a pod that ends: at least a second, and never longer than the manifest's.
pub(super) fn pod_grace_seconds(rules: &PodRules, stop: &PodStop) -> u32 {
    let own = whole_seconds(rules.grace);
    stop.grace_seconds.map_or(own, |asked| asked.min(own)).max(1)
}

/// When a container that has been sent the stop signal is to be killed, now that the pod's grace
/// has become shorter.
pub(super) fn shortened(
    rules: &PodRules,
    stop: &PodStop,
    running: &Running,
    now: Moment,
) -> Option<Moment> {
    let StopStep::Signalled { kill_at } = running.stopping.as_ref()?.step else { return None };
    let end = stop.since.at.after(seconds(pod_grace_seconds(rules, stop)));
    Some(kill_at.min(end.max(now.after(FLOOR))))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// Rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u32 {
    let part = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs().saturating_add(part)).unwrap_or(u32::MAX)
}
