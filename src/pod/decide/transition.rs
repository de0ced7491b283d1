//! What becomes of the record when something has been done or has happened. Pure.
//!
//! Functions that name a container that is not in the state they are about change nothing: a
//! late report (the hook of an instance that has ended meanwhile) does no harm. Those that can
//! be late take the id of the instance.

use std::time::Duration;

use super::{BeginStop, stop};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::record::{
    ContainerState, Ended, HookState, NetworkRecord, NetworkStep, PodRecord, PodStop, Running,
    SandboxRecord, StartFailure, StopCause, StopStep, Stopping,
};
use crate::pod::restart::{self, Verdict};
use crate::pod::rules::PodRules;

/// Until a sandbox that could not be made is tried again.
const SANDBOX_RETRY: Duration = Duration::from_secs(10);
/// A sandbox that dies earlier is held to have failed: the next one has to wait.
const SANDBOX_LIFE: Duration = Duration::from_secs(1);

/// A new instance of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Id of the OCI container.
    pub id: String,
    /// Its init, as the host sees it.
    pub pid: i32,
    /// When it was started.
    pub since: Stamp,
}

/// An attempt to start that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStart {
    /// Why.
    pub failure: StartFailure,
    /// Id of the OCI container, if one had been made and its program could not be started; absent
    /// if it did not come to that: configuration, image, volumes, `create`.
    pub id: Option<String>,
    /// When.
    pub at: Stamp,
}

/// The sandbox runs.
pub fn on_sandbox_started(record: &mut PodRecord, sandbox: SandboxRecord) {
    record.sandbox = Some(sandbox);
    record.sandbox_error = None;
    record.sandbox_retry = None;
}

/// The sandbox runs, and is being put on a network: its addresses are not known.
pub fn on_network_begun(record: &mut PodRecord, sandbox: SandboxRecord, network: NetworkRecord) {
    record.sandbox = Some(sandbox);
    record.network = Some(network);
}

/// The pod with this id is on its network; returns whether that is of use to anybody. Where the
/// sandbox has died meanwhile it is not, and the network is to be released.
pub fn on_network_attached(record: &mut PodRecord, id: &str, ips: Vec<String>) -> bool {
    let Some(network) = network_mut(record, id, NetworkStep::Attaching) else { return false };
    network.step = NetworkStep::Attached;
    let Some(sandbox) = &mut record.sandbox else { return false };
    sandbox.ips = ips;
    record.sandbox_error = None;
    record.sandbox_retry = None;
    true
}

/// The pod with this id could not be put on its network, and nothing is left of the attempt; returns
/// whether that is news. The caller takes the sandbox away.
pub fn on_network_failed(
    record: &mut PodRecord,
    id: &str,
    failure: StartFailure,
    now: Moment,
) -> bool {
    if network_mut(record, id, NetworkStep::Attaching).is_none() {
        return false;
    }
    record.network = None;
    on_sandbox_failed(record, failure, now);
    true
}

/// The supervisor that was putting the pod on its network is gone: what it has got to is not known,
/// and all of it is to be taken away.
pub fn on_network_lost(record: &mut PodRecord) {
    if let Some(network) = &mut record.network {
        network.step = NetworkStep::Attached;
    }
}

/// Plugins are asked to let go of the pod.
pub fn on_network_releasing(record: &mut PodRecord) {
    if let Some(network) = &mut record.network {
        network.step = NetworkStep::Releasing;
    }
}

/// They have, or could not, and will not be asked again.
pub fn on_network_released(record: &mut PodRecord, id: &str) {
    if network_mut(record, id, NetworkStep::Releasing).is_some() {
        record.network = None;
    }
}

/// No sandbox could be made; nothing is left of the attempt.
pub fn on_sandbox_failed(record: &mut PodRecord, failure: StartFailure, now: Moment) {
    record.sandbox = None;
    record.sandbox_attempt = record.sandbox_attempt.saturating_add(1);
    record.sandbox_error = Some(failure);
    record.sandbox_retry = Some(now.after(SANDBOX_RETRY));
}

/// The sandbox has been stopped, or has died.
pub fn on_sandbox_gone(record: &mut PodRecord, now: Moment) {
    let Some(sandbox) = record.sandbox.take() else { return };
    record.sandbox_attempt = record.sandbox_attempt.saturating_add(1);
    let failed = now.since(sandbox.started.at) < SANDBOX_LIFE;
    record.sandbox_retry = failed.then(|| now.after(SANDBOX_RETRY));
}

/// An instance has been started: counts it, its back-off, and what it waits for.
pub fn on_started(rules: &PodRules, record: &mut PodRecord, name: &str, instance: Instance) {
    let Some(container_rules) = rules.container(name) else { return };
    let Some(container) = record.container_mut(name) else { return };
    let restart_count = container.next_restart_count();
    restart::on_start(container, &rules.backoff, instance.since.at);
    let hook = if container_rules.post_start { HookState::Pending } else { HookState::None };
    let running = Running {
        id: instance.id,
        pid: instance.pid,
        since: instance.since,
        post_start: hook,
        stopping: None,
        startup_done: container_rules.startup.is_none(),
        oom_killed: false,
    };
    let state = std::mem::replace(&mut container.state, ContainerState::Running(running));
    if let ContainerState::Ended(ended) = state {
        container.last = Some(ended);
    }
    container.restart_count = restart_count;
    container.ready = false;
    refresh(rules, record, name);
}

/// An attempt to start has failed. If an OCI container had been made it counts as an instance
/// that ended with `StartError`; else only the next attempt is delayed.
pub fn on_start_failed(rules: &PodRules, record: &mut PodRecord, name: &str, failed: FailedStart) {
    let Some(container_rules) = rules.container(name) else { return };
    let Some(container) = record.container_mut(name) else { return };
    let FailedStart { failure, id, at } = failed;
    let last = match &container.state {
        ContainerState::Ended(ended) => Some(ended.clone()),
        ContainerState::Waiting { .. } => None,
        ContainerState::Running(_) => return,
    };
    let Some(id) = id else {
        restart::on_failed_start(&mut container.backoff, at.at);
        container.last = last.or(container.last.take());
        container.state = ContainerState::Waiting { failure: Some(failure) };
        return;
    };
    container.restart_count = container.next_restart_count();
    restart::on_start(container, &rules.backoff, at.at);
    let ended = Ended {
        id,
        exit_code: 128,
        signal: None,
        reason: "StartError".to_owned(),
        message: failure.message.clone(),
        started: None,
        finished: at,
        killed: None,
    };
    if restart::should_restart(container_rules, &ended) == Verdict::Restart {
        container.state = ContainerState::Waiting { failure: Some(failure) };
        container.last = Some(ended);
    } else {
        container.last = last.or(container.last.take());
        container.state = ContainerState::Ended(ended);
    }
}

/// The instance with the id in `ended` has ended. Fills in why we ended it, since when it ran
/// and, if it is empty, the reason.
pub fn on_exit(record: &mut PodRecord, name: &str, mut ended: Ended) {
    let Some(container) = record.container_mut(name) else { return };
    let ContainerState::Running(running) = &container.state else { return };
    if running.id != ended.id {
        return;
    }
    ended.killed = ended.killed.or(running.stopping.as_ref().map(|stopping| stopping.why));
    ended.started = ended.started.or(Some(running.since));
    if ended.reason.is_empty() {
        let reason = match (running.oom_killed, ended.exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        ended.reason = reason.to_owned();
    }
    container.state = ContainerState::Ended(ended);
    container.started = false;
    container.ready = false;
}

/// The postStart hook of an instance has succeeded. If it has failed, see
/// [`super::kill_for_post_start`].
pub fn on_post_start_done(rules: &PodRules, record: &mut PodRecord, name: &str, id: &str) {
    if let Some(running) = running_mut(record, name, id) {
        running.post_start = HookState::Done;
        refresh(rules, record, name);
    }
}

/// The startup probe of an instance has succeeded.
pub fn on_startup_done(rules: &PodRules, record: &mut PodRecord, name: &str, id: &str) {
    if let Some(running) = running_mut(record, name, id) {
        running.startup_done = true;
        refresh(rules, record, name);
    }
}

/// The verdict of the readiness probe of an instance has changed.
pub fn on_readiness(record: &mut PodRecord, name: &str, id: &str, ready: bool) {
    if running_mut(record, name, id).is_some()
        && let Some(container) = record.container_mut(name)
    {
        container.ready = ready && container.started;
    }
}

/// A [`BeginStop`] is carried out; it changes nothing if the container does not run or is being
/// ended already. Returns whether the preStop hook is to be run now; then [`on_pre_stop_done`]
/// when it has ended.
#[must_use]
pub fn on_stop_begun(
    rules: &PodRules,
    record: &mut PodRecord,
    begin: &BeginStop,
    now: Moment,
) -> bool {
    let BeginStop { container: name, why, grace_seconds } = begin;
    let (why, grace_seconds) = (*why, *grace_seconds);
    let has_hook = rules.container(name).is_some_and(|rules| rules.pre_stop);
    let hook = has_hook && grace_seconds > 0;
    let Some(container) = record.container_mut(name) else { return false };
    let ContainerState::Running(running) = &mut container.state else { return false };
    if running.stopping.is_some() {
        return false;
    }
    let step = if hook { StopStep::PreStop } else { StopStep::AwaitingTurn };
    running.stopping = Some(Stopping { why, since: now, grace_seconds, step });
    hook
}

/// The preStop hook has ended, well or not.
pub fn on_pre_stop_done(record: &mut PodRecord, name: &str, id: &str) {
    if let Some(stopping) = stopping_mut(record, name, id)
        && stopping.step == StopStep::PreStop
    {
        stopping.step = StopStep::AwaitingTurn;
    }
}

/// The stop signal has been sent.
pub fn on_signalled(record: &mut PodRecord, name: &str, kill_at: Moment) {
    set_step(record, name, StopStep::Signalled { kill_at });
}

/// SIGKILL has been sent.
pub fn on_killed(record: &mut PodRecord, name: &str) {
    set_step(record, name, StopStep::Killed);
}

/// The pod is to end: sets `PodRecord::stop`, or, if that is set, shortens its grace to
/// `grace_seconds` from now; never lengthens it. The first cause stays.
pub fn on_pod_stop(
    rules: &PodRules,
    record: &mut PodRecord,
    cause: StopCause,
    grace_seconds: Option<u32>,
    now: Stamp,
) {
    let before = record.stop.as_ref().map(|stop| stop::pod_grace_seconds(rules, stop));
    let stop = record.stop.get_or_insert(PodStop { cause, since: now, grace_seconds });
    if let (Some(before), Some(asked)) = (before, grace_seconds) {
        let passed = stop::whole_seconds(now.at.since(stop.since.at));
        stop.grace_seconds = Some(before.min(passed.saturating_add(asked.max(1))));
    }
    let stop = stop.clone();
    for container in record.containers_mut() {
        let ContainerState::Running(running) = &mut container.state else { continue };
        let Some(kill_at) = stop::shortened(rules, &stop, running, now.at) else { continue };
        if let Some(stopping) = &mut running.stopping {
            stopping.step = StopStep::Signalled { kill_at };
        }
    }
}

/// [`super::Action::ForgetForRestart`] is carried out: all containers have yet to run, with the
/// counts and the back-off they have. App containers that have done their work outlive the
/// death of a sandbox.
pub fn on_forget(rules: &PodRules, record: &mut PodRecord) {
    let all = record.sandbox.is_some();
    let members =
        rules.init.iter().chain(&rules.apps).zip(record.init.iter_mut().chain(&mut record.apps));
    for (rules, container) in members {
        if container.running().is_some() || (!all && super::outlives_sandbox(rules, container)) {
            continue;
        }
        let fresh = ContainerState::Waiting { failure: None };
        if let ContainerState::Ended(ended) = std::mem::replace(&mut container.state, fresh) {
            container.last = Some(ended);
        }
        container.started = false;
        container.ready = false;
    }
}

/// `started` from what it consists of, and `ready` from it if there is no readiness probe.
fn refresh(rules: &PodRules, record: &mut PodRecord, name: &str) {
    let probed = rules.container(name).is_some_and(|rules| rules.readiness.is_some());
    let Some(container) = record.container_mut(name) else { return };
    let started = container
        .running()
        .is_some_and(|running| running.startup_done && running.post_start != HookState::Pending);
    container.started = started;
    container.ready = started && (container.ready || !probed);
}

fn running_mut<'a>(record: &'a mut PodRecord, name: &str, id: &str) -> Option<&'a mut Running> {
    match &mut record.container_mut(name)?.state {
        ContainerState::Running(running) if running.id == id => Some(running),
        _ => None,
    }
}

fn stopping_mut<'a>(record: &'a mut PodRecord, name: &str, id: &str) -> Option<&'a mut Stopping> {
    running_mut(record, name, id)?.stopping.as_mut()
}

fn network_mut<'a>(
    record: &'a mut PodRecord,
    id: &str,
    step: NetworkStep,
) -> Option<&'a mut NetworkRecord> {
    record.network.as_mut().filter(|network| network.id == id && network.step == step)
}

fn set_step(record: &mut PodRecord, name: &str, step: StopStep) {
    let Some(container) = record.container_mut(name) else { return };
    if let ContainerState::Running(Running { stopping: Some(stopping), .. }) = &mut container.state
    {
        stopping.step = step;
    }
}
