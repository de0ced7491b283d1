//! Probes: workers say when, tasks find out, the record keeps what it adds up to.

use std::os::fd::AsFd;

use super::{Signal, Supervisor};
use crate::error::Result;
use crate::pod::clock::Moment;
use crate::pod::decide::{self, transition};
use crate::pod::probe::target::{self, Action};
use crate::pod::probe::worker::{Attempt, Change, Facts, Kind, Worker};
use crate::pod::probe::{self, Health, exec};
use crate::pod::record::KillCause;
use crate::pod::rules;
use crate::sys::process;

/// A worker and the attempt it has under way.
#[derive(Debug)]
pub(super) struct Prober {
    worker: Worker,
    attempt: Option<Attempt>,
}

impl Supervisor {
    /// The workers of a container that runs.
    pub(super) fn probers(&self, name: &str) -> Vec<Prober> {
        let (Some(rules), Some(record)) = (self.rules.container(name), self.record.container(name))
        else {
            return Vec::new();
        };
        let kinds = [
            (Kind::Startup, rules.startup),
            (Kind::Liveness, rules.liveness),
            (Kind::Readiness, rules.readiness),
        ];
        let now = Moment::now();
        kinds
            .into_iter()
            .filter_map(|(kind, rules)| {
                let worker = Worker::resume(kind, rules?, record, now);
                Some(Prober { worker, attempt: None })
            })
            .collect()
    }

    /// Tells the workers of a container what it is doing.
    pub(super) fn tell_probes(&mut self, name: &str) {
        let Some(record) = self.record.container(name) else { return };
        let mut facts = Facts::of(record);
        facts.stopping |= self.record.stop.is_some();
        let Some(member) = self.members.get_mut(name) else { return };
        for prober in &mut member.probers {
            prober.worker.see(facts, Moment::now());
        }
    }

    /// Begins all attempts that are due; returns when the next one is.
    pub(super) fn probe(&mut self) -> Option<Moment> {
        let now = Moment::now();
        let mut next: Option<Moment> = None;
        let mut begun = Vec::new();
        for (name, member) in &mut self.members {
            for prober in &mut member.probers {
                let Some(due) = prober.worker.due() else { continue };
                if due > now {
                    next = Some(next.map_or(due, |earlier| earlier.min(due)));
                    continue;
                }
                prober.attempt = Some(prober.worker.begin(now));
                begun.push((name.clone(), prober.worker.kind()));
            }
        }
        for (name, kind) in begun {
            self.attempt(&name, kind);
        }
        next
    }

    fn attempt(&mut self, name: &str, kind: Kind) {
        let Some(member) = self.members.get(name) else { return };
        let id = member.id.clone();
        let health = match self.probe_target(name, kind) {
            Ok(Action::Exec(args)) => match self.exec_probe(name, &id, kind, &args) {
                Ok(()) => return,
                Err(error) => Health::Unknown(error.to_string()),
            },
            Ok(action) => return self.network_probe(name, &id, kind, action),
            Err(why) => Health::Unknown(why),
        };
        let container = name.to_owned();
        // Not at once: an attempt that cannot be run is made again, and others have their turn.
        self.spawn(async move { Some(Signal::Probed { container, id, kind, health }) });
    }

    fn probe_target(&self, name: &str, kind: Kind) -> Result<Action, String> {
        let container = self.manifest_container(name).ok_or("no such container")?;
        let probe = match kind {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        };
        target::of_probe(probe.ok_or("no such probe")?, container, &self.ip())
    }

    fn network_probe(&mut self, name: &str, id: &str, kind: Kind, action: Action) {
        let network = self.sandbox.as_ref().and_then(|sandbox| sandbox.network.clone());
        let timeout = self.timeout(name, kind);
        let (container, id) = (name.to_owned(), id.to_owned());
        self.spawn(async move {
            let network = network.as_ref().map(|fd| fd.as_fd());
            match probe::check(&action, network, timeout).await {
                Ok(health) => Some(Signal::Probed { container, id, kind, health }),
                // The record and parked descriptors let the next supervisor go on.
                Err(_stranded) => process::exit_now(1),
            }
        });
    }

    fn exec_probe(&mut self, name: &str, id: &str, kind: Kind, args: &[String]) -> Result<()> {
        let timeout = self.timeout(name, kind);
        let begun = self.begin(name, args, Some(group_of(kind)))?;
        let (container, id) = (name.to_owned(), id.to_owned());
        let args = args.to_vec();
        self.spawn(async move {
            let health = match begun.finish(Some(timeout)).await {
                Ok(ended) => exec::health(&ended, &args, timeout),
                // A command that cannot be executed is no fault of the container's.
                Err(error) => Health::Unknown(error.to_string()),
            };
            Some(Signal::Probed { container, id, kind, health })
        });
        Ok(())
    }

    fn timeout(&self, name: &str, kind: Kind) -> std::time::Duration {
        let rules = self.rules.container(name).and_then(|rules| match kind {
            Kind::Startup => rules.startup,
            Kind::Liveness => rules.liveness,
            Kind::Readiness => rules.readiness,
        });
        rules.map_or(std::time::Duration::from_secs(1), |rules| rules.timeout)
    }

    /// An attempt has a result.
    pub(super) fn probed(&mut self, name: &str, id: &str, kind: Kind, health: Health) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.id == id) else {
            return;
        };
        let prober = member.probers.iter_mut().find(|prober| prober.worker.kind() == kind);
        let Some(prober) = prober else { return };
        let Some(attempt) = prober.attempt.take() else { return };
        let outcome = prober.worker.finish(attempt, &health);
        if let Some(event) = outcome.event {
            self.warn(event.reason, Some(name), event.message);
        }
        match (kind, outcome.change) {
            (_, None) | (Kind::Liveness, Some(Change::Succeeded)) => {}
            (Kind::Startup, Some(Change::Succeeded)) => {
                transition::on_startup_done(&self.rules, &mut self.record, name, id);
                self.transition("StartupDone", Some(name), "");
                self.readiness_may_have_changed(name);
            }
            (Kind::Readiness, Some(change)) => {
                let is_ready = change == Change::Succeeded;
                transition::on_readiness(&mut self.record, name, id, is_ready);
                self.transition(if is_ready { "Ready" } else { "NotReady" }, Some(name), "");
            }
            (Kind::Startup, Some(Change::Failed)) => self.kill_for(name, KillCause::Startup),
            (Kind::Liveness, Some(Change::Failed)) => self.kill_for(name, KillCause::Liveness),
        }
    }

    fn kill_for(&mut self, name: &str, why: KillCause) {
        if let Some(stop) = decide::kill_for_probe(&self.rules, &self.record, name, why) {
            self.begin_stop(&stop);
        }
    }

    /// A container has started, or its hook or startup probe is done: without a readiness probe
    /// that makes it ready.
    pub(super) fn readiness_may_have_changed(&mut self, name: &str) {
        self.tell_probes(name);
        let Some(own) = self.rules.container(name) else { return };
        // The readiness of one that runs once is its end.
        let tells = own.kind != rules::Kind::Init && own.readiness.is_none();
        let is_ready = self.record.container(name).is_some_and(|record| record.ready);
        if is_ready && tells {
            self.transition("Ready", Some(name), "");
        }
    }
}

/// The cgroup of an exec probe: ended as a whole when it takes too long.
fn group_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Startup => "carob.startup",
        Kind::Liveness => "carob.liveness",
        Kind::Readiness => "carob.readiness",
    }
}
