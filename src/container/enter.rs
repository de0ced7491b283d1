//! One more process in a running container: cloned, joined, and heard to have executed.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::oom_score::OomScore;
use super::pid_namespace::PidNamespace;
use super::place::{Place, limit};
use super::prepare::keyring_name;
use super::seccomp_agent;
use super::state::{State, Status};
use crate::cgroup::{Cgroup, Entrance, Group, Join, Unified};
use crate::error::{Error, OsContext, Result};
use crate::init::sync::{self, End, FromChild, ToChild};
use crate::init::{Exec, ExistingNamespaces, Gate, StandardStreams, Task};
use crate::oci::plan::ProcessPlan;
use crate::seccomp::Filter;
use crate::sys::credentials;
use crate::sys::process::{self, Child, CloneTarget, Cloned, Exit};

/// A process that is to enter a container.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) state: &'a State,
    /// The container's first process.
    pub(super) init: &'a OwnedFd,
    pub(super) plan: &'a ProcessPlan,
    pub(super) args: &'a [CString],
    pub(super) seccomp: Option<&'a Filter>,
    /// The container's or one below it, where that was asked for: no other serves.
    pub(super) asked_cgroup: Option<&'a Cgroup>,
    /// Instead of that.
    pub(super) group: Option<&'a Group>,
    pub(super) gate: Gate,
    /// Connected console socket.
    pub(super) console: Option<OwnedFd>,
    pub(super) streams: StandardStreams<'a>,
    pub(super) kept_fds: u32,
    pub(super) oom_score: &'a OomScore,
}

impl Entry<'_> {
    /// Returns when the program has been executed, with the master of its terminal if nobody else
    /// has taken it. On failure no process is left.
    pub(super) fn enter(mut self) -> Result<(Child, Option<OwnedFd>)> {
        let facts = Facts { state: self.state, plan: self.plan, seccomp: self.seccomp };
        loop {
            let (child, talk) = self.begin()?;
            let executed = loop {
                match talk.hear(facts, &child) {
                    Ok(false) => {}
                    Ok(true) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            match executed {
                Ok(()) => return Ok((child, talk.console.take())),
                Err(_) if talk.gave_up_cloning.get() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns when the process is there; what it has to say is for [`Talk::hear`].
    pub(super) fn begin(&mut self) -> Result<(Child, Talk)> {
        // One that does not wait says nothing more: it may as well have been killed before it
        // could execute, which its exit will tell.
        let is_ready = Cell::new(matches!(self.gate, Gate::Open));
        let waits = self.gate.waits();
        let (child, end) = self.clone_process()?;
        let (is_silent, gave_up_cloning) = (Cell::new(true), Cell::new(false));
        let console = RefCell::new(None);
        Ok((child, Talk { end, waits, is_ready, is_silent, gave_up_cloning, console }))
    }

    fn clone_process(&mut self) -> Result<(Child, End)> {
        let cgroups = match (self.group, self.asked_cgroup) {
            (Some(group), _) => group.join()?,
            (None, Some(asked)) => Rc::new(asked.join()?),
            (None, None) => Rc::new(self.state.cgroup.join_init(self.state.pid)?),
        };
        let is_whole = self.group.is_none()
            && self.asked_cgroup.is_none_or(|asked| *asked == self.state.cgroup);
        let namespaces = namespaces(self.state, self.init)?;
        let (ours, theirs) = sync::pair()?;
        let affinity = Affinity::change(self.plan.affinity_initial.as_deref())?;
        let is_staged = namespaces.staged.is_some();
        let pid_namespace = if is_staged || self.state.namespaces & libc::CLONE_NEWPID == 0 {
            PidNamespace::stay()
        } else {
            PidNamespace::enter(|| {
                setns(self.init, CloneFlags::CLONE_NEWPID).os("setns", || "the pid namespace")
            })?
        };
        let oom_score = self.oom_score.hold()?;
        let what = || "the process".to_owned();
        let (cloned, unified) = clone_into(Some(&cgroups), CloneFlags::empty(), what)?;
        let by_asking = is_whole && self.state.cgroup.admits_by_asking(unified);
        match cloned {
            Cloned::Parent(child) => {
                drop((theirs, oom_score));
                if let Err(error) = pid_namespace.leave().and_then(|()| affinity.restore()) {
                    end_process(&child);
                    return Err(error);
                }
                let child = if is_staged { sibling_of(&child, &ours)? } else { child };
                Ok((child, ours))
            }
            Cloned::Child => {
                drop(ours);
                let gate = std::mem::replace(&mut self.gate, Gate::Open);
                crate::init::run_exec(Exec {
                    namespaces,
                    task: Task::new(self.plan, self.seccomp, theirs, gate)
                        .with_args(self.args)
                        .with_cgroups(Entrance::new((!by_asking).then_some(cgroups), unified))
                        .with_classes(self.state.class_tasks())
                        .with_keyring(keyring_name(&self.state.id, self.state.keyring))
                        .with_console(self.console.take(), self.streams)
                        .with_kept_fds(self.kept_fds),
                })
            }
        }
    }
}

/// Hears from the stage in between which process it has cloned, and reaps it.
fn sibling_of(stage: &Child, end: &End) -> Result<Child> {
    let heard = end.hear_child();
    if !matches!(heard, Ok(FromChild::Sibling(..))) {
        end_process(stage);
    }
    let (pidfd, told) = match heard? {
        FromChild::Sibling(pidfd, told) => (pidfd, told),
        FromChild::Failed { step, cause } => return Err(Error::Init { step, cause }),
        other => {
            let cause = format!("unexpected message {other:?}");
            return Err(Error::Init { step: "namespaces".into(), cause });
        }
    };
    process::wait(&stage.pidfd).os("wait for", || "stage 1")?;
    let pid = process::pid_of_child(&pidfd, told).os("find the pid of", || "the process")?;
    let child = Child { pid, pidfd };
    match end.tell_child(&ToChild::IdMapped) {
        Ok(()) => Ok(child),
        Err(error) => {
            end_process(&child);
            Err(error)
        }
    }
}

/// Clones this process, into the cgroup of the unified tree where that works; says whether it did.
pub(super) fn clone_into(
    cgroups: Option<&Join>,
    flags: CloneFlags,
    what: impl Fn() -> String,
) -> Result<(Cloned, Unified)> {
    let target = CloneTarget { sibling: false, cgroup: cgroups.and_then(Join::unified) };
    let hold = || cgroups.map_or(Ok(()), Join::hold_unified);
    if target.cgroup.is_none() {
        hold()?;
    }
    match process::clone3(flags, &target) {
        Ok(cloned) if target.cgroup.is_some() => Ok((cloned, Unified::Cloned)),
        Ok(cloned) => Ok((cloned, Unified::Enter)),
        // A cgroup that takes no process this way, or a kernel before 5.7.
        Err(_) if target.cgroup.is_some() => {
            hold()?;
            let cloned = process::clone3(flags, &CloneTarget::default()).os("clone3", what)?;
            Ok((cloned, Unified::Enter))
        }
        Err(errno) => Err(errno).os("clone3", what),
    }
}

/// Kills a child and reaps it; says how it ended, if it was still to be reaped.
pub(super) fn end_process(child: &Child) -> Option<Exit> {
    let _gone = process::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
    process::wait(&child.pidfd).ok()
}

/// The CPUs this process may use, while a child is to start on others.
struct Affinity {
    own: Option<nix::sched::CpuSet>,
}

impl Affinity {
    fn change(cpus: Option<&[usize]>) -> Result<Self> {
        let Some(cpus) = cpus else { return Ok(Self { own: None }) };
        let own = nix::sched::sched_getaffinity(Pid::from_raw(0))
            .os("sched_getaffinity", || "carob itself")?;
        crate::sys::sched::set_affinity(cpus.iter().copied())
            .os("sched_setaffinity", || format!("CPUs {cpus:?}"))?;
        Ok(Self { own: Some(own) })
    }

    fn restore(mut self) -> Result<()> {
        self.go_back()
    }

    fn go_back(&mut self) -> Result<()> {
        let Some(own) = self.own.take() else { return Ok(()) };
        nix::sched::sched_setaffinity(Pid::from_raw(0), &own)
            .os("sched_setaffinity", || "carob itself")
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        if let Err(error) = self.go_back() {
            crate::log::warn(error);
        }
    }
}

/// All namespaces that are the container's own, but for the pid namespace, which only children
/// enter, and a user namespace that is carob's too, which the kernel refuses to join again.
fn namespaces<'a>(state: &State, init: &'a OwnedFd) -> Result<ExistingNamespaces<'a>> {
    let mut flags = CloneFlags::from_bits_retain(state.namespaces);
    flags.remove(CloneFlags::CLONE_NEWPID);
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        let inode = |path: String| {
            nix::sys::stat::stat(path.as_str()).os("stat", || path).map(|stat| stat.st_ino)
        };
        let theirs = inode(format!("/proc/{}/ns/user", state.pid)).map_err(unstarted)?;
        flags.set(CloneFlags::CLONE_NEWUSER, theirs != inode("/proc/self/ns/user".to_owned())?);
    }
    let root = state.joins_mounts.then(|| {
        let path = format!("/proc/{}/root", state.pid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path.as_str(), flags, Mode::empty()).os("open", || path)
    });
    let user = flags.contains(CloneFlags::CLONE_NEWUSER);
    let pids = CloneFlags::from_bits_retain(state.namespaces & libc::CLONE_NEWPID);
    let first = pids.union(flags.intersection(CloneFlags::CLONE_NEWUSER));
    // Only the host's root may join the pid namespace, and come back from there.
    let staged = (!first.is_empty() && !credentials::is_host_root()).then_some(first);
    let root = root.transpose()?;
    Ok(ExistingNamespaces { pidfd: init.as_fd(), flags, user, staged, root })
}

/// Until its program runs, init is not dumpable: only root may look at its namespaces.
fn unstarted(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EACCES) => Error::WrongState {
            reason: "cannot exec in a container that has not been started, only root can".into(),
        },
        _ => error,
    }
}

/// What is known of a process that enters.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) state: &'a State,
    pub(super) plan: &'a ProcessPlan,
    pub(super) seccomp: Option<&'a Filter>,
}

/// The parent's half of the diagram in `init::sync`, one message at a time.
#[derive(Debug)]
pub(super) struct Talk {
    end: End,
    /// It does not go on before it is told to.
    waits: bool,
    is_ready: Cell<bool>,
    is_silent: Cell<bool>,
    /// It was killed at birth, and there is another way to clone it.
    gave_up_cloning: Cell<bool>,
    /// Master of its terminal, if nobody else has taken it.
    console: RefCell<Option<OwnedFd>>,
}

impl Talk {
    /// Polls readable when there is something to hear.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.end.fd()
    }

    /// Waits for one message and answers it; true when the program has been executed. On failure
    /// no process is left.
    pub(super) fn hear(&self, facts: Facts, child: &Child) -> Result<bool> {
        self.hear_one(facts, child).inspect_err(|_| {
            let exit = end_process(child);
            if self.is_silent.get() && exit == Some(Exit::Signal(libc::SIGKILL)) {
                self.gave_up_cloning.set(Join::give_up_cloning());
            }
        })
    }

    fn hear_one(&self, Facts { state, plan, seccomp }: Facts, child: &Child) -> Result<bool> {
        let message = self.end.hear_child()?;
        if !matches!(message, FromChild::Gone) {
            self.is_silent.set(false);
        }
        match message {
            FromChild::Place => {
                state.cgroup.attach(child.pid.as_raw(), state.pid)?;
                self.end.tell_child(&ToChild::Placed)?;
            }
            FromChild::Console(master) => drop(self.console.replace(Some(master))),
            FromChild::Ready => {
                self.is_ready.set(true);
                Join::prove_cloning();
                if self.waits {
                    limit(child.pid, plan, Place::of_process_in(state))?;
                    self.end.tell_child(&ToChild::Start(Vec::new()))?;
                }
            }
            FromChild::Listener(number) => {
                let listener = seccomp.and_then(|filter| filter.listener.as_ref());
                if let Some(listener) = listener {
                    let status = Status::Running;
                    seccomp_agent::hand_over(listener, state, status, &child.pidfd, number)?;
                }
                self.end.tell_child(&ToChild::ListenerTaken)?;
            }
            FromChild::Failed { step, cause } => return Err(Error::Init { step, cause }),
            FromChild::Gone if self.is_ready.get() => return Ok(true),
            FromChild::Gone => {
                let cause = "the process died before it could execute the program".to_owned();
                return Err(Error::Init { step: "exec".into(), cause });
            }
            other @ (FromChild::Sibling(..) | FromChild::MapIds(..) | FromChild::RunHooks) => {
                let cause = format!("unexpected message {other:?}");
                return Err(Error::Init { step: "exec".into(), cause });
            }
        }
        Ok(false)
    }
}
