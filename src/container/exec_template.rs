//! The hot path of probes and hooks: a process in a container, of which everything but the command
//! is read, checked and compiled once.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::Runtime;
use super::enter::{Entry, Facts, Talk};
use super::exec::filter_of;
use super::launch::Dumpable;
use super::oom_score::OomScore;
use super::place::Place;
use super::prepare::leave_out_ungrantable;
use super::state::State;
use crate::cgroup::{Group, Join};
use crate::error::{Error, Result};
use crate::init::{Gate, StandardStreams};
use crate::oci::load;
use crate::oci::plan::ProcessPlan;
use crate::seccomp::Filter;
use crate::sys::process::Child;

/// What every process that is executed in one container has in common. Holds one descriptor; good
/// for as long as the container's first process lives.
#[derive(Debug)]
pub struct ExecTemplate {
    state: State,
    init: OwnedFd,
    plan: ProcessPlan,
    seccomp: Option<Filter>,
}

/// A process for [`ExecTemplate::exec`].
#[derive(Debug, Clone, Copy)]
pub struct ExecLaunch<'a> {
    /// Command and arguments.
    pub args: &'a [String],
    /// Its standard streams; for the user of the container, as those of its first process.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The cgroup in which it and all that it starts can be ended together; without one it is in
    /// the container's.
    pub group: Option<&'a Group>,
}

/// A process on its way into a container. Dropped, it goes on, and is its caller's to wait for all
/// the same.
#[derive(Debug)]
pub struct Executing {
    talk: Talk,
    /// The process.
    pub child: Child,
}

impl Executing {
    /// Polls readable when it is time for [`ExecTemplate::advance`].
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.talk.fd()
    }
}

impl Runtime {
    /// Reads what the processes of a running container have in common: user, environment, working
    /// directory, capabilities, limits, labels and filter of its first process.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::WrongState`] if it is stopped.
    pub fn exec_template(&self, id: &str) -> Result<ExecTemplate> {
        let container = self.container(id)?;
        let Some(init) = container.init()? else {
            let reason = "cannot exec in a stopped container".to_owned();
            return Err(Error::WrongState { reason });
        };
        let spec = load::load_spec_for_exec(&container.dir.config())?;
        let process = spec.process().as_ref().ok_or_else(|| Error::config("process", "missing"))?;
        let mut plan = ProcessPlan::new(process, &spec)?;
        plan.terminal = None;
        if container.state.namespaces & libc::CLONE_NEWUSER == 0 {
            leave_out_ungrantable(&mut plan)?;
        }
        Ok(ExecTemplate { state: container.state, init, plan, seccomp: filter_of(&spec)? })
    }

    /// Executes one process in a container: for those that are not repeated.
    ///
    /// # Errors
    /// As [`Runtime::exec_template`] and [`ExecTemplate::exec`].
    pub fn exec_process(&self, id: &str, launch: &ExecLaunch) -> Result<Child> {
        self.exec_template(id)?.exec(launch)
    }
}

impl ExecTemplate {
    /// Makes a cgroup below the container's, for processes that are to be ended together: one for
    /// each kind of probe, used until its processes have to be killed. It goes with the container.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be made; [`Error::Invalid`] for a name that is a path.
    pub fn group(&self, name: &str) -> Result<Group> {
        self.state.cgroup.group(name)
    }

    /// Returns when the program has been executed; the child is the caller's to wait for. Nothing
    /// of the caller is changed by it. In a container that is paused that takes until it goes on:
    /// [`ExecTemplate::begin`] is for those who cannot wait.
    ///
    /// # Errors
    /// [`Error::Init`] with the step that failed: `exec` for a command that cannot be executed.
    pub fn exec(&self, launch: &ExecLaunch) -> Result<Child> {
        let executing = self.begin(launch)?;
        while !self.advance(&executing)? {}
        Ok(executing.child)
    }

    /// Goes on with a process that has something to say; true when the program has been executed.
    ///
    /// # Errors
    /// As [`ExecTemplate::exec`]; the process has been ended and reaped then.
    pub fn advance(&self, executing: &Executing) -> Result<bool> {
        let seccomp = self.seccomp.as_ref();
        let facts = Facts { state: &self.state, plan: &self.plan, seccomp };
        executing.talk.hear(facts, &executing.child)
    }

    /// Returns when the process is there, on its way to the program.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be made, [`Error::Invalid`] for a command that is none.
    pub fn begin(&self, launch: &ExecLaunch) -> Result<Executing> {
        let args = launch
            .args
            .iter()
            .map(|arg| CString::new(arg.as_str()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|nul| Error::Invalid(format!("command {:?}: {nul}", launch.args)))?;
        if args.is_empty() {
            return Err(Error::Invalid("command: empty; name the program to run".into()));
        }
        let oom_score = OomScore::new(self.plan.oom_score_adj)?;
        let _dumpable = Dumpable::suspend()?;
        // In a user namespace it may not set its limits itself; and one that says nothing cannot be
        // told from one that was killed at birth.
        let gate = match Place::of_process_in(&self.state) {
            Place::Host if Join::is_proven() => Gate::Open,
            Place::Host | Place::UserNamespace => Gate::Parent,
        };
        let mut entry = Entry {
            state: &self.state,
            init: &self.init,
            plan: &self.plan,
            args: &args,
            seccomp: self.seccomp.as_ref(),
            asked_cgroup: None,
            group: launch.group,
            gate,
            console: None,
            streams: StandardStreams::Given(launch.stdio),
            kept_fds: 0,
            oom_score: &oom_score,
        };
        let (child, talk) = entry.begin()?;
        Ok(Executing { child, talk })
    }
}
