//! Images of containers that are about to be started: from the store, or pulled by another process.
//!
//! The pull is a `carob image pull` of its own: it may take minutes, its memory is not held
//! against the pod's supervisor, and the event loop goes on. If this process is killed meanwhile
//! the next one asks again, and finds what has been fetched by then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::task::AbortHandle;

use super::spawn::{c_string, environment};
use super::{Signal, Supervisor, ended};
use crate::error::{OsContext, Result};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::decide::transition::FailedStart;
use crate::pod::member;
use crate::pod::record::StartFailure;
use crate::sys::process::{self, Child, CloneTarget, Cloned, Exit};

/// Longest answer of a pull, bytes.
const MAX_ANSWER: u64 = 16 << 10;

/// Images of a container that is about to be started.
#[derive(Default)]
pub(super) struct Pulls {
    /// The one that is being pulled.
    running: Option<Running>,
    /// Those that are there, by reference; with an id if they have been pulled for this start.
    pub(super) done: BTreeMap<String, Option<String>>,
}

/// A pull that goes on; ended when this is dropped.
struct Running {
    reference: String,
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
    /// Whether a container waits for an image.
    pub(super) fn is_pulling(&self, container: &str) -> bool {
        self.pulls.get(container).is_some_and(|pulls| pulls.running.is_some())
    }

    /// Begins to pull an image that a container needs.
    pub(super) fn begin_pull(&mut self, name: &str, reference: &str) -> Result<()> {
        let secrets = self.pull_secrets()?;
        let (answer, their_answer) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
        let (errors, their_errors) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
        let child = self.spawn_pull(reference, secrets, &[their_answer, their_errors])?;
        self.normal("Pulling", Some(name), format!("Pulling image {reference:?}"));
        let pidfd = Rc::new(child.pidfd);
        let (container, begun, of) = (name.to_owned(), Moment::now(), Rc::clone(&pidfd));
        let task = self.spawn(async move {
            ended(Rc::clone(&of)).await;
            let outcome = outcome(&of, answer, errors);
            Some(Signal::Pulled { container, outcome, took: Moment::now().since(begun) })
        });
        let running = Running { reference: reference.to_owned(), pidfd, task };
        self.pulls.entry(name.to_owned()).or_default().running = Some(running);
        if let Some(record) = self.record.container_mut(name) {
            record.pulling = true;
        }
        Ok(())
    }

    /// The credentials of `imagePullSecrets`; `None` without any.
    fn pull_secrets(&mut self) -> Result<Option<File>> {
        let (found, missing) = member::pull_secrets(&self.file.manifest);
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may \
                 not succeed.",
                missing.join(", ")
            );
            self.warn("FailedToRetrieveImagePullSecret", None, text);
        }
        if found.is_empty() {
            return Ok(None);
        }
        // Not on a disk, and not in a command line.
        let file = memfd_create("carob-pull-secrets", MFdFlags::MFD_CLOEXEC);
        let mut file = File::from(file.os("memfd_create", || "the credentials of the pod")?);
        let text = serde_json::Value::Array(found).to_string();
        file.write_all(text.as_bytes())
            .and_then(|()| file.rewind())
            .os("write", || "the credentials of the pod")?;
        Ok(Some(file))
    }

    fn spawn_pull(
        &self,
        reference: &str,
        secrets: Option<File>,
        outputs: &[OwnedFd; 2],
    ) -> Result<Child> {
        let data_root = self.file.dirs.data.ancestors().nth(2).unwrap_or(&self.file.dirs.data);
        let mut words: Vec<&std::ffi::OsStr> = vec![
            "carob".as_ref(),
            "image".as_ref(),
            "pull".as_ref(),
            "--quiet".as_ref(),
            "--data-root".as_ref(),
            data_root.as_ref(),
        ];
        if secrets.is_some() {
            words.push("--secrets-on-stdin".as_ref());
        }
        words.extend::<[&std::ffi::OsStr; 2]>(["--".as_ref(), reference.as_ref()]);
        let arguments = words.into_iter().map(c_string).collect::<Result<Vec<_>>>()?;
        let environment = environment()?;
        let input = match secrets {
            Some(secrets) => secrets,
            None => File::open("/dev/null").os("open", || "/dev/null")?,
        };
        let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
        match cloned.os("clone3", || "the pull")? {
            Cloned::Parent(child) => Ok(child),
            Cloned::Child => {
                let become_pull = || -> nix::Result<()> {
                    nix::unistd::dup2_stdin(&input)?;
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
        let ended = self.pulls.get_mut(name).and_then(|pulls| pulls.running.take());
        let Some(record) = self.record.container_mut(name) else { return };
        if !std::mem::take(&mut record.pulling) || self.record.stop.is_some() {
            return;
        }
        let reference = ended.map(|running| running.reference.clone()).unwrap_or_default();
        match outcome {
            Ok(id) => {
                let took = format!("{:.3}s", took.as_secs_f64());
                let size = self.file.dirs.images().image_bytes(&id).unwrap_or_default();
                let text = format!(
                    "Successfully pulled image {reference:?} in {took} ({took} including waiting). \
                     Image size: {size} bytes."
                );
                self.normal("Pulled", Some(name), text);
                let pulls = self.pulls.entry(name.to_owned()).or_default();
                pulls.done.insert(reference, Some(id));
            }
            Err(why) => {
                self.pulls.remove(name);
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
