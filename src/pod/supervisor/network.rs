//! The pod's network, made and taken away by a child of ours, since plugins take their time.
//!
//! The child is a copy of this process that calls the plugins, says in a line how it went, and ends.
//! What it does is written down by itself (`network/attachment.rs`), so it may outlive us: the next
//! supervisor takes away what it has made, waiting for its lock. It does not wait for a plugin that
//! hangs: SIGTERM, which it also gets when we die, ends the plugin, and what was begun is undone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use k8s_openapi::api::core::v1::Pod;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use serde_json::json;

use super::{Signal as Happened, Supervisor, ended};
use crate::error::{Error, OsContext, Result};
use crate::pod::clock::Moment;
use crate::pod::decide::transition;
use crate::pod::member;
use crate::pod::network::{self, Attachment, NetworkList, Plan, Store, wish::Wish};
use crate::pod::record::{NetworkRecord, NetworkStep, SandboxRecord, StartFailure};
use crate::pod::sandbox;
use crate::sys::fd;
use crate::sys::process::{self, Child, CloneTarget, Cloned};

/// The interface in the pod.
const INTERFACE: &str = "eth0";
/// Longest answer of the child; what fits into a pipe, so that it never waits for us. Bytes.
const ANSWER_BYTES: usize = 8 << 10;

/// What the child was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Put the pod on its network.
    Attach,
    /// Take it off.
    Release,
    /// See whether it is as it was put there.
    Check,
}

impl Supervisor {
    /// Which network the pod gets.
    pub(super) fn plan_network(&mut self) -> Result<Plan> {
        let plan = network::plan(&self.file.manifest.pod, &self.file.network)?;
        if let Plan::None(Some(why)) = &plan
            && self.record.sandbox_attempt == 0
        {
            self.warn("NoNetwork", None, why.clone());
        }
        Ok(plan)
    }

    /// Begins to put the pod on its network; the sandbox is in the record.
    pub(super) fn attach_network(&mut self, list: NetworkList, wish: &Wish) {
        let Some(record) = self.record.network.clone() else { return };
        let Some(netns) = self.record.sandbox.as_ref().map(netns) else { return };
        let store = Store::of(&self.file.dirs);
        let work = self.attachment(&record.id, list, wish);
        self.start_work(&record.id, Work::Attach, move |stop| store.attach(work?, &netns, stop));
    }

    fn attachment(&self, id: &str, list: NetworkList, wish: &Wish) -> Result<Attachment> {
        let pod = &self.file.manifest.pod;
        let name = member::hostname(pod).map_err(|failure| Error::Invalid(failure.message))?;
        let mut capabilities = wish.values();
        capabilities.insert("aliases".to_owned(), json!([name.host]));
        capabilities.insert("cgroupPath".to_owned(), json!(self.file.dirs.cgroup));
        if let Some(dns) = dns(pod) {
            capabilities.insert("dns".to_owned(), dns);
        }
        Ok(Attachment {
            list,
            place: network::Place {
                id: id.to_owned(),
                interface: INTERFACE.to_owned(),
                args: self.arguments(),
                capabilities,
            },
            plugins: self.file.network.plugins.clone(),
            timeout: wish.timeout,
            state: self.file.dirs.state.clone(),
            names: network::names::Names {
                host: name.host,
                namespace: self.rules.namespace.clone(),
                domain: name.domain,
            },
            result: None,
        })
    }

    /// `CNI_ARGS`, as under Kubernetes.
    fn arguments(&self) -> String {
        let rules = &self.rules;
        let pairs = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &rules.namespace),
            ("K8S_POD_NAME", &rules.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.sandbox_id()),
            ("K8S_POD_UID", &rules.uid),
        ];
        pairs.map(|(key, value)| format!("{key}={value}")).join(";")
    }

    /// The pod's id on its network.
    pub(super) fn network_id(&self) -> String {
        format!("{}-{}", self.rules.uid, self.record.sandbox_attempt)
    }

    /// Begins to take the pod off its network.
    pub(super) fn release_network(&mut self) {
        // Its plugin goes with it; what it has begun it undoes itself.
        if let Some((Work::Attach | Work::Check, worker)) = &self.worker {
            let _gone = process::pidfd_send_signal(worker.as_fd(), libc::SIGTERM);
        }
        transition::on_network_releasing(&mut self.record);
        let Some(record) = self.record.network.clone() else { return };
        self.publish();
        let store = Store::of(&self.file.dirs);
        let state = self.file.dirs.state.clone();
        // Without a pause process there is no namespace to look into.
        let sandbox = self.record.sandbox.as_ref().filter(|_| self.sandbox.is_some());
        let netns = sandbox.map(netns).unwrap_or_default();
        self.start_work(&record.id, Work::Release, move |_| {
            store.release(&state, &netns).map(|()| Vec::new())
        });
    }

    /// After a supervisor that was killed: is the network as it was made?
    pub(super) fn check_network(&mut self) {
        let Some(record) = self.record.network.clone() else { return };
        let Some(netns) = self.record.sandbox.as_ref().map(netns) else { return };
        let (store, state) = (Store::of(&self.file.dirs), self.file.dirs.state.clone());
        self.start_work(&record.id, Work::Check, move |stop| {
            let all = store.of_pod(&state)?;
            all.iter().try_for_each(|one| store.check(one, &netns, stop))?;
            Ok(Vec::new())
        });
    }

    fn start_work(
        &mut self,
        id: &str,
        work: Work,
        what: impl FnOnce(Option<BorrowedFd>) -> Result<Vec<String>>,
    ) {
        let id = id.to_owned();
        match begin(work, what) {
            Ok((child, answer)) => {
                let worker = Rc::new(child.pidfd);
                self.worker = Some((work, Rc::clone(&worker)));
                self.spawn(async move {
                    ended(Rc::clone(&worker)).await;
                    let outcome = outcome(&worker, &answer);
                    Some(Happened::Networked { id, work, outcome })
                });
            }
            Err(error) => {
                let outcome = Err(error.to_string());
                let _ending = self.inbox.send(Happened::Networked { id, work, outcome });
            }
        }
    }

    /// The child has ended.
    pub(super) fn networked(&mut self, id: &str, work: Work, outcome: Result<Vec<String>, String>) {
        if self.worker.as_ref().is_some_and(|(current, _)| *current == work) {
            self.worker = None;
        }
        match (work, outcome) {
            (Work::Attach, Ok(ips)) => {
                if transition::on_network_attached(&mut self.record, id, ips) {
                    self.sandbox_is_ready();
                }
            }
            (Work::Attach, Err(why)) => self.network_failed(id, why),
            (Work::Release, outcome) => {
                if let Err(why) = outcome {
                    // `pod rm` and `pod prune` try it again.
                    self.warn("FailedKillPod", None, why);
                }
                transition::on_network_released(&mut self.record, id);
            }
            // Who stops it asks for something else.
            (Work::Check, _)
                if self
                    .record
                    .network
                    .as_ref()
                    .is_none_or(|network| network.step != NetworkStep::Attached) => {}
            (Work::Check, Ok(_)) => {}
            (Work::Check, Err(why)) => self.warn("NetworkCheckFailed", None, why),
        }
    }

    fn network_failed(&mut self, id: &str, why: String) {
        let sandbox = self.record.sandbox.as_ref().map(|sandbox| sandbox.id.clone());
        let message = format!("failed to set up network for the sandbox: {why}");
        let failure =
            StartFailure { reason: "CreatePodSandboxError".to_owned(), message: message.clone() };
        if !transition::on_network_failed(&mut self.record, id, failure, Moment::now()) {
            return;
        }
        self.warn("FailedCreatePodSandBox", None, message);
        self.sandbox = None;
        let Some(sandbox) = sandbox else { return };
        if let Err(error) = sandbox::stop(&self.runtime, &sandbox, &self.file.dirs) {
            self.warn("FailedKillPod", None, error.to_string());
        }
    }

    /// A supervisor before us was working on it: all of that is to go, the sandbox too if nothing
    /// can have been started in it.
    pub(super) fn recover_network(&mut self) {
        let Some(NetworkRecord { step, .. }) = &self.record.network else { return };
        if *step == NetworkStep::Attached {
            return;
        }
        let was_attaching = *step == NetworkStep::Attaching;
        transition::on_network_lost(&mut self.record);
        if was_attaching && let Some(sandbox) = self.record.sandbox.clone() {
            if let Err(error) = sandbox::stop(&self.runtime, &sandbox.id, &self.file.dirs) {
                crate::log::warn(error);
            }
            transition::on_sandbox_gone(&mut self.record, Moment::now());
        }
    }
}

/// The namespace as plugins are told it.
fn netns(sandbox: &SandboxRecord) -> String {
    format!("/proc/{}/ns/net", sandbox.pid)
}

/// `dnsConfig`, for plugins that set up resolvers.
fn dns(pod: &Pod) -> Option<serde_json::Value> {
    let config = pod.spec.as_ref()?.dns_config.as_ref()?;
    let options = config.options.iter().flatten().filter_map(|option| {
        let name = option.name.clone()?;
        Some(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")))
    });
    Some(json!({
        "servers": config.nameservers.as_deref().unwrap_or_default(),
        "searches": config.searches.as_deref().unwrap_or_default(),
        "options": options.collect::<Vec<_>>(),
    }))
}

/// Does it in a child; our end of a pipe on which that answers.
fn begin(
    work: Work,
    what: impl FnOnce(Option<BorrowedFd>) -> Result<Vec<String>>,
) -> Result<(Child, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
    let supervisor = nix::unistd::getpid();
    let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
    match cloned.os("clone3", || "for the network")? {
        Cloned::Parent(child) => Ok((child, ours)),
        Cloned::Child => {
            process::set_name(c"carob:network");
            // Nothing of the pod's is ours: not its locks, not its pipes.
            let closed = fd::close_others(3, &[theirs.as_fd()]).os("close", || "descriptors");
            let stop = match work {
                Work::Attach | Work::Check => stop_signal(supervisor).map(Some),
                // Whoever dies, it is done.
                Work::Release => Ok(None),
            };
            let done = closed.and(stop).and_then(|stop| what(stop.as_ref().map(AsFd::as_fd)));
            let answer = match done {
                Ok(ips) => format!("+{}", ips.join(" ")),
                Err(error) => format!("-{error}"),
            };
            let answer = &answer.as_bytes()[..answer.len().min(ANSWER_BYTES)];
            let _supervisor_gone = nix::unistd::write(&theirs, answer);
            process::exit_now(0)
        }
    }
}

/// In the child: becomes readable at SIGTERM, which it also gets when its parent ends.
fn stop_signal(supervisor: Pid) -> Result<SignalFd> {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.thread_block().os("sigprocmask", || "SIGTERM")?;
    let stop = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let stop = stop.os("signalfd", || "SIGTERM")?;
    set_pdeathsig(Signal::SIGTERM).os("prctl", || "PR_SET_PDEATHSIG")?;
    // It may have ended before that.
    if nix::unistd::getppid() != supervisor {
        kill(Pid::this(), Signal::SIGTERM).os("kill", || "SIGTERM")?;
    }
    Ok(stop)
}

fn outcome(worker: &OwnedFd, answer: &OwnedFd) -> Result<Vec<String>, String> {
    let exit = process::wait(worker.as_fd()).map_err(|errno| errno.to_string())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    // It has ended, and all it had to say fits into the pipe.
    let length = nix::unistd::read(answer.as_fd(), &mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    match text.split_at_checked(1) {
        Some(("+", ips)) => Ok(ips.split_whitespace().map(str::to_owned).collect()),
        Some(("-", why)) => Err(why.to_owned()),
        _ => Err(format!("the process that calls plugins has ended: {exit:?}")),
    }
}
