//! A state root, bundles, and what must not change.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carob::container::{
    CgroupDriver, CreateOptions, Force, Keyring, Launch, Launched, RootSwitch, Rootless, Runtime,
    Stdio,
};
use carob::error::Result;
use carob::sys::process::{self, Child, Exit};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

pub const DEADLINE: Duration = Duration::from_secs(90);

static SCENES: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub struct Scene {
    pub marker: String,
    pub dir: PathBuf,
    pub runtime: Runtime,
    mounts: String,
}

/// What a call must leave as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    fds: Vec<String>,
    status: Vec<String>,
    cwd: PathBuf,
    pid_namespace: PathBuf,
    is_dumpable: bool,
    children: String,
}

impl Caller {
    pub fn now() -> Self {
        let fds = fs::read_dir("/proc/self/fd").unwrap();
        let mut fds: Vec<String> = fds
            .filter_map(|fd| {
                let fd = fd.unwrap().path();
                let target = fs::read_link(&fd).ok()?;
                let own = target.starts_with("/proc") && target.ends_with("fd");
                (!own).then(|| format!("{} {}", fd.display(), target.display()))
            })
            .collect();
        fds.sort();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kept = ["SigBlk", "SigIgn", "SigCgt", "Cpus_allowed:", "Umask", "Uid", "NSpid", "Cap"];
        let status = status.lines().filter(|line| kept.iter().any(|k| line.starts_with(k)));
        let pid = std::process::id();
        Self {
            fds,
            status: status.map(str::to_owned).collect(),
            cwd: std::env::current_dir().unwrap(),
            pid_namespace: fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
            is_dumpable: process::is_dumpable(),
            children: fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(),
        }
    }
}

impl Scene {
    pub fn new() -> Self {
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let marker = format!("carob-launch-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&marker);
        fs::create_dir(&dir).unwrap();
        let runtime = Runtime {
            root: dir.join("state"),
            cgroup_driver: CgroupDriver::Cgroupfs,
            rootless: Rootless::Auto,
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        Self { marker, dir, runtime, mounts }
    }

    /// Names what the check has left behind.
    pub fn end(self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.dir.join("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().unwrap();
            left.push(format!("container {id}"));
            self.runtime.delete(&id, Force::Yes).unwrap();
        }
        if fs::read_to_string("/proc/self/mountinfo").unwrap() != self.mounts {
            left.push("a mount".into());
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            let parent = hierarchy.join(&self.marker);
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    left.push(entry.path().display().to_string());
                }
            }
            fs::remove_dir(parent).ok();
        }
        fs::remove_dir_all(&self.dir).unwrap();
        left
    }

    /// A bundle of busybox that runs `script`.
    pub fn bundle(&self, id: &str, script: &str, edit: impl FnOnce(&mut Value)) -> CreateOptions {
        let busybox = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/busybox");
        let text = fs::read_to_string(busybox.join("config.json")).unwrap();
        let mut spec: Value = serde_json::from_str(&text).unwrap();
        spec["root"]["path"] = json!(busybox.join("rootfs"));
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.marker));
        edit(&mut spec);
        let bundle = self.dir.join(format!("bundle-{id}"));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        CreateOptions {
            id: id.to_owned(),
            bundle,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            root_switch: RootSwitch::Pivot,
            keyring: Keyring::New,
            preserve_fds: 0,
        }
    }

    pub fn launch(
        &self,
        options: &CreateOptions,
        rootfs: Option<OwnedFd>,
    ) -> (Result<Launched>, File) {
        let (read, stdio) = streams();
        let launched = self.runtime.launch(Launch { options, stdio: Stdio::Fds(stdio), rootfs });
        (launched, read)
    }

    /// Launches, starts, and gives the output's reading end.
    pub fn run(&self, options: &CreateOptions) -> (Child, File) {
        let (launched, read) = self.launch(options, None);
        (launched.unwrap().start().unwrap().0, read)
    }

    /// A container that sleeps.
    pub fn sleeper(&self, edit: impl FnOnce(&mut Value)) -> Child {
        self.run(&self.bundle("c", "exec sleep 1000", edit)).0
    }

    pub fn delete(&self, id: &str, child: &Child) {
        process::pidfd_send_signal(&child.pidfd, libc::SIGKILL).ok();
        wait(child);
        self.runtime.delete(id, Force::Yes).unwrap();
    }
}

/// A pipe's reading end, and standard streams that lead to it.
pub fn streams() -> (File, [OwnedFd; 3]) {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    (read.into(), [null.into(), write.try_clone().unwrap(), write])
}

pub fn wait(child: &Child) -> Exit {
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&child.pidfd), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).unwrap();
    assert_eq!(poll(&mut fds, timeout).unwrap(), 1, "{child:?} goes on");
    process::wait(&child.pidfd).unwrap()
}

pub fn text(mut read: File) -> String {
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    text
}

pub fn eventually(what: &str, check: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
