//! What is known of a pod: the content of `status.json`.
//!
//! The supervisor owns it and writes it after each transition; everybody else reads it. It holds
//! facts, no conclusions: phase, conditions and columns are computed from it (`phase.rs`), what to
//! do next as well (`decide.rs`).

mod network;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::{Moment, Stamp};
use super::rules::{ContainerRules, PodRules};

pub use network::{NetworkRecord, NetworkStep};

/// Version of the file; a supervisor refuses one it does not know.
pub const FORMAT: u32 = 1;

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Id of the boot in which it was written: [`Moment`]s mean nothing in another one.
    #[serde(default)]
    pub boot: String,
    /// `metadata.creationTimestamp`.
    pub created: Stamp,
    /// `status.startTime`: the first sync.
    pub started: Option<Stamp>,
    /// The pause container; absent before it was made and after it was stopped.
    pub sandbox: Option<SandboxRecord>,
    /// How many sandboxes there have been before this one.
    pub sandbox_attempt: u32,
    /// The pod was refused before anything was started, or evicted: `status.reason` and
    /// `status.message`.
    pub refusal: Option<StartFailure>,
    /// The pod's place on a network, from before the first plugin is asked until all have let go.
    #[serde(default)]
    pub network: Option<NetworkRecord>,
    /// Why no sandbox could be made, the last time it was tried.
    pub sandbox_error: Option<StartFailure>,
    /// When the next attempt at a sandbox is due.
    pub sandbox_retry: Option<Moment>,
    /// Set once the pod is being ended; never unset.
    pub stop: Option<PodStop>,
    /// The end: set when the last process, the sandbox and the cgroup are gone. Never changes.
    pub ended: Option<Stamp>,
    /// Init containers and sidecars, in the order of the manifest.
    pub init: Vec<ContainerRecord>,
    /// App containers, in the order of the manifest.
    pub apps: Vec<ContainerRecord>,
    /// When each condition last changed, by its type, with the value it then got.
    pub conditions: BTreeMap<String, ConditionChange>,
    /// Processes of instances that have ended, and of nobody else, that the OOM killer has taken.
    #[serde(default)]
    pub oom_kills: u64,
}

/// A condition's last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionChange {
    /// The value since then.
    pub is_true: bool,
    /// When.
    pub since: Stamp,
}

/// The pause container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Id of the container.
    pub id: String,
    /// Its init, as the host sees it.
    pub pid: i32,
    /// Since when it runs.
    pub started: Stamp,
    /// Addresses of the pod, the first one is the default target of probes. `127.0.0.1` for a pod
    /// that has only a loopback device; none while its network is being made.
    pub ips: Vec<String>,
    /// Name of its network, if that is made by plugins.
    #[serde(default)]
    pub network: Option<String>,
    /// Host ids of a pod with its own user namespace: the first one; there are 65536.
    pub user_namespace_base: Option<u32>,
}

/// Why and since when a pod is being ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStop {
    /// Why.
    pub cause: StopCause,
    /// Since when.
    pub since: Stamp,
    /// Seconds, if somebody asked for another grace than the manifest's; can only be shortened.
    pub grace_seconds: Option<u32>,
}

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// Somebody asked: `pod stop`, `pod rm`, Ctrl-C.
    Asked,
    /// All containers are finished and none is to be started again.
    Finished,
    /// `activeDeadlineSeconds`.
    Deadline,
    /// A limit of an emptyDir was exceeded; the text is the message of the pod.
    Evicted,
    /// The pod was refused before anything was started; the text is in `PodRecord::refusal`.
    Refused,
}

/// A container of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its name in the manifest.
    pub name: String,
    /// What it is doing.
    pub state: ContainerState,
    /// The instance before the current one (`lastState`), or, while waiting, the last one.
    pub last: Option<Ended>,
    /// Number of instances before the current one; names the log file.
    pub restart_count: u32,
    /// Back-off of its restarts.
    pub backoff: Backoff,
    /// Its image is being pulled for the next instance.
    #[serde(default)]
    pub pulling: bool,
    /// `status.containerStatuses[].started`.
    pub started: bool,
    /// `status.containerStatuses[].ready`, of app containers and sidecars: the readiness
    /// probe's verdict, or `started` without one.
    pub ready: bool,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ContainerState {
    /// It has no instance: not yet, or the attempt to make one failed.
    Waiting {
        /// Why the last attempt failed (`CreateContainerConfigError`, `RunContainerError`, …);
        /// absent if there was none.
        failure: Option<StartFailure>,
    },
    /// It has a process.
    Running(Running),
    /// Its last instance has ended, and it is not decided or not time to start another.
    Ended(Ended),
}

/// Why a container (or a sandbox) could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// A `waiting.reason` of the kubelet.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A running instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Id of the OCI container.
    pub id: String,
    /// Its init, as the host sees it.
    pub pid: i32,
    /// Since when.
    pub since: Stamp,
    /// The postStart hook, if it has one.
    pub post_start: HookState,
    /// Set while it is being ended.
    pub stopping: Option<Stopping>,
    /// The startup probe's verdict has been success, or there is no startup probe.
    pub startup_done: bool,
    /// Whether the OOM killer has taken a process of it.
    pub oom_killed: bool,
}

/// Where a hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// There is none.
    None,
    /// It is to be run, or runs. After a crash of the supervisor it is run again.
    Pending,
    /// It has been run; a failure ends the container through `Stopping`.
    Done,
}

/// How a container is being ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Why.
    pub why: KillCause,
    /// Since when: the grace counts from here.
    pub since: Moment,
    /// Seconds, preStop included.
    pub grace_seconds: u32,
    /// How far it has got.
    pub step: StopStep,
}

/// Why a container is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillCause {
    /// The pod ends.
    Pod,
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Its postStart hook failed.
    PostStart,
    /// All containers are restarted (`restartPolicyRules`), or the sandbox has died.
    RestartAll,
}

/// The steps of ending a container, in this order; some are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum StopStep {
    /// The preStop hook runs.
    PreStop,
    /// A sidecar waits for those that are to go first.
    AwaitingTurn,
    /// The stop signal has been sent; SIGKILL follows at this moment.
    Signalled {
        /// When.
        kill_at: Moment,
    },
    /// SIGKILL has been sent.
    Killed,
}

/// An instance that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Id of the OCI container; empty if none was made.
    pub id: String,
    /// 128+n for signal n; 128 if it could not be started.
    pub exit_code: i32,
    /// The signal, if it was one.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// Since when it ran; absent if it never did.
    pub started: Option<Stamp>,
    /// When it ended.
    pub finished: Stamp,
    /// Why we ended it, if we did.
    pub killed: Option<KillCause>,
}

/// The back-off of one container's restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Delay that the next restart has to wait, milliseconds, counted from the end of the last
    /// instance; absent before the second restart.
    pub delay_millis: Option<u64>,
    /// When the last start was attempted.
    pub last_start: Option<Moment>,
    /// Attempts in a row that made no instance; their delay is counted apart from that of
    /// restarts, from `last_start`.
    #[serde(default)]
    pub failed_starts: u32,
}

impl PodRecord {
    /// A pod of which nothing has been started.
    #[must_use]
    pub fn new(rules: &PodRules, created: Stamp) -> Self {
        let fresh = |rules: &ContainerRules| ContainerRecord::new(&rules.name);
        Self {
            format: FORMAT,
            boot: String::new(),
            created,
            started: None,
            sandbox: None,
            sandbox_attempt: 0,
            refusal: None,
            network: None,
            sandbox_error: None,
            sandbox_retry: None,
            stop: None,
            ended: None,
            init: rules.init.iter().map(fresh).collect(),
            apps: rules.apps.iter().map(fresh).collect(),
            conditions: BTreeMap::new(),
            oom_kills: 0,
        }
    }

    /// As a new life of the same pod: its instances are counted on, and the last ones remembered.
    #[must_use]
    pub fn continuing(mut self, old: Option<&Self>) -> Self {
        let Some(old) = old else { return self };
        self.created = old.created;
        self.sandbox_attempt = old.sandbox_attempt + 1;
        for mine in self.init.iter_mut().chain(&mut self.apps) {
            let Some(before) = old.container(&mine.name) else { continue };
            mine.last = match &before.state {
                ContainerState::Ended(ended) => Some(ended.clone()),
                _ => before.last.clone(),
            };
            mine.restart_count = before.restart_count;
        }
        self
    }

    /// The sandbox, once containers can be started in it.
    #[must_use]
    pub fn usable_sandbox(&self) -> Option<&SandboxRecord> {
        let attaching = |network: &NetworkRecord| network.step == NetworkStep::Attaching;
        self.sandbox.as_ref().filter(|_| !self.network.as_ref().is_some_and(attaching))
    }

    /// All containers, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.init.iter().chain(&self.apps)
    }

    /// All containers, init containers first.
    pub fn containers_mut(&mut self) -> impl Iterator<Item = &mut ContainerRecord> {
        self.init.iter_mut().chain(&mut self.apps)
    }

    /// A container by its name in the manifest.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers().find(|container| container.name == name)
    }

    /// A container by its name in the manifest.
    pub fn container_mut(&mut self, name: &str) -> Option<&mut ContainerRecord> {
        self.containers_mut().find(|container| container.name == name)
    }
}

impl ContainerRecord {
    /// A container that has had no instance.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: ContainerState::Waiting { failure: None },
            last: None,
            restart_count: 0,
            backoff: Backoff::default(),
            pulling: false,
            started: false,
            ready: false,
        }
    }

    /// The running instance, if there is one.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        match &self.state {
            ContainerState::Running(running) => Some(running),
            ContainerState::Waiting { .. } | ContainerState::Ended(_) => None,
        }
    }

    /// The running instance, to change it.
    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            ContainerState::Running(running) => Some(running),
            ContainerState::Waiting { .. } | ContainerState::Ended(_) => None,
        }
    }

    /// Number of the instance that would be started next: it names the container and the log.
    #[must_use]
    pub fn next_restart_count(&self) -> u32 {
        let had_one = self.last.is_some() || !matches!(self.state, ContainerState::Waiting { .. });
        self.restart_count.saturating_add(u32::from(had_one))
    }
}

impl Ended {
    /// Whether an init container that ended so has done its work: a process of it that the OOM
    /// killer took is a failure even if the exit code is 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.exit_code == 0 && self.reason != "OOMKilled"
    }
}
