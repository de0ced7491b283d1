//! The verbs that move a pod that exists: `start`, `stop`, `rm`, `kill`.

use super::choice::PodChoice;
use crate::cli::{Context, Verb, output};
use crate::container::KillTarget;
use crate::error::{Error, Result};
use crate::pod::lifecycle::{self, Removal};
use crate::pod::store::{PodDirs, StoredPod};
use crate::sys::signal::Signal;

/// Start a pod that was made, or one that has ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod start web")]
pub(super) struct Start {
    #[command(flatten)]
    pod: PodChoice,
}

impl Verb for Start {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        lifecycle::start(&context.runtime, &pod)?;
        output::print(&format!("pod/{} started\n", pod.file.name()))?;
        Ok(0)
    }
}

/// End a pod with its grace: preStop hooks, stop signals, SIGKILL; waits until it has ended
#[derive(Debug, clap::Args)]
#[command(after_help = STOP_EXAMPLES)]
pub(super) struct Stop {
    #[command(flatten)]
    pod: PodChoice,
    /// Grace instead of the manifest's; can only shorten it once the pod is being stopped
    #[arg(short = 't', long, visible_alias = "grace-period", value_name = "SECONDS")]
    time: Option<u32>,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

const STOP_EXAMPLES: &str = "\
Examples:
  carob pod stop web
  carob pod stop --time 2 web";

impl Verb for Stop {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let name = pod.file.name();
        if self.no_wait {
            lifecycle::ask_to_stop(&context.runtime, &pod, self.time)?;
            output::print(&format!("pod/{name} is being stopped\n"))?;
        } else {
            lifecycle::ask_to_stop(&context.runtime, &pod, self.time)?;
            lifecycle::wait_for_end(&context.runtime, &pod)?;
            output::print(&format!("pod/{name} stopped\n"))?;
        }
        Ok(0)
    }
}

/// Remove pods that have ended: their volumes, logs and state
#[derive(Debug, clap::Args)]
#[command(after_help = RM_EXAMPLES)]
pub(super) struct Remove {
    /// Stop it first if it runs; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pod: PodChoice,
}

const RM_EXAMPLES: &str = "\
Examples:
  carob pod rm web
  carob pod rm --force web";

impl Verb for Remove {
    fn run(self, context: &Context) -> Result<i32> {
        let (namespace, name) = (self.pod.namespace()?, self.pod.name()?);
        let runtime = &context.runtime;
        let dir = PodDirs::all(&runtime.root).join(format!("{namespace}_{name}"));
        let pod = match StoredPod::read(&dir)? {
            Some(pod) => pod,
            None if self.force => {
                lifecycle::remove_half_made(runtime, namespace, name)?;
                return Ok(0);
            }
            None => self.pod.find(context)?,
        };
        let removal = if self.force { Removal::Forced } else { Removal::OnlyEnded };
        lifecycle::remove(runtime, &pod, removal)?;
        output::print(&format!("pod/{name} removed\n"))?;
        Ok(0)
    }
}

/// Send a signal to the containers of a pod; what they do then is up to them and restartPolicy
#[derive(Debug, clap::Args)]
#[command(after_help = KILL_EXAMPLES)]
pub(super) struct Kill {
    #[command(flatten)]
    pod: PodChoice,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

const KILL_EXAMPLES: &str = "\
Examples:
  carob pod kill --signal HUP --container nginx web
  carob pod kill web";

impl Verb for Kill {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let signal: Signal = self.signal.parse()?;
        let record = pod.record.as_ref();
        let running: Vec<_> = record
            .into_iter()
            .flat_map(|record| record.containers())
            .filter(|record| self.container.as_ref().is_none_or(|name| *name == record.name))
            .filter_map(|record| record.running())
            .collect();
        if running.is_empty() {
            let name = pod.file.name();
            return Err(Error::WrongState {
                reason: match &self.container {
                    Some(container) => {
                        format!("container {container:?} of pod {name:?} is not running")
                    }
                    None => format!("no container of pod {name:?} is running"),
                },
            });
        }
        for instance in running {
            context.runtime.kill(&instance.id, signal, KillTarget::Init)?;
        }
        Ok(0)
    }
}
