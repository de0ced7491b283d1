//! Restart policy and back-off. Pure.

use std::time::Duration;

use super::clock::Moment;
use super::record::{Backoff, ContainerRecord, ContainerState, Ended, KillCause};
use super::rules::{
    BackoffRules, CodeMatch, ContainerRules, ExitAction, ExitRule, Kind, PodRules, RestartPolicy,
};

/// What becomes of a container whose instance has ended, in a pod that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another instance is to be started.
    Restart,
    /// It is finished.
    Stay,
    /// All containers of the pod are to be restarted.
    RestartAll,
}

/// When the next instance may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At once.
    Now,
    /// Not before.
    At(Moment),
    /// It is not to be started: it runs, is finished, or waits for its image or the restart of all.
    Never,
}

/// Applies the rules in the kubelet's order: what we have done to it, `restartPolicyRules`, its
/// own restart policy (that of the pod is its default).
#[must_use]
pub fn should_restart(container: &ContainerRules, ended: &Ended) -> Verdict {
    match ended.killed {
        Some(KillCause::Pod) => return Verdict::Stay,
        Some(KillCause::RestartAll) => return Verdict::Restart,
        Some(KillCause::Liveness | KillCause::Startup) => {
            return restart_if(restarts_after_probe(container));
        }
        Some(KillCause::PostStart) | None => {}
    }
    let rule = container.exit_rules.iter().find(|rule| applies(rule, ended.exit_code));
    let action = rule.map(|rule| rule.action);
    let done = container.kind == Kind::Init && ended.succeeded();
    match (action, container.restart) {
        (Some(ExitAction::RestartAll), _) => Verdict::RestartAll,
        (Some(ExitAction::Restart), _) => restart_if(!done),
        (None, RestartPolicy::Always) => restart_if(!done),
        (None, RestartPolicy::OnFailure) if container.kind == Kind::Init => restart_if(!done),
        (None, RestartPolicy::OnFailure) => restart_if(ended.exit_code != 0),
        (None, RestartPolicy::Never) => Verdict::Stay,
    }
}

/// Whether a container that a liveness or startup probe has ended is started again: the exit code
/// and the rules on it do not matter.
#[must_use]
pub fn restarts_after_probe(container: &ContainerRules) -> bool {
    container.restart != RestartPolicy::Never
}

fn restart_if(yes: bool) -> Verdict {
    if yes { Verdict::Restart } else { Verdict::Stay }
}

fn applies(rule: &ExitRule, exit_code: i32) -> bool {
    let listed = rule.codes.contains(&exit_code);
    match rule.matches {
        CodeMatch::In => listed,
        CodeMatch::NotIn => !listed,
    }
}

/// When a container of a pod that goes on is to be started next, as far as it alone is concerned.
#[must_use]
pub fn next_start(
    pod: &PodRules,
    container: &ContainerRules,
    record: &ContainerRecord,
    now: Moment,
) -> StartAt {
    if record.pulling {
        return StartAt::Never;
    }
    let due = match &record.state {
        ContainerState::Running(_) => return StartAt::Never,
        ContainerState::Waiting { .. } => {
            retry_of_failed(&record.backoff, &pod.backoff).max(crash_loop_end(pod, record))
        }
        ContainerState::Ended(ended) => match should_restart(container, ended) {
            Verdict::Restart => crash_loop_end(pod, record),
            Verdict::Stay | Verdict::RestartAll => return StartAt::Never,
        },
    };
    match due {
        Some(due) if due > now => StartAt::At(due),
        _ => StartAt::Now,
    }
}

/// The end of the crash-loop back-off of a container that is to be started again; `None` if it
/// has none to wait for. Failed attempts to make an instance have their own delay.
#[must_use]
pub fn crash_loop_end(pod: &PodRules, record: &ContainerRecord) -> Option<Moment> {
    let (ended, before) = previous(record)?;
    let delay = delay(&record.backoff)?;
    let at_rest = match consulted(&record.backoff, ended, before) {
        None => true,
        Some(consulted) if consulted != ended => true,
        Some(_) => has_reset(&record.backoff, ended, &pod.backoff),
    };
    (!at_rest).then(|| ended.finished.at.after(delay))
}

/// Counts an attempt to start that made an instance; `record` is as before it.
///
/// Source: client-go `flowcontrol.Backoff`, called with the end of the instance consulted.
pub fn on_start(record: &mut ContainerRecord, rules: &BackoffRules, now: Moment) {
    let mut backoff = record.backoff;
    if let Some((ended, before)) = previous(record)
        && let Some(consulted) = consulted(&backoff, ended, before)
    {
        let initial = rules.initial.min(rules.max);
        let next = match delay(&backoff) {
            Some(delay) if !has_reset(&backoff, consulted, rules) => {
                delay.saturating_mul(2).min(rules.max)
            }
            _ => initial,
        };
        backoff.delay_millis = Some(millis(next));
    }
    backoff.last_start = Some(now);
    backoff.failed_starts = 0;
    record.backoff = backoff;
}

/// Counts an attempt to start that made no instance.
pub fn on_failed_start(backoff: &mut Backoff, now: Moment) {
    backoff.failed_starts = backoff.failed_starts.saturating_add(1);
    backoff.last_start = Some(now);
}

/// The last instance and the one before it.
fn previous(record: &ContainerRecord) -> Option<(&Ended, Option<&Ended>)> {
    match &record.state {
        ContainerState::Ended(ended) => Some((ended, record.last.as_ref())),
        ContainerState::Waiting { .. } => record.last.as_ref().map(|ended| (ended, None)),
        ContainerState::Running(_) => None,
    }
}

/// The instance from whose end the delay counts.
///
/// A probe kills and restarts in one go, when the last instance known to have ended is the one
/// before: it is consulted, and only if its delay has not passed the killed one takes its place.
/// Of a first instance there is none: the restart is not even counted.
fn consulted<'a>(
    backoff: &Backoff,
    ended: &'a Ended,
    before: Option<&'a Ended>,
) -> Option<&'a Ended> {
    if !matches!(ended.killed, Some(KillCause::Liveness | KillCause::Startup)) {
        return Some(ended);
    }
    let before = before?;
    let passed = ended.finished.at.since(before.finished.at);
    Some(if delay(backoff).is_none_or(|delay| passed >= delay) { before } else { ended })
}

/// Whether the instance ran so long that its container is no longer held to be in a crash loop.
fn has_reset(backoff: &Backoff, ended: &Ended, rules: &BackoffRules) -> bool {
    backoff.last_start.is_none_or(|start| ended.finished.at.since(start) > rules.reset)
}

/// When a start that made no instance is tried again: the initial delay, doubled each time.
fn retry_of_failed(backoff: &Backoff, rules: &BackoffRules) -> Option<Moment> {
    let doublings = backoff.failed_starts.checked_sub(1)?;
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let delay = rules.initial.saturating_mul(factor).min(rules.max);
    backoff.last_start.map(|start| start.after(delay))
}

fn delay(backoff: &Backoff) -> Option<Duration> {
    backoff.delay_millis.map(Duration::from_millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
