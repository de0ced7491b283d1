//! The part of a manifest that decides over the life of a pod, in types that leave no doubt.
//!
//! Made once from the checked and defaulted manifest; `decide.rs`, `phase.rs` and the probe
//! workers see nothing else of it.

mod read;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::error::Result;

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodRules {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.restartPolicy`.
    pub restart: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// `spec.activeDeadlineSeconds`, counted from the pod's first sync.
    pub active_deadline: Option<Duration>,
    /// How restarts are delayed.
    pub backoff: BackoffRules,
    /// Init containers and sidecars, in order.
    pub init: Vec<ContainerRules>,
    /// App containers, in order.
    pub apps: Vec<ContainerRules>,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerRules {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its own `restartPolicy`, else the pod's. Of a sidecar always [`RestartPolicy::Always`].
    pub restart: RestartPolicy,
    /// `restartPolicyRules`: the first that matches the exit code wins over `restart`.
    pub exit_rules: Vec<ExitRule>,
    /// Whether it has `lifecycle.postStart`.
    pub post_start: bool,
    /// Whether it has `lifecycle.preStop`.
    pub pre_stop: bool,
    /// `startupProbe`.
    pub startup: Option<ProbeRules>,
    /// `livenessProbe`.
    pub liveness: Option<ProbeRules>,
    /// `readinessProbe`.
    pub readiness: Option<ProbeRules>,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    App,
}

/// `restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// After an exit code other than 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// One of `restartPolicyRules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRule {
    /// Whether the codes are those that match (`In`) or those that do not (`NotIn`).
    pub matches: CodeMatch,
    /// Exit codes.
    pub codes: Vec<i32>,
    /// What then.
    pub action: ExitAction,
}

/// `exitCodes.operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeMatch {
    /// `In`.
    In,
    /// `NotIn`.
    NotIn,
}

/// `action` of a restart rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitAction {
    /// The container is started again.
    Restart,
    /// All containers of the pod are, init containers included.
    RestartAll,
}

/// A probe's numbers; what is probed is the business of `probe/`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeRules {
    /// From the start of the container.
    pub initial_delay: Duration,
    /// Between two attempts. Below a second only by carob's extension.
    pub period: Duration,
    /// Of one attempt.
    pub timeout: Duration,
    /// Successes in a row that make a success.
    pub success_threshold: u32,
    /// Failures in a row that make a failure.
    pub failure_threshold: u32,
    /// The probe's own `terminationGracePeriodSeconds`.
    pub grace: Option<Duration>,
}

/// How restarts are delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffRules {
    /// The delay of the second restart; the first is immediate.
    pub initial: Duration,
    /// The longest.
    pub max: Duration,
    /// A container that ran longer than this starts anew without delay.
    pub reset: Duration,
}

impl PodRules {
    /// Takes what matters out of a checked and defaulted pod, carob's own annotations included.
    ///
    /// # Errors
    /// [`crate::error::Error::Config`] if an annotation is wrong, or a field that the checks
    /// should have caught.
    pub fn from_pod(pod: &Pod) -> Result<Self> {
        read::pod(pod)
    }

    /// A container by its name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerRules> {
        self.containers().find(|container| container.name == name)
    }

    /// All containers, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerRules> {
        self.init.iter().chain(&self.apps)
    }
}

impl Default for BackoffRules {
    /// The kubelet's.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset: Duration::from_secs(600),
        }
    }
}
