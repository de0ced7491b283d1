//! Follows a verb and what it clones, system call by system call, and kills one of them at a given
//! one: a power cut at any moment, from outside.

use crate::support::{Call, DEADLINE, Output};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::time::{Duration, Instant};

/// Whom to kill, at the beginning of which of its system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// 0 is the verb, 1 the first process that it clones, …
    pub who: usize,
    /// 0 is the first call after the verb was executed, or the process was cloned.
    pub call: usize,
    /// All that are followed die with it.
    pub all: bool,
}

/// What a verb has done.
#[derive(Debug)]
pub struct Trace {
    pub out: Output,
    /// The numbers of the system calls, for the verb and each process that it has cloned.
    pub calls: Vec<Vec<i64>>,
}

struct Tracee {
    pid: Pid,
    calls: Vec<i64>,
    /// Counted from its execve of the runtime on; a clone at once.
    counts: bool,
    is_gone: bool,
}

struct Tracer {
    tracees: Vec<Tracee>,
    point: Option<Point>,
}

/// Source: include/uapi/linux/ptrace.h.
const EVENT_STOP: i32 = 128;
const SYSCALL_ENTRY: u8 = 1;

/// Whether a tracee stands before a system call, or behind it. Source: ptrace(2),
/// PTRACE_GET_SYSCALL_INFO, whose answer begins with the kind of stop.
#[allow(unsafe_code, reason = "nix has this for glibc alone")]
fn is_entering(tracee: Pid) -> bool {
    const GET_SYSCALL_INFO: libc::c_long = 0x420e;
    let (ask, pid, mut info) = (GET_SYSCALL_INFO, tracee.as_raw(), [0_u8; 88]);
    // SAFETY: the kernel writes into `info`, and no more than its length.
    let written =
        unsafe { libc::syscall(libc::SYS_ptrace, ask, pid, info.len(), info.as_mut_ptr()) };
    written > 0 && info[0] == SYSCALL_ENTRY
}

/// Runs a verb to its end; kills at `point`, if there is one. What else lives then goes on alone.
pub fn follow(call: Call, point: Option<Point>) -> Trace {
    let running = call.after("kill -STOP $$").spawn();
    let verb = running.pid();
    crate::support::wait_until("a stopped shell", || match state(verb) {
        Some('T') => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    ptrace::seize(verb, options).unwrap();
    kill(verb, Signal::SIGCONT).unwrap();
    let first = Tracee { pid: verb, calls: Vec::new(), counts: false, is_gone: false };
    let mut tracer = Tracer { tracees: vec![first], point };
    // Every call costs two turns of this process: on a busy machine that takes its time.
    let end = Instant::now() + DEADLINE * 4;
    while !has_exited(verb) {
        if !tracer.step() {
            std::thread::sleep(Duration::from_micros(20));
        }
        assert!(Instant::now() < end, "{point:?}: does not end; {:?}", tracer.seen());
    }
    tracer.let_go(end);
    let calls = tracer.seen();
    Trace { out: running.wait(), calls }
}

/// Whether a child has ended and waits to be reaped, by whoever holds it.
fn has_exited(pid: Pid) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(
        waitid(Id::Pid(pid), look),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD)
    )
}

/// Takes a stop of a traced child, as waitpid(2) does, and never its end.
fn stop_of(pid: Pid) -> nix::Result<WaitStatus> {
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    Ok(match waitid(Id::Pid(pid), look)? {
        // The stop before a signal is delivered looks like an event without a number.
        WaitStatus::PtraceEvent(pid, signal, 0) => WaitStatus::Stopped(pid, signal),
        other => other,
    })
}

fn state(pid: Pid) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

impl Tracer {
    fn seen(&self) -> Vec<Vec<i64>> {
        self.tracees.iter().map(|tracee| tracee.calls.clone()).collect()
    }

    /// Takes one stop of each; whether there was any.
    fn step(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.tracees.len() {
            if self.tracees[index].is_gone || (index == 0 && has_exited(self.tracees[0].pid)) {
                continue;
            }
            let pid = self.tracees[index].pid;
            // The verb's end is for whoever holds it: only its stops are taken here.
            let status = if index == 0 {
                stop_of(pid)
            } else {
                waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))
            };
            match status {
                Ok(WaitStatus::StillAlive) => {}
                Ok(status) => {
                    any = true;
                    self.take(index, status);
                }
                // Gone with all its threads, or nobody's of ours any more.
                Err(_) => self.tracees[index].is_gone = true,
            }
        }
        any
    }

    fn take(&mut self, index: usize, status: WaitStatus) {
        let pid = self.tracees[index].pid;
        match status {
            WaitStatus::PtraceSyscall(_) => {
                if self.enters(index) && self.is_the_point(index) {
                    return self.strike(index);
                }
                ptrace::syscall(pid, None).ok();
            }
            WaitStatus::PtraceEvent(_, _, event) => self.event(index, event),
            WaitStatus::Stopped(_, signal) => {
                ptrace::syscall(pid, signal).ok();
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => self.tracees[index].is_gone = true,
            _ => {
                ptrace::syscall(pid, None).ok();
            }
        }
    }

    fn event(&mut self, index: usize, event: i32) {
        let pid = self.tracees[index].pid;
        match event {
            EVENT_STOP => {}
            libc::PTRACE_EVENT_EXEC if index == 0 => self.tracees[0].counts = true,
            libc::PTRACE_EVENT_EXEC => {
                // The container's program, or a hook: no business of ours.
                self.tracees[index].is_gone = true;
                ptrace::detach(pid, None).ok();
                return;
            }
            _ if self.tracees[index].counts => {
                let child = ptrace::getevent(pid).unwrap();
                let child = Pid::from_raw(i32::try_from(child).unwrap());
                let calls = Vec::new();
                self.tracees.push(Tracee { pid: child, calls, counts: true, is_gone: false });
            }
            _ => {}
        }
        ptrace::syscall(pid, None).ok();
    }

    /// Notes a system call that begins.
    fn enters(&mut self, index: usize) -> bool {
        let tracee = &mut self.tracees[index];
        let begins = is_entering(tracee.pid);
        if !begins || !tracee.counts {
            return false;
        }
        let text = fs::read_to_string(format!("/proc/{}/syscall", tracee.pid)).unwrap_or_default();
        let number = text.split(' ').next().and_then(|number| number.parse().ok());
        tracee.calls.push(number.unwrap_or(-1));
        true
    }

    fn is_the_point(&self, index: usize) -> bool {
        self.point.is_some_and(|point| {
            point.who == index && point.call + 1 == self.tracees[index].calls.len()
        })
    }

    fn strike(&self, index: usize) {
        let all = self.point.is_some_and(|point| point.all);
        for (other, tracee) in self.tracees.iter().enumerate() {
            if (other == index || all) && !tracee.is_gone {
                kill(tracee.pid, Signal::SIGKILL).ok();
            }
        }
    }

    /// Detaches from whoever is left; that needs each of them to stop.
    fn let_go(&mut self, end: Instant) {
        for index in 1..self.tracees.len() {
            let pid = self.tracees[index].pid;
            if self.tracees[index].is_gone || ptrace::interrupt(pid).is_err() {
                continue;
            }
            loop {
                match waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(50)),
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => break,
                    Ok(WaitStatus::Stopped(_, signal)) => {
                        ptrace::detach(pid, signal).ok();
                        break;
                    }
                    Ok(_) => {
                        ptrace::detach(pid, None).ok();
                        break;
                    }
                }
                assert!(Instant::now() < end, "{pid} does not stop");
            }
        }
    }
}
