//! One container: the verbs on its id.

use super::call::{Call, Output};
use super::{Host, leaks, wait_until};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A bundle and the id it is run under.
#[derive(Debug)]
pub struct Container<'h> {
    host: &'h Host,
    id: String,
    bundle: PathBuf,
    stdout: Mutex<PathBuf>,
}

impl<'h> Container<'h> {
    pub(super) fn new(host: &'h Host, id: &str, bundle: PathBuf) -> Self {
        Self { host, id: id.to_owned(), bundle, stdout: Mutex::default() }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// `verb flags… id`.
    pub fn verb(&self, verb: &str, flags: &[&str]) -> Call {
        self.host.call(&[verb]).args(flags).args(&[&self.id])
    }

    /// `verb flags… --bundle B id`.
    pub fn bundle_verb(&self, verb: &str, flags: &[&str]) -> Call {
        let at = [OsStr::new("--bundle"), self.bundle.as_os_str(), OsStr::new(&self.id)];
        self.host.call(&[verb]).args(flags).args(&at)
    }

    /// `run` in the foreground, to its end.
    pub fn run(&self) -> Output {
        self.bundle_verb("run", &[]).output()
    }

    /// `run --detach`; fails the test unless that succeeds.
    pub fn run_detached(&self) -> &Self {
        self.started(
            self.bundle_verb("run", &["--detach", "--pid-file", &self.pid_path()]).output(),
        )
    }

    /// `create`; fails the test unless that succeeds.
    pub fn create(&self) -> &Self {
        self.create_with(&[])
    }

    /// As [`Container::create`], with more flags.
    pub fn create_with(&self, flags: &[&str]) -> &Self {
        self.started(self.create_call(flags).output())
    }

    /// A `create` that may fail.
    pub fn create_call(&self, flags: &[&str]) -> Call {
        let mut all = vec!["--pid-file"];
        let path = self.pid_path();
        all.push(&path);
        all.extend_from_slice(flags);
        self.bundle_verb("create", &all)
    }

    fn started(&self, out: Output) -> &Self {
        let out = out.ok();
        *self.stdout.lock().unwrap() = out.stdout_file;
        self.host.adopt(self.pid());
        self
    }

    fn pid_path(&self) -> String {
        self.bundle.join("pid").to_str().unwrap().to_owned()
    }

    /// The pid of init, from the pid file.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(fs::read_to_string(self.pid_path()).unwrap().parse().unwrap())
    }

    pub fn start(&self) -> &Self {
        self.verb("start", &[]).output().ok();
        self
    }

    pub fn kill(&self, signal: &str) -> Output {
        self.kill_call(signal).output()
    }

    /// A `kill` that may fail.
    pub fn kill_call(&self, signal: &str) -> Call {
        self.host.call(&["kill", &self.id, signal])
    }

    pub fn delete(&self) -> Output {
        self.verb("delete", &[]).output()
    }

    pub fn delete_force(&self) -> Output {
        self.verb("delete", &["--force"]).output()
    }

    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.verb("state", &[]).output().ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Polls `state` until the status is this.
    pub fn wait_for(&self, status: &str) -> &Self {
        wait_until(&format!("status {status}"), || {
            let now = self.status();
            if now == status { Ok(()) } else { Err(format!("last seen: {now}")) }
        });
        self
    }

    /// Waits for the end of init, which is our child, and gives its exit code (128 + n for a signal).
    pub fn exit_code(&self) -> i32 {
        exit_code(self.pid())
    }

    /// What a created or detached container has written to stdout so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&*self.stdout.lock().unwrap()).unwrap()
    }

    /// Waits until its stdout has `text`.
    pub fn wait_output(&self, text: &str) -> &Self {
        wait_until(&format!("{text:?} on stdout"), || {
            let seen = self.output();
            if seen.contains(text) { Ok(()) } else { Err(format!("seen: {seen:?}")) }
        });
        self
    }

    /// `exec id args…`
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_call(&[], args).output()
    }

    /// `exec id sh -c script`
    pub fn exec_sh(&self, script: &str) -> Output {
        self.exec(&["sh", "-c", script])
    }

    /// `exec flags… id args…`
    pub fn exec_call(&self, flags: &[&str], args: &[&str]) -> Call {
        self.host.call(&["exec"]).args(flags).args(&[&self.id]).args(args)
    }

    /// `exec --process FILE id`, with `process` in the file.
    pub fn exec_process(&self, flags: &[&str], process: &Value) -> Call {
        let file = self.bundle.join(format!("process-{}.json", leaks::unique()));
        fs::write(&file, process.to_string()).unwrap();
        let call = self.host.call(&["exec"]).args(flags);
        call.args(&[OsStr::new("--process"), file.as_os_str(), OsStr::new(&self.id)])
    }
}

/// Waits for the end of a child (or a process that became one) and gives its exit code.
pub fn exit_code(pid: Pid) -> i32 {
    wait_until(&format!("exit of {pid}"), || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(128 + signal as i32),
        Err(Errno::ECHILD) => leaks::taken(pid).ok_or_else(|| "nobody's child".into()),
        other => Err(format!("waitpid: {other:?}")),
    })
}
