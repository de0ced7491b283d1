//! The parent's side of `create` and `run`: claim, clone, handshake, and the way back from each.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::converse::{Heard, converse};
use super::enter::clone_into;
use super::oom_score::OomScore;
use super::pid_namespace::PidNamespace;
use super::place::{Place, limit};
use super::prepare::{Caller, Prepared, kept_fds, keyring_name};
use super::state::{Container, Status};
use super::store::Lock;
use super::{CreateOptions, Runtime, hooks, host_root, mount_source, pid_file};
use crate::cgroup::Entrance;
use crate::error::{Error, OsContext, Result};
use crate::init::gate::Fifos;
use crate::init::sync::{self, End};
use crate::init::{self, Gate, Hook, Init, StandardStreams, Task};
use crate::sys::fd::Spent;
use crate::sys::path::Rootfs;
use crate::sys::process::{self, Child, Cloned, Prctl};
use crate::sys::{self_exe, socket};

/// Who will start init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// A later `start`.
    Later,
    /// This process: `run`.
    Now,
}

/// What the caller brings to the making of a container.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) starter: Starter,
    /// Init's standard streams.
    pub(super) streams: StandardStreams<'a>,
    /// The root file system as a detached mount, in place of what lies at `root.path`.
    pub(super) rootfs: Option<OwnedFd>,
    /// Where there is no mount namespace to mount it in, the root file system, mounted.
    pub(super) host_root: Option<OwnedFd>,
    /// See [`super::state::State::goes_with`].
    pub(super) goes_with: Option<PathBuf>,
}

impl Making<'_> {
    /// Streams and rootfs as ever.
    pub(super) fn by_verb(starter: Starter) -> Self {
        let streams = StandardStreams::Callers;
        Self { starter, streams, rootfs: None, host_root: None, goes_with: None }
    }
}

/// A container whose init waits to be started.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) container: Container,
    pub(super) child: Child,
    /// To init.
    pub(super) end: End,
    /// Master of the terminal, when there is no console socket.
    pub(super) console: Option<OwnedFd>,
    /// Until the container is started.
    pub(super) lock: Option<Lock>,
}

impl Runtime {
    /// Makes a container; its program waits for `start`.
    ///
    /// # Errors
    /// What is wrong with the configuration, or the step that the kernel refused. Nothing is left
    /// behind then.
    pub fn create(&self, options: &CreateOptions) -> Result<()> {
        let _protected = self_exe::protect(3 + kept_fds(options.preserve_fds))?;
        let prepared = Prepared::new(self, options, Caller::Verb)?;
        let terminal = prepared.plan.process.terminal.is_some();
        match (&options.console_socket, terminal) {
            (None, true) => {
                return Err(Error::Invalid(
                    "cannot allocate tty if carob will detach without setting console socket"
                        .into(),
                ));
            }
            (Some(_), false) => {
                return Err(Error::Invalid(
                    "cannot use console socket if carob will not detach or allocate tty".into(),
                ));
            }
            _ => {}
        }
        self.build(&prepared, Making::by_verb(Starter::Later)).map(drop)
    }

    /// Makes everything up to the point where init waits. On failure all of it goes again.
    pub(super) fn build(&self, prepared: &Prepared, mut making: Making) -> Result<Created> {
        let oom_score = OomScore::new(prepared.plan.process.oom_score_adj)?;
        if !prepared.maps_are_written_by_user() {
            process::prctl(Prctl::Dumpable(false)).os("prctl", || "PR_SET_DUMPABLE")?;
        }
        let (dir, lock) = self.claim(&prepared.id)?;
        let mut container = Container { dir, state: prepared.first_state(making.goes_with.take()) };
        if let Err(error) = occupy(prepared, &container) {
            // Whatever is in the cgroup is not ours.
            if let Err(left) = container.dir.remove() {
                crate::log::warn(left);
            }
            return Err(error);
        }
        let mut child = None;
        let built = assemble(prepared, (making, &lock, &oom_score), &mut container, &mut child);
        match (built, child) {
            (Ok((end, console)), Some(child)) => {
                Ok(Created { container, child, end, console, lock: Some(lock) })
            }
            (Err(error), child) => {
                abandon(prepared, &container, child);
                Err(error)
            }
            (Ok(_), None) => Err(Error::Invalid("no init was made".into())),
        }
    }
}

/// Says on disk what there will be, then makes the cgroup; one that fails takes itself back. One
/// that is made around init has to wait for that.
fn occupy(prepared: &Prepared, container: &Container) -> Result<()> {
    container.dir.write_first_state(&container.state)?;
    container.dir.write_config(&prepared.raw)?;
    if prepared.notifies {
        container.dir.make_notify_directory()?;
    }
    prepared.make_class()?;
    prepared.make_cgroup().inspect_err(|_| prepared.take_class_back())
}

/// The steps of [`Runtime::build`]. `child` is set as soon as there is one.
fn assemble(
    prepared: &Prepared,
    (mut making, lock, oom_score): (Making, &Lock, &OomScore),
    container: &mut Container,
    child: &mut Option<Child>,
) -> Result<(End, Option<OwnedFd>)> {
    making.host_root = host_root::mount(prepared, container)?;
    let (end, console, lent) = loop {
        let end = clone_init(prepared, (&mut making, lock, oom_score), container, child)?;
        // While it makes its namespaces.
        prepared.make_rest_of_cgroup()?;
        if prepared.is_direct() {
            // While init is at work, so that it need not wait for this later.
            stage(container, child.as_ref())?;
        }
        match converse(prepared, &end, child, &container.state)? {
            Heard::Ready { console, lent } => break (end, console, lent),
            Heard::KilledAtBirth => container.dir.remove_gate()?,
        }
    };
    let Some(child) = child else { return Err(Error::Invalid("no init was made".into())) };
    limit(child.pid, &prepared.plan.process, Place::of_process_in(&container.state))?;
    if !prepared.is_direct() {
        stage(container, Some(child))?;
    }
    container.dir.commit_state()?;
    if let Some(path) = &prepared.streams.pidfd_socket {
        pid_file::send_pidfd(path, child)?;
    }
    if let Some(path) = &prepared.streams.pid_file {
        pid_file::write(path, child.pid)?;
    }
    if let Some(lent) = lent {
        lent.keep();
    }
    Ok((end, console))
}

/// Notes who init is, for the state that will be in force when it is ready.
fn stage(container: &mut Container, init: Option<&Child>) -> Result<()> {
    let Some(init) = init else { return Ok(()) };
    container.state.pid = init.pid.as_raw();
    container.state.start_time = process::stat(init.pid)?.map_or(0, |stat| stat.start_time);
    container.dir.stage_state(&container.state)
}

/// Clones the process that becomes init, or the stage that clones it.
fn clone_init(
    prepared: &Prepared,
    (making, lock, oom_score): (&mut Making, &Lock, &OomScore),
    container: &Container,
    child: &mut Option<Child>,
) -> Result<End> {
    let (plan, dir) = (&prepared.plan, &container.dir);
    let class_tasks = container.state.class_tasks();
    let gate = match making.starter {
        Starter::Now => Gate::Parent,
        Starter::Later => {
            let fifos = Fifos::make_in(dir.fd());
            Gate::Fifos(Some(fifos.os("make fifos in", || dir.path.display())?))
        }
    };
    let console = prepared.streams.console_socket.as_deref().map(connect_console).transpose()?;
    let bind_sources = mount_source::open(plan)?;
    let cgroups = prepared.entrance()?;
    let (ours, theirs) = sync::pair()?;
    let (flags, late) = prepared.new_namespaces();
    let is_in_part = prepared.is_cgroup_in_part();
    let pid_namespace = match plan.namespaces.joined(Kind::Pid) {
        Some(joined) if !plan.namespaces.is_return_barred => {
            PidNamespace::enter(|| init::join_namespace(joined))?
        }
        Some(_) | None => PidNamespace::stay(),
    };
    let oom_score = oom_score.hold()?;
    let (cloned, unified) =
        clone_into(cgroups.as_deref(), flags, || format!("init with {flags:?}"))?;
    match cloned {
        Cloned::Parent(made) => {
            *child = Some(made);
            drop((theirs, oom_score));
            pid_namespace.leave()?;
            prepared.patience.map_or(Ok(()), |limit| ours.limit_waits(limit))?;
            Ok(ours)
        }
        Cloned::Child => {
            drop(ours);
            // Else it would outlive a creator that is killed, and keep `delete` waiting.
            lock.forget_in_child();
            init::run(Init {
                plan,
                task: Task::new(&plan.process, prepared.seccomp.as_ref(), theirs, gate)
                    .with_cgroups(match is_in_part {
                        true => Entrance::WhenMade(unified),
                        false => Entrance::new(cgroups, unified),
                    })
                    .with_classes(class_tasks)
                    .with_keyring(keyring_name(&prepared.id, prepared.keyring))
                    .with_console(console, making.streams)
                    .with_kept_fds(prepared.streams.kept_fds)
                    .with_shown(prepared.shows_init()),
                late_namespaces: late,
                move_root: prepared.move_root,
                cgroup: &prepared.cgroup,
                is_confined: prepared.is_confined,
                bind_sources,
                given_root: making.rootfs.take(),
                rootfs: making.host_root.take().map(Rootfs::new),
                spent: Spent::default(),
            })
        }
    }
}

pub(super) fn connect_console(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).os("connect to console socket", || path.display())
}

/// Takes back all that was made. Goes on after failures: the first error is what the user reads.
fn abandon(prepared: &Prepared, container: &Container, child: Option<Child>) {
    let mut pid = 0;
    if let Some(child) = child {
        pid = child.pid.as_raw();
        let _gone = process::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
        let _reaped = process::wait(&child.pidfd);
    }
    // As if it had been refused before there was an init.
    let is_refused = prepared.is_cgroup_in_part();
    host_root::undo(&container.state);
    if let Err(error) = prepared.take_cgroup_back(&container.state) {
        crate::log::warn(error);
    }
    prepared.take_class_back();
    if pid != 0 && !is_refused {
        let state = container.oci_state(Status::Stopped);
        let hooks = &prepared.plan.hooks;
        if let Err(error) = hooks::run_all(Hook::Poststop, hooks, &state, &prepared.bundle) {
            crate::log::warn(error);
        }
    }
    if let Err(error) = container.dir.remove() {
        crate::log::warn(error);
    }
}
