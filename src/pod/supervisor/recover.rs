//! Taking over: from nothing, or from a supervisor that was killed.
//!
//! The record says what there should be; processes, parked descriptors and the directories of
//! containers say what there is. What has ended meanwhile is treated as if it ended now; what was
//! begun and not written down goes away.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::act::network_of;
use super::exit::exit_of;
use super::member::Watched;
use super::parking::{Parked, Parking, Role};
use super::streams::Streams;
use super::{Sandbox, Supervisor};
use crate::container::Force;
use crate::error::Result;
use crate::pod::clock::Stamp;
use crate::pod::decide::transition;
use crate::pod::leftover;
use crate::pod::member;
use crate::pod::record::{HookState, SandboxRecord, StopStep};
use crate::pod::sandbox;
use crate::sys::process::Exit;

impl Supervisor {
    /// Brings record and reality together.
    pub(super) fn recover(&mut self) {
        // A pull of the supervisor before us may go on; ours finds what it has fetched.
        self.stop_pulls();
        if self.record.started.is_none() {
            self.first_sync();
            return;
        }
        self.recover_network();
        let parked = self.take_back_sandbox();
        let mut parked: BTreeMap<String, Parked> =
            parked.into_iter().map(|parked| (parked.id.clone(), parked)).collect();
        for name in self.names() {
            let Some(record) = self.record.container(&name) else { continue };
            let Some(running) = record.running().cloned() else { continue };
            let number = record.restart_count;
            let parked = parked.remove(&running.id);
            match self.runtime.init_of(&running.id) {
                Ok(Some((_pid, init))) => {
                    self.take_back(&name, number, &running.id, (init, parked));
                }
                _ => self.lost(&name, number, parked),
            }
        }
        self.remove_strays();
        for name in self.names() {
            self.discard_layers(&name);
        }
        self.park();
        // Its data may have changed while nobody was here to apply it.
        if let Err(why) = self.apply_data() {
            self.warn("FailedMount", None, why);
        }
        self.transition("Recovered", None, "the supervisor was started again");
        if self.record.usable_sandbox().is_some() {
            self.check_network();
        }
    }

    fn first_sync(&mut self) {
        self.record.started = Some(Stamp::now());
        if let Err(refusal) = member::admit(&self.file.manifest.pod, &self.node) {
            self.warn(&refusal.reason.clone(), None, refusal.message.clone());
            self.record.refusal = Some(refusal);
        }
        // From here on it is a pod that runs, and verbs bring its supervisor back.
        self.publish();
    }

    /// What the supervisor before us had parked, if the sandbox lives.
    fn take_back_sandbox(&mut self) -> Vec<Parked> {
        let Some(record) = self.record.sandbox.clone() else { return Vec::new() };
        match self.adopt_sandbox(&record) {
            Ok(Some((sandbox, parked))) => {
                self.hold_sandbox(&record, sandbox);
                self.read_limits();
                parked
            }
            Ok(None) => {
                self.sandbox_exited(&record.id);
                Vec::new()
            }
            Err(error) => {
                crate::log::warn(error);
                self.sandbox_exited(&record.id);
                Vec::new()
            }
        }
    }

    fn adopt_sandbox(&self, record: &SandboxRecord) -> Result<Option<(Sandbox, Vec<Parked>)>> {
        let Some((_pid, pause)) = self.runtime.init_of(&record.id)? else { return Ok(None) };
        let parking = Parking::of_pause(&pause)?;
        let parked = parking.look()?;
        let network = network_of(&self.file.manifest.pod, record)?;
        let id = record.id.clone();
        Ok(Some((Sandbox { id, pause: Rc::new(pause), network, parking }, parked)))
    }

    fn take_back(
        &mut self,
        name: &str,
        number: u32,
        id: &str,
        (init, parked): (OwnedFd, Option<Parked>),
    ) {
        let Some(container) = self.manifest_container(name).cloned() else { return };
        let reference = container.image.as_deref().unwrap_or_default();
        let image = member::image::find(reference, Some("Never"), &self.file.dirs.images());
        let stop_signal = image.ok().flatten().map_or(crate::sys::signal::Signal::TERM, |image| {
            member::stop_signal(&container, &image)
        });
        let streams = parked.map_or_else(Streams::default, |parked| Streams::parked(parked.fds));
        let init = Rc::new(init);
        self.watch(name, Watched { number, id: id.to_owned(), init, streams, stop_signal });
        self.resume_hooks(name, id);
        self.tell_probes(name);
    }

    /// A hook that was running has lost its observer: hooks run at least once. The grace goes on
    /// counting.
    fn resume_hooks(&mut self, name: &str, id: &str) {
        let running = self.record.container(name).and_then(|record| record.running());
        let Some(running) = running.cloned() else { return };
        let stopping = running.stopping.as_ref();
        let awaited = stopping.is_none() && running.post_start == HookState::Pending;
        let has_hook = self.rules.container(name).is_some_and(|rules| rules.post_start);
        if stopping.is_some_and(|stopping| stopping.step == StopStep::PreStop) {
            self.run_pre_stop(name);
        } else if awaited && has_hook {
            self.run_post_start(name);
        } else if awaited {
            // That it was about to be started is written down, but not that it was.
            transition::on_post_start_done(&self.rules, &mut self.record, name, id);
        }
    }

    /// An instance has ended while nobody looked.
    fn lost(&mut self, name: &str, number: u32, parked: Option<Parked>) {
        let fds = parked.map(|parked| parked.fds).unwrap_or_default();
        let init = fds.iter().find(|(role, _)| *role == Role::Init);
        let exit: Option<Exit> = init.and_then(|(_, pidfd)| exit_of(pidfd));
        Streams::parked(fds).drain(&mut self.sink(name, number));
        self.finish_instance(name, exit, None);
    }

    /// Containers that were being made: they are not in the record.
    fn remove_strays(&mut self) {
        let known: Vec<String> = self
            .record
            .containers()
            .filter_map(|record| record.running().map(|running| running.id.clone()))
            .chain(self.record.sandbox.iter().map(|sandbox| sandbox.id.clone()))
            .collect();
        let all = leftover::containers(&self.runtime, &self.file).unwrap_or_default();
        for id in all.iter().filter(|id| !known.contains(id)) {
            if let Err(error) = self.runtime.delete(id, Force::Yes) {
                crate::log::warn(error);
            }
        }
        if self.record.sandbox.is_none()
            && let Err(error) = sandbox::bury(&self.runtime, &self.sandbox_id(), &self.file.dirs)
        {
            crate::log::warn(error);
        }
    }
}
