//! The harness: a container test states only its difference from `bundles/busybox`.
//!
//! A [`Host`] is a corner of this machine for one test: its own state root, temporary directory
//! and cgroup parent, all named by one marker. When it is dropped it deletes its containers and
//! fails the test if a process, mount, cgroup, state entry or unreaped child with that marker is left.

pub mod apparmor;
pub mod call;
pub mod cgroup;
pub mod container;
pub mod driver;
pub mod leaks;
pub mod named_tests;
pub mod selinux;
pub mod socket;
pub mod user;
pub mod without;

pub use call::{Call, Output, Running};
pub use container::Container;
use driver::Driver;
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};
pub use user::{Cgroups, Ids, User};

/// How long anything may take before the test fails. Generous: the machine may be loaded, or emulated.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The runtime under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Carob,
    /// runc, on which the tests themselves are proven.
    Runc,
}

/// One test's corner of the machine.
#[derive(Debug)]
pub struct Host {
    driver: Driver,
    marker: String,
    dir: PathBuf,
    ids: Mutex<Vec<String>>,
    children: Mutex<Vec<(Pid, Option<u64>)>>,
    groups: Arc<Mutex<Vec<Pid>>>,
    calls: AtomicU32,
    born: Instant,
    /// Who calls the runtime, if not root.
    user: Option<User>,
}

static HOSTS: AtomicU32 = AtomicU32::new(0);
static SUBREAPER: Once = Once::new();

impl Host {
    pub fn new() -> Self {
        Self::with_driver(Driver::chosen())
    }

    /// A host whose cgroups systemd makes; `None` (skip) where it does not run.
    pub fn systemd() -> Option<Self> {
        if driver::has_systemd() {
            return Some(Self::with_driver(Driver::Systemd));
        }
        skip("systemd does not run here");
        None
    }

    /// A host for paths that only the runtime itself can make a cgroup at; `None` (skip) otherwise.
    pub fn only_cgroupfs() -> Option<Self> {
        if Driver::chosen() == Driver::Cgroupfs {
            return Some(Self::new());
        }
        skip("a path that is not systemd's");
        None
    }

    fn with_driver(driver: Driver) -> Self {
        // Clients of a runtime are subreapers: containers become our children when it exits.
        SUBREAPER.call_once(|| nix::sys::prctl::set_child_subreaper(true).unwrap());
        let marker =
            format!("carob-test-{}-{}", std::process::id(), HOSTS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&marker);
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("state")).unwrap();
        Self {
            driver,
            marker,
            dir,
            ids: Mutex::default(),
            children: Mutex::default(),
            groups: Arc::default(),
            calls: AtomicU32::new(0),
            born: Instant::now(),
            user: None,
        }
    }

    /// A host on which an ordinary user calls the runtime, whose cgroups are the test's to make.
    pub fn of(mut user: User) -> Self {
        let mut host = Self::with_driver(Driver::Cgroupfs);
        user.move_in(&host.dir, &host.marker);
        host.user = Some(user);
        host
    }

    /// A host on which an ordinary user has a systemd of its own, which makes cgroups; `None` (skip)
    /// where it has not.
    pub fn of_systemd_user(ids: Ids) -> Option<Self> {
        if driver::start_manager_of_user() {
            return Some(Self::of(User::new(ids, Cgroups::Managed)));
        }
        skip("no systemd, or none for the user with the uid of the tests");
        None
    }

    /// A host for what carob does by intent otherwise than runc 1.1; `None` (skip) on runc.
    pub fn only_carob(reason: &str) -> Option<Self> {
        if peer() == Peer::Carob {
            return Some(Self::new());
        }
        skip(reason);
        None
    }

    /// A temporary directory that goes with the test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The string by which everything this test makes can be found.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The state root given to the runtime as `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Makes a bundle from the default config and `edit`.
    pub fn container(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let id = format!("c{}", self.ids.lock().unwrap().len());
        self.container_named(&id, edit)
    }

    /// As [`Host::container`], with this id.
    pub fn container_named(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let bundle =
            self.dir.join(format!("bundle-{}", self.calls.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&bundle).unwrap();
        let mut spec = default_config();
        spec["root"]["path"] = json!(rootfs());
        spec["process"]["env"].as_array_mut().unwrap().push(json!(self.env_mark()));
        spec["linux"]["cgroupsPath"] = json!(self.cgroups_path(id));
        if let Some(user) = &self.user {
            user.adapt(&mut spec, &self.dir);
            user.own(&bundle);
            if user.is_managed() {
                let path = Driver::Systemd.cgroups_path(&self.marker, id);
                spec["linux"]["cgroupsPath"] = json!(path);
            }
        }
        edit(&mut spec);
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        self.ids.lock().unwrap().push(id.to_owned());
        Container::new(self, id, bundle)
    }

    /// A container that runs `script` in busybox's shell.
    pub fn sh(&self, script: &str) -> Container<'_> {
        self.sh_with(script, |_| {})
    }

    /// As [`Host::sh`], with more differences from the default config.
    pub fn sh_with(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        self.container(|spec| {
            spec["process"]["args"] = json!(["sh", "-c", script]);
            edit(spec);
        })
    }

    /// A container that does nothing until it is killed.
    pub fn sleeper(&self) -> Container<'_> {
        self.sleeper_with(|_| {})
    }

    /// As [`Host::sleeper`], with more differences from the default config.
    pub fn sleeper_with(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        self.container(|spec| {
            spec["process"]["args"] = json!(["sleep", "1000"]);
            edit(spec);
        })
    }

    /// A private copy of the busybox rootfs, for tests that write to it or spoil it.
    pub fn own_rootfs(&self) -> PathBuf {
        let copy = self.dir.join(format!("rootfs-{}", self.calls.fetch_add(1, Ordering::Relaxed)));
        let done = std::process::Command::new("cp").arg("-a").arg(rootfs()).arg(&copy).status();
        assert!(done.unwrap().success(), "copy of {}", rootfs().display());
        copy
    }

    /// The runtime with this test's `--root` and these arguments.
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Call {
        let root = self.state_root();
        let root = [OsStr::new("--root"), root.as_os_str()];
        let is_managed = self.user.as_ref().is_some_and(User::is_managed);
        let driver = if is_managed { Driver::Systemd } else { self.driver };
        self.bare_call(&root).args(driver.flags()).args(args)
    }

    /// The runtime with these arguments alone.
    pub fn bare_call<S: AsRef<OsStr>>(&self, args: &[S]) -> Call {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let files = self.dir.join(format!("call-{n}"));
        match &self.user {
            None => Call::new(runtime(), files, &self.groups).args(args),
            Some(user) => user.call(&self.dir, files, &self.groups).args(args),
        }
    }

    /// Runs a verb that ends by itself.
    pub fn runtime<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.call(args).output()
    }

    /// `NAME=value` by which processes of this test are recognized; for hooks.
    pub fn env_mark(&self) -> String {
        format!("CAROB_TEST={}", self.marker)
    }

    /// The directory of the container's cgroup in `controller`'s hierarchy.
    pub fn cgroup(&self, controller: &str, id: &str) -> PathBuf {
        cgroup::hierarchy(controller).join(self.cgroup_below(id))
    }

    /// Where that is below the root of each hierarchy.
    pub fn cgroup_below(&self, id: &str) -> PathBuf {
        self.driver.cgroup(&self.marker, id)
    }

    /// A cgroup for others: as options name it, and where it is below the root of each hierarchy.
    pub fn cgroup_parent(&self, name: &str) -> (String, PathBuf) {
        self.driver.parent(&self.marker, name)
    }

    /// `linux.cgroupsPath` of the container with this id in such a cgroup.
    pub fn cgroups_path_in(&self, parent: &str, id: &str) -> String {
        self.driver.cgroups_path_in(parent, &self.marker, id)
    }

    /// Options before the verb for who makes cgroups.
    pub fn driver_flags(&self) -> &'static [&'static str] {
        self.driver.flags()
    }

    /// `linux.cgroupsPath` of the container with this id.
    pub fn cgroups_path(&self, id: &str) -> String {
        self.driver.cgroups_path(&self.marker, id)
    }

    /// Its unit, where systemd makes cgroups.
    pub fn scope(&self, id: &str) -> String {
        driver::scope(&self.marker, id)
    }

    /// Takes care of a process that became our child when its runtime exited.
    pub fn adopt(&self, pid: Pid) {
        leaks::expect(pid);
        self.children.lock().unwrap().push((pid, leaks::start_of(pid)));
    }

    /// Adopts every process that a runtime of this test has left by being killed.
    pub fn adopt_orphans(&self) -> Vec<Pid> {
        let mut orphans = wait_until("children that begin or end", || {
            let (ours, unclear) = leaks::look(&self.marker);
            if unclear.is_empty() { Ok(ours) } else { Err(format!("{unclear:?}")) }
        });
        let dead = leaks::orphans(self.born, &self.groups.lock().unwrap());
        orphans.extend(dead.into_iter().map(|(pid, _)| pid));
        orphans.iter().for_each(|pid| self.adopt(*pid));
        orphans
    }

    /// Reaps the adopted children that have ended; those still alive are reported as processes.
    pub fn reap(&self) {
        self.children.lock().unwrap().retain(|(pid, start)| {
            // Its number may be that of another test's child by now, whose end is not ours to take.
            let is_other = start.is_none() || leaks::start_of(*pid) != *start;
            // It may also be the child of another process for now: that is an error.
            let gone = is_other || leaks::reap_child(*pid).unwrap_or(false);
            if gone {
                leaks::reaped(*pid);
            }
            !gone
        });
    }

    fn clean(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for id in self.ids.lock().unwrap().iter() {
            if self.state_root().join(id).exists() {
                // An init ends only after the processes that were put beside it by exec are reaped.
                let delete = self.call(&["delete", "--force", id]).spawn();
                let out = delete.wait_while(|| self.reap());
                if out.code != 0 {
                    faults.push(format!("delete --force {id}: {out:?}"));
                }
            }
        }
        if let Some(user) = &self.user {
            user.move_out();
        }
        let reap = || self.reap();
        faults.extend(leaks::find(self, reap));
        if self.driver == Driver::Systemd {
            driver::stop_slice(&self.marker);
        }
        leaks::sweep(&self.marker, reap);
        self.children.lock().unwrap().iter().for_each(|(pid, _)| leaks::reaped(*pid));
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            faults.push(format!("remove {}: {e}", self.dir.display()));
        }
        faults
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let faults = self.clean();
        if !faults.is_empty() && !std::thread::panicking() {
            panic!("left behind by {}:\n  {}", self.marker, faults.join("\n  "));
        }
    }
}

/// The program under test: `CAROB_UNDER_TEST`, else carob as cargo has just built it.
pub fn runtime() -> PathBuf {
    std::env::var_os("CAROB_UNDER_TEST")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_carob")), PathBuf::from)
}

/// Which runtime is under test, by the name of its file.
pub fn peer() -> Peer {
    match runtime().file_name().and_then(OsStr::to_str) {
        Some("runc") => Peer::Runc,
        _ => Peer::Carob,
    }
}

/// Reports the running test as skipped; the caller then returns.
///
/// `scripts/test` counts these lines: such a test is not "passed". Written past libtest's capture.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?").to_owned();
    let mut uncaptured = std::io::stderr();
    writeln!(uncaptured, "SKIP {test}: {reason}").unwrap();
}

/// The shared, read-only root filesystem made by `scripts/bundles`.
pub fn rootfs() -> PathBuf {
    let path = bundles().join("busybox/rootfs");
    assert!(path.join("bin/busybox").exists(), "run scripts/bundles first");
    path
}

fn bundles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles")
}

/// Copies a program that will be executed.
///
/// By another process: a descriptor of ours, open for writing, would live on for a moment in what
/// another test's thread forks, and executing the copy would fail as "Text file busy".
pub fn copy_program(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}

/// The committed config of the busybox bundle.
pub fn default_config() -> Value {
    let text = fs::read_to_string(bundles().join("busybox/config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Polls `probe` until it gives a value; fails with what `seen` says when time is up.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > end => panic!("{what}: not within {DEADLINE:?}; {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Appends to the array at `pointer` (a JSON pointer), which is made if it is missing.
pub fn push(spec: &mut Value, pointer: &str, item: Value) {
    let mut at = spec;
    for key in pointer.trim_start_matches('/').split('/') {
        at = &mut at[key];
    }
    if at.is_null() {
        *at = json!([]);
    }
    at.as_array_mut().unwrap().push(item);
}

/// Whether a system call is refused to the runtime (`CAROB_TEST_WITHOUT`), or is not in this kernel, and
/// the running test needs it: then it is reported as skipped, and the caller returns.
pub fn lacks(call: &str) -> bool {
    let calls = without::of_environment();
    let lacks = without::is_unknown_to_kernel(call)
        || calls.iter().any(|given| given.split('=').next() == Some(call));
    if lacks {
        skip(&format!("needs {call}, for which there is no other way"));
    }
    lacks
}

/// How often to do what seldom goes wrong: `[usually, with CAROB_TEST_LONG=1]`.
pub fn rounds([short, long]: [usize; 2]) -> usize {
    let is_long = std::env::var_os("CAROB_TEST_LONG").is_some_and(|value| value != "0");
    if is_long { long } else { short }
}
