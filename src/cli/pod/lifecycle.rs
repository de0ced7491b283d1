//! The verbs that move a pod that exists: `start`, `stop`, `rm`, `kill`.

use super::choice::{PodChoice, PodsChoice};
use crate::cli::{Context, Verb, output};
use crate::container::KillTarget;
use crate::error::{Error, Result};
use crate::pod::lifecycle;
use crate::pod::removal::{self, Removal};
use crate::pod::store::{PodDirs, StoredPod};
use crate::sys::signal::Signal;

/// Start a pod that was made, or one that has ended
#[derive(Debug, clap::Args)]
#[command(after_help = START_EXAMPLES)]
pub(super) struct Start {
    #[command(flatten)]
    pods: PodsChoice,
}

const START_EXAMPLES: &str = "\
Examples:
  carob pod start web
  carob pod start web db";

impl Verb for Start {
    fn run(self, context: &Context) -> Result<i32> {
        self.pods.each(context, |pod| {
            let pod = pod.find(context)?;
            lifecycle::start(&context.runtime, &pod)?;
            output::print(&format!("pod/{} started\n", pod.file.name()))
        })?;
        Ok(0)
    }
}

/// End a pod with its grace: preStop hooks, stop signals, SIGKILL; waits until it has ended
#[derive(Debug, clap::Args)]
#[command(after_help = STOP_EXAMPLES)]
pub(super) struct Stop {
    #[command(flatten)]
    pods: PodsChoice,
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
  carob pod stop --time 2 web db
  carob pod stop --all";

impl Verb for Stop {
    fn run(self, context: &Context) -> Result<i32> {
        let runtime = &context.runtime;
        let mut asked = Vec::new();
        // All are asked before one is waited for: their graces run side by side.
        let result = self.pods.each(context, |pod| {
            let pod = pod.find(context)?;
            lifecycle::ask_to_stop(runtime, &pod, self.time)?;
            asked.push(pod);
            Ok(())
        });
        for pod in asked {
            let name = pod.file.name();
            if self.no_wait {
                output::print(&format!("pod/{name} is being stopped\n"))?;
            } else {
                lifecycle::wait_for_end(runtime, &pod)?;
                output::print(&format!("pod/{name} stopped\n"))?;
            }
        }
        result.map(|()| 0)
    }
}

/// Remove pods that have ended: their volumes, logs and state
#[derive(Debug, clap::Args)]
#[command(after_help = RM_EXAMPLES)]
pub(super) struct Remove {
    /// Stop it first if it runs; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// With --force: grace instead of the manifest's
    #[arg(
        short = 't',
        long,
        visible_alias = "grace-period",
        value_name = "SECONDS",
        requires = "force"
    )]
    time: Option<u32>,
    #[command(flatten)]
    pods: PodsChoice,
}

const RM_EXAMPLES: &str = "\
Examples:
  carob pod rm web
  carob pod rm --force --time 2 web db
  carob pod rm --force --all";

impl Verb for Remove {
    fn run(self, context: &Context) -> Result<i32> {
        let runtime = &context.runtime;
        let stored = |pod: &PodChoice| {
            let (namespace, name) = (pod.namespace()?, pod.name()?);
            StoredPod::read(&PodDirs::all(&runtime.root).join(format!("{namespace}_{name}")))
        };
        if self.force {
            // All are asked before one is waited for: their graces run side by side. One that
            // cannot be asked is told when it is removed.
            self.pods.each(context, |pod| {
                if let Some(pod) = stored(pod)? {
                    let _asked = lifecycle::ask_to_stop(runtime, &pod, self.time);
                }
                Ok(())
            })?;
        }
        let removal = if self.force { Removal::Forced } else { Removal::OnlyEnded };
        self.pods.each(context, |pod| {
            let (namespace, name) = (pod.namespace()?, pod.name()?);
            let found = match stored(pod)? {
                Some(found) => found,
                None if self.force => return removal::remove_half_made(runtime, namespace, name),
                None => pod.find(context)?,
            };
            removal::remove(runtime, &found, removal)?;
            output::print(&format!("pod/{name} removed\n"))
        })?;
        Ok(0)
    }
}

/// Send a signal to the containers of a pod; what they do then is up to them and restartPolicy
#[derive(Debug, clap::Args)]
#[command(after_help = KILL_EXAMPLES)]
pub(super) struct Kill {
    #[command(flatten)]
    pods: PodsChoice,
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
  carob pod kill web db";

impl Verb for Kill {
    fn run(self, context: &Context) -> Result<i32> {
        let signal: Signal = self.signal.parse()?;
        self.pods.each(context, |pod| self.kill(context, &pod.find(context)?, signal))?;
        Ok(0)
    }
}

impl Kill {
    fn kill(&self, context: &Context, pod: &StoredPod, signal: Signal) -> Result<()> {
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
        Ok(())
    }
}
