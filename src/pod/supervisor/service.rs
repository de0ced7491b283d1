//! A supervisor as the main process of a service: what it tells the service manager, and how it
//! takes the place of a supervisor that a verb has brought back meanwhile.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pod::control::{Connection, Request};
use crate::pod::store::{PodDirs, StoredPod};
use crate::sys::socket;

/// Between two looks at whether the other supervisor has gone.
const LOOK: Duration = Duration::from_millis(10);

/// The service manager, if there is one. Source: sd_notify(3).
#[derive(Debug)]
pub(super) struct Service {
    socket: Option<String>,
    is_ready: bool,
}

impl Service {
    /// The one that has started this process.
    pub(super) fn of_environment() -> Self {
        Self { socket: std::env::var("NOTIFY_SOCKET").ok(), is_ready: false }
    }

    /// The pod is ready, or has succeeded without ever being so. Said once.
    pub(super) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            self.tell("READY=1");
        }
    }

    /// The pod is being ended.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // It has its own limit on how long it waits.
            let _nobody_listens = socket::notify(socket, state);
        }
    }
}

/// Takes the right to supervise a pod; who has it is asked to leave.
pub(super) fn relieve(state: &Path) -> Result<File> {
    loop {
        if let Some(lock) = PodDirs::lock_supervisor(state)? {
            return Ok(lock);
        }
        let Some(pod) = StoredPod::read(state)? else {
            return Err(Error::Invalid(format!("{} is no pod", state.display())));
        };
        if let Some(connection) = Connection::open(&pod.file.dirs)? {
            // It may die before it answers; the lock tells.
            let _gone = connection.ask(&Request::Yield);
        }
        std::thread::sleep(LOOK);
    }
}
