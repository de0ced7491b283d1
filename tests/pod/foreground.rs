//! `pod run` in the foreground: shows what happens, stops the pod on Ctrl-C, ends as it ended.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{Scene, tells_ends_of_strangers};

/// `carob pod run FLAGS` of a manifest, in the foreground.
struct Foreground {
    child: Child,
    lines: BufReader<ChildStdout>,
    seen: String,
}

impl Foreground {
    fn run(scene: &Scene, flags: &[&str], text: &str) -> Self {
        let path = scene.manifest("foreground.yaml", text);
        let args = scene.run_args("run", flags, &[&path]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = scene.command(&args);
        // As a shell does with its jobs: the signal is to reach nobody else.
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, seen: String::new() }
    }

    /// Reads up to a line that holds a text.
    #[track_caller]
    fn wait(&mut self, text: &str) {
        loop {
            let start = self.seen.len();
            let read = self.lines.read_line(&mut self.seen).unwrap();
            assert!(read > 0, "{text:?} never came: {}", self.seen);
            if self.seen[start..].contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Everything it has printed, and its exit code.
    fn end(mut self) -> (String, i32) {
        self.lines.read_to_string(&mut self.seen).unwrap();
        (self.seen, self.child.wait().unwrap().code().unwrap_or(-1))
    }
}

/// The lines without their times.
fn without_times(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.get(9..).unwrap_or(line)).collect()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_shows_each_transition_and_exits_as_the_container_did() {
    let scene = Scene::new();
    let run = Foreground::run(
        &scene,
        &[],
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  initContainers: [{name: setup, image: IMAGE, command: ['true']}]
  containers: [{name: app, image: IMAGE, command: [sh, -c, 'sleep 0.2; exit 7']}]
",
    );
    let (seen, code) = run.end();
    assert_eq!(code, 7, "{seen}");
    let (first, rest) = seen.split_once('\n').unwrap();
    assert_eq!(first, "pod/web created");
    let expected = [
        "pod    Sandbox started",
        "setup  Started",
        "setup  Exited: exit code 0",
        "app    Started",
        "app    Ready",
        "pod    Ready",
        "app    Exited: exit code 7",
        "pod    Not ready",
        "pod    Stopping: finished",
        "pod    Failed",
    ];
    let shown = without_times(rest);
    assert_eq!(shown, expected, "{seen}");
    assert!(!seen.contains('\x1b'), "{seen}");
    // It is still there.
    assert_eq!(scene.status("web"), "Error");
}

const PATIENT: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: app
    image: IMAGE
    command: [sh, -c, \"trap 'sleep 0.2; exit 5' TERM; echo up; while :; do sleep 0.05; done\"]
";

#[test]
#[ignore = "needs root: run scripts/test"]
fn ctrl_c_stops_the_pod_and_rm_removes_it() {
    let scene = Scene::new();
    let mut run = Foreground::run(&scene, &["--rm"], PATIENT);
    run.wait("pod  Ready");
    scene.wait_log("web", "app", "up");
    run.signal(Signal::SIGINT);
    let (seen, code) = run.end();
    assert_eq!(code, 5, "{seen}");
    assert!(seen.contains("Stopping") && seen.contains("exit code 5"), "{seen}");
    scene.pod(&["inspect", "web"]).fails(1, &["pods \"web\" not found"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_second_ctrl_c_does_not_wait_for_the_grace() {
    let scene = Scene::new();
    let text = PATIENT.replace("sleep 0.2; exit 5", "");
    let mut run = Foreground::run(&scene, &[], &text);
    run.wait("pod  Ready");
    scene.wait_log("web", "app", "up");
    run.signal(Signal::SIGINT);
    run.wait("Stopping");
    run.signal(Signal::SIGINT);
    let (seen, code) = run.end();
    assert_eq!(code, 137, "{seen}");
    assert!(seen.contains("Killed"), "{seen}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_pod_goes_on_if_who_shows_it_is_killed_and_can_be_shown_again() {
    let scene = Scene::new();
    let mut run = Foreground::run(&scene, &[], PATIENT);
    run.wait("pod  Ready");
    scene.wait_log("web", "app", "up");
    run.signal(Signal::SIGKILL);
    run.end();
    assert_eq!(scene.status("web"), "Running");
    let mut again = Foreground::run(&scene, &["--rm"], PATIENT);
    again.wait("pod/web unchanged");
    again.signal(Signal::SIGTERM);
    let (seen, code) = again.end();
    assert_eq!(code, 5, "{seen}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_brings_back_a_supervisor_that_is_killed() {
    let scene = Scene::new();
    let mut run = Foreground::run(
        &scene,
        &[],
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers: [{name: app, image: IMAGE, command: [sh, -c, 'sleep 2; exit 4']}]
",
    );
    run.wait("Started");

    scene.crash("web");

    let (seen, code) = run.end();
    assert!(code == 4 || code == 137 && !tells_ends_of_strangers(), "{code}: {seen}");
    assert!(seen.contains(&format!("exit code {code}")), "{seen}");
}
