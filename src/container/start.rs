//! `start`: lets a created init go on.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::hooks::run_late;
use super::notify::Notify;
use super::state::{Container, Status};
use super::{Runtime, seccomp_agent};
use crate::error::{Error, OsContext, Result};
use crate::init::Hook;
use crate::init::gate;
use crate::init::sync::{End, FromChild, ToChild};
use crate::oci::load;
use crate::sys::process;

impl Runtime {
    /// Starts the program of a created container.
    ///
    /// # Errors
    /// [`Error::WrongState`] unless it is created; [`Error::Init`] if the program cannot be
    /// executed; a poststart hook's failure, after which the container is killed.
    pub fn start(&self, id: &str) -> Result<()> {
        let (container, lock) = self.locked(id)?;
        let refuse = |reason: &str| Err(Error::WrongState { reason: reason.into() });
        match container.status()? {
            Status::Created => {}
            Status::Running => return refuse("cannot start an already running container"),
            Status::Paused => return refuse("cannot start a paused container"),
            Status::Stopped => return refuse("cannot start a container that has stopped"),
            Status::Creating => return refuse("cannot start a container that is being created"),
        }
        let Some(init) = container.init()? else {
            return refuse("cannot start a container that has stopped");
        };
        let notify = Notify::open(&container.dir)?;
        let end = match gate::knock_in(container.dir.fd()) {
            Err(Errno::ENXIO) => return refuse("cannot start a container whose init has died"),
            other => other.os("open the fifos of", || format!("init of {id}"))?,
        };
        // From here on it is started: if we die, init sees it and ends.
        end.tell_child(&ToChild::Knock)?;
        container.dir.remove_gate()?;
        release(&container, &end, &init)?;
        // Hooks may call carob.
        drop(lock);
        finish(&container, &init)?;
        match notify {
            Some(notify) => notify.wait(&init, Pid::from_raw(container.state.pid)),
            None => Ok(()),
        }
    }
}

/// Tells init to go and waits until it has executed the program.
pub(super) fn release(container: &Container, end: &End, init: &OwnedFd) -> Result<()> {
    let wanted = container.state.start_hooks;
    let state = if wanted { container.oci_state(Status::Created) } else { Vec::new() };
    end.tell_child(&ToChild::Start(state))?;
    loop {
        match end.hear_child()? {
            FromChild::Gone => return Ok(()),
            FromChild::Failed { step, cause } => return Err(Error::Init { step, cause }),
            FromChild::Listener(number) => {
                hand_listener_on(container, init, number)?;
                end.tell_child(&ToChild::ListenerTaken)?;
            }
            other => {
                let cause = format!("unexpected message {other:?}");
                return Err(Error::Init { step: "start".into(), cause });
            }
        }
    }
}

fn hand_listener_on(container: &Container, init: &OwnedFd, number: i32) -> Result<()> {
    let spec = load::load_spec(&container.dir.config())?.spec;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(profile) = profile else { return Ok(()) };
    let Some(path) = profile.listener_path().clone() else { return Ok(()) };
    let metadata = profile.listener_metadata().clone();
    let listener = crate::seccomp::Listener { path, metadata };
    seccomp_agent::hand_over(&listener, &container.state, Status::Running, init, number)
}

/// Runs the poststart hooks; one that fails ends the container, as runc does.
pub(super) fn finish(container: &Container, init: &OwnedFd) -> Result<()> {
    let hooks = run_late(Hook::Poststart, container, Status::Running);
    if hooks.is_err() {
        // Gone already is as good.
        let _gone = process::pidfd_send_signal(init, libc::SIGKILL);
    }
    hooks
}
