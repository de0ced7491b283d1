//! A supervisor without a kernel, for tests: it does what `decide` says, at a clock it sets.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::transition::{self, FailedStart, Instance};
use super::{Action, decide, kill_for_post_start, kill_for_probe};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::record::{
    ContainerState, Ended, KillCause, NetworkRecord, NetworkStep, PodRecord, SandboxRecord,
    StartFailure, StopCause, StopStep,
};
use crate::pod::rules::PodRules;

/// How starts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    Well,
    NoContainer,
    NoProgram,
}

pub(crate) struct World {
    pub(crate) pod: Pod,
    pub(crate) rules: PodRules,
    pub(crate) record: PodRecord,
    pub(crate) now: Moment,
    /// Whatever has been done since it was last looked at.
    pub(crate) done: Vec<String>,
    pub(crate) starts: Starts,
    pub(crate) sandbox_fails: bool,
    /// Whether its network is made of plugins, which take their time.
    pub(crate) has_network: bool,
    /// When instances began and ended, in milliseconds after boot.
    pub(crate) journal: Vec<(u64, Entry)>,
}

/// What the journal says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Began { name: String, restart_count: u32 },
    Ended { name: String },
}

/// The pod of a manifest as JSON, with what every pod has filled in.
pub(crate) fn pod(json: &str) -> Pod {
    let mut pod: Pod = serde_json::from_str(json).unwrap();
    let metadata = &mut pod.metadata;
    metadata.name.get_or_insert_with(|| "p".to_owned());
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.uid.get_or_insert_with(|| "u1".to_owned());
    pod
}

/// A stamp so many milliseconds after boot; wall time began 2026-01-01.
pub(crate) fn stamp(millis: u64) -> Stamp {
    let at = Moment::from_nanos(millis * 1_000_000);
    let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let millis = i64::try_from(millis).unwrap();
    Stamp { at, wall: epoch + jiff::SignedDuration::from_millis(millis) }
}

/// A `started` pod of this `spec` (JSON), nothing done yet.
pub(crate) fn world(spec: &str) -> World {
    let pod = pod(&format!(r#"{{"spec": {spec}}}"#));
    let rules = PodRules::from_pod(&pod).unwrap();
    let mut record = PodRecord::new(&rules, stamp(0));
    record.started = Some(stamp(0));
    World {
        pod,
        rules,
        record,
        now: stamp(0).at,
        done: Vec::new(),
        starts: Starts::Well,
        sandbox_fails: false,
        has_network: false,
        journal: Vec::new(),
    }
}

impl World {
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.now.since(Moment::from_nanos(0)).as_millis()).unwrap()
    }

    pub(crate) fn stamp(&self) -> Stamp {
        stamp(self.millis())
    }

    /// Does all there is to do; returns when to ask again.
    pub(crate) fn settle(&mut self) -> Option<Moment> {
        for _ in 0..200 {
            let decision = decide(&self.rules, &self.record, self.now);
            if decision.actions.is_empty() {
                assert!(decision.wake.is_none_or(|wake| wake > self.now), "woken in the past");
                assert_eq!(decision, decide(&self.rules, &self.record, self.now));
                return decision.wake;
            }
            for action in decision.actions {
                self.perform(action);
            }
        }
        panic!("no rest: {:?}", self.done);
    }

    /// Lets time pass, doing what falls due, and returns what has been done.
    pub(crate) fn pass(&mut self, millis: u64) -> Vec<String> {
        let until = self.now.after(Duration::from_millis(millis));
        while let Some(wake) = self.settle().filter(|wake| *wake <= until) {
            self.now = wake;
        }
        self.now = until;
        self.settle();
        std::mem::take(&mut self.done)
    }

    /// Does what is due now, and returns what has been done.
    pub(crate) fn act(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.done)
    }

    /// When there is something to do next, in milliseconds after boot.
    pub(crate) fn wake(&mut self) -> Option<u64> {
        let wake = self.settle()?;
        Some(u64::try_from(wake.since(Moment::from_nanos(0)).as_millis()).unwrap())
    }

    fn perform(&mut self, action: Action) {
        let now = self.stamp();
        let (rules, record) = (&self.rules, &mut self.record);
        match action {
            Action::StartSandbox if self.sandbox_fails => {
                self.done.push("sandbox fails".to_owned());
                transition::on_sandbox_failed(record, failure("CreatePodSandboxError"), now.at);
            }
            Action::StartSandbox => {
                self.done.push("sandbox".to_owned());
                let ips = vec!["127.0.0.1".to_owned()];
                let id = format!("POD_{}", record.sandbox_attempt);
                let user_namespace_base = None;
                let network = self.has_network.then(|| "net".to_owned());
                let sandbox =
                    SandboxRecord { id, pid: 1, started: now, ips, user_namespace_base, network };
                if !self.has_network {
                    return transition::on_sandbox_started(record, sandbox);
                }
                assert_eq!(record.network, None, "two networks");
                let id = format!("n_{}", record.sandbox_attempt);
                let step = NetworkStep::Attaching;
                let network = NetworkRecord { id, name: "net".to_owned(), step };
                transition::on_network_begun(record, sandbox, network);
            }
            Action::ReleaseNetwork => {
                self.done.push("release".to_owned());
                transition::on_network_releasing(record);
            }
            Action::Start { container } => self.start(&container, now),
            Action::BeginStop(begin) => {
                let hook = transition::on_stop_begun(rules, record, &begin, now.at);
                let hook = if hook { " with hook" } else { "" };
                let what = format!("end {} {}{hook}", begin.container, begin.grace_seconds);
                self.done.push(what);
            }
            Action::Signal { container, kill_at } => {
                self.done.push(format!("TERM {container}"));
                transition::on_signalled(record, &container, kill_at);
            }
            Action::Kill { container } => {
                self.done.push(format!("KILL {container}"));
                transition::on_killed(record, &container);
            }
            Action::StopPod { cause } => {
                self.done.push(format!("stop {cause:?}"));
                transition::on_pod_stop(rules, record, cause, None, now);
            }
            Action::StopSandbox => {
                self.done.push("end sandbox".to_owned());
                transition::on_sandbox_gone(record, now.at);
            }
            Action::ForgetForRestart => {
                self.done.push("forget".to_owned());
                transition::on_forget(rules, record);
            }
            Action::Finish => {
                self.done.push("finish".to_owned());
                record.ended = Some(now);
            }
        }
    }

    /// The plugins have done what they were asked, or not.
    pub(crate) fn plugins(&mut self, works: bool) -> Vec<String> {
        let now = self.now;
        let Some(network) = self.record.network.clone() else { return Vec::new() };
        let record = &mut self.record;
        match network.step {
            NetworkStep::Attaching if works => {
                transition::on_network_attached(record, &network.id, vec!["10.0.0.2".to_owned()]);
            }
            NetworkStep::Attaching => {
                let failure = failure("CreatePodSandboxError");
                transition::on_network_failed(record, &network.id, failure, now);
            }
            NetworkStep::Releasing => transition::on_network_released(record, &network.id),
            NetworkStep::Attached => {}
        }
        self.act()
    }

    fn start(&mut self, name: &str, now: Stamp) {
        assert!(!self.is_running(name), "{name} is to run twice");
        assert!(self.record.usable_sandbox().is_some() && self.record.stop.is_none());
        let restart_count = self.record.container(name).unwrap().next_restart_count();
        if self.starts != Starts::NoContainer {
            let began = Entry::Began { name: name.to_owned(), restart_count };
            self.journal.push((self.millis(), began));
        }
        if self.starts == Starts::NoProgram {
            self.journal.push((self.millis(), Entry::Ended { name: name.to_owned() }));
        }
        let id = format!("{name}_{restart_count}");
        let (rules, record) = (&self.rules, &mut self.record);
        let (reason, made) = match self.starts {
            Starts::Well => {
                self.done.push(format!("start {id}"));
                let instance = Instance { id, pid: 2, since: now };
                return transition::on_started(rules, record, name, instance);
            }
            Starts::NoContainer => ("CreateContainerConfigError", None),
            Starts::NoProgram => ("RunContainerError", Some(id)),
        };
        self.done.push(format!("start of {name} fails"));
        let failed = FailedStart { failure: failure(reason), id: made, at: now };
        transition::on_start_failed(rules, record, name, failed);
    }

    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.record.container(name).unwrap().running().is_some()
    }

    fn id(&self, name: &str) -> Option<String> {
        Some(self.record.container(name)?.running()?.id.clone())
    }

    pub(crate) fn exit(&mut self, name: &str, exit_code: i32) {
        let Some(id) = self.id(name) else { return };
        let ended = Ended {
            id,
            exit_code,
            signal: None,
            reason: String::new(),
            message: String::new(),
            started: None,
            finished: self.stamp(),
            killed: None,
        };
        transition::on_exit(&mut self.record, name, ended);
        self.journal.push((self.millis(), Entry::Ended { name: name.to_owned() }));
    }

    /// A running container's program ends, then what follows from it is done.
    pub(crate) fn exits(&mut self, name: &str, exit_code: i32) -> Vec<String> {
        assert!(self.is_running(name), "{name} does not run");
        self.exit(name, exit_code);
        self.act()
    }

    pub(crate) fn probe_fails(&mut self, name: &str, why: KillCause) -> Vec<String> {
        if let Some(begin) = kill_for_probe(&self.rules, &self.record, name, why) {
            self.perform(Action::BeginStop(begin));
        }
        self.act()
    }

    pub(crate) fn post_start(&mut self, name: &str, works: bool) -> Vec<String> {
        let Some(id) = self.id(name) else { return Vec::new() };
        if works {
            transition::on_post_start_done(&self.rules, &mut self.record, name, &id);
        } else if let Some(begin) = kill_for_post_start(&self.rules, &self.record, name) {
            self.perform(Action::BeginStop(begin));
        }
        self.act()
    }

    pub(crate) fn startup_done(&mut self, name: &str) -> Vec<String> {
        if let Some(id) = self.id(name) {
            transition::on_startup_done(&self.rules, &mut self.record, name, &id);
        }
        self.act()
    }

    pub(crate) fn ready(&mut self, name: &str, ready: bool) {
        if let Some(id) = self.id(name) {
            transition::on_readiness(&mut self.record, name, &id, ready);
        }
    }

    pub(crate) fn pre_stop_done(&mut self, name: &str) -> Vec<String> {
        if let Some(id) = self.id(name) {
            transition::on_pre_stop_done(&mut self.record, name, &id);
        }
        self.act()
    }

    pub(crate) fn stop(&mut self, grace_seconds: Option<u32>) -> Vec<String> {
        let (now, cause) = (self.stamp(), StopCause::Asked);
        transition::on_pod_stop(&self.rules, &mut self.record, cause, grace_seconds, now);
        self.act()
    }

    pub(crate) fn sandbox_dies(&mut self) -> Vec<String> {
        let now = self.now;
        transition::on_sandbox_gone(&mut self.record, now);
        self.act()
    }

    /// Those that have been sent SIGKILL and have not ended.
    pub(crate) fn killed(&self) -> Vec<String> {
        let killed = |state: &ContainerState| match state {
            ContainerState::Running(running) => {
                running.stopping.as_ref().is_some_and(|stopping| stopping.step == StopStep::Killed)
            }
            _ => false,
        };
        let all = self.record.containers();
        all.filter(|own| killed(&own.state)).map(|own| own.name.clone()).collect()
    }
}

pub(crate) fn failure(reason: &str) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: "why".to_owned() }
}
