//! Engines with systemd as their cgroup manager, on a machine that systemd has booted: its own
//! cgroups and bus, directories and daemons of the test's. `scripts/test --hosts all` has one.

use crate::document::snippet;
use crate::image::{self, BUSYBOX};
use crate::support::call::Call;
use crate::support::driver::{self, systemctl};
use crate::support::user::UID;
use crate::support::{Output, Running, cgroup, default_config, rootfs, runtime, skip};
use crate::yard::wait;
use nix::unistd::Pid;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a step of an engine may take, on a machine that is emulated.
const LIMIT: Duration = Duration::from_secs(240);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Directories of a test, on a machine with systemd.
#[derive(Debug)]
struct Site {
    dir: PathBuf,
    groups: Arc<Mutex<Vec<Pid>>>,
    calls: AtomicU32,
    /// Who calls, if not root.
    user: Option<u32>,
}

impl Site {
    /// `None` (skip) without systemd or one of the programs.
    fn new(programs: &[&str]) -> Option<Self> {
        if !driver::has_systemd() {
            skip("systemd does not run here");
            return None;
        }
        let is_there = |name: &str| {
            ["/usr/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(name).exists())
        };
        if let Some(missing) = programs.iter().find(|name| !is_there(name)) {
            skip(&format!("{missing} is not installed"));
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("carob-site-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Some(Self { dir, groups: Arc::default(), calls: AtomicU32::new(0), user: None })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// What docs/clients.md says, with the runtime where it is.
    fn write(&self, name: &str, text: &str) {
        let text = text.replace("/usr/local/bin/carob", runtime().to_str().unwrap());
        fs::write(self.dir.join(name), text).unwrap();
    }

    fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Call {
        let files = self.dir.join(format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed)));
        let Some(uid) = self.user else {
            return Call::new("env", files, &self.groups).args(args).within(LIMIT);
        };
        let uid = uid.to_string();
        let become_it = ["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"];
        Call::new("setpriv", files, &self.groups)
            .args(&become_it)
            .args(args)
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", driver::runtime_dir_of_user())
            .within(LIMIT)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is mounted below was mounted by an engine, which has failed.
        Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.dir).status().unwrap();
    }
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// That systemd, and the kernel, have these limits of a container.
#[track_caller]
fn limited(unit: &str, memory: u64, pids: u64, at: &str) {
    assert_eq!(property(unit, "MemoryMax"), memory.to_string(), "{at}");
    assert_eq!(property(unit, "TasksMax"), pids.to_string(), "{at}");
    let dir = property(unit, "ControlGroup");
    let dir = cgroup::hierarchy("memory").join(dir.trim_start_matches('/'));
    let file = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    assert_eq!(file("memory.max"), memory.to_string(), "{at}");
    assert_eq!(file("pids.max"), pids.to_string(), "{at}");
}

fn gone(unit: &str) {
    wait(&format!("{unit} to be forgotten"), || match property(unit, "LoadState") {
        state if state == "not-found" => Ok(()),
        state => Err(state),
    });
}

/// Whether the user of the tests has ids and a systemd of its own; else the test is skipped.
fn is_user_ready() -> bool {
    let granted = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let is_ready = granted.contains("carobtest:") && driver::start_manager_of_user();
    if !is_ready {
        skip("no user with the uid of the tests, and ids granted to it");
    }
    is_ready
}

/// Podman with its images in the test's directory.
struct Podman {
    site: Site,
}

impl Podman {
    fn new(site: Site) -> Self {
        let given = snippet("Podman and Buildah", "toml");
        assert!(given.contains("cgroup_manager = \"systemd\""), "{given}");
        let more = "[engine]\nevents_logger = \"file\"\ninfra_image = \"localhost/pause:latest\"";
        let text = given.replacen("[engine]", more, 1);
        site.write(
            "containers.conf",
            &format!("{text}\n[containers]\nlog_driver = \"k8s-file\"\n"),
        );
        image::write(&site.dir.join("images.tar"));
        if let Some(uid) = site.user {
            for name in ["", "images.tar", "containers.conf"] {
                std::os::unix::fs::chown(site.dir.join(name), Some(uid), Some(uid)).unwrap();
            }
        }
        let this = Self { site };
        this.run(&["load", "--quiet", "--input", &this.site.path("images.tar")]).ok();
        this
    }

    fn run(&self, args: &[&str]) -> Output {
        let [storage, run, tmp] = ["storage", "run", "tmp"].map(|name| self.site.path(name));
        let own = ["podman", "--root", &storage, "--runroot", &run, "--tmpdir", &tmp];
        let call = self.site.call(&[&own, args].concat());
        call.env("CONTAINERS_CONF", self.site.path("containers.conf")).output()
    }

    fn inspect(&self, name: &str, template: &str) -> String {
        self.run(&["inspect", "--format", template, name]).ok().text().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        self.run(&["pod", "rm", "--all", "--force"]);
    }
}

const SLEEP: [&str; 3] = [BUSYBOX, "sleep", "1000"];

#[test]
#[ignore = "needs root: run scripts/test"]
fn podman_has_systemd_make_its_scopes() {
    let Some(site) = Site::new(&["podman", "conmon"]) else { return };
    let on = Podman::new(site);
    let flags = ["run", "--detach", "--network", "none", "--memory", "64m", "--pids-limit", "55"];
    on.run(&[&flags[..], &["--name", "web"], &SLEEP].concat()).ok();
    let unit = format!("libpod-{}.scope", on.inspect("web", "{{.Id}}"));
    assert_eq!(property(&unit, "Slice"), "machine.slice");
    limited(&unit, 64 << 20, 55, "at first");
    systemctl(&["daemon-reload"]);
    limited(&unit, 64 << 20, 55, "reloaded");
    let out = on.run(&["exec", "web", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    on.run(&["update", "--memory", "32m", "web"]).ok();
    limited(&unit, 32 << 20, 55, "updated");
    let out = on.run(&["stats", "--no-stream", "--format", "{{.PIDS}} {{.MemUsage}}", "web"]).ok();
    assert!(out.text().starts_with("1 "), "{out:?}");
    on.run(&["pause", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}}"), "paused");
    on.run(&["unpause", "web"]).ok();
    on.run(&["kill", "web"]).ok();
    assert_eq!(on.run(&["wait", "web"]).ok().text(), "137");
    on.run(&["rm", "web"]).ok();
    gone(&unit);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn podman_has_a_slice_for_a_pod() {
    let Some(site) = Site::new(&["podman", "conmon"]) else { return };
    let on = Podman::new(site);
    on.run(&["pod", "create", "--name", "p", "--network", "none"]).ok();
    on.run(&[&["run", "--detach", "--pod", "p", "--name", "web"], &SLEEP[..]].concat()).ok();
    let pod = on.run(&["pod", "inspect", "--format", "{{.ID}}", "p"]).ok();
    let slice = format!("machine-libpod_pod_{}.slice", pod.text());
    let unit = format!("libpod-{}.scope", on.inspect("web", "{{.Id}}"));
    assert_eq!(property(&unit, "Slice"), slice);
    on.run(&["pod", "rm", "--force", "--time", "0", "p"]).ok();
    gone(&unit);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn podman_of_a_user_asks_the_users_systemd() {
    let Some(mut site) = Site::new(&["podman", "conmon", "newuidmap"]) else { return };
    if !is_user_ready() {
        return;
    }
    site.user = Some(UID);
    let on = Podman::new(site);
    let flags = ["run", "--detach", "--network", "none", "--memory", "64m", "--pids-limit", "55"];
    on.run(&[&flags[..], &["--name", "web"], &SLEEP].concat()).ok();
    let unit = format!("libpod-{}.scope", on.inspect("web", "{{.Id}}"));
    let show = |name: &str| {
        driver::systemctl_of_user(&["show", "--value", "--property", name, &unit]).trim().to_owned()
    };
    assert_eq!(show("MemoryMax"), (64 << 20).to_string());
    assert_eq!(show("TasksMax"), "55");
    let script = "id -u; cat /sys/fs/cgroup/memory.max; exit 3";
    let out = on.run(&["exec", "web", "sh", "-c", script]);
    assert_eq!((out.code, out.text()), (3, "0\n67108864"), "{out:?}");
    on.run(&["kill", "web"]).ok();
    assert_eq!(on.run(&["wait", "web"]).ok().text(), "137");
    on.run(&["rm", "web"]).ok();
    assert_eq!(show("LoadState"), "not-found");
    let out = on.run(&["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "echo x; exit 4"]);
    assert_eq!((out.code, out.text()), (4, "x"), "{out:?}");
}

/// A daemon that listens on a socket of the test's.
fn daemon(site: &Site, args: &[&str], answers: impl Fn() -> Output) -> Running {
    let daemon = site.call(args).spawn();
    wait(args[0], || {
        let out = answers();
        if out.code == 0 { Ok(()) } else { Err(daemon.stderr()) }
    });
    daemon
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn containerds_shim_has_systemd_make_a_scope() {
    let Some(site) = Site::new(&["containerd", "ctr"]) else { return };
    let [root, state, socket, tar] =
        ["root", "state", "socket", "images.tar"].map(|name| site.path(name));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = {socket:?}\n"
    );
    site.write("config.toml", &config);
    image::write(&site.dir.join("images.tar"));
    let ctr = |args: &[&str]| site.call(&[&["ctr", "--address", &socket], args].concat()).output();
    let config = site.path("config.toml");
    let _daemon = daemon(&site, &["containerd", "--config", &config], || ctr(&["version"]));
    ctr(&["images", "import", &tar]).ok();
    let name = format!("site{}", std::process::id());
    let binary = runtime();
    let binary = ["--runc-binary", binary.to_str().unwrap(), "--runc-systemd-cgroup"];
    let cgroup = format!("{name}.slice:ctr:web");
    let flags = ["--detach", "--memory-limit", "67108864", "--cgroup", &cgroup];
    ctr(&[&["run"], &binary[..], &flags, &[BUSYBOX, "web", "sleep", "1000"]].concat()).ok();
    let unit = "ctr-web.scope";
    assert_eq!(property(unit, "Slice"), format!("{name}.slice"));
    assert_eq!(property(unit, "MemoryMax"), "67108864");
    let out = ctr(&["task", "exec", "--exec-id", "e", "web", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    let metrics = ctr(&["task", "metrics", "web"]).ok();
    assert!(metrics.stdout.contains("pids.current"), "{metrics:?}");
    ctr(&["task", "pause", "web"]).ok();
    ctr(&["task", "resume", "web"]).ok();
    ctr(&["task", "kill", "--signal", "SIGKILL", "web"]).ok();
    wait("the end of the task", || {
        let list = ctr(&["task", "ls"]).stdout;
        if list.contains("STOPPED") { Ok(()) } else { Err(list) }
    });
    ctr(&["task", "rm", "web"]);
    ctr(&["containers", "rm", "web"]).ok();
    gone(unit);
    systemctl(&["stop", &format!("{name}.slice")]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn docker_has_systemd_make_its_scopes() {
    let Some(site) = Site::new(&["dockerd", "docker", "containerd"]) else { return };
    site.write("daemon.json", &snippet("Docker", "json"));
    image::write(&site.dir.join("images.tar"));
    let [config, data, exec, pid, tar] =
        ["daemon.json", "data", "exec", "pid", "images.tar"].map(|name| site.path(name));
    let socket = format!("unix://{}", site.path("socket"));
    let docker =
        |args: &[&str]| site.call(&[&["docker", "--host", &socket], args].concat()).output();
    let own = ["--config-file", &config, "--data-root", &data, "--exec-root", &exec];
    let more = ["--pidfile", &pid, "--host", &socket, "--bridge", "none", "--iptables=false"];
    let _daemon = daemon(&site, &[&["dockerd"], &own[..], &more].concat(), || docker(&["version"]));
    let chosen = docker(&["info", "--format", "{{.CgroupDriver}} {{.DefaultRuntime}}"]).ok();
    assert_eq!(chosen.text(), "systemd carob");
    docker(&["load", "--quiet", "--input", &tar]).ok();
    let flags = ["run", "--detach", "--network", "none", "--memory", "64m", "--pids-limit", "55"];
    docker(&[&flags[..], &["--name", "web"], &SLEEP].concat()).ok();
    let id = docker(&["inspect", "--format", "{{.Id}}", "web"]).ok();
    let unit = format!("docker-{}.scope", id.text());
    assert_eq!(property(&unit, "Slice"), "system.slice");
    limited(&unit, 64 << 20, 55, "at first");
    let out = docker(&["exec", "web", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    docker(&["update", "--memory", "32m", "--memory-swap", "32m", "web"]).ok();
    limited(&unit, 32 << 20, 55, "updated");
    docker(&["pause", "web"]).ok();
    docker(&["unpause", "web"]).ok();
    docker(&["kill", "web"]).ok();
    assert_eq!(docker(&["wait", "web"]).ok().text(), "137");
    docker(&["rm", "web"]).ok();
    gone(&unit);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn rootlesskit_of_a_user_runs_containers() {
    let Some(mut site) = Site::new(&["rootlesskit", "newuidmap"]) else { return };
    if !is_user_ready() {
        return;
    }
    site.user = Some(UID);
    let bundle = site.dir.join("bundle");
    fs::create_dir(&bundle).unwrap();
    let mut spec = default_config();
    spec["root"]["path"] = json!(rootfs());
    let script = "id -u; cat /proc/self/uid_map | wc -l; touch /dev/shm/x && stat -c %u /dev/shm/x";
    spec["process"]["args"] = json!(["sh", "-c", script]);
    let linux = spec["linux"].as_object_mut().unwrap();
    linux.remove("resources");
    linux.remove("cgroupsPath");
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    std::os::unix::fs::chown(&site.dir, Some(UID), Some(UID)).unwrap();
    let [state, root] = ["kit", "state"].map(|name| site.path(name));
    let runtime = runtime();
    let kit = ["rootlesskit", "--state-dir", &state, runtime.to_str().unwrap(), "--root", &root];
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "c"];
    let out = site.call(&[&kit[..], &run].concat()).output().ok();
    assert_eq!(out.text(), "0\n2\n0", "{out:?}");
}
