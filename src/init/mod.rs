//! The child's side of `create`, `run` and `exec`, from clone to `execve`.
//!
//! Init is a clone of carob itself: it has the [`Plan`] in its memory and executes nothing until
//! the container's own program. It ends by `execve` or by `exit_now`, and never returns.

mod affinity;
mod bind;
mod cgroup_mount;
mod confined;
mod copy_up;
mod credentials;
mod devices;
mod execute;
pub mod gate;
mod hooks;
mod limits;
mod mounts;
mod namespaces;
mod paths;
mod rootfs;
mod stage1;
pub mod sync;
mod terminal;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use crate::cgroup::Entrance;
use crate::error::{Error, OsContext, Result};
use crate::oci::plan::{Plan, ProcessPlan};
use crate::seccomp::Filter;
use crate::sys::classic_mount::Procfs;
use crate::sys::fd::Spent;
use crate::sys::path::Rootfs;
use crate::sys::process;
use sync::{End, FromChild};

pub use bind::{BindSource, clone_source, map_ids};
pub use gate::Gate;
pub use hooks::{Hook, Surroundings, run_hooks};
pub use limits::set_rlimits;
pub use namespaces::{ExistingNamespaces, join as join_namespace};
pub use stage1::{clone_flags as stage1_flags, needed as needs_stage1};
pub use terminal::StandardStreams;

/// What a new container's init starts with.
#[derive(Debug)]
pub struct Init<'a> {
    /// What to build.
    pub plan: &'a Plan,
    /// What is shared with `exec`.
    pub task: Task<'a>,
    /// New namespaces that it was not cloned into, but makes itself.
    pub late_namespaces: CloneFlags,
    /// `--no-pivot`.
    pub move_root: bool,
    /// The cgroup paths for a mount of type `cgroup`.
    pub cgroup: &'a crate::cgroup::Cgroup,
    /// Whether this is, or will be, in a user namespace other than the machine's.
    pub is_confined: bool,
    /// For each mount of the Plan, what carob has done for it.
    pub bind_sources: Vec<BindSource>,
    /// A root file system made by carob, mounted nowhere yet; without one it is what lies at
    /// `root.path`.
    pub given_root: Option<OwnedFd>,
    /// The new root, once it is mounted; without a mount namespace carob has done that.
    pub rootfs: Option<Rootfs>,
    /// What was needed to mount things.
    pub spent: Spent,
}

/// What every process that enters a container needs, the first one or a later one.
#[derive(Debug)]
pub struct Task<'a> {
    /// The process to become.
    pub process: &'a ProcessPlan,
    /// Its command and arguments.
    pub args: &'a [CString],
    /// The compiled filter.
    pub seccomp: Option<&'a Filter>,
    /// How it gets into its cgroups.
    pub cgroups: Option<Entrance>,
    /// The files by which it enters a class of cache and memory bandwidth.
    pub classes: &'a [PathBuf],
    /// To the parent.
    pub parent: End,
    /// What holds the process back until it is to start.
    pub gate: Gate,
    /// Connected console socket; without one the master goes to the parent.
    pub console: Option<OwnedFd>,
    /// Its standard streams, unless it has a terminal.
    pub streams: StandardStreams<'a>,
    /// How many descriptors from 3 on belong to the container.
    pub kept_fds: u32,
    /// Whether its maker, who is not root, may look at it: see `execute::show`.
    pub is_shown: bool,
    /// The name of the container's session keyring; `None` leaves the caller's.
    pub keyring: Option<CString>,
    /// Whether hooks inside need the container's state.
    pub wants_state: bool,
    /// Program found by the lookup step.
    pub program: Option<CString>,
    /// `HOME` to add, from the container's passwd file.
    pub home: Option<CString>,
    /// The host's `/proc`, where a mount namespace that is joined has another one.
    pub host_proc: Option<OwnedFd>,
    /// Open `/proc/self/attr/*` files of the host's procfs, for labels written at the end.
    pub labels: credentials::Labels,
}

impl Init<'_> {
    /// Until the switch of the root.
    fn procfs(&self) -> Procfs {
        // One that is joined may have any; a new one, and the host's, have what carob sees.
        let is_joined = self.plan.namespaces.joined(Kind::Mount).is_some();
        if is_joined { Procfs::Unknown } else { Procfs::Hosts }
    }
}

impl<'a> Task<'a> {
    /// A task that has met nothing of the host or the container yet.
    #[must_use]
    pub fn new(
        process: &'a ProcessPlan,
        seccomp: Option<&'a Filter>,
        parent: End,
        gate: Gate,
    ) -> Self {
        Self {
            process,
            args: &process.args,
            seccomp,
            cgroups: None,
            classes: &[],
            parent,
            gate,
            console: None,
            streams: StandardStreams::Callers,
            kept_fds: 0,
            is_shown: false,
            keyring: None,
            wants_state: false,
            program: None,
            home: None,
            host_proc: None,
            labels: credentials::Labels::default(),
        }
    }

    /// How it gets into its cgroups.
    #[must_use]
    pub fn with_cgroups(self, entrance: Entrance) -> Self {
        Self { cgroups: Some(entrance), ..self }
    }

    /// The files by which it enters a class of cache and memory bandwidth.
    #[must_use]
    pub fn with_classes(self, classes: &'a [PathBuf]) -> Self {
        Self { classes, ..self }
    }

    /// The session keyring to join.
    #[must_use]
    pub fn with_keyring(self, keyring: Option<CString>) -> Self {
        Self { keyring, ..self }
    }

    /// The connected console socket, or where the standard streams come from.
    #[must_use]
    pub fn with_console(self, console: Option<OwnedFd>, streams: StandardStreams<'a>) -> Self {
        Self { console, streams, ..self }
    }

    /// How many descriptors from 3 on to keep.
    #[must_use]
    pub fn with_kept_fds(self, kept_fds: u32) -> Self {
        Self { kept_fds, ..self }
    }

    /// Whether its maker may look at it.
    #[must_use]
    pub fn with_shown(self, is_shown: bool) -> Self {
        Self { is_shown, ..self }
    }

    /// Opens a file of the host's procfs for writing: `sys/…`, `self/attr/…`.
    fn open_in_proc(&self, name: &str) -> nix::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let opened = match &self.host_proc {
            Some(proc) => nix::fcntl::openat(proc, name, flags, Mode::empty()),
            None => nix::fcntl::open(format!("/proc/{name}").as_str(), flags, Mode::empty()),
        };
        opened.map(File::from)
    }

    /// Another command than the plan's.
    #[must_use]
    pub fn with_args(self, args: &'a [CString]) -> Self {
        Self { args, ..self }
    }
}

/// One step: its name is what the user reads when it fails.
struct Step<T> {
    name: &'static str,
    run: fn(&mut T) -> Result<()>,
}

/// A new container. Order is the security argument: read it top to bottom.
fn steps<'a>() -> [Step<Init<'a>>; 24] {
    [
        Step { name: "session", run: |_| namespaces::new_session() },
        Step { name: "time namespace", run: namespaces::time }, // while /proc/self is still ours
        Step { name: "namespaces", run: namespaces::enter },
        Step { name: "cgroup", run: namespaces::join_cgroups }, // before the cgroup namespace
        Step { name: "labels", run: |i| credentials::open_labels(&mut i.task) }, // host's procfs
        Step { name: "keyring", run: |i| namespaces::keyring(&mut i.task) },
        Step { name: "rootfs", run: rootfs::mount }, // from here on a mount tree of our own
        Step { name: "mounts", run: mounts::apply }, // host paths still visible
        Step { name: "devices", run: devices::apply },
        Step { name: "hooks", run: hooks::before_pivot },
        Step { name: "sysctl", run: namespaces::sysctls }, // through the host's procfs
        Step { name: "hostname", run: namespaces::names },
        Step { name: "terminal", run: terminal::for_init },
        Step { name: "cwd", run: rootfs::make_cwd },
        Step { name: "readonlyPaths", run: paths::make_read_only },
        Step { name: "maskedPaths", run: paths::mask },
        Step { name: "read-only root", run: rootfs::make_read_only },
        Step { name: "pivot_root", run: rootfs::switch }, // host paths gone from here on
        Step { name: "scheduling", run: affinity::of_init }, // needs privileges
        Step { name: "memory cgroup", run: |i| namespaces::join_memory_cgroup(&mut i.task) },
        Step { name: "rlimits", run: limits::of_init },
        Step { name: "descriptors", run: |i| execute::let_go(&i.task) }, // before any filter
        Step { name: "credentials", run: |i| credentials::apply(&mut i.task) },
        Step { name: "exec", run: |i| execute::look_up(&mut i.task) }, // as the final user
    ]
}

/// A process that joins a running container.
fn exec_steps<'a>() -> [Step<Exec<'a>>; 12] {
    [
        Step { name: "session", run: |_| namespaces::new_session() },
        Step { name: "cgroup", run: |e| namespaces::join_cgroups_of(&mut e.task) },
        Step { name: "labels", run: |e| credentials::open_labels(&mut e.task) },
        Step { name: "namespaces", run: |e| e.namespaces.enter() },
        Step { name: "keyring", run: |e| namespaces::keyring(&mut e.task) },
        Step { name: "terminal", run: |e| terminal::for_exec(&mut e.task) },
        Step { name: "scheduling", run: affinity::of_exec },
        Step { name: "memory cgroup", run: |e| namespaces::join_memory_cgroup(&mut e.task) },
        Step { name: "rlimits", run: limits::of_exec },
        Step { name: "descriptors", run: |e| execute::let_go(&e.task) },
        Step { name: "credentials", run: |e| credentials::apply(&mut e.task) },
        Step { name: "exec", run: |e| execute::look_up(&mut e.task) },
    ]
}

/// What `exec` starts with.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's namespaces.
    pub namespaces: ExistingNamespaces<'a>,
    /// The process.
    pub task: Task<'a>,
}

/// Builds the container around this process and becomes its program. Call it in the cloned child.
pub fn run(mut init: Init) -> ! {
    init.task.wants_state = !Hook::StartContainer.of(&init.plan.hooks).is_empty();
    let done = hold_procfs(&mut init)
        .and_then(|()| enter_stage(&mut init))
        .and_then(|()| drive(steps(), &mut init));
    let plan = init.plan;
    finish(&mut init.task, done, |task, state| hooks::start_container(&plan.hooks, task, state))
}

/// Joins the container and becomes the program. Call it in the cloned child.
pub fn run_exec(mut exec: Exec) -> ! {
    let staged = match exec.namespaces.staged {
        Some(kinds) => stage1::run_exec(&mut exec, kinds).map_err(|e| named("namespaces", &e)),
        None => Ok(()),
    };
    let done = staged.and_then(|()| drive(exec_steps(), &mut exec));
    finish(&mut exec.task, done, |_task, _state| Ok(()))
}

/// In a mount namespace of others `/proc` may be anything (CVE-2019-16884, CVE-2025-52881).
fn hold_procfs(init: &mut Init) -> Result<()> {
    if init.plan.namespaces.joined(Kind::Mount).is_some() {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open("/proc", flags, Mode::empty());
        init.task.host_proc = Some(opened.os("open", || "/proc")?);
    }
    Ok(())
}

/// With a user namespace that is joined, or made among joined ones, this process is only stage 1.
fn enter_stage(init: &mut Init) -> Result<()> {
    if needs_stage1(&init.plan.namespaces) {
        stage1::run(init).map_err(|e| named("namespaces", &e))?;
    }
    Ok(())
}

fn drive<T, const N: usize>(steps: [Step<T>; N], subject: &mut T) -> Result<()> {
    for step in steps {
        (step.run)(subject).map_err(|e| named(step.name, &e))?;
    }
    Ok(())
}

/// Names the step that failed, unless the error begins with its name, or with the JSON path of
/// what was refused: that tells more.
fn named(step: &str, error: &Error) -> Error {
    if let Error::Config { field, reason } = error {
        return Error::Init { step: field.clone(), cause: reason.clone() };
    }
    let text = error.to_string();
    let cause = match text.strip_prefix(step).and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Error::Init { step: step.into(), cause }
}

/// The last stretch: say that all is ready, wait for the start, execute. Failures go to whoever
/// waits: the creator until the gate has opened, then the starter.
fn finish(
    task: &mut Task,
    done: Result<()>,
    before_execute: impl FnOnce(&Task, &[u8]) -> Result<()>,
) -> ! {
    let opened = done.and_then(|()| match task.gate {
        Gate::Open => Ok(Vec::new()),
        Gate::Fifos(_) | Gate::Parent | Gate::Told => task
            .parent
            .tell_parent(&FromChild::Ready)
            .and_then(|()| gate::wait(task).map_err(|e| named("start", &e))),
    });
    let error = match opened {
        Err(error) => error,
        Ok(state) => {
            // The filter holds for hooks in the container too.
            let ready = execute::prepare(task)
                .and_then(|()| before_execute(task, &state).map_err(|e| named("hooks", &e)));
            ready.err().unwrap_or_else(|| execute::execute(task))
        }
    };
    let (step, cause) = match error {
        Error::Init { step, cause } => (step, cause),
        other => ("exec".to_owned(), other.to_string()),
    };
    // Nobody to tell when the parent is dead; the exit status remains.
    let _told = task.parent.tell_parent(&FromChild::Failed { step, cause });
    process::exit_now(1)
}
