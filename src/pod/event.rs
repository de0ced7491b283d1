//! What has happened to a pod: one JSON object a line in `events.jsonl`.

use serde::{Deserialize, Serialize};

use super::clock::Stamp;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Normal, Warning, or a mere transition.
    pub kind: EventKind,
    /// A reason of the kubelet (`Started`, `BackOff`, …), or of a transition (`Exited`, `Ready`).
    pub reason: String,
    /// The container it is about; absent for the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// For people, in the kubelet's words.
    pub message: String,
}

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// As the kubelet reports it, `Normal`.
    Normal,
    /// As the kubelet reports it, `Warning`.
    Warning,
    /// Not an event of Kubernetes: only for `pod timeline` and the foreground of `pod run`.
    /// Reasons: `SandboxStarted`, `Running`, `StartupDone`, `Ready`, `NotReady`, `PostStart`,
    /// `PostStartDone`, `PreStop`, `PreStopDone`, `Signalled`, `Killed`, `Exited` (the message is
    /// `exit code N`), `PodReady`, `PodNotReady`, `Stopping`, `Ended` (the message is the phase).
    Transition,
}
