//! The end of an instance, and of the sandbox: what it was, what is left to clear.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;

use super::{Member, Supervisor};
use crate::container::Force;
use crate::pod::clock::{Moment, Stamp};
use crate::pod::decide::transition;
use crate::pod::record::{Ended, Running};
use crate::pod::restart::{self, StartAt};
use crate::pod::{logs, member, sandbox, volume};
use crate::sys::process::{self, Exit};

/// Longest termination message, bytes.
const MESSAGE_BYTES: u64 = 4096;
/// What of the log stands in for a message that was not written.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;
/// The kubelet's text.
const CHANGED: &str = "Pod sandbox changed, it will be killed and re-created.";

impl Supervisor {
    /// An init has ended.
    pub(super) fn exited(&mut self, id: &str) {
        let found = self.members.iter().find(|(_, member)| member.id == id);
        let Some(name) = found.map(|(name, _)| name.clone()) else { return };
        let Some(member) = self.members.remove(&name) else { return };
        self.notice_dying_sandbox();
        let exit = exit_of(&member.init);
        self.finish_instance(&name, exit, Some(&member));
        // How it ended is known only from what is parked until it is written down.
        self.publish();
        self.park();
    }

    /// Writes down the end of an instance and clears what is left of it.
    pub(super) fn finish_instance(
        &mut self,
        name: &str,
        exit: Option<Exit>,
        member: Option<&Member>,
    ) {
        let Some(record) = self.record.container(name) else { return };
        let number = record.restart_count;
        let Some(running) = record.running().cloned() else { return };
        let oom = self.has_oom_kills(&running.id, exit);
        // Also what shares another's pid namespace and did not end with its first process.
        if let Err(error) = self.runtime.delete(&running.id, Force::Yes) {
            self.warn("FailedKillPod", Some(name), error.to_string());
        }
        if let Some(member) = member {
            let mut sink = member.sink.borrow_mut();
            member.streams.drain(&mut sink);
            sink.detach_all();
        }
        let mut ended = ended_as(&running, exit, oom);
        ended.message = self.termination_message(name, number, &ended);
        let why = if ended.reason == "OOMKilled" { " (OOMKilled)" } else { "" };
        let text = format!("exit code {}{why}", ended.exit_code);
        self.transition("Exited", Some(name), text);
        transition::on_exit(&mut self.record, name, ended);
        self.announce_back_off(name);
    }

    /// Once for each back-off.
    pub(super) fn announce_back_off(&mut self, name: &str) {
        let (rules, record) = (&self.rules, &self.record);
        let (Some(of_container), Some(container)) = (rules.container(name), record.container(name))
        else {
            return;
        };
        let now = Moment::now();
        let waits =
            matches!(restart::next_start(rules, of_container, container, now), StartAt::At(_));
        // The retry of what could not even be made is none.
        let loops = restart::crash_loop_end(rules, container).is_some_and(|end| end > now);
        if record.stop.is_none() && waits && loops {
            let pod = member::pod_name(&self.file.manifest.pod);
            let text = format!("Back-off restarting failed container {name} in pod {pod}");
            self.warn("BackOff", Some(name), text);
        }
    }

    fn termination_message(&self, name: &str, number: u32, ended: &Ended) -> String {
        let Some(container) = self.manifest_container(name) else { return String::new() };
        let file = volume::termination_log(&self.file.dirs, name, number);
        let text = read_start(&file);
        let from_logs =
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if text.is_empty() && from_logs && ended.exit_code != 0 {
            let log = self.file.dirs.log(name, number);
            return logs::last_lines(&log, LOG_LINES, LOG_BYTES);
        }
        text
    }

    /// Where the members are in the pid namespace of the pause process they die with it, and it
    /// has not ended before the last of them is reaped: none of them may be started again into it.
    fn notice_dying_sandbox(&mut self) {
        let Some(sandbox) = &self.record.sandbox else { return };
        // One that cannot be looked at is there.
        let dies = process::stat(Pid::from_raw(sandbox.pid))
            .is_ok_and(|stat| stat.is_none_or(|stat| stat.is_exiting()));
        if dies && self.record.stop.is_none() {
            transition::on_sandbox_gone(&mut self.record, Stamp::now().at);
            self.normal("SandboxChanged", None, CHANGED);
        }
    }

    /// The pause process has ended though nobody asked it to: the pod starts over.
    pub(super) fn sandbox_exited(&mut self, id: &str) {
        if self.record.sandbox.as_ref().is_none_or(|sandbox| sandbox.id != id) {
            // Found dying before; it is buried before another one takes its place.
            return;
        }
        self.sandbox = None;
        if let Err(error) = sandbox::bury(&self.runtime, id, &self.file.dirs) {
            crate::log::warn(error);
        }
        transition::on_sandbox_gone(&mut self.record, Stamp::now().at);
        if self.record.stop.is_none() {
            self.normal("SandboxChanged", None, CHANGED);
        }
    }
}

/// How the process of a pidfd ended; absent if nobody knows any more.
pub(super) fn exit_of(pidfd: &OwnedFd) -> Option<Exit> {
    // Not our child after a crash of the supervisor before us: its new parent may have reaped it
    // already, or be about to.
    process::wait(pidfd.as_fd())
        .ok()
        .or_else(|| process::exit_of_stranger(pidfd))
        .or_else(|| process::pid_of(pidfd).ok().and_then(|pid| process::stat(pid).ok()?)?.exit())
        .or_else(|| process::exit_of_stranger(pidfd))
}

fn ended_as(running: &Running, exit: Option<Exit>, oom: bool) -> Ended {
    let (exit_code, signal) = match exit {
        Some(Exit::Status(status)) => (status, None),
        Some(Exit::Signal(signal)) => (128 + signal, Some(signal)),
        None => (137, None),
    };
    let reason = match exit {
        None => "ContainerStatusUnknown",
        Some(_) if oom || running.oom_killed => "OOMKilled",
        Some(_) if exit_code == 0 => "Completed",
        Some(_) => "Error",
    };
    Ended {
        id: running.id.clone(),
        exit_code,
        signal,
        reason: reason.to_owned(),
        message: String::new(),
        started: Some(running.since),
        finished: Stamp::now(),
        killed: running.stopping.as_ref().map(|stopping| stopping.why),
    }
}

/// The beginning of a file that a container has written.
fn read_start(path: &std::path::Path) -> String {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let mut bytes = Vec::new();
    if let Ok(file) = file {
        let _unreadable = file.take(MESSAGE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
