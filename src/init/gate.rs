//! What holds init back between `create` and `start`.
//!
//! ```text
//! starter                                init
//!   |  opens both fifos                    |  reads start.fifo
//!   | ------- Knock ---------------------> |  lets go of its own writing end of it
//!   |  removes start.fifo: it is started   |  reads on; EOF: the starter has died, and so does init
//!   | ------- Start(state) --------------> |
//! ```
//!
//! Fifos, since init waits with the filter in force that is the program's: read(2), write(2) and
//! close(2) are what a profile that lets any program run allows, accept4(2) is not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use crate::error::{Error, Result};
use crate::sys::{fifo, process};

use super::Task;
use super::sync::{End, ToChild};

/// What comes from the starter. It has its name for as long as init waits to be started.
pub const START_FIFO: &str = "start.fifo";
/// What goes to the starter.
pub const REPORT_FIFO: &str = "report.fifo";

/// How the start reaches init.
#[derive(Debug)]
pub enum Gate {
    /// `create`: a later `start` comes through these.
    Fifos(Option<Fifos>),
    /// `run` and `exec`: the parent is still there and says it.
    Parent,
    /// Nothing: it says that it is ready, which tells its end from a failure, and goes on.
    Told,
    /// Nothing: it goes on at once, and the parent only hears how that went.
    Open,
}

/// Init's ends of the two fifos.
#[derive(Debug)]
pub struct Fifos {
    start: OwnedFd,
    /// Without a writer there would be nothing to wait for.
    writer: OwnedFd,
    report: OwnedFd,
}

impl Fifos {
    /// Makes both in a container's directory.
    ///
    /// # Errors
    /// Errors of mknod(2), open(2).
    pub fn make_in(dir: impl AsFd) -> nix::Result<Self> {
        fifo::make_in(&dir, START_FIFO)?;
        fifo::make_in(&dir, REPORT_FIFO)?;
        let writer = fifo::open_in(&dir, START_FIFO, OFlag::O_RDWR)?;
        let start = fifo::open_in(&dir, START_FIFO, OFlag::O_RDONLY)?;
        // For reading too: a starter who has left is no signal to whoever writes.
        let report = fifo::open_in(&dir, REPORT_FIFO, OFlag::O_RDWR)?;
        Ok(Self { start, writer, report })
    }

    fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [&self.start, &self.writer, &self.report].map(AsFd::as_fd)
    }
}

/// The starter's ends.
///
/// # Errors
/// `ENXIO` if init has died; errors of open(2).
pub fn knock_in(dir: impl AsFd) -> nix::Result<End> {
    let to = fifo::open_in(&dir, START_FIFO, OFlag::O_WRONLY)?;
    let from = fifo::open_in(&dir, REPORT_FIFO, OFlag::O_RDONLY)?;
    Ok(End::from_fifos(from, to))
}

impl Gate {
    /// Whether the parent has a say before the program runs.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self, Self::Fifos(_) | Self::Parent)
    }

    /// What the start comes through, if it is the gate's own.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let fifos = match self {
            Self::Fifos(fifos) => fifos.as_ref(),
            Self::Parent | Self::Told | Self::Open => None,
        };
        fifos.into_iter().flat_map(Fifos::fds)
    }
}

/// Waits for the start and returns the container's state, as the starter sent it, to a task that
/// wants it.
pub(super) fn wait(task: &mut Task) -> Result<Vec<u8>> {
    match &mut task.gate {
        Gate::Parent => {}
        Gate::Told | Gate::Open => return Ok(Vec::new()),
        Gate::Fifos(fifos) => {
            let Some(Fifos { start, writer, report }) = fifos.take() else {
                return Ok(Vec::new());
            };
            // The kernel spares a namespace's first process all signals that it has no handler
            // for, but a container that was never started must end at SIGTERM.
            process::exit_on_termination_signals();
            task.parent = End::from_fifos(start, report);
            match task.parent.hear_parent()? {
                ToChild::Knock => drop(writer),
                other => return Err(unexpected(&other)),
            }
        }
    }
    let heard = if task.wants_state { task.parent.hear_state() } else { task.parent.hear_parent() };
    match heard? {
        ToChild::Start(state) => Ok(state),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(message: &ToChild) -> Error {
    Error::Init { step: "start".into(), cause: format!("unexpected message {message:?}") }
}

#[cfg(test)]
mod tests {
    use super::{Fifos, knock_in};
    use crate::init::sync::{End, FromChild, ToChild};
    use nix::errno::Errno;
    use std::fs::File;
    use std::path::PathBuf;

    /// A directory with both fifos.
    struct Scene(PathBuf);

    impl Scene {
        fn new(name: &str) -> (Self, File, Fifos) {
            let path =
                std::env::temp_dir().join(format!("carob-gate-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let dir = File::open(&path).unwrap();
            let fifos = Fifos::make_in(&dir).unwrap();
            (Self(path), dir, fifos)
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn knocked(fifos: Fifos) -> End {
        let Fifos { start, writer, report } = fifos;
        let end = End::from_fifos(start, report);
        assert!(matches!(end.hear_parent(), Ok(ToChild::Knock)));
        drop(writer);
        end
    }

    #[test]
    fn a_state_longer_than_a_fifo_arrives_and_a_failure_comes_back() {
        let (_scene, dir, fifos) = Scene::new("talk");
        let state = vec![b'x'; 200_000];
        let sent = state.clone();
        #[allow(clippy::disallowed_methods, reason = "a thread of the test, not of carob")]
        let starter = std::thread::spawn(move || {
            let end = knock_in(&dir).unwrap();
            end.tell_child(&ToChild::Knock).unwrap();
            end.tell_child(&ToChild::Start(sent)).unwrap();
            [end.hear_child().unwrap(), end.hear_child().unwrap()]
        });
        let init = knocked(fifos);
        assert!(matches!(init.hear_state(), Ok(ToChild::Start(heard)) if heard == state));
        let (step, cause) = ("exec".to_owned(), "é".repeat(5000));
        init.tell_parent(&FromChild::Failed { step, cause }).unwrap();
        drop(init);
        let [failed, gone] = starter.join().unwrap();
        assert!(matches!(failed, FromChild::Failed { step, cause }
            if step == "exec" && cause.len() > 4000 && cause.ends_with('é')));
        assert!(matches!(gone, FromChild::Gone));
    }

    #[test]
    fn a_starter_that_dies_ends_the_wait_only_after_its_knock() {
        let (_scene, dir, fifos) = Scene::new("death");
        drop(knock_in(&dir).unwrap());
        let end = knock_in(&dir).unwrap();
        end.tell_child(&ToChild::Knock).unwrap();
        let init = knocked(fifos);
        drop(end);
        let told = init.hear_parent().unwrap_err().to_string();
        assert!(told.contains("carob has died"), "{told}");
        // Nobody listens, and that is no signal.
        init.tell_parent(&FromChild::Failed { step: "start".into(), cause: told }).unwrap();
    }

    #[test]
    fn an_init_that_is_gone_is_told_at_once() {
        let (_scene, dir, fifos) = Scene::new("gone");
        drop(fifos);
        assert_eq!(knock_in(&dir).unwrap_err(), Errno::ENXIO);
    }
}
