//! What `decide` asks for, done.

use std::fs::File;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::fcntl::Flock;
use nix::unistd::Pid;

use super::{Parking, Sandbox, Signal, Supervisor, ended};
use crate::container::KillTarget;
use crate::error::{Error, OsContext, Result};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::decide::{Action, BeginStop, transition};
use crate::pod::event::EventKind;
use crate::pod::network::Plan;
use crate::pod::phase::Phase;
use crate::pod::record::{
    KillCause, NetworkRecord, NetworkStep, SandboxRecord, StartFailure, StopCause,
};
use crate::pod::rules::{Kind, RestartPolicy};
use crate::pod::sandbox::{self, Shm};
use crate::pod::{member, volume};
use crate::sys::process;
use crate::sys::signal::Signal as Number;

/// A sandbox that runs.
struct StartedSandbox {
    record: SandboxRecord,
    sandbox: Sandbox,
    plan: Plan,
    /// On host ids, if it has taken some.
    _lock: Option<Flock<File>>,
}

impl Supervisor {
    /// Carries out one action and writes down what has come of it.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::StartSandbox => self.start_sandbox(),
            Action::Start { container } => self.start(&container),
            Action::BeginStop(begin) => self.begin_stop(&begin),
            Action::Signal { container, kill_at } => {
                if let Some(member) = self.members.get(&container) {
                    // Gone already: its end is on the way to us.
                    let number = member.stop_signal.number();
                    let _gone = process::pidfd_send_signal(member.init.as_fd(), number);
                }
                transition::on_signalled(&mut self.record, &container, kill_at);
                self.transition("Signalled", Some(&container), "");
            }
            Action::Kill { container } => self.kill(&container),
            Action::StopPod { cause } => self.stop_pod(cause, None),
            Action::StopSandbox => self.stop_sandbox(),
            Action::ReleaseNetwork => self.release_network(),
            Action::ForgetForRestart => transition::on_forget(&self.rules, &mut self.record),
            Action::Finish => self.finish(),
        }
    }

    /// Somebody wants the pod to end.
    pub(super) fn ask_to_stop(&mut self, grace_seconds: Option<u32>) {
        self.stop_pod(StopCause::Asked, grace_seconds);
    }

    pub(super) fn stop_pod(&mut self, cause: StopCause, grace_seconds: Option<u32>) {
        let is_first = self.record.stop.is_none();
        transition::on_pod_stop(&self.rules, &mut self.record, cause, grace_seconds, Stamp::now());
        if !is_first {
            return;
        }
        if cause == StopCause::Deadline {
            let text = "Pod was active on the node longer than the specified deadline";
            self.normal("DeadlineExceeded", None, text);
        }
        self.transition("Stopping", None, format!("{cause:?}").to_lowercase());
        self.stop_pulls();
        self.service.stopping();
        for name in self.names() {
            self.tell_probes(&name);
        }
    }

    fn start_sandbox(&mut self) {
        self.bury_sandbox();
        match self.try_start_sandbox() {
            // The lock is held until the record says which host ids are taken.
            Ok(StartedSandbox { record, sandbox, plan, _lock }) => {
                self.hold_sandbox(&record, sandbox);
                match plan {
                    Plan::Host | Plan::None(_) => {
                        transition::on_sandbox_started(&mut self.record, record);
                        self.sandbox_is_ready();
                    }
                    Plan::List(list, wish) => {
                        let (id, name) = (self.network_id(), list.name.clone());
                        let network = NetworkRecord { id, name, step: NetworkStep::Attaching };
                        transition::on_network_begun(&mut self.record, record, network);
                        // Before the first plugin is called.
                        self.publish();
                        self.attach_network(list, &wish);
                    }
                }
            }
            Err(failure) => {
                let event = if failure.reason == "FailedMount" {
                    "FailedMount"
                } else {
                    "FailedCreatePodSandBox"
                };
                self.warn(event, None, failure.message.clone());
                let now = Moment::now();
                transition::on_sandbox_failed(&mut self.record, failure, now);
            }
        }
    }

    /// Containers can be started in it.
    pub(super) fn sandbox_is_ready(&mut self) {
        self.read_limits();
        self.transition("SandboxStarted", None, "");
        self.warn_of_dns();
        self.publish();
    }

    /// What of the DNS configuration is over its limits and was left out.
    fn warn_of_dns(&mut self) {
        let Some(sandbox) = &self.record.sandbox else { return };
        let warnings = volume::dns_warnings(&volume::Place {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            node: &self.node,
            ips: &sandbox.ips,
            network: None,
            user_namespace_base: sandbox.user_namespace_base,
        });
        for warning in warnings {
            self.warn("DNSConfigForming", None, warning);
        }
    }

    /// A sandbox that was found dying may still be there: its cgroup and directories are those of
    /// the next one.
    fn bury_sandbox(&mut self) {
        let Some(last) = self.sandbox.take() else { return };
        if let Err(error) = sandbox::bury(&self.runtime, &last.id, &self.file.dirs) {
            crate::log::warn(error);
        }
    }

    fn try_start_sandbox(&mut self) -> Result<StartedSandbox, StartFailure> {
        let could_not = |error: Error| StartFailure {
            reason: "CreatePodSandboxError".to_owned(),
            message: error.to_string(),
        };
        let lock = self.has_user_namespace().then(|| sandbox::lock_bases(&self.runtime.root));
        let lock = lock.transpose().map_err(could_not)?;
        let base = self.user_namespace_base().map_err(could_not)?;
        let plan = self.plan_network().map_err(could_not)?;
        let ips = self.ips(&plan);
        let place = volume::Place {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            node: &self.node,
            ips: &ips,
            network: None,
            user_namespace_base: base,
        };
        volume::prepare(&place)?;
        let spec = member::sandbox_spec(&member::sandbox::SandboxPlace {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            node: &self.node,
            user_namespace_base: base,
        })?;
        let parking = Parking::new().map_err(could_not)?;
        let resources = member::pod_resources(&self.file.manifest.pod, &self.node);
        let spec_of_pod = self.file.manifest.pod.spec.as_ref();
        let host_ipc = spec_of_pod.and_then(|spec| spec.host_ipc) == Some(true);
        let start = sandbox::Start {
            dirs: &self.file.dirs,
            id: &self.sandbox_id(),
            spec,
            resources: Some(&resources),
            shm: if host_ipc { Shm::Host } else { Shm::Own },
            user_namespace_base: base,
            ips,
            network: match &plan {
                Plan::List(list, _) => Some(list.name.clone()),
                Plan::Host | Plan::None(_) => None,
            },
            held: Some(parking.for_pause().map_err(could_not)?),
        };
        let (record, child) = sandbox::start(&self.runtime, start).map_err(could_not)?;
        let pause = child.pidfd;
        let network = network_of(&self.file.manifest.pod, &record).map_err(could_not)?;
        let id = record.id.clone();
        let sandbox = Sandbox { id, pause: Rc::new(pause), network, parking };
        Ok(StartedSandbox { record, sandbox, plan, _lock: lock })
    }

    /// The id of the sandbox that is or would be there.
    pub(super) fn sandbox_id(&self) -> String {
        let rules = &self.rules;
        let attempt = self.record.sandbox_attempt;
        format!("{}_{}_POD_{attempt}", rules.namespace, rules.name)
    }

    /// Watches a sandbox that runs.
    pub(super) fn hold_sandbox(&mut self, record: &SandboxRecord, sandbox: Sandbox) {
        let (pause, id) = (Rc::clone(&sandbox.pause), record.id.clone());
        self.spawn(async move {
            ended(pause).await;
            Some(Signal::SandboxExited { id })
        });
        self.sandbox = Some(sandbox);
    }

    fn has_user_namespace(&self) -> bool {
        let spec = self.file.manifest.pod.spec.as_ref();
        spec.and_then(|spec| spec.host_users) == Some(false)
    }

    /// The host ids of a pod with its own user namespace: a block that no other pod and no sandbox has.
    fn user_namespace_base(&self) -> Result<Option<u32>> {
        if !self.has_user_namespace() {
            return Ok(None);
        }
        let in_use = sandbox::standalone::bases_in_use(&self.runtime.root)?;
        sandbox::lowest_free_base(in_use).map(Some)
    }

    /// Addresses of the pod: the host's, or those of a lone loopback device, or not known yet.
    fn ips(&self, plan: &Plan) -> Vec<String> {
        match plan {
            Plan::Host => self.node.ips.clone(),
            Plan::None(_) => vec!["127.0.0.1".to_owned()],
            Plan::List(..) => Vec::new(),
        }
    }

    pub(super) fn begin_stop(&mut self, begin: &BeginStop) {
        let name = begin.container.as_str();
        let text = self.killing_text(name, begin.why);
        self.normal("Killing", Some(name), text);
        let now = Moment::now();
        if transition::on_stop_begun(&self.rules, &mut self.record, begin, now) {
            self.run_pre_stop(name);
        }
        self.tell_probes(name);
    }

    fn killing_text(&self, name: &str, why: KillCause) -> String {
        let rules = self.rules.container(name);
        let kind = match rules.map(|rules| rules.kind) {
            Some(Kind::App) | None => "Container",
            Some(Kind::Init | Kind::Sidecar) => "Init container",
        };
        let restarts = rules.is_some_and(|rules| rules.restart != RestartPolicy::Never);
        let end = if restarts { ", will be restarted" } else { "" };
        match why {
            KillCause::Liveness => format!("{kind} {name} failed liveness probe{end}"),
            KillCause::Startup => format!("{kind} {name} failed startup probe{end}"),
            KillCause::PostStart => format!("FailedPostStartHook: stopping container {name}"),
            KillCause::Pod | KillCause::RestartAll => format!("Stopping container {name}"),
        }
    }

    fn kill(&mut self, name: &str) {
        if let Some(member) = self.members.get(name) {
            // In a shared pid namespace its other processes go as well. Gone already is fine.
            let _gone = self.runtime.kill(&member.id, Number::KILL, KillTarget::Init);
        }
        transition::on_killed(&mut self.record, name);
        self.transition("Killed", Some(name), "");
    }

    fn stop_sandbox(&mut self) {
        let Some(record) = self.record.sandbox.clone() else { return };
        self.sandbox = None;
        if let Err(error) = sandbox::stop(&self.runtime, &record.id, &self.file.dirs) {
            self.warn("FailedKillPod", None, error.to_string());
        }
        transition::on_sandbox_gone(&mut self.record, Moment::now());
    }

    fn finish(&mut self) {
        self.bury_sandbox();
        // One that died by itself has left the cgroup to its members.
        if let Err(error) = sandbox::stop(&self.runtime, &self.sandbox_id(), &self.file.dirs) {
            self.warn("FailedKillPod", None, error.to_string());
        }
        self.update_conditions();
        self.record.ended = Some(Stamp::now());
        let phase = self.phase();
        if phase == Phase::Succeeded.as_str() {
            self.service.ready();
        }
        self.event(EventKind::Transition, "Ended", None, phase);
    }

    /// Names of all containers.
    pub(super) fn names(&self) -> Vec<String> {
        self.rules.containers().map(|rules| rules.name.clone()).collect()
    }
}

/// The network namespace that probes are made in.
pub(super) fn network_of(
    pod: &k8s_openapi::api::core::v1::Pod,
    record: &SandboxRecord,
) -> Result<Option<Rc<std::os::fd::OwnedFd>>> {
    if pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return Ok(None);
    }
    let path = format!("/proc/{}/ns/net", Pid::from_raw(record.pid));
    let file = std::fs::File::open(&path).os("open", || path)?;
    Ok(Some(Rc::new(file.into())))
}
