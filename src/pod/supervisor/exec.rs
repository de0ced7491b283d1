//! Programs of probes and hooks: begun in a container at once, then followed by a task, so that a
//! container that is paused or slow keeps nobody else waiting.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Supervisor, ended};
use crate::cgroup::Group;
use crate::container::{ExecLaunch, ExecTemplate, Executing};
use crate::error::{Error, OsContext, Result};
use crate::pod::probe::exec::{self, Ended, Program};
use crate::sys::{poll, process};

/// A program on its way.
pub(super) struct Begun {
    template: Rc<ExecTemplate>,
    executing: Executing,
    /// Our end of its standard output and error.
    output: OwnedFd,
    /// What is killed with it when its time is up.
    group: Option<Rc<Group>>,
}

impl Supervisor {
    /// Begins a program in a container. With a name of a group, it can be ended with all that it
    /// has started.
    pub(super) fn begin(
        &mut self,
        name: &str,
        args: &[String],
        group: Option<&'static str>,
    ) -> Result<Begun> {
        let template = self.template(name)?;
        let group = group.map(|group| self.group(name, &template, group)).transpose()?;
        let null = null()?;
        let (output, theirs) = exec::pipe()?;
        let stdio = [null.as_fd(), theirs.as_fd(), theirs.as_fd()];
        let executing = template.begin(&ExecLaunch { args, stdio, group: group.as_deref() })?;
        Ok(Begun { template, executing, output, group })
    }

    /// The cgroup of a kind of programs in a container: the same for all of them, until they had
    /// to be killed.
    fn group(
        &mut self,
        name: &str,
        template: &ExecTemplate,
        kind: &'static str,
    ) -> Result<Rc<Group>> {
        let known = self.members.get(name).and_then(|member| member.groups.get(kind));
        if let Some(group) = known.filter(|group| group.is_usable()) {
            return Ok(Rc::clone(group));
        }
        let group = Rc::new(template.group(kind)?);
        if let Some(member) = self.members.get_mut(name) {
            member.groups.insert(kind, Rc::clone(&group));
        }
        Ok(group)
    }

    /// What processes that are executed in the container have in common.
    fn template(&mut self, name: &str) -> Result<Rc<ExecTemplate>> {
        let Some(member) = self.members.get_mut(name) else {
            return Err(Error::WrongState { reason: "container not running".into() });
        };
        if let Some(template) = &member.template {
            return Ok(Rc::clone(template));
        }
        let template = Rc::new(self.runtime.exec_template(&member.id)?);
        member.template = Some(Rc::clone(&template));
        Ok(template)
    }
}

impl Begun {
    /// Follows it to its end, or to that of its time. To be driven to the end: it reaps.
    ///
    /// # Errors
    /// The program could not be executed, or not be waited for.
    pub(super) async fn finish(self, timeout: Option<Duration>) -> Result<Ended> {
        let Self { template, executing, output, group } = self;
        let begun = Instant::now();
        let kill = || {
            // The program itself is killed in any case.
            let _best_effort = group.map(|group| group.kill());
        };
        let is_executed = match timeout {
            None => executed(&template, &executing).await.map(|()| true),
            Some(limit) => {
                let executed = tokio::time::timeout(limit, executed(&template, &executing)).await;
                executed.map_or(Ok(false), |executed| executed.map(|()| true))
            }
        }?;
        let child = executing.child.pidfd;
        if is_executed {
            let left = timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
            return exec::wait(Program { child, output }, left, kill).await;
        }
        kill();
        // Gone already is fine.
        let _gone = process::pidfd_send_signal(child.as_fd(), libc::SIGKILL);
        let child = Rc::new(child);
        ended(Rc::clone(&child)).await;
        let exit = process::wait(child.as_fd()).os("waitid", || "a program in the container")?;
        Ok(Ended { exit, timed_out: true, output: String::new() })
    }
}

/// Waits until the program has been executed.
async fn executed(template: &ExecTemplate, executing: &Executing) -> Result<()> {
    let context = || "a program on its way";
    let fd = executing.fd().try_clone_to_owned().os("duplicate", context)?;
    let fd = poll::readable(fd).os("epoll_ctl", context)?;
    loop {
        let mut ready = fd.readable().await.os("epoll_wait", context)?;
        if template.advance(executing)? {
            return Ok(());
        }
        ready.clear_ready();
    }
}

fn null() -> Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open("/dev/null").os("open", || "/dev/null")
}
