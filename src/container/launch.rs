//! `launch`: a container made by a process that goes on, and has many of them.
//!
//! Unlike a verb, such a caller must be afterwards as it was before: same descriptors, same pid
//! namespace for its children, same signal mask, affinity and dumpable flag. It calls
//! [`crate::sys::self_exe::protect`] once, at its start.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::create::{Created, Making, Starter};
use super::delete;
use super::enter::end_process;
use super::prepare::{Caller, Prepared};
use super::start::{finish, release};
use super::{CreateOptions, Force, Runtime};
use crate::error::{Error, OsContext, Result};
use crate::init::StandardStreams;
use crate::sys::mount::{self, Attributes, Subtree};
use crate::sys::process::{self, Child, Prctl};

/// A container to be made.
#[derive(Debug)]
pub struct Launch<'a> {
    /// As for `create`; nothing of the caller's environment is passed on.
    pub options: &'a CreateOptions,
    /// Its standard streams.
    pub stdio: Stdio,
    /// The root file system as a detached mount. `root.path` must be a directory all the same; it
    /// is what `state` shows.
    pub rootfs: Option<OwnedFd>,
}

/// Where the standard streams of a launched container come from.
#[derive(Debug)]
pub enum Stdio {
    /// They are the caller's own.
    Inherit,
    /// These: input, output, errors.
    Fds([OwnedFd; 3]),
    /// The configuration asks for a terminal; its master comes back from [`Launched::start`].
    Terminal,
}

/// Streams that lead nowhere.
///
/// # Errors
/// [`Error::Os`] without `/dev/null`.
pub fn null_streams() -> Result<[OwnedFd; 3]> {
    const NULL: &str = "/dev/null";
    let open = || File::options().read(true).write(true).open(NULL).os("open", || NULL);
    Ok([open()?.into(), open()?.into(), open()?.into()])
}

/// A container whose init waits to be started. Dropped without that, all of it goes again.
#[derive(Debug)]
pub struct Launched {
    /// Present until it is started.
    created: Option<Created>,
}

impl Runtime {
    /// Makes a container; its program waits for [`Launched::start`].
    ///
    /// # Errors
    /// As [`Runtime::create`]. Nothing is left behind then.
    pub fn launch(&self, launch: Launch) -> Result<Launched> {
        let prepared = Prepared::new(self, launch.options, Caller::Supervisor)?;
        if let Some(tree) = &launch.rootfs {
            check_given_root(&prepared, tree)?;
        }
        let terminal = prepared.plan.process.terminal.is_some();
        let streams = match (&launch.stdio, terminal) {
            (Stdio::Inherit, false) => StandardStreams::Callers,
            (Stdio::Fds([input, output, errors]), false) => {
                StandardStreams::Given([input.as_fd(), output.as_fd(), errors.as_fd()])
            }
            (Stdio::Terminal, true) => StandardStreams::Terminal,
            (Stdio::Inherit | Stdio::Fds(_), true) | (Stdio::Terminal, false) => {
                let reason = "does not agree with the streams that the caller gives";
                return Err(Error::config("process.terminal", format!("{terminal} {reason}")));
            }
        };
        let _dumpable = Dumpable::suspend()?;
        let rootfs = launch.rootfs;
        let starter = Starter::Now;
        let making = Making { starter, streams, rootfs, host_root: None, goes_with: None };
        Ok(Launched { created: Some(self.build(&prepared, making)?) })
    }

    /// A handle of a container's first process, if it lives: to take back a container that is not
    /// our child. It polls readable at the exit.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn init_of(&self, id: &str) -> Result<Option<(Pid, OwnedFd)>> {
        let container = self.container(id)?;
        let pid = Pid::from_raw(container.state.pid);
        Ok(container.init()?.map(|pidfd| (pid, pidfd)))
    }
}

/// A root that comes as a detached mount needs a mount namespace to be attached in, and shares
/// nothing with the host.
pub(super) fn check_given_root(prepared: &Prepared, tree: &OwnedFd) -> Result<()> {
    if !prepared.plan.namespaces.is_new(CloneFlags::CLONE_NEWNS) {
        let reason = "a given rootfs needs a mount namespace of the container's own";
        return Err(Error::config("linux.namespaces", reason));
    }
    // The copy of a shared mount is its peer: what is mounted in it would be on the host.
    let propagation = MsFlags::MS_PRIVATE.bits();
    let private = Attributes { propagation, ..Attributes::default() };
    mount::set_attributes(tree.as_fd(), private, Subtree::Recursive)
        .os("make private", || "the given rootfs")
}

impl Launched {
    /// Init, as the host sees it.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.created.as_ref().map(|created| created.child.pid)
    }

    /// A handle of init of the caller's own, e.g. to watch it before its program runs.
    ///
    /// # Errors
    /// [`Error::Os`] with `EMFILE`.
    pub fn init(&self) -> Result<OwnedFd> {
        let Some(created) = &self.created else {
            return Err(Error::WrongState { reason: "container is started already".into() });
        };
        created.child.pidfd.try_clone().os("duplicate", || "a pidfd")
    }

    /// The terminal's master, if it has not been taken yet: to listen before the program runs.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.created.as_mut().and_then(|created| created.console.take())
    }

    /// Lets the program run, and returns when it has been executed. The child is the caller's to
    /// wait for; the terminal's master comes with [`Stdio::Terminal`].
    ///
    /// # Errors
    /// [`Error::Init`] if the program cannot be executed; a poststart hook's failure. Nothing of
    /// the container is left then.
    pub fn start(mut self) -> Result<(Child, Option<OwnedFd>)> {
        let Some(created) = &mut self.created else {
            return Err(Error::WrongState { reason: "container is started already".into() });
        };
        release(&created.container, &created.end, &created.child.pidfd)?;
        // Others may pause or delete it from here on, hooks among them.
        drop(created.lock.take());
        finish(&created.container, &created.child.pidfd)?;
        match self.created.take() {
            Some(created) => Ok((created.child, created.console)),
            None => Err(Error::WrongState { reason: "container is started already".into() }),
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let Some(created) = self.created.take() else { return };
        end_process(&created.child);
        // Deleted by somebody else since a hook ran: nothing is left to do.
        let _lock = match created.lock.map_or_else(|| created.container.dir.lock(), Ok) {
            Err(Error::NotFound { .. }) => return,
            lock => lock,
        };
        if let Err(error) = delete::clear(&created.container, Force::Yes) {
            crate::log::warn(error);
        }
    }
}

/// Nobody can ptrace this process while this is held; a child that is cloned meanwhile stays so.
#[derive(Debug)]
pub(super) struct Dumpable {
    was: bool,
}

impl Dumpable {
    pub(super) fn suspend() -> Result<Self> {
        let was = process::is_dumpable();
        if was {
            process::prctl(Prctl::Dumpable(false)).os("prctl", || "PR_SET_DUMPABLE")?;
        }
        Ok(Self { was })
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.was {
            // Cannot fail: it was so before.
            let _restored = process::prctl(Prctl::Dumpable(true));
        }
    }
}
