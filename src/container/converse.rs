//! The parent's half of the talk with a new container's init: the diagram in `init::sync`.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::net_devices::Lent;
use super::prepare::Prepared;
use super::state::{State, Status};
use super::{hooks, mount_source};
use crate::cgroup::Join;
use crate::error::{Error, OsContext, Result};
use crate::init::Hook;
use crate::init::sync::{End, FromChild, ToChild};
use crate::sys::process::{self, Child, Exit};

/// What came of the talk with init.
pub(super) enum Heard {
    /// It waits to be started.
    Ready {
        /// The master of its terminal.
        console: Option<OwnedFd>,
        /// What it has of the host's network devices.
        lent: Option<Lent>,
    },
    /// It is gone, and there is another way to clone it.
    KilledAtBirth,
}

/// Answers init, up to `Ready`.
pub(super) fn converse(
    prepared: &Prepared,
    end: &End,
    child: &mut Option<Child>,
    state: &State,
) -> Result<Heard> {
    let new_user = prepared.plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER);
    if let (Some(init), true, true) = (&child, new_user, prepared.is_direct()) {
        write_id_maps(prepared, init.pid)?;
        end.tell_child(&ToChild::IdMapped)?;
    }
    let mut console = None;
    let mut lent = None;
    let mut is_silent = true;
    loop {
        let message = end.hear_child()?;
        let was_silent = std::mem::replace(&mut is_silent, false);
        match message {
            FromChild::Sibling(pidfd, told) => {
                let pid = take_over(child, pidfd, told)?;
                if new_user {
                    write_id_maps(prepared, pid)?;
                }
                end.tell_child(&ToChild::IdMapped)?;
            }
            FromChild::Place => {
                let pid = child.as_ref().map_or(0, |child| child.pid.as_raw());
                prepared.place(pid)?;
                end.tell_child(&ToChild::Placed)?;
            }
            FromChild::MapIds(tree, index) => {
                mount_source::map_for_init(&prepared.plan, index, &tree)?;
                end.tell_child(&ToChild::IdsMapped)?;
            }
            FromChild::RunHooks => {
                let init = child.as_ref().map_or(Pid::from_raw(0), |child| child.pid);
                if !prepared.plan.net_devices.is_empty() {
                    lent = Some(Lent::to(init, &prepared.plan.net_devices)?);
                }
                end.tell_child(&ToChild::HooksDone(run_hooks(prepared, state, init)?))?;
            }
            FromChild::Console(master) => console = Some(master),
            FromChild::Ready => {
                Join::prove_cloning();
                return Ok(Heard::Ready { console, lent });
            }
            FromChild::Listener(number) => {
                let Some(child) = child else { continue };
                hand_listener_on(prepared, state, child, number)?;
                end.tell_child(&ToChild::ListenerTaken)?;
            }
            FromChild::Failed { step, cause } => return Err(Error::Init { step, cause }),
            FromChild::Gone => {
                let exit = child.as_ref().and_then(|child| process::wait(&child.pidfd).ok());
                if was_silent
                    && exit == Some(Exit::Signal(libc::SIGKILL))
                    && Join::give_up_cloning()
                {
                    return Ok(Heard::KilledAtBirth);
                }
                return Err(died(exit));
            }
        }
    }
}

/// From here on init is the process that stage 1 has cloned.
fn take_over(child: &mut Option<Child>, pidfd: OwnedFd, told: Pid) -> Result<Pid> {
    let pid = process::pid_of_child(&pidfd, told).os("find the pid of", || "init")?;
    let stage1 = child.replace(Child { pid, pidfd });
    if let Some(stage1) = stage1 {
        process::wait(&stage1.pidfd).os("wait for", || "stage 1")?;
    }
    Ok(pid)
}

/// Runs the hooks that come before the root is switched; returns the state that they were told.
fn run_hooks(prepared: &Prepared, state: &State, init: Pid) -> Result<Vec<u8>> {
    let state = State { pid: init.as_raw(), ..state.clone() }.oci_state(Status::Creating);
    for kind in [Hook::Prestart, Hook::CreateRuntime] {
        hooks::run_all(kind, &prepared.plan.hooks, &state, &prepared.bundle)?;
    }
    Ok(state)
}

/// Init has gone without a word: say how.
fn died(how: Option<Exit>) -> Error {
    let cause = match how {
        Some(Exit::Signal(libc::SIGKILL)) => {
            "was killed before the program ran; a memory limit that is too small does that"
                .to_owned()
        }
        Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
        Some(Exit::Status(status)) => format!("exited with status {status}"),
        None => "died".to_owned(),
    };
    Error::Init { step: "container init".into(), cause }
}

fn write_id_maps(prepared: &Prepared, pid: Pid) -> Result<()> {
    let maps = &prepared.plan.id_maps;
    prepared.map_writer.as_ref().map_or(Ok(()), |writer| writer.write(pid.as_raw(), maps))
}

fn hand_listener_on(prepared: &Prepared, state: &State, child: &Child, number: i32) -> Result<()> {
    let Some(listener) = prepared.seccomp.as_ref().and_then(|filter| filter.listener.as_ref())
    else {
        return Ok(());
    };
    let state = State { pid: child.pid.as_raw(), ..state.clone() };
    super::seccomp_agent::hand_over(listener, &state, Status::Creating, &child.pidfd, number)
}
