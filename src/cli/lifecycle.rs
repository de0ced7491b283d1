//! The verbs that move a container from one state to the next: `start`, `kill`, `delete`,
//! `pause`, `resume`.

use super::quick::Words;
use super::{Context, Verb};
use crate::{
    container::{Force, KillTarget},
    error::Result,
    sys::signal::Signal,
};

/// Let the process of a created container run
#[derive(Debug, clap::Args)]
#[command(after_help = START_EXAMPLES)]
pub(super) struct Start {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const START_EXAMPLES: &str = "\
Examples:
  carob create --bundle DIR web </dev/null >web.log 2>&1
  carob start web";

impl Verb for Start {
    fn quick(mut words: Words) -> Option<Self> {
        Some(Self { id: words.last()? })
    }

    fn run(self, context: &Context) -> Result<i32> {
        context.runtime.start(&self.id)?;
        Ok(0)
    }
}

/// Send a signal to the init process of a container
#[derive(Debug, clap::Args)]
#[command(after_help = KILL_EXAMPLES)]
pub(super) struct Kill {
    /// Signal all processes of the container; then a stopped one is no error
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Name or number: KILL, SIGHUP, RTMIN+3, 9 [default: TERM]
    #[arg(value_name = "SIGNAL")]
    signal: Option<String>,
}

const KILL_EXAMPLES: &str = "\
Examples:
  carob kill web
  carob kill --all web KILL";

impl Kill {
    /// What the command line asks for.
    ///
    /// # Errors
    /// `unknown signal "NOSUCH"`.
    pub(super) fn options(self) -> Result<(String, Signal, KillTarget)> {
        let signal = self.signal.as_deref().map_or(Ok(Signal::TERM), str::parse)?;
        Ok((self.id, signal, if self.all { KillTarget::All } else { KillTarget::Init }))
    }
}

impl Verb for Kill {
    fn quick(mut words: Words) -> Option<Self> {
        let mut all = false;
        while let Some(option) = words.option()? {
            all = (option == "all").then_some(true)?;
        }
        let id = words.operand()?.to_owned();
        let signal = if words.is_at_end() { None } else { Some(words.last()?) };
        Some(Self { all, id, signal })
    }

    fn run(self, context: &Context) -> Result<i32> {
        let (id, signal, target) = self.options()?;
        context.runtime.kill(&id, signal, target)?;
        Ok(0)
    }
}

/// Remove a stopped container: its cgroup, its state, whatever is left of it
#[derive(Debug, clap::Args)]
#[command(after_help = DELETE_EXAMPLES)]
pub(super) struct Delete {
    /// Kill the container first if it is not stopped; an unknown id is no error
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const DELETE_EXAMPLES: &str = "\
Examples:
  carob delete web
  carob delete --force web";

impl Delete {
    /// What the command line asks for.
    pub(super) fn options(self) -> (String, Force) {
        (self.id, if self.force { Force::Yes } else { Force::No })
    }
}

impl Verb for Delete {
    fn quick(mut words: Words) -> Option<Self> {
        let mut force = false;
        while let Some(option) = words.option()? {
            force = (option == "force").then_some(true)?;
        }
        Some(Self { force, id: words.last()? })
    }

    fn run(self, context: &Context) -> Result<i32> {
        let (id, force) = self.options();
        context.runtime.delete(&id, force)?;
        Ok(0)
    }
}

/// Freeze all processes of a container until `carob resume`
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(super) struct Pause {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const PAUSE_EXAMPLES: &str = "\
Examples:
  carob pause web
  carob resume web";

impl Verb for Pause {
    fn quick(mut words: Words) -> Option<Self> {
        Some(Self { id: words.last()? })
    }

    fn run(self, context: &Context) -> Result<i32> {
        context.runtime.pause(&self.id)?;
        Ok(0)
    }
}

/// Thaw the processes of a paused container
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(super) struct Resume {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Verb for Resume {
    fn quick(mut words: Words) -> Option<Self> {
        Some(Self { id: words.last()? })
    }

    fn run(self, context: &Context) -> Result<i32> {
        context.runtime.resume(&self.id)?;
        Ok(0)
    }
}
