//! `run`: create and start in one process; in the foreground also wait and delete.

use std::mem::ManuallyDrop;

use super::create::{Created, Making, Starter};
use super::foreground::Foreground;
use super::launch::check_given_root;
use super::notify::Notify;
use super::prepare::{Caller, Prepared, kept_fds};
use super::start::{finish, release};
use super::{Attach, GivenRoot, RunOptions, Runtime};
use crate::error::{Error, Result};
use crate::sys::process;
use crate::sys::self_exe::{self, Protected};

impl Runtime {
    /// Makes and starts a container. In the foreground waits for it and returns its exit status,
    /// 128+n for signal n; detached returns 0.
    ///
    /// # Errors
    /// As `create` and `start`.
    pub fn run(&self, options: &RunOptions) -> Result<i32> {
        self.run_in(options, None)
    }

    /// As [`Runtime::run`], in a root that is mounted nowhere yet.
    ///
    /// # Errors
    /// As [`Runtime::run`].
    pub fn run_in(&self, options: &RunOptions, root: Option<GivenRoot>) -> Result<i32> {
        let protected = self_exe::protect(3 + kept_fds(options.create.preserve_fds))?;
        // Not dropped, nor is what is built of it: this process is about to end, and to free what it
        // shares with init copies a page for each piece.
        let prepared = ManuallyDrop::new(Prepared::new(self, &options.create, Caller::Verb)?);
        let terminal = prepared.plan.process.terminal.is_some();
        check_console(options.attach, terminal, options.create.console_socket.is_some())?;
        let foreground = match options.attach {
            Attach::Detach => None,
            Attach::Foreground => Some(Foreground::new(!options.no_subreaper)?),
        };
        let mut making = Making::by_verb(Starter::Now);
        if let Some(GivenRoot { tree, goes_with }) = root {
            check_given_root(&prepared, &tree)?;
            (making.rootfs, making.goes_with) = (Some(tree), Some(goes_with));
        }
        let mut created = ManuallyDrop::new(self.build(&prepared, making)?);
        let outcome = start_and_wait(&mut created, foreground.as_ref(), protected);
        let keep = options.keep && outcome.is_ok();
        if (foreground.is_some() || outcome.is_err()) && !keep {
            match created.container.delete_after_run() {
                Err(error) if outcome.is_ok() => return Err(error),
                _ => {}
            }
        }
        outcome
    }
}

fn start_and_wait(
    created: &mut Created,
    foreground: Option<&Foreground>,
    protected: Protected,
) -> Result<i32> {
    let Created { container, child, end, console, lock } = created;
    let (console, lock) = (console.take(), lock.take());
    let notify = Notify::open(&container.dir)?;
    let started = release(container, end, &child.pidfd).and_then(|()| {
        // Others may pause or delete it from here on, hooks among them.
        drop(lock);
        finish(container, &child.pidfd)
    });
    if let Err(error) = started {
        // Our child: nobody else may be there to reap it.
        let _gone = process::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
        let _reaped = process::wait(&child.pidfd);
        return Err(error);
    }
    drop(protected);
    match foreground {
        None => {
            if let Some(notify) = notify {
                notify.wait(&child.pidfd, child.pid)?;
            }
            Ok(0)
        }
        Some(foreground) => Ok(foreground.wait(child, console, notify)?.code()),
    }
}

/// A terminal needs somebody at its other end: the console socket, or carob in the foreground.
pub(super) fn check_console(attach: Attach, terminal: bool, socket: bool) -> Result<()> {
    let refuse = |text: &str| Err(Error::Invalid(text.into()));
    match (attach, terminal, socket) {
        (Attach::Detach, true, false) => {
            refuse("cannot allocate tty if carob will detach without setting console socket")
        }
        (Attach::Detach, false, true) | (Attach::Foreground, _, true) => {
            refuse("cannot use console socket if carob will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}
