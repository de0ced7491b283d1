//! One process per pod, one thread: waits, decides, acts, writes down.
//!
//! ```text
//!        pidfds  probes  hooks  control socket  SIGTERM  timers
//!           └──────┴───────┴────────┬─────────────┴────────┘
//!                                Signal              (tasks of this thread send them)
//!                                   ▼
//!                    apply: what happened → record
//!                                   ▼
//!      settle: decide(rules, record, now) → actions → record … until there are none
//!                                   ▼
//!                             status.json, sleep
//! ```
//!
//! Log lines do not pass through here: each stream has a task of its own (streams.rs).
//! Nothing is lost when this process is killed: the record is on disk, descriptors are parked
//! (parking.rs), output is in its log or on the way there (journal.rs), and the next supervisor
//! takes over (recover.rs).

mod act;
mod boot;
mod discard;
mod exec;
mod exit;
mod hooks;
mod images;
mod journal;
mod limits;
mod member;
mod network;
mod oom;
mod parking;
mod probes;
mod pull;
mod recover;
mod rootfs;
mod serve;
mod service;
mod spawn;
mod streams;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use self::hooks::HookKind;
use self::limits::Limits;
use self::member::Member;
use self::network::Work;
use self::parking::Parking;
use self::pull::Pulls;
use self::service::Service;
use self::spawn::Report;
pub use self::spawn::{VERB, spawn};
use self::streams::Compress;
use super::clock::{Moment, Stamp};
use super::control::Request;
use super::decide;
use super::event::{Event, EventKind, EventLog};
use super::member::Node;
use super::phase;
use super::probe::Health;
use super::probe::worker::Kind as ProbeKind;
use super::record::PodRecord;
use super::rules::PodRules;
use super::store::{PodDirs, PodFile, StoredPod};
use crate::container::Runtime;
use crate::error::{Error, OsContext, Result};
use crate::sys::{poll, process, self_exe};

/// Another one after each boot. Source: random(4).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a supervisor says when it has taken over.
const READY: &str = "ready";
/// When a record is written again that could not be: the disk may be full.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// Something has happened.
enum Signal {
    /// The init of an instance has ended.
    Exited { id: String },
    /// The pause process has ended.
    SandboxExited { id: String },
    /// An attempt of a probe has a result.
    Probed { container: String, id: String, kind: ProbeKind, health: Health },
    /// A hook has ended.
    HookDone { container: String, id: String, hook: HookKind, outcome: Result<(), String> },
    /// A pull has ended, with the id of the image or what was wrong.
    Pulled { container: String, outcome: Result<String, String>, took: Duration },
    /// A verb asks for something.
    Asked { request: Request, connection: Rc<OwnedFd> },
    /// Plugins have made the pod's network, or taken it away, or not.
    Networked { id: String, work: Work, outcome: Result<Vec<String>, String> },
    /// Who was attached to the standard input of a container that takes one has left.
    InputEnded { container: String },
    /// SIGTERM or SIGINT.
    Terminate,
}

/// The sandbox that runs.
struct Sandbox {
    /// Id of its container.
    id: String,
    /// Its pause process.
    pause: Rc<OwnedFd>,
    /// The pod's network namespace; absent if it is the host's.
    network: Option<Rc<OwnedFd>>,
    /// What survives us.
    parking: Parking,
}

/// The supervisor of one pod.
struct Supervisor {
    runtime: Runtime,
    file: PodFile,
    rules: PodRules,
    record: PodRecord,
    node: Node,
    sandbox: Option<Sandbox>,
    /// Images that are being pulled, or have been for a start, by the name of the container.
    pulls: BTreeMap<String, Pulls>,
    /// Running instances, by the name of the container.
    members: BTreeMap<String, Member>,
    events: EventLog,
    /// The child that calls plugins.
    worker: Option<(Work, Rc<OwnedFd>)>,
    compress: Rc<Compress>,
    inbox: UnboundedSender<Signal>,
    /// What `status.json` holds.
    saved: Option<PodRecord>,
    limits: Limits,
    service: Service,
    /// Another supervisor has asked to take over.
    yields: bool,
    _lock: File,
}

/// Who has started a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// A verb, which waits on a pipe for it to take over; one that is there already is as good.
    Verb,
    /// A service manager, whose main process it is: one that is there already has to go.
    ServiceManager,
}

/// Supervises the pod in `state_dir` until it has ended.
///
/// # Errors
/// What keeps it from taking over; after that everything is in the pod's record and events.
pub fn supervise(runtime: &Runtime, state_dir: &Path, by: StartedBy) -> Result<()> {
    // For as long as this process lives: its mount goes with it. Where it is executed again for that, whom
    // it reports to is still its standard input.
    std::mem::drop(self_exe::protect(3)?);
    let mut report = match by {
        StartedBy::Verb => Report::to_verb()?,
        StartedBy::ServiceManager => Report::to_nobody(),
    };
    let taken = take_over(runtime, state_dir, by);
    let (supervisor, inbox, async_runtime) = match taken {
        Ok(Some(taken)) => taken,
        // Another one lives: all is well.
        Ok(None) => {
            report.say(READY);
            return Ok(());
        }
        Err(error) => {
            report.say(&error.to_string());
            return Err(error);
        }
    };
    let local = LocalSet::new();
    local.block_on(&async_runtime, supervisor.run(inbox, report))
}

type Taken = (Supervisor, UnboundedReceiver<Signal>, tokio::runtime::Runtime);

fn take_over(runtime: &Runtime, state_dir: &Path, by: StartedBy) -> Result<Option<Taken>> {
    let lock = match by {
        StartedBy::Verb => PodDirs::lock_supervisor(state_dir)?,
        StartedBy::ServiceManager => Some(service::relieve(state_dir)?),
    };
    let Some(lock) = lock else { return Ok(None) };
    // Not earlier: the one before us may have written until now.
    let Some(StoredPod { file, record: Some(record) }) = StoredPod::read(state_dir)? else {
        return Err(Error::Invalid(format!("{} is no pod", state_dir.display())));
    };
    process::set_name(c"carob:pod");
    protect_from_oom_killer();
    let async_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .os("epoll", || "the event loop")?;
    let (sender, inbox) = unbounded_channel();
    let rules = file.rules()?;
    let boot_id = crate::sys::fd::read_page(BOOT_ID).os("read", || BOOT_ID)?;
    let record = boot::after_boot(&rules, record, boot_id.trim());
    let supervisor = Supervisor {
        runtime: file.dirs.runtime(runtime),
        rules,
        events: EventLog::new(&file.dirs.state),
        node: Node::read()?,
        file,
        record,
        sandbox: None,
        pulls: BTreeMap::new(),
        members: BTreeMap::new(),
        worker: None,
        compress: Rc::default(),
        inbox: sender,
        saved: None,
        limits: Limits::default(),
        service: Service::of_environment(),
        yields: false,
        _lock: lock,
    };
    Ok(Some((supervisor, inbox, async_runtime)))
}

/// The pod would go on, but nobody would restart or probe it.
fn protect_from_oom_killer() {
    // Not allowed to everybody.
    let _unprotected = crate::sys::fd::write_file("/proc/self/oom_score_adj", "-999");
}

impl Supervisor {
    async fn run(mut self, mut inbox: UnboundedReceiver<Signal>, mut report: Report) -> Result<()> {
        if self.record.ended.is_some() {
            // Between being seen alive and our lock.
            report.say(READY);
            return Ok(());
        }
        self.listen()?;
        self.watch_for_termination()?;
        tokio::task::spawn_local(Rc::clone(&self.compress).run());
        self.recover();
        loop {
            let wake = self.settle();
            report.say(READY);
            if self.yields || self.record.ended.is_some() && self.is_saved() {
                return Ok(());
            }
            let mut signals: Vec<Signal> = next(&mut inbox, wake).await.into_iter().collect();
            signals.extend(std::iter::from_fn(|| inbox.try_recv().ok()));
            // The death of the sandbox explains those of the members.
            signals.sort_by_key(|signal| !matches!(signal, Signal::SandboxExited { .. }));
            for signal in signals {
                self.apply(signal);
            }
        }
    }

    /// Acts until there is nothing to do; returns when there will be.
    fn settle(&mut self) -> Option<Moment> {
        loop {
            let decision = decide::decide(&self.rules, &self.record, Moment::now());
            if decision.actions.is_empty() {
                if self.check_limits() {
                    continue;
                }
                let mut wakes = [decision.wake, self.probe(), self.limits.next, None];
                self.publish();
                if !self.is_saved() {
                    wakes[3] = Some(Moment::now().after(SAVE_RETRY));
                }
                return wakes.into_iter().flatten().min();
            }
            for action in decision.actions {
                self.act(action);
            }
        }
    }

    fn apply(&mut self, signal: Signal) {
        match signal {
            Signal::Exited { id } => self.exited(&id),
            Signal::SandboxExited { id } => self.sandbox_exited(&id),
            Signal::Probed { container, id, kind, health } => {
                self.probed(&container, &id, kind, health);
            }
            Signal::HookDone { container, id, hook, outcome } => {
                self.hook_done(&container, &id, hook, outcome);
            }
            Signal::Networked { id, work, outcome } => self.networked(&id, work, outcome),
            Signal::Asked { request, connection } => self.asked(request, connection),
            Signal::Pulled { container, outcome, took } => self.pulled(&container, outcome, took),
            Signal::InputEnded { container } => self.close_input(&container),
            Signal::Terminate => self.ask_to_stop(None),
        }
    }

    /// Writes down what has changed, and tells who waits for readiness.
    fn publish(&mut self) {
        self.update_conditions();
        if let Err(error) = self.save() {
            // It is tried again soon.
            crate::log::warn(error);
        }
        // Not only when it has just become so: it can have been before this process.
        if self.record.conditions.get("Ready").is_some_and(|ready| ready.is_true) {
            self.service.ready();
        }
    }

    fn update_conditions(&mut self) {
        let now = Stamp::now();
        let pod = &self.file.manifest.pod;
        for (kind, is_true) in phase::update_conditions(pod, &self.rules, &mut self.record, now) {
            self.condition_changed(kind, is_true);
        }
    }

    fn condition_changed(&mut self, kind: &str, is_true: bool) {
        if kind == "Ready" {
            self.transition(if is_true { "PodReady" } else { "PodNotReady" }, None, "");
        }
    }

    /// The phase as people read it.
    fn phase(&self) -> String {
        phase::phase(&self.rules, &self.record).as_str().to_owned()
    }

    fn is_saved(&self) -> bool {
        self.saved.as_ref() == Some(&self.record)
    }

    fn save(&mut self) -> Result<()> {
        if !self.is_saved() {
            self.file.dirs.write_record(&self.record)?;
            self.saved = Some(self.record.clone());
        }
        Ok(())
    }

    fn event(&mut self, kind: EventKind, reason: &str, container: Option<&str>, message: String) {
        self.events.append(&Event {
            stamp: Stamp::now(),
            kind,
            reason: reason.to_owned(),
            container: container.map(str::to_owned),
            message,
        });
    }

    fn transition(&mut self, reason: &str, container: Option<&str>, message: impl Into<String>) {
        self.event(EventKind::Transition, reason, container, message.into());
    }

    fn warn(&mut self, reason: &str, container: Option<&str>, message: impl Into<String>) {
        self.event(EventKind::Warning, reason, container, message.into());
    }

    fn normal(&mut self, reason: &str, container: Option<&str>, message: impl Into<String>) {
        self.event(EventKind::Normal, reason, container, message.into());
    }

    /// Runs a future of this thread; its end is a [`Signal`].
    fn spawn(
        &self,
        future: impl Future<Output = Option<Signal>> + 'static,
    ) -> tokio::task::AbortHandle {
        let inbox = self.inbox.clone();
        tokio::task::spawn_local(async move {
            if let Some(signal) = future.await {
                let _ending = inbox.send(signal);
            }
        })
        .abort_handle()
    }
}

/// Waits for something to happen, or for the moment.
async fn next(inbox: &mut UnboundedReceiver<Signal>, wake: Option<Moment>) -> Option<Signal> {
    let Some(wake) = wake else { return inbox.recv().await };
    let delay = wake.since(Moment::now());
    // A timer has milliseconds; one too early would find nothing to do.
    tokio::time::timeout(delay + Duration::from_millis(1), inbox.recv()).await.ok().flatten()
}

/// Waits until a pidfd says that its process has ended.
async fn ended(pidfd: Rc<OwnedFd>) {
    if let Ok(pidfd) = poll::readable(pidfd) {
        let _ready = pidfd.readable().await;
    }
}
