//! `pod wait`.

use std::time::{Duration, Instant};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::choice::PodChoice;
use crate::cli::output::plain;
use crate::cli::{Context, Verb};
use crate::error::{Error, Result};
use crate::pod::clock::Stamp;
use crate::pod::follow::{SILENCE, keep_supervised};
use crate::pod::record::PodRecord;
use crate::pod::store::{PodDirs, StoredPod};
use crate::pod::view;
use crate::pod::watch::{Change, Watch};

/// Wait until a pod has got somewhere
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Wait {
    #[command(flatten)]
    pod: PodChoice,
    /// What to wait for; `exit` passes on how the pod ended
    #[arg(long = "for", value_name = "STATE", default_value = "ready", value_parser = Goal::parser())]
    goal: Goal,
    /// Give up after this time: 30s, 500ms, 2m; 0 looks once
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

const EXAMPLES: &str = "\
Examples:
  carob pod wait web --for=ready --timeout 30s
  carob pod wait job --for=exit; echo \"exit code $?\"
  carob pod wait web --for=stopped";

/// `--for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The pod is Ready.
    Ready,
    /// All containers have been started.
    Running,
    /// It is Succeeded or Failed.
    Exit,
    /// Nothing of it is left but its files.
    Stopped,
}

const GOALS: &[(&str, Goal)] = &[
    ("ready", Goal::Ready),
    ("running", Goal::Running),
    ("exit", Goal::Exit),
    ("stopped", Goal::Stopped),
];

/// What kubectl calls `ready`.
const KUBECTLS_READY: &str = "condition=Ready";

impl Goal {
    fn parser() -> impl TypedValueParser<Value = Self> {
        let values = GOALS.iter().map(|(name, goal)| {
            let value = PossibleValue::new(*name);
            if *goal == Self::Ready { value.alias(KUBECTLS_READY) } else { value }
        });
        PossibleValuesParser::new(values).map(|name| {
            let row = GOALS.iter().find(|(known, _)| *known == name);
            row.map_or(Self::Ready, |(_, goal)| *goal)
        })
    }

    fn name(self) -> &'static str {
        GOALS.iter().find(|(_, goal)| *goal == self).map_or("", |(name, _)| name)
    }
}

/// How far a pod is from a goal.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// It is there; the exit status of the verb.
    There(i32),
    /// It is not; what is missing.
    NotYet(String),
    /// It never will be; why.
    Never(String),
}

impl Verb for Wait {
    fn run(self, context: &Context) -> Result<i32> {
        let root = &context.runtime.root;
        let (namespace, name) = (self.pod.namespace()?, self.pod.name()?);
        let dirs = self.pod.find(context)?.file.dirs;
        let all = PodDirs::all(root);
        let state = all.join(format!("{namespace}_{name}"));
        let watch = Watch::new([&all])?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut uid = None;
        loop {
            // Watched before it is read, so that no change falls between.
            watch.add(&state)?;
            let pod = match StoredPod::find(root, namespace, name) {
                Ok(pod) => pod,
                // It was there.
                Err(_) if uid.is_some() => return removed(self.goal, name),
                Err(error) => return Err(error),
            };
            // One of the same name in its place is another pod.
            let this = pod.file.manifest.pod.metadata.uid.clone();
            if uid.as_ref().is_some_and(|uid| *uid != this) {
                return removed(self.goal, name);
            }
            uid = Some(this);
            let missing = match progress(self.goal, &pod, Stamp::now())? {
                Progress::There(status) => return Ok(status),
                Progress::Never(why) => {
                    let text = format!("pod {name} will not be {}: {why}", self.goal.name());
                    return Err(Error::Invalid(text));
                }
                Progress::NotYet(missing) => missing,
            };
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let slice = left.map_or(SILENCE, |left| left.min(SILENCE));
            if watch.next(Some(slice))? == Change::Seen {
                continue;
            }
            if left.is_none_or(|left| left > slice) {
                keep_supervised(&context.runtime, &dirs)?;
            } else {
                return Err(Error::Invalid(format!(
                    "timed out waiting for pod {name} to be {}: {missing}",
                    match self.goal {
                        Goal::Exit => "finished",
                        goal => goal.name(),
                    }
                )));
            }
        }
    }
}

fn removed(goal: Goal, name: &str) -> Result<i32> {
    match goal {
        Goal::Stopped => Ok(0),
        _ => Err(Error::Invalid(format!("pod {name} was removed"))),
    }
}

fn progress(goal: Goal, pod: &StoredPod, now: Stamp) -> Result<Progress> {
    let status = view::status(pod, now)?;
    let phase = status.phase.as_deref().unwrap_or_default();
    let over = matches!(phase, "Succeeded" | "Failed");
    let gone = pod.record.as_ref().is_some_and(|record| record.ended.is_some());
    let reached = match goal {
        Goal::Ready => has_condition(&status, "Ready"),
        Goal::Running => phase == "Running",
        Goal::Exit => over,
        Goal::Stopped => gone,
    };
    Ok(match goal {
        Goal::Exit if reached => Progress::There(outcome(&status)),
        _ if reached => Progress::There(0),
        Goal::Ready | Goal::Running if over || gone => Progress::Never(missing(&status, pod)),
        _ => Progress::NotYet(missing(&status, pod)),
    })
}

/// The exit code of the only app container, else that of the pod.
fn outcome(status: &PodStatus) -> i32 {
    let code = |only: &ContainerStatus| Some(only.state.as_ref()?.terminated.as_ref()?.exit_code);
    match status.container_statuses.as_deref() {
        _ if status.phase.as_deref() == Some("Succeeded") => 0,
        // A pod that failed for another reason than its container's exit has failed.
        Some([only]) => code(only).filter(|code| *code != 0).unwrap_or(1),
        _ => 1,
    }
}

fn has_condition(status: &PodStatus, kind: &str) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// In one line: the phase, what is wrong with the pod, and every container that is not as it
/// should be.
fn missing(status: &PodStatus, pod: &StoredPod) -> String {
    let mut parts = vec![format!("it is {}", status.phase.as_deref().unwrap_or("Pending"))];
    parts.extend(with_message(status.reason.as_deref(), status.message.as_deref()));
    let sandbox = pod.record.as_ref().and_then(|record: &PodRecord| record.sandbox_error.as_ref());
    parts.extend(sandbox.and_then(|error| with_message(Some(&error.reason), Some(&error.message))));
    let init = status.init_container_statuses.iter().flatten();
    for container in init.chain(status.container_statuses.iter().flatten()) {
        parts.extend(
            matter(container).map(|matter| format!("container {}: {matter}", container.name)),
        );
    }
    plain(&parts.join("; ")).into_owned()
}

/// What is the matter with a container; none if it is ready or done.
fn matter(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        return with_message(waiting.reason.as_deref(), waiting.message.as_deref());
    }
    if let Some(ended) = &state.terminated {
        let reason = ended.reason.as_deref().unwrap_or("Error");
        return (ended.exit_code != 0).then(|| format!("{reason} (exit code {})", ended.exit_code));
    }
    match (container.started, container.ready) {
        (_, true) => None,
        (Some(true), false) => Some("running, not ready".to_owned()),
        _ => Some("running, not started up".to_owned()),
    }
}

fn with_message(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    match (reason, message.map(str::trim).filter(|text| !text.is_empty())) {
        (Some(reason), Some(message)) => Some(format!("{reason} ({message})")),
        (Some(text), None) | (None, Some(text)) => Some(text.to_owned()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::record::{ContainerState, PodStop, StartFailure, StopCause};
    use crate::pod::timeline::tests::{pod, stamp};

    fn ended(code: i32) -> ContainerState {
        let ended = json!({
            "id": "i", "exit_code": code, "signal": null, "reason": "Error", "message": "",
            "started": stamp(1_000), "finished": stamp(5_000), "killed": null,
        });
        ContainerState::Ended(serde_json::from_value(ended).unwrap())
    }

    fn check(goal: Goal, pod: &StoredPod) -> Progress {
        progress(goal, pod, stamp(6_000)).unwrap()
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut pod = pod();
        let failure = StartFailure {
            reason: "CreateContainerConfigError".into(),
            message: "configmap \"a\x1b[2J\" not found\n".into(),
        };
        pod.record.as_mut().unwrap().init[0].state =
            ContainerState::Waiting { failure: Some(failure) };
        let Progress::NotYet(text) = check(Goal::Ready, &pod) else { panic!() };
        assert!(text.starts_with("it is Pending; "), "{text}");
        let part =
            "container setup: CreateContainerConfigError (configmap \"a\\u{1b}[2J\" not found)";
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn a_pod_that_has_ended_is_never_ready_and_passes_on_its_exit_code() {
        let mut pod = pod();
        let record = pod.record.as_mut().unwrap();
        record.init[0].state = ended(0);
        record.init[1].state = ended(137);
        record.apps[0].state = ended(3);
        record.stop =
            Some(PodStop { cause: StopCause::Asked, since: stamp(0), grace_seconds: None });
        assert!(matches!(check(Goal::Stopped, &pod), Progress::NotYet(_)));
        assert_eq!(check(Goal::Exit, &pod), Progress::There(3));
        let Progress::Never(text) = check(Goal::Ready, &pod) else { panic!() };
        assert!(text.contains("it is Failed"), "{text}");
        assert!(text.contains("container web: Error (exit code 3)"), "{text}");
        pod.record.as_mut().unwrap().apps[0].state = ended(0);
        assert_eq!(check(Goal::Exit, &pod), Progress::There(0));
        pod.record.as_mut().unwrap().ended = Some(stamp(6_000));
        assert_eq!(check(Goal::Stopped, &pod), Progress::There(0));
    }

    #[test]
    fn removal_is_a_stop_and_nothing_else() {
        assert_eq!(removed(Goal::Stopped, "web").unwrap(), 0);
        assert!(removed(Goal::Exit, "web").is_err());
    }
}
