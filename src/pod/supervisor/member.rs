//! One instance of a container: made, started, watched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use k8s_openapi::api::core::v1::Container;
use tokio::task::AbortHandle;

use super::parking::Role;
use super::probes::Prober;
use super::streams::{Journals, Sink, Streams, pump};
use super::{Parking, Signal, Supervisor, ended, rootfs};
use crate::cgroup::Group;
use crate::container::{CreateOptions, ExecTemplate, Keyring, Launch, Launched, RootSwitch, Stdio};
use crate::error::{Error, OsContext, Result};
use crate::pod::clock::Stamp;
use crate::pod::decide::transition::{self, FailedStart, Instance};
use crate::pod::logs::{self, Limits, LogWriter};
use crate::pod::member::{self, Image};
use crate::pod::record::{HookState, SandboxRecord, StartFailure};
use crate::pod::volume;
use crate::sys::signal::Signal as Number;

/// What has come of an attempt to start.
enum Attempt {
    Started,
    /// It is tried again when the image is there.
    Pulling,
}

/// A running instance.
pub(super) struct Member {
    /// Id of the OCI container.
    pub(super) id: String,
    /// Its init.
    pub(super) init: Rc<OwnedFd>,
    /// What is sent to it first when it is to end.
    pub(super) stop_signal: Number,
    pub(super) streams: Streams,
    pub(super) sink: Rc<RefCell<Sink>>,
    /// Its probes.
    pub(super) probers: Vec<Prober>,
    /// For probes and hooks that run in it; made when the first one does.
    pub(super) template: Option<Rc<ExecTemplate>>,
    /// Cgroups of its exec probes, by name.
    pub(super) groups: BTreeMap<&'static str, Rc<Group>>,
    /// Ended with it.
    tasks: Vec<AbortHandle>,
}

/// An instance that is to be watched.
pub(super) struct Watched {
    pub(super) number: u32,
    pub(super) id: String,
    pub(super) init: Rc<OwnedFd>,
    pub(super) streams: Streams,
    pub(super) stop_signal: Number,
}

impl Member {
    /// A task that ends with it at the latest.
    pub(super) fn also(&mut self, task: AbortHandle) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(task);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Supervisor {
    /// The container of the manifest.
    pub(super) fn manifest_container(&self, name: &str) -> Option<&Container> {
        let spec = self.file.manifest.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name)
    }

    /// The id of an instance.
    pub(super) fn instance_id(&self, container: &str, restart_count: u32) -> String {
        let rules = &self.rules;
        format!("{}_{}_{container}_{restart_count}", rules.namespace, rules.name)
    }

    /// Makes and starts the next instance of a container, and writes down what has come of it.
    pub(super) fn start(&mut self, name: &str) {
        let Some(before) = self.record.container(name).cloned() else { return };
        let number = before.next_restart_count();
        match self.try_start(name, number) {
            Ok(Attempt::Pulling) => {}
            Ok(Attempt::Started) => self.started(name, number),
            Err(failed) => {
                if self.members.remove(name).is_some() {
                    self.park();
                }
                // As it was before the attempt, of which nothing is left.
                if let Some(record) = self.record.container_mut(name) {
                    *record = before;
                }
                self.start_failed(name, failed);
            }
        }
        self.discard_layers(name);
    }

    fn started(&mut self, name: &str, number: u32) {
        self.normal("Started", Some(name), format!("Started container {name}"));
        self.transition("Running", Some(name), "");
        if let Err(error) = logs::prune(&self.file.dirs, name, number.saturating_sub(1)) {
            crate::log::warn(error);
        }
        if self.rules.container(name).is_some_and(|rules| rules.post_start) {
            self.run_post_start(name);
        }
        self.readiness_may_have_changed(name);
    }

    /// Says that a start has failed, and when it is tried again.
    pub(super) fn start_failed(&mut self, name: &str, failed: FailedStart) {
        self.warn("Failed", Some(name), format!("Error: {}", failed.failure.message));
        transition::on_start_failed(&self.rules, &mut self.record, name, failed);
        self.announce_back_off(name);
    }

    fn try_start(&mut self, name: &str, number: u32) -> Result<Attempt, FailedStart> {
        let not_made = |failure| FailedStart { failure, id: None, at: Stamp::now() };
        let Some(container) = self.manifest_container(name).cloned() else {
            let text = format!("container {name:?} is not in the manifest");
            return Err(not_made(failure("CreateContainerConfigError", text)));
        };
        let id = self.instance_id(name, number);
        let Some(image) = self.image(&container).map_err(not_made)? else {
            return Ok(Attempt::Pulling);
        };
        let options = self.write_bundle(&container, &image, number).map_err(not_made)?;
        let rootfs = self.make_rootfs(&container, &image).map_err(not_made)?;
        let could_not = |error: Error| FailedStart {
            failure: failure("RunContainerError", error.to_string()),
            id: Some(id.clone()),
            at: Stamp::now(),
        };
        let (streams, mut launched) =
            self.launch(&container, rootfs, &options).map_err(could_not)?;
        self.normal("Created", Some(name), format!("Created container: {name}"));
        let pid = launched.pid().map_or(0, nix::unistd::Pid::as_raw);
        let instance = Instance { id: id.clone(), pid, since: Stamp::now() };
        // Written down before it runs: a supervisor that is killed in between knows of it.
        transition::on_started(&self.rules, &mut self.record, name, instance);
        self.save_unstarted(name).map_err(could_not)?;
        let streams = match launched.take_console() {
            Some(master) => Streams::terminal(master).map_err(could_not)?,
            None => streams,
        };
        let init = Rc::new(launched.init().map_err(could_not)?);
        let stop_signal = member::stop_signal(&container, &image);
        self.watch(name, Watched { number, id: id.clone(), init, streams, stop_signal });
        // Before it runs, too: it would have lost its streams with us.
        self.park();
        launched.start().map(|_child| Attempt::Started).map_err(could_not)
    }

    /// Writes down an instance that is about to be started: nobody is to see it run yet.
    fn save_unstarted(&mut self, name: &str) -> Result<()> {
        let mut record = self.record.clone();
        if let Some(container) = record.container_mut(name) {
            (container.started, container.ready) = (false, false);
            if let Some(running) = container.running_mut() {
                running.post_start = HookState::Pending;
            }
        }
        self.file.dirs.write_record(&record)?;
        self.saved = Some(record);
        Ok(())
    }

    /// Writes the OCI bundle of an instance.
    fn write_bundle(
        &self,
        container: &Container,
        image: &Image,
        number: u32,
    ) -> Result<CreateOptions, StartFailure> {
        let sandbox = self.sandbox_record()?;
        let place = member::Place {
            manifest: &self.file.manifest,
            dirs: &self.file.dirs,
            sandbox,
            node: &self.node,
        };
        let env = member::environment(&place, container)?;
        let volumes = volume::Place::from(&place);
        let mounts = volume::mounts(&volumes, container, &env, number)?;
        let member = member::Member {
            container,
            image,
            env: &env,
            mounts,
            devices: volume::devices(&volumes, container)?,
            restart_count: number,
        };
        let spec = member::spec(&place, member)?;
        let bundle = self.file.dirs.bundle(&container.name);
        write_config(&bundle, &spec)
            .map_err(|error| failure("CreateContainerError", error.to_string()))?;
        Ok(CreateOptions {
            id: self.instance_id(&container.name, number),
            bundle,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            root_switch: RootSwitch::Pivot,
            keyring: Keyring::New,
            preserve_fds: 0,
        })
    }

    fn make_rootfs(&self, container: &Container, image: &Image) -> Result<OwnedFd, StartFailure> {
        let sandbox = self.sandbox_record()?;
        let labels = member::security::selinux(&self.file.manifest.pod, container);
        let label = labels.map(|labels| labels.mount);
        let name = &container.name;
        rootfs::make(&self.file.dirs, sandbox, name, &image.root, label.as_deref())
            .map_err(|error| failure("CreateContainerError", error.to_string()))
    }

    pub(super) fn sandbox_record(&self) -> Result<&SandboxRecord, StartFailure> {
        let none = || failure("CreateContainerError", "the pod has no sandbox");
        self.record.sandbox.as_ref().ok_or_else(none)
    }

    fn launch(
        &self,
        container: &Container,
        rootfs: OwnedFd,
        options: &CreateOptions,
    ) -> Result<(Streams, Launched)> {
        let (streams, stdio) = if container.tty == Some(true) {
            (Streams::default(), Stdio::Terminal)
        } else {
            Streams::pipes(container.stdin == Some(true))?
        };
        let launched = self.runtime.launch(Launch { options, stdio, rootfs: Some(rootfs) })?;
        Ok((streams, launched))
    }

    /// Takes an instance that runs into care: its end, its output, its probes.
    pub(super) fn watch(&mut self, name: &str, watched: Watched) {
        let Watched { number, id, init, streams, stop_signal } = watched;
        let sink = Rc::new(RefCell::new(self.sink(name, number)));
        let mut tasks = Vec::new();
        for (role, fd) in &streams.outputs {
            let pump = pump(*role, Rc::clone(fd), Rc::clone(&sink));
            tasks.push(self.spawn(async move {
                pump.await;
                None
            }));
        }
        let (pidfd, of) = (Rc::clone(&init), id.clone());
        tasks.push(self.spawn(async move {
            ended(pidfd).await;
            Some(Signal::Exited { id: of })
        }));
        let probers = self.probers(name);
        let member = Member {
            id,
            init,
            stop_signal,
            streams,
            sink,
            probers,
            template: None,
            groups: BTreeMap::new(),
            tasks,
        };
        self.members.insert(name.to_owned(), member);
    }

    /// The log of an instance; what is in it stays.
    pub(super) fn sink(&self, name: &str, number: u32) -> Sink {
        let dirs = &self.file.dirs;
        let journals = Journals::open(dirs.journal(name, number));
        let log = dirs.log(name, number);
        journals.prepare(&log);
        let log = LogWriter::open(log, Limits::default());
        Sink::new(log, journals, Rc::clone(&self.compress))
    }

    /// Leaves copies of all descriptors with the pause process.
    pub(super) fn park(&mut self) {
        let Some(sandbox) = &mut self.sandbox else { return };
        let instances = self.members.values().map(|member| {
            let init = std::iter::once((Role::Init, member.init.as_fd()));
            (member.id.as_str(), init.chain(member.streams.to_park()).collect())
        });
        if let Err(error) = Parking::park(&mut sandbox.parking, instances) {
            crate::log::warn(error);
        }
    }
}

fn write_config(bundle: &Path, spec: &oci_spec::runtime::Spec) -> Result<()> {
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(&rootfs).os("mkdir", || rootfs.display())?;
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(spec)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    std::fs::write(&path, text).os("write", || path.display())
}

fn failure(reason: &str, message: impl Into<String>) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message: message.into() }
}
