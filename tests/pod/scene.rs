//! A place for the pods of one test: own directories, own cgroup; nothing of it may be left.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use serde_json::Value;

use crate::support::driver::{self, Driver};
use crate::support::{cgroup, leaks};

/// How long anything may take that a test waits for.
const LIMIT: Duration = Duration::from_secs(90);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Directories and a cgroup. Dropping it removes all pods and fails if anything is left of them.
pub struct Scene {
    dir: PathBuf,
    marker: String,
    driver: Driver,
    /// Holds the network that everything happens in, if it is not the machine's.
    inside: Option<Child>,
}

/// How a verb has ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It must have failed with this status and these words on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Scene {
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Of one width: none is the beginning of another.
        let marker = format!("carob-pod-{}-{number:03}", std::process::id());
        let dir = std::env::temp_dir().join(&marker);
        fs::create_dir(&dir).unwrap();
        Self { dir, marker, driver: Driver::of_pods(), inside: None }
    }

    /// In a network namespace with nothing but a loopback device: bridges, rules and addresses that
    /// plugins make are there, and what they keep on disk is in a mount namespace beside it.
    pub fn with_own_network() -> Self {
        let mut scene = Self::new();
        let script = "ip link set lo up; \
            for dir in /var/lib/cni /etc/cni; do mkdir -p $dir; mount -t tmpfs cni $dir; done; \
            touch /etc/cni/ready; exec sleep 1000000";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "--mount", "sh", "-euc", script]).stdin(Stdio::null());
        let holder = holder.spawn().unwrap();
        let ready = format!("/proc/{}/root/etc/cni/ready", holder.id());
        scene.inside = Some(holder);
        let end = Instant::now() + LIMIT;
        while !Path::new(&ready).exists() {
            assert!(Instant::now() < end, "no network namespace");
            std::thread::sleep(Duration::from_millis(10));
        }
        scene
    }

    /// A process of the machine that the pods of this test are on.
    pub fn machine(&self) -> i32 {
        let pid = self.inside.as_ref().map_or_else(std::process::id, Child::id);
        i32::try_from(pid).unwrap()
    }

    /// A command on the machine that the pods of this test are on.
    pub fn on_machine(&self, program: &str) -> Command {
        let Some(holder) = &self.inside else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.args(["--target", &holder.id().to_string(), "--net", "--mount", program]);
        command
    }

    /// Runs a script there.
    #[track_caller]
    pub fn sh_on_machine(&self, script: &str) -> Output {
        let out = self.on_machine("sh").args(["-euc", script]).output().unwrap();
        Output {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Whether somebody listens there.
    pub fn connects(&self, address: SocketAddr) -> bool {
        if self.inside.is_none() {
            return TcpStream::connect(address).is_ok();
        }
        let netns = fs::File::open(format!("/proc/{}/ns/net", self.machine())).unwrap();
        let connect = move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect(address).is_ok()
        };
        std::thread::spawn(connect).join().unwrap()
    }

    /// A directory of the test's own.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A cgroup for others: as options name it.
    pub fn cgroup_parent(&self, name: &str) -> String {
        self.driver.parent(&self.marker, name).0
    }

    /// The directory of a pod's cgroup in a hierarchy.
    pub fn pod_cgroup(&self, hierarchy: &Path, uid: &str) -> PathBuf {
        hierarchy.join(self.driver.parent(&self.marker, &format!("pod{uid}")).1)
    }

    /// The directory of one of its containers' cgroup.
    pub fn container_cgroup(&self, hierarchy: &Path, uid: &str, name: &str) -> PathBuf {
        self.driver.member(&self.pod_cgroup(hierarchy, uid), name)
    }

    /// A name that nothing else on the machine has: the pods' parent cgroup is named by it.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The state root.
    pub fn root(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The state directory of a pod.
    pub fn state(&self, pod: &str) -> PathBuf {
        self.root().join(format!("@pods/default_{pod}"))
    }

    /// The root filesystem that pods here use as an image: busybox.
    pub fn image() -> String {
        format!("rootfs:{}/bundles/busybox/rootfs", env!("CARGO_MANIFEST_DIR"))
    }

    /// A bundle with busybox in it, as an image; `process` is what its config.json says.
    pub fn bundle(&self, name: &str, process: &Value) -> String {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        let image = Self::image();
        let rootfs = image.trim_start_matches("rootfs:");
        let config = serde_json::json!({
            "ociVersion": "1.0.2", "root": {"path": rootfs}, "process": process});
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        format!("bundle:{}", dir.display())
    }

    /// A call of carob, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.on_machine(env!("CARGO_BIN_EXE_carob"));
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs `carob ARGS`.
    pub fn carob(&self, args: &[&str]) -> Output {
        let out = self.command(args).output().unwrap();
        Output {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Runs `carob pod ARGS`.
    pub fn pod(&self, args: &[&str]) -> Output {
        self.carob(&[&["pod"], args].concat())
    }

    /// Writes a manifest; `IMAGE` in it becomes [`Scene::image`].
    pub fn manifest(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text.replace("IMAGE", &Self::image())).unwrap();
        path
    }

    /// The arguments of `carob` that run manifests with this test's directories and cgroup.
    pub fn run_args(&self, verb: &str, flags: &[&str], manifests: &[&Path]) -> Vec<String> {
        let mut args = vec!["pod".to_owned(), verb.to_owned()];
        for (flag, value) in [
            ("--data-root", self.dir.join("data").display().to_string()),
            ("--log-root", self.dir.join("logs").display().to_string()),
            ("--cgroup-parent", self.driver.top(&self.marker).0),
        ] {
            if !flags.contains(&flag) {
                args.extend([flag.to_owned(), value]);
            }
        }
        // The machine's network is nobody's business here; pods on networks are in network.rs.
        if !flags.iter().any(|flag| flag.starts_with("--network") || flag.starts_with("--cni")) {
            args.extend(["--network", "none"].map(str::to_owned));
        }
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        args.extend(manifests.iter().map(|path| path.display().to_string()));
        args
    }

    /// `carob pod run -d` of a manifest; `IMAGE` in it becomes [`Scene::image`].
    pub fn try_run(&self, text: &str) -> Output {
        self.try_run_with(&["-d"], text)
    }

    /// `carob pod run FLAGS`.
    pub fn try_run_with(&self, flags: &[&str], text: &str) -> Output {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.manifest(&format!("pod-{number}.yaml"), text);
        let args = self.run_args("run", flags, &[&path]);
        self.carob(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// As [`Scene::try_run`], which must succeed.
    #[track_caller]
    pub fn run(&self, text: &str) -> Output {
        self.try_run(text).ok()
    }

    /// The Kubernetes object of a pod, with status.
    #[track_caller]
    pub fn inspect(&self, pod: &str) -> Value {
        self.pod(&["inspect", "--format", "json", pod]).ok().json()
    }

    /// `status` of one of a pod's containers, init containers too.
    #[track_caller]
    pub fn container(&self, pod: &str, name: &str) -> Value {
        let object = self.inspect(pod);
        ["containerStatuses", "initContainerStatuses"]
            .iter()
            .filter_map(|key| object["status"][key].as_array())
            .flatten()
            .find(|status| status["name"] == name)
            .unwrap_or_else(|| panic!("no container {name}: {object:#}"))
            .clone()
    }

    /// The status line of `pod ps`, e.g. `CrashLoopBackOff`.
    #[track_caller]
    pub fn status(&self, pod: &str) -> String {
        let out = self.pod(&["ps", pod]).ok();
        let row = out.stdout.lines().nth(1).unwrap_or_default();
        row.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }

    /// Waits until the object of the pod is as wanted.
    #[track_caller]
    pub fn wait(&self, pod: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let object = self.inspect(pod);
            if wanted(&object) {
                return object;
            }
            if Instant::now() > end {
                let events = self.pod(&["events", "--all", pod]).stdout;
                panic!("{pod} never came to {what}: {:#}\n{events}", object["status"]);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a phase.
    #[track_caller]
    pub fn wait_phase(&self, pod: &str, phase: &str) -> Value {
        self.wait(pod, phase, |object| object["status"]["phase"] == phase)
    }

    /// Waits until the pod is Ready.
    #[track_caller]
    pub fn wait_ready(&self, pod: &str) -> Value {
        self.wait(pod, "Ready", |object| condition(object, "Ready"))
    }

    /// Waits until a container's log holds a text; returns the log.
    #[track_caller]
    pub fn wait_log(&self, pod: &str, container: &str, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let log = self.pod(&["logs", "-c", container, pod]);
            if log.stdout.contains(text) {
                return log.stdout;
            }
            if Instant::now() > end {
                let events = self.pod(&["events", "--all", pod]).stdout;
                panic!("{text:?} never came into the log of {container}: {log:?}\n{events}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a script in a container of a pod.
    pub fn sh(&self, pod: &str, container: &str, script: &str) -> Output {
        self.pod(&["exec", "-c", container, pod, "--", "sh", "-c", script])
    }

    /// Reasons of all events so far, transitions too: `Killing`, `c/Started`.
    pub fn events(&self, pod: &str) -> Vec<String> {
        let text = fs::read_to_string(self.state(pod).join("events.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                let reason = event["reason"].as_str().unwrap();
                match event["container"].as_str() {
                    Some(container) => format!("{container}/{reason}"),
                    None => reason.to_owned(),
                }
            })
            .collect()
    }

    /// The pid of the init of a container's first instance.
    #[track_caller]
    pub fn init(&self, pod: &str, container: &str) -> i32 {
        let state = self.carob(&["state", &format!("default_{pod}_{container}_0")]).ok().json();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }

    /// The pid of a pod's supervisor.
    pub fn supervisor(&self, pod: &str) -> Option<i32> {
        let state = self.state(pod).display().to_string();
        let is_it = |line: &str| line.contains("\0supervise\0") && line.contains(&state);
        let all = processes(is_it);
        // Not a child of it, whose number may be lower. One that finds this one there is a later
        // process, and leaves.
        all.iter().copied().find(|pid| !all.iter().any(|other| parent(*pid) == Some(*other)))
    }

    /// Kills the supervisor of a pod and waits until it has gone.
    #[track_caller]
    pub fn crash(&self, pod: &str) {
        let pid = self.supervisor(pod).expect("a supervisor");
        make_orphans(pid);
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let end = Instant::now() + LIMIT;
        // Its command line goes before its locks do; with both gone it is a zombie or not there.
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
        };
        while lives() {
            assert!(Instant::now() < end, "the supervisor does not die");
            std::thread::yield_now();
        }
    }

    /// All that is left of pods: processes, mounts, cgroups, files.
    pub fn leaks(&self) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let mut found = Vec::new();
        for pid in processes(|line| line.contains(&dir)) {
            found.push(format!("process {pid}"));
        }
        let who = self.inside.as_ref().map_or("self".to_owned(), |holder| holder.id().to_string());
        let mounts = fs::read_to_string(format!("/proc/{who}/mountinfo")).unwrap();
        found.extend(
            mounts.lines().filter(|line| line.contains(&dir)).map(|l| format!("mount {l}")),
        );
        for hierarchy in cgroup::hierarchies() {
            let parent = hierarchy.join(self.driver.top(&self.marker).1);
            for group in cgroup::tree(&parent).iter().filter(|group| **group != parent) {
                found.push(format!("cgroup {}", group.display()));
            }
        }
        if self.driver == Driver::Systemd {
            found.extend(driver::scopes(&self.marker));
        }
        let networks = fs::read_dir(self.dir.join("data/networks")).into_iter().flatten().flatten();
        for network in networks {
            let entries = fs::read_dir(network.path()).unwrap().flatten();
            // One file for all pods of a network stays.
            let entries = entries.filter(|entry| entry.file_name() != "lock");
            found.extend(entries.map(|entry| format!("attachment {}", entry.path().display())));
        }
        for place in ["run/@pods", "data/pods", "logs"] {
            let entries = fs::read_dir(self.dir.join(place)).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| format!("file {}", entry.path().display())));
        }
        found
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let all = self.pod(&["ps", "-A", "--format", "name"]);
        for name in all.stdout.lines() {
            let name = name.trim_start_matches("pod/");
            if std::thread::panicking() {
                eprintln!("{}", self.pod(&["events", "--all", name]).stdout);
            }
            let removed = self.pod(&["rm", "--force", name]);
            if removed.code != 0 {
                eprintln!("pod rm {name}: {removed:?}");
            }
        }
        let mut leaks = self.leaks();
        let end = Instant::now() + Duration::from_secs(10);
        // A supervisor that has let go of its pod may need a moment to end.
        while !leaks.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            leaks = self.leaks();
        }
        if let Some(holder) = &mut self.inside {
            let _ended = holder.kill();
            let _reaped = holder.wait();
        }
        if self.driver == Driver::Systemd {
            driver::stop_slice(&self.marker);
        }
        for hierarchy in cgroup::hierarchies() {
            let _other_test = fs::remove_dir(hierarchy.join(&self.marker));
        }
        if leaks.is_empty() {
            let _best_effort = fs::remove_dir_all(&self.dir);
        } else if !std::thread::panicking() {
            panic!("left behind: {leaks:#?}");
        }
    }
}

/// Whether this kernel (Linux 6.15) tells how a process ended that was somebody else's to reap, as all are
/// whose supervisor was killed.
pub fn tells_ends_of_strangers() -> bool {
    is_linux(6, 15)
}

/// Whether this kernel is of a version or a later one.
pub fn is_linux(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Stops a supervisor that is about to be killed: its children become orphans, and, where this
/// process is a subreaper, zombies that nobody waits for until it ends.
pub fn make_orphans(parent: i32) {
    let _gone = kill(Pid::from_raw(parent), Signal::SIGSTOP);
    let children = processes(|_| true).into_iter().filter(|pid| self::parent(*pid) == Some(parent));
    children.for_each(|child| leaks::expect(Pid::from_raw(child)));
}

/// The parent of a process, if there is such a process.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a condition of a pod is True.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let of_kind = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    of_kind.is_some_and(|condition| condition["status"] == "True")
}

/// Pids of processes by their command line, whose arguments are separated by NUL.
pub fn processes(wanted: impl Fn(&str) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_us = pid == i32::try_from(std::process::id()).unwrap();
        if !is_us && wanted(&String::from_utf8_lossy(&line)) {
            found.push(pid);
        }
    }
    found
}
