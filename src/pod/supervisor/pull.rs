//! Images of containers that are about to be started: from the store, or pulled by another process.
//!
//! The pull is a `carob image pull` of its own: it may take minutes, its memory is not held
//! against the pod's supervisor, and the event loop goes on. If this process is killed meanwhile
//! the next one asks again, and finds what has been fetched by then.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use nix::sched::CloneFlags;
use tokio::task::AbortHandle;

use super::spawn::{c_string, environment};
use super::{Signal, Supervisor, ended};
use crate::error::{OsContext, Result};
use crate::image::{Owner, Use};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::decide::transition::FailedStart;
use crate::pod::member::{self, Image, Root};
use crate::pod::record::StartFailure;
use crate::sys::process::{self, Child, CloneTarget, Cloned, Exit};

/// Longest answer of a pull, bytes.
const MAX_ANSWER: u64 = 16 << 10;

/// The image of a container.
pub(super) enum Pull {
    /// It is being pulled.
    Running(#[allow(dead_code, reason = "it is what its end does")] Running),
    /// It is there, with this id, for one start.
    Done(String),
}

/// A pull that goes on; ended when this is dropped.
pub(super) struct Running {
    pidfd: Rc<OwnedFd>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            // Its end is waited for by the task.
            let _gone = process::pidfd_send_signal(&*self.pidfd, libc::SIGKILL);
        }
    }
}

impl Supervisor {
    /// The image of a container that is about to be started; `None` if it has to be waited for.
    pub(super) fn image(&mut self, container: &Container) -> Result<Option<Image>, StartFailure> {
        let name = container.name.as_str();
        let reference = container.image.as_deref().unwrap_or_default();
        let store = self.file.dirs.images();
        let pulled = match self.pulls.remove(name) {
            Some(Pull::Done(id)) => Some(id),
            Some(running @ Pull::Running(_)) => {
                self.pulls.insert(name.to_owned(), running);
                return Ok(None);
            }
            None => None,
        };
        let found = match pulled {
            Some(id) => Some(member::image::by_id(reference, &id, &store)?),
            None => {
                let policy = container.image_pull_policy.as_deref();
                let found = member::image::find(reference, policy, &store)?;
                if found.is_some() {
                    let text = format!("Container image {reference:?} already present on machine");
                    self.normal("Pulled", Some(name), text);
                }
                found
            }
        };
        let Some(image) = found else {
            self.begin_pull(name, reference).map_err(|error| StartFailure {
                reason: "ErrImagePull".to_owned(),
                message: format!("failed to pull image {reference:?}: {error}"),
            })?;
            return Ok(None);
        };
        self.hold(name, &image).map_err(|error| StartFailure {
            reason: "CreateContainerError".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Some(image))
    }

    /// Keeps the layers of an image from being removed for as long as the pod is there.
    fn hold(&self, name: &str, image: &Image) -> Result<()> {
        let Root::Layers { store, image, layers } = &image.root else { return Ok(()) };
        let _lock = store.lock_content()?;
        // Removed since it was looked up?
        store.open_layers(layers)?;
        let owner = Owner::Pod { state: self.file.dirs.state.clone() };
        let begun = Use { image: image.clone(), layers: layers.clone(), owner };
        store.begin_use(&format!("pod-{}-{name}", self.rules.uid), &begun).map(drop)
    }

    fn begin_pull(&mut self, name: &str, reference: &str) -> Result<()> {
        let (answer, their_answer) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
        let (errors, their_errors) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
        let child = self.spawn_pull(reference, &[their_answer, their_errors])?;
        self.normal("Pulling", Some(name), format!("Pulling image {reference:?}"));
        let pidfd = Rc::new(child.pidfd);
        let (container, begun, of) = (name.to_owned(), Moment::now(), Rc::clone(&pidfd));
        let task = self.spawn(async move {
            ended(Rc::clone(&of)).await;
            let outcome = outcome(&of, answer, errors);
            Some(Signal::Pulled { container, outcome, took: Moment::now().since(begun) })
        });
        self.pulls.insert(name.to_owned(), Pull::Running(Running { pidfd, task }));
        if let Some(record) = self.record.container_mut(name) {
            record.pulling = true;
        }
        Ok(())
    }

    fn spawn_pull(&self, reference: &str, outputs: &[OwnedFd; 2]) -> Result<Child> {
        let data_root = self.file.dirs.data.ancestors().nth(2).unwrap_or(&self.file.dirs.data);
        let words: [&std::ffi::OsStr; 8] = [
            "carob".as_ref(),
            "image".as_ref(),
            "pull".as_ref(),
            "--quiet".as_ref(),
            "--data-root".as_ref(),
            data_root.as_ref(),
            "--".as_ref(),
            reference.as_ref(),
        ];
        let arguments = words.into_iter().map(c_string).collect::<Result<Vec<_>>>()?;
        let environment = environment()?;
        let null = File::open("/dev/null").os("open", || "/dev/null")?;
        let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
        match cloned.os("clone3", || "the pull")? {
            Cloned::Parent(child) => Ok(child),
            Cloned::Child => {
                let become_pull = || -> nix::Result<()> {
                    nix::unistd::dup2_stdin(&null)?;
                    nix::unistd::dup2_stdout(&outputs[0])?;
                    nix::unistd::dup2_stderr(&outputs[1])?;
                    process::reset_signals();
                    // Else one that hangs would keep the next supervisor's pull waiting.
                    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                    // Not as precious as the supervisor; not allowed to everybody.
                    let _as_us = crate::sys::fd::write_file("/proc/self/oom_score_adj", "0");
                    Err(process::execve(c"/proc/self/exe", &arguments, &environment))
                };
                let failed = become_pull();
                process::exit_now(i32::from(failed.is_err()))
            }
        }
    }

    /// A pull has ended.
    pub(super) fn pulled(&mut self, name: &str, outcome: Result<String, String>, took: Duration) {
        self.pulls.remove(name);
        let Some(record) = self.record.container_mut(name) else { return };
        if !std::mem::take(&mut record.pulling) || self.record.stop.is_some() {
            return;
        }
        let container = self.manifest_container(name);
        let reference = container.and_then(|own| own.image.clone()).unwrap_or_default();
        match outcome {
            Ok(id) => {
                let took = format!("{:.3}s", took.as_secs_f64());
                let size = self.file.dirs.images().image_bytes(&id).unwrap_or_default();
                let text = format!(
                    "Successfully pulled image {reference:?} in {took} ({took} including waiting). \
                     Image size: {size} bytes."
                );
                self.normal("Pulled", Some(name), text);
                self.pulls.insert(name.to_owned(), Pull::Done(id));
            }
            Err(why) => {
                self.warn(
                    "Failed",
                    Some(name),
                    format!("Failed to pull image {reference:?}: {why}"),
                );
                let failure = StartFailure {
                    reason: "ErrImagePull".to_owned(),
                    message: format!("failed to pull image {reference:?}: {why}"),
                };
                self.start_failed(name, FailedStart { failure, id: None, at: Stamp::now() });
                self.normal("BackOff", Some(name), format!("Back-off pulling image {reference:?}"));
            }
        }
    }

    /// Nobody waits for them any more.
    pub(super) fn stop_pulls(&mut self) {
        self.pulls.clear();
        for record in self.record.containers_mut() {
            record.pulling = false;
        }
    }
}

/// What a pull that has ended has said.
fn outcome(pidfd: &OwnedFd, answer: OwnedFd, errors: OwnedFd) -> Result<String, String> {
    let read = |from: OwnedFd| {
        let mut text = Vec::new();
        // What was not said is empty.
        let _end = File::from(from).take(MAX_ANSWER).read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let exit = process::wait(pidfd).map_err(|errno| format!("wait for the pull: {errno}"))?;
    let (answer, errors) = (read(answer), read(errors));
    match exit {
        Exit::Status(0) => Ok(answer),
        _ if !errors.is_empty() => {
            let last = errors.lines().last().unwrap_or(&errors);
            Err(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        }
        other => Err(format!("the pull has died: {other:?}")),
    }
}
