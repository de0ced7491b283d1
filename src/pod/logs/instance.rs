//! Which instance's log is meant: the kubelet's choice, from what is known of a container. Pure.

use super::super::record::{ContainerRecord, ContainerState, Ended};
use crate::error::{Error, Result};

/// Which instance of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that runs, else the last one.
    Current,
    /// `--previous`: the one before.
    Previous,
}

/// What becomes of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It is started again, perhaps after a delay: Kubernetes calls it waiting.
    Restarts,
    /// It stays as it is: Kubernetes calls it terminated.
    Stays,
}

/// A container, as the question needs it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `metadata.name` of the pod.
    pub pod: &'a str,
    /// What is known of the container.
    pub container: &'a ContainerRecord,
    /// If it has ended.
    pub outlook: Outlook,
    /// `waiting.reason` of a container that nothing was tried with yet: `PodInitializing` in a pod
    /// with init containers, else `ContainerCreating`.
    pub idle_reason: &'a str,
}

/// The restart count of the instance, which names its log.
///
/// # Errors
/// [`Error::Invalid`] in the kubelet's words if there is no such instance.
pub fn choose(asked: Asked, which: Which) -> Result<u32> {
    let Asked { pod, container, outlook, idle_reason } = asked;
    let name = &container.name;
    let (terminated, last) = match (&container.state, outlook) {
        (ContainerState::Ended(ended), Outlook::Stays) => (Some(ended), container.last.as_ref()),
        // To Kubernetes it waits, and this instance is its last state.
        (ContainerState::Ended(ended), Outlook::Restarts) => (None, Some(ended)),
        _ => (None, container.last.as_ref()),
    };
    let last = last.filter(|last| !last.id.is_empty());
    match (which, &container.state) {
        (Which::Previous, _) => last.map(restart_count).ok_or_else(|| {
            Error::Invalid(format!(
                "previous terminated container {name:?} in pod {pod:?} not found"
            ))
        }),
        (_, ContainerState::Running(_)) => Ok(container.restart_count),
        (_, state) => {
            let made = terminated.filter(|ended| !ended.id.is_empty());
            made.or(last).map(restart_count).ok_or_else(|| {
                let state = match state {
                    ContainerState::Waiting { failure } => {
                        let reason = failure.as_ref().map(|failure| failure.reason.as_str());
                        waiting(reason.unwrap_or(idle_reason))
                    }
                    _ => "terminated".to_owned(),
                };
                Error::Invalid(format!("container {name:?} in pod {pod:?} is {state}"))
            })
        }
    }
}

fn waiting(reason: &str) -> String {
    let reason = match reason {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    format!("waiting to start: {reason}")
}

/// The error about a container that has no record yet.
#[must_use]
pub fn never_started(pod: &str, container: &str, idle_reason: &str) -> Error {
    Error::Invalid(format!("container {container:?} in pod {pod:?} is {}", waiting(idle_reason)))
}

/// The id of an instance ends with it.
fn restart_count(ended: &Ended) -> u32 {
    ended.id.rsplit('_').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::{Moment, Stamp};
    use super::super::super::record::{Backoff, HookState, Running, StartFailure};
    use super::*;

    fn stamp() -> Stamp {
        Stamp { at: Moment::from_nanos(0), wall: jiff::Timestamp::UNIX_EPOCH }
    }

    fn ended(id: &str) -> Ended {
        Ended {
            id: id.into(),
            exit_code: 1,
            signal: None,
            reason: "Error".into(),
            message: String::new(),
            started: None,
            finished: stamp(),
            killed: None,
        }
    }

    fn running() -> ContainerState {
        ContainerState::Running(Running {
            id: "default_web_main_2".into(),
            pid: 1,
            since: stamp(),
            post_start: HookState::None,
            stopping: None,
            startup_done: true,
            oom_killed: false,
        })
    }

    fn waiting_for(reason: Option<&str>) -> ContainerState {
        let failure =
            reason.map(|reason| StartFailure { reason: reason.into(), message: String::new() });
        ContainerState::Waiting { failure }
    }

    fn ask(state: ContainerState, last: Option<&str>, outlook: Outlook, which: Which) -> String {
        let container = ContainerRecord {
            name: "main".into(),
            state,
            last: last.map(ended),
            restart_count: 2,
            backoff: Backoff::default(),
            pulling: false,
            started: false,
            ready: false,
        };
        let asked =
            Asked { pod: "web", container: &container, outlook, idle_reason: "ContainerCreating" };
        choose(asked, which).map_or_else(|error| error.to_string(), |count| count.to_string())
    }

    #[test]
    fn the_instance_is_the_one_that_the_kubelet_takes() {
        use Outlook::{Restarts, Stays};
        use Which::{Current, Previous};
        let not_found = r#"previous terminated container "main" in pod "web" not found"#;
        let one = Some("default_web_main_1");
        let two = ContainerState::Ended(ended("default_web_main_2"));
        let unmade = ContainerState::Ended(ended(""));
        for (state, last, outlook, which, answer) in [
            (running(), None, Stays, Current, "2"),
            (running(), one, Stays, Current, "2"),
            (running(), one, Stays, Previous, "1"),
            (running(), None, Stays, Previous, not_found),
            (running(), Some(""), Stays, Previous, not_found),
            (two.clone(), one, Stays, Current, "2"),
            (two.clone(), one, Stays, Previous, "1"),
            // CrashLoopBackOff.
            (two.clone(), one, Restarts, Current, "2"),
            (two.clone(), one, Restarts, Previous, "2"),
            (two, None, Restarts, Previous, "2"),
            (unmade.clone(), one, Stays, Current, "1"),
            (unmade, None, Stays, Current, r#"container "main" in pod "web" is terminated"#),
            (waiting_for(Some("CreateContainerError")), one, Stays, Current, "1"),
            (waiting_for(Some("CreateContainerError")), one, Stays, Previous, "1"),
        ] {
            assert_eq!(ask(state.clone(), last, outlook, which), answer, "{state:?} {which:?}");
        }
    }

    #[test]
    fn what_was_never_started_says_why() {
        for (reason, text) in [
            (None, "ContainerCreating"),
            (Some("CreateContainerConfigError"), "CreateContainerConfigError"),
            (Some("ErrImagePull"), "image can't be pulled"),
            (Some("ImagePullBackOff"), "trying and failing to pull image"),
        ] {
            let answer = ask(waiting_for(reason), None, Outlook::Stays, Which::Current);
            let expected = format!(r#"container "main" in pod "web" is waiting to start: {text}"#);
            assert_eq!(answer, expected);
        }
    }
}
