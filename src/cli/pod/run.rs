//! `pod run`, `pod create`, and the hidden verb that is a supervisor.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::choice::ManifestChoice;
use super::live::Live;
use super::plugins::PluginChoice;
use crate::cli::output::{self, Paint};
use crate::cli::{Context, Verb};
use crate::container::CgroupDriver;
use crate::error::{Error, OsContext, Result};
use crate::pod::event::EventTail;
use crate::pod::follow::{SILENCE, keep_supervised};
use crate::pod::lifecycle::{self, Applied, Existing, Places};
use crate::pod::manifest;
use crate::pod::network::wish;
use crate::pod::outcome;
use crate::pod::record::StopCause;
use crate::pod::removal::{self, Removal};
use crate::pod::store::{self, StoredPod};
use crate::pod::supervisor::{self, StartedBy};
use crate::pod::watch::Watch;

/// Run a Kubernetes Pod: in the foreground until it ends or Ctrl-C stops it
///
/// Takes files, directories and - for standard input, YAML or JSON: one Pod, and the ConfigMaps,
/// Secrets, PersistentVolumeClaims and PersistentVolumes that it refers to. A pod that runs
/// already stays as it is; changed ConfigMaps and Secrets reach its volumes.
#[derive(Debug, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct Run {
    #[command(flatten)]
    make: Make,
    /// Return when the pod has been started
    #[arg(short, long, conflicts_with_all = ["supervise", "rm"])]
    detach: bool,
    /// Remove the pod when it has ended
    #[arg(long)]
    rm: bool,
    /// Be the supervisor instead of starting one: for a service manager, which is told when the
    /// pod is ready
    #[arg(long)]
    supervise: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  carob pod run pod.yaml               show what happens, stop the pod on Ctrl-C
  carob pod run -d pod.yaml config/    leave it running
  carob pod run --replace -d pod.yaml  stop and remove the one there is, run this one
  sed s/TAG/1.2/ pod.yaml | carob pod run -d -";

/// Make a pod without starting it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod create pod.yaml && carob pod start web")]
pub(super) struct Create {
    #[command(flatten)]
    make: Make,
}

/// What `run` and `create` have in common.
#[derive(Debug, clap::Args)]
struct Make {
    /// Stop and remove a pod of this name that differs
    #[arg(long)]
    replace: bool,
    /// Where volumes and writable layers are kept
    #[arg(long, value_name = "DIR", default_value = store::DATA_ROOT)]
    data_root: PathBuf,
    /// Where logs are kept
    #[arg(long, value_name = "DIR", default_value = store::LOG_ROOT)]
    log_root: PathBuf,
    /// The cgroup or slice below which pods have theirs [default: carob.slice with systemd, else /carob]
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<PathBuf>,
    /// Delay of the second restart of a container, 10s
    #[arg(long, value_name = "DURATION")]
    backoff_initial: Option<String>,
    /// Longest delay of a restart, 300s
    #[arg(long, value_name = "DURATION")]
    backoff_max: Option<String>,
    /// A container that ran longer is restarted without delay, 600s
    #[arg(long, value_name = "DURATION")]
    backoff_reset: Option<String>,
    /// The pod's network: the name of a CNI configuration, none, or host
    ///
    /// Without it: what the annotation carob/network says, else the first configuration by the names
    /// of the files, else carob's own: a bridge carob0, if there are plugins.
    #[arg(long, value_name = "NAME|none|host")]
    network: Option<String>,
    #[command(flatten)]
    plugins: PluginChoice,
    #[command(flatten)]
    manifests: ManifestChoice,
}

impl Make {
    fn apply(&self, context: &Context) -> Result<(Applied, StoredPod)> {
        let manifest = manifest::load_edited(&self.manifests.inputs(), &|pod| self.edit(pod))?;
        manifest.left_out.iter().for_each(crate::log::warn);
        for field in manifest::ignored(&manifest.pod) {
            crate::log::warn(format_args!("{field} has no effect on one machine"));
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let places = Places {
            data: absolute(&self.data_root),
            logs: absolute(&self.log_root),
            cgroup_parent: self.cgroup_parent(context)?,
            network: self.plugins.sources(),
        };
        let existing = if self.replace { Existing::Replace } else { Existing::Keep };
        lifecycle::apply(&context.runtime, manifest, &places, existing)
    }

    /// Its form says who makes the cgroups, now and by any verb later.
    fn cgroup_parent(&self, context: &Context) -> Result<PathBuf> {
        let asked = context.runtime.cgroup_driver;
        match &self.cgroup_parent {
            Some(given)
                if asked == CgroupDriver::Systemd
                    && CgroupDriver::of_parent(given) == CgroupDriver::Cgroupfs =>
            {
                Err(Error::Invalid(format!(
                    "--cgroup-parent {given:?} must be a slice such as carob.slice with --systemd-cgroup"
                )))
            }
            Some(given) => Ok(given.clone()),
            None if asked == CgroupDriver::Systemd => Ok(store::SLICE.into()),
            None => Ok(match CgroupDriver::of_host() {
                CgroupDriver::Systemd => store::SLICE.into(),
                CgroupDriver::Cgroupfs => store::CGROUP_PARENT.into(),
            }),
        }
    }

    /// The flags are another way to write the manifest.
    fn edit(&self, pod: &mut Pod) {
        let is_host = self.network.as_deref() == Some("host");
        if is_host {
            pod.spec.get_or_insert_default().host_network = Some(true);
        }
        let network = self.network.clone().filter(|_| !is_host);
        let given = [
            (wish::NETWORK, &network),
            ("carob/backoff-initial", &self.backoff_initial),
            ("carob/backoff-max", &self.backoff_max),
            ("carob/backoff-reset", &self.backoff_reset),
        ];
        for (key, value) in given {
            let Some(value) = value else { continue };
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(key.to_owned(), value.clone());
        }
    }
}

/// In kubectl's words.
fn said(applied: Applied, pod: &StoredPod) -> String {
    let done = match applied {
        Applied::Created => "created",
        Applied::Unchanged => "unchanged",
        Applied::Configured => "configured",
        Applied::Replaced => "replaced",
    };
    format!("pod/{} {done}\n", pod.file.name())
}

impl Verb for Create {
    fn run(self, context: &Context) -> Result<i32> {
        let (applied, pod) = self.make.apply(context)?;
        output::print(&said(applied, &pod))?;
        Ok(0)
    }
}

impl Verb for Run {
    fn run(self, context: &Context) -> Result<i32> {
        // Blocked before there is a pod: Ctrl-C stops it, whenever it comes.
        let signals = if self.detach || self.supervise { None } else { Some(Interrupt::new()?) };
        let (applied, pod) = self.make.apply(context)?;
        if self.supervise {
            lifecycle::prepare_start(&context.runtime, &pod)?;
            let state = &pod.file.dirs.state;
            supervisor::supervise(&context.runtime, state, StartedBy::ServiceManager)?;
            return service_status(state);
        }
        let mut tail = EventTail::new(&pod.file.dirs.state);
        if applied == Applied::Unchanged {
            tail.read()?;
        }
        lifecycle::start(&context.runtime, &pod)?;
        output::print(&said(applied, &pod))?;
        let Some(signals) = signals else { return Ok(0) };
        let code = follow(context, &pod, tail, &signals)?;
        if self.rm {
            removal::remove(&context.runtime, &pod, Removal::Forced)?;
        }
        Ok(code)
    }
}

/// What a service manager is told in the end: the pod's outcome, unless somebody has stopped it.
fn service_status(state: &Path) -> Result<i32> {
    let Some(StoredPod { file, record: Some(record) }) = StoredPod::read(state)? else {
        return Ok(0);
    };
    let asked = record.stop.as_ref().is_some_and(|stop| stop.cause == StopCause::Asked);
    if asked || record.ended.is_none() {
        return Ok(0);
    }
    Ok(outcome::exit_code(&file.rules()?, &record))
}

/// SIGINT and SIGTERM, as something to wait for.
struct Interrupt {
    signals: SignalFd,
}

impl Interrupt {
    fn new() -> Result<Self> {
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGINT);
        wanted.add(Signal::SIGTERM);
        wanted.thread_block().os("block", || "signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags).os("signalfd", || "SIGINT")?;
        Ok(Self { signals })
    }

    fn has_come(&self) -> bool {
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

/// Shows what happens until the pod has ended; returns its outcome.
fn follow(
    context: &Context,
    pod: &StoredPod,
    mut tail: EventTail,
    signals: &Interrupt,
) -> Result<i32> {
    let dirs = &pod.file.dirs;
    let watch = Watch::new([&dirs.state])?;
    let rules = pod.file.rules()?;
    let mut live = Live::new(Paint::of_stdout());
    live.expect(rules.containers().map(|container| container.name.as_str()));
    let mut interrupts = 0;
    loop {
        let now = StoredPod::read(&dirs.state)?;
        let record = now.as_ref().and_then(|pod| pod.record.as_ref());
        live.show(&tail.read()?, record)?;
        let Some(record) = record else { return Ok(1) };
        if record.ended.is_some() {
            return Ok(outcome::exit_code(&rules, record));
        }
        let mut fds = [
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::try_from(SILENCE).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => keep_supervised(&context.runtime, dirs)?,
            Ok(_) | Err(Errno::EINTR) => {}
            other => other.os("poll", || "the pod").map(drop)?,
        }
        watch.drain()?;
        if signals.has_come() {
            // Once: as the manifest says. Again: as fast as it goes.
            let grace = (interrupts > 0).then_some(1);
            interrupts += 1;
            lifecycle::ask_to_stop(&context.runtime, pod, grace)?;
        }
    }
}

/// Supervise a pod (started by carob itself)
#[derive(Debug, clap::Args)]
pub(super) struct Supervise {
    /// The pod's state directory
    state: PathBuf,
}

impl Verb for Supervise {
    fn run(self, context: &Context) -> Result<i32> {
        supervisor::supervise(&context.runtime, &self.state, StartedBy::Verb)?;
        Ok(0)
    }
}
