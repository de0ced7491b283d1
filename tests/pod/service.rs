//! `pod run --supervise` below a service manager, and the unit that docs/ has for systemd.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{Scene, make_orphans};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carob-pod@.service");

/// A service manager of one service.
struct Manager {
    socket: UnixDatagram,
    service: Child,
}

impl Manager {
    fn start(scene: &Scene, text: &str) -> Self {
        let address = scene.dir().join("notify");
        let _old = fs::remove_file(&address);
        let socket = UnixDatagram::bind(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let path = scene.manifest("service.yaml", text);
        let args = scene.run_args("run", &["--supervise", "--replace"], &[&path]);
        let service = scene
            .command(&args.iter().map(String::as_str).collect::<Vec<_>>())
            .env("NOTIFY_SOCKET", &address)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket, service }
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 256];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.expect("a message of the service"),
            }
        };
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn signal(&self, signal: Signal) {
        if signal == Signal::SIGKILL {
            make_orphans(i32::try_from(self.service.id()).unwrap());
        }
        kill(Pid::from_raw(i32::try_from(self.service.id()).unwrap()), signal).unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.service.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the service goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

const WEB: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: IMAGE, command: [sleep, '1000']}
";

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_service_is_ready_with_its_pod_and_is_stopped_by_sigterm() {
    let scene = Scene::new();
    let manager = Manager::start(&scene, WEB);
    assert_eq!(manager.hears(), "READY=1");
    scene.wait_ready("web");
    let id = scene.container("web", "one")["containerID"].clone();

    // Killed and started again: it finds its containers, and is ready at once.
    manager.signal(Signal::SIGKILL);
    assert_eq!(manager.ends(), None);
    let manager = Manager::start(&scene, WEB);
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(scene.container("web", "one")["containerID"], id);

    manager.signal(Signal::SIGTERM);
    assert_eq!(manager.hears(), "STOPPING=1");
    assert_eq!(manager.ends(), Some(0), "it was asked to");
    assert!(scene.container("web", "one")["state"]["terminated"].is_object());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_service_takes_its_pod_over_from_a_supervisor_that_a_verb_has_brought_back() {
    let scene = Scene::new();
    let manager = Manager::start(&scene, WEB);
    assert_eq!(manager.hears(), "READY=1");
    let id = scene.container("web", "one")["containerID"].clone();
    manager.signal(Signal::SIGKILL);
    manager.ends();
    scene.pod(&["ps"]).ok();
    let other = scene.supervisor("web").expect("of the verb");

    let manager = Manager::start(&scene, WEB);
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(scene.supervisor("web"), None, "{other} has left");
    assert_eq!(scene.container("web", "one")["containerID"], id);
    manager.signal(Signal::SIGTERM);
    assert_eq!(manager.ends(), Some(0));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_service_ends_with_its_pod_and_tells_how() {
    let scene = Scene::new();
    let ends = |script: &str| {
        let more = "restartPolicy: Never\n  terminationGracePeriodSeconds: 1";
        WEB.replace("terminationGracePeriodSeconds: 1", more)
            .replace("[sleep, '1000']", &format!("[sh, -c, '{script}']"))
    };
    let manager = Manager::start(&scene, &ends("exit 3"));
    assert_eq!(manager.ends(), Some(3));
    // Changed: replaced. One that is never ready but succeeds has done what it was started for.
    let manager = Manager::start(&scene, &ends("exit 0"));
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(manager.ends(), Some(0));
    // The same again: a new life of the pod.
    let manager = Manager::start(&scene, &ends("exit 0"));
    assert_eq!(manager.ends(), Some(0));
    assert_eq!(scene.container("web", "one")["restartCount"], 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn systemd_understands_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let scene = Scene::new();
    let unit = scene.dir().join("carob-pod@web.service");
    let text = fs::read_to_string(UNIT).unwrap();
    fs::write(&unit, text.replace("/usr/bin/carob", env!("CARGO_BIN_EXE_carob"))).unwrap();
    let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let said = String::from_utf8(out.unwrap().stderr).unwrap();
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("carob")).collect();
    assert_eq!(about_it, Vec::<&str>::new());
}

#[test]
fn the_unit_says_what_pods_rely_on() {
    let text = fs::read_to_string(UNIT).unwrap();
    let mut section = "";
    let mut keys = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').expect(line);
        keys.push((section, key, value));
    }
    let expected = [
        ("Unit", "After", "network-online.target"),
        ("Service", "Type", "notify"),
        ("Service", "NotifyAccess", "main"),
        (
            "Service",
            "ExecStart",
            "/usr/bin/carob pod run --supervise --replace /etc/carob/pods/%i.yaml",
        ),
        ("Service", "Restart", "on-failure"),
        ("Service", "KillMode", "process"),
        ("Service", "Delegate", "yes"),
        ("Service", "TimeoutStartSec", "infinity"),
        ("Service", "TimeoutStopSec", "infinity"),
        ("Install", "WantedBy", "multi-user.target"),
    ];
    for entry in expected {
        assert!(keys.contains(&entry), "{entry:?} is not in {keys:?}");
    }
}
