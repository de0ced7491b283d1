//! A machine within the machine, for one engine and one test; see `yard.sh`.

use crate::support::call::Call;
use crate::support::{Output, cgroup, runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a step of an engine may take. They wait for each other, on a machine with other work.
pub const LIMIT: Duration = Duration::from_secs(90);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Namespaces, directories and a cgroup. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Yard {
    dir: PathBuf,
    name: String,
    keeper: Child,
    init: Pid,
    groups: Arc<Mutex<Vec<Pid>>>,
    calls: AtomicU32,
    /// Mounts that it has of the machine around it, which may go at any time.
    inherited: BTreeSet<String>,
}

/// What there is in a yard, to be compared with what there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub mounts: BTreeSet<String>,
    pub cgroups: BTreeSet<PathBuf>,
    pub processes: BTreeSet<String>,
}

impl Yard {
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("carob-clients-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("tmp")).unwrap();
        fs::write(dir.join("cgroup"), &name).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/yard.sh");
        let log = fs::File::create(dir.join("log")).unwrap();
        // It must not outlive this test, however that ends.
        let keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args([script.as_os_str(), dir.as_os_str(), runtime().as_os_str()])
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut yard = Self {
            dir,
            name,
            keeper,
            init: Pid::from_raw(0),
            groups: Arc::default(),
            calls: AtomicU32::new(0),
            inherited: BTreeSet::new(),
        };
        wait("the yard", || {
            let log = fs::read_to_string(yard.dir.join("log")).unwrap_or_default();
            if yard.dir.join("ready").exists() { Ok(()) } else { Err(log) }
        });
        yard.init = fs::read_to_string(yard.dir.join("pid"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Pid::from_raw)
            .unwrap();
        yard.inherited = yard.mounts().into_keys().collect();
        yard
    }

    /// A path of the yard, as seen from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        let inside = inside.strip_prefix('/').unwrap();
        Path::new("/proc").join(self.init.to_string()).join("root").join(inside)
    }

    /// Writes a file of the yard, whose directory is made.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap_or_else(|e| panic!("{inside}: {e}"));
    }

    /// The name of the network namespace's file, to be joined.
    pub fn network(&self) -> PathBuf {
        Path::new("/proc").join(self.init.to_string()).join("ns/net")
    }

    /// A command to be run in the yard.
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Call {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        // By its text: the checkout may lie below a directory that the yard has of its own.
        let enter = ["sh", "-c", include_str!("enter.sh"), "enter.sh"];
        let target = format!("--target={}", self.init);
        let into = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--"];
        Call::new("nsenter", self.dir.join(format!("call-{n}")), &self.groups)
            .args(&[target.as_str()])
            .args(&into)
            .args(&enter)
            .args(args)
            .within(LIMIT)
    }

    /// A command that ends by itself.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.call(args).output()
    }

    /// A line of shell.
    pub fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    /// A line of shell with a terminal on its three streams.
    pub fn on_terminal(&self, script: &str) -> Output {
        self.run(&["script", "--quiet", "--return", "--command", script, "/dev/null"])
    }

    /// Sends SIGKILL to the one process of the yard whose command line has all these words.
    pub fn kill(&self, words: &[&str]) {
        let found: Vec<String> = self
            .processes()
            .into_iter()
            .filter(|(_, line)| words.iter().all(|word| line.split(' ').any(|w| w == *word)))
            .map(|(pid, _)| pid)
            .collect();
        let [pid] = found.as_slice() else { panic!("{words:?}: {found:?}") };
        self.run(&["kill", "-KILL", pid]).ok();
    }

    /// Pid in the yard and command line of each process in it, but for process 1 and kernel's own.
    fn processes(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path("/proc")).unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid == "1" || pid.parse::<u32>().is_err() || line.is_empty() {
                continue;
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            all.push((pid, line));
        }
        all
    }

    /// The directories of this yard in every hierarchy.
    fn cgroups(&self) -> impl Iterator<Item = PathBuf> {
        let of = move |root: PathBuf| root.join(&self.name);
        cgroup::hierarchies().into_iter().map(of).filter(|dir| dir.exists())
    }

    /// Mount points by the mounts' numbers.
    fn mounts(&self) -> BTreeMap<String, String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.init)).unwrap();
        let parts = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.nth(3)?))
        };
        mounts.lines().filter_map(parts).collect()
    }

    pub fn contents(&self) -> Contents {
        let own = self.mounts().into_iter().filter(|(number, _)| !self.inherited.contains(number));
        let processes = self.processes().into_iter();
        Contents {
            mounts: own.map(|(_, point)| point).collect(),
            cgroups: self.cgroups().flat_map(|dir| cgroup::tree(&dir)).collect(),
            // Their numbers differ anyway, and a daemon may start a helper of its own meanwhile.
            processes: processes.map(|(_, line)| line).filter(|l| is_containers(l)).collect(),
        }
    }

    /// Waits until there is nothing but what there was before.
    #[track_caller]
    pub fn returns_to(&self, before: &Contents) {
        wait("nothing to be left", || {
            let now = self.contents();
            let mounts: Vec<_> = now.mounts.difference(&before.mounts).collect();
            let cgroups: Vec<_> = now.cgroups.difference(&before.cgroups).collect();
            let processes: Vec<_> = now.processes.difference(&before.processes).collect();
            if mounts.is_empty() && cgroups.is_empty() && processes.is_empty() {
                return Ok(());
            }
            Err(format!("mounts {mounts:?}, cgroups {cgroups:?}, processes {processes:?}"))
        });
    }

    fn clean(&mut self) -> Result<(), String> {
        if self.init.as_raw() > 1 {
            kill(self.init, Signal::SIGKILL).ok();
        } else {
            self.keeper.kill().ok();
        }
        // unshare ends when process 1 has, and that ends when all others have.
        self.keeper.wait().ok();
        let end = Instant::now() + LIMIT;
        for dir in self.cgroups().flat_map(|dir| cgroup::tree(&dir)).collect::<Vec<_>>() {
            while let Err(e) = fs::remove_dir(&dir) {
                if Instant::now() > end {
                    return Err(format!("{}: {e}", dir.display()));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        fs::remove_dir_all(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let cleaned = self.clean();
        if !std::thread::panicking() {
            cleaned.unwrap();
        }
    }
}

/// Not the engine's daemon and tools.
fn is_containers(line: &str) -> bool {
    !["containerd ", "dockerd ", "nsenter "]
        .iter()
        .any(|daemon| format!("{line} ").contains(daemon))
}

/// Polls `probe` until it gives a value; fails with what it saw last when time is up.
#[track_caller]
pub fn wait<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > end => panic!("{what}: not within {LIMIT:?}; {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
