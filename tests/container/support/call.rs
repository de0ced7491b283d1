//! One run of a program: stdio in files, a deadline on the end.

use super::{DEADLINE, leaks, wait_until, without};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A command to be: arguments, environment, stdin.
#[derive(Debug)]
pub struct Call {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    clear_env: bool,
    cwd: Option<PathBuf>,
    stdin: Option<Stdio>,
    stdio: Option<[Stdio; 3]>,
    files: PathBuf,
    groups: Arc<Mutex<Vec<Pid>>>,
    deadline: Duration,
    without: Vec<String>,
}

/// What a finished call said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit status; 128 + n when signal n ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The file behind stdout: a detached container goes on writing there.
    pub stdout_file: PathBuf,
}

/// A call that has been started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    files: PathBuf,
    what: String,
    deadline: Duration,
}

impl Call {
    /// `files` is the prefix of the names of the files that hold stdio; the process group in which
    /// it runs is noted in `groups`.
    pub fn new(program: impl AsRef<OsStr>, files: PathBuf, groups: &Arc<Mutex<Vec<Pid>>>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            clear_env: false,
            cwd: None,
            stdin: None,
            stdio: None,
            files,
            groups: Arc::clone(groups),
            deadline: DEADLINE,
            without: without::of_environment(),
        }
    }

    /// Instead of [`DEADLINE`].
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        self.argv.extend(args.iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// These system calls do not exist for it; `fsopen` answers ENOSYS, `openat2=EPERM` that.
    pub fn without(mut self, calls: &[&str]) -> Self {
        self.without.extend(calls.iter().map(|call| (*call).to_owned()));
        self
    }

    pub fn empty_env(mut self) -> Self {
        self.clear_env = true;
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Text on stdin, from a file; without it stdin is `/dev/null`.
    pub fn stdin(mut self, text: &str) -> Self {
        let path = self.file("in");
        fs::write(&path, text).unwrap();
        self.stdin = Some(fs::File::open(path).unwrap().into());
        self
    }

    /// These three instead of files.
    pub fn stdio(mut self, stdio: [Stdio; 3]) -> Self {
        self.stdio = Some(stdio);
        self
    }

    /// Starts it through a shell that first does `prelude`: `exec 5</etc/passwd`, `umask 027`.
    pub fn after(mut self, prelude: &str) -> Self {
        let mut argv: Vec<OsString> =
            vec!["bash".into(), "-c".into(), format!("{prelude}; exec \"$@\"").into(), "sh".into()];
        argv.append(&mut self.argv);
        self.argv = argv;
        self
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.files.with_extension(suffix)
    }

    /// Starts it in a process group of its own.
    pub fn spawn(mut self) -> Running {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).process_group(0);
        if self.clear_env {
            command.env_clear();
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let [stdin, stdout, stderr] = self.stdio.take().unwrap_or_else(|| {
            let stdin = self.stdin.take().unwrap_or_else(Stdio::null);
            let create = |suffix| Stdio::from(create_new(&self.file(suffix)));
            [stdin, create("out"), create("err")]
        });
        let what = format!("{:?}", self.argv);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = leaks::spawn(|| {
            let child = without::spawn(command, &self.without);
            child.unwrap_or_else(|e| panic!("{what}: {e}"))
        });
        let pid = Pid::from_raw(child.id().cast_signed());
        self.groups.lock().unwrap().push(pid);
        Running { child, files: self.files, what, deadline: self.deadline }
    }

    /// Runs it to its end; kills it and fails the test when it takes too long.
    pub fn output(self) -> Output {
        self.spawn().wait()
    }
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.files.with_extension("out"))
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.files.with_extension("err"))
    }

    /// Waits until stdout has `text`.
    pub fn wait_stdout(&self, text: &str) {
        wait_until(&format!("{text:?} on stdout of {}", self.what), || {
            let seen = self.stdout();
            if seen.contains(text) {
                return Ok(());
            }
            Err(format!("stdout {seen:?}, stderr {:?}", read(&self.files.with_extension("err"))))
        });
    }

    pub fn wait(self) -> Output {
        self.wait_while(|| {})
    }

    /// Waits for its end and calls `poll` meanwhile.
    pub fn wait_while(mut self, poll: impl Fn()) -> Output {
        let end = Instant::now() + self.deadline;
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let (what, deadline) = (&self.what, self.deadline);
                panic!("{what}: still running after {deadline:?}; {:?}", self.files_now(-1));
            }
            poll();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        self.files_now(status.code().or(status.signal().map(|n| 128 + n)).unwrap())
    }

    fn files_now(&self, code: i32) -> Output {
        let stdout_file = self.files.with_extension("out");
        let stdout = read(&stdout_file);
        Output { code, stdout, stderr: read(&self.files.with_extension("err")), stdout_file }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only when a test fails between spawn and wait; both are no-ops on a reaped child.
        self.child.kill().ok();
        self.child.wait().ok();
        leaks::reaped(self.pid());
    }
}

impl Output {
    /// Fails the test unless the call succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Fails the test unless the call ended with `code` and its stderr has every one of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        self
    }

    /// Stdout without the white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn create_new(path: &Path) -> fs::File {
    OpenOptions::new().append(true).create_new(true).open(path).unwrap()
}

fn read(path: &Path) -> String {
    fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}
