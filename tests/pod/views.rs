//! The verbs that only look, at real pods.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scene::{Output, Scene};
use crate::support::wait_until;

/// Everything that a pod can go through: init, sidecar, probes, a restart.
const RICH: &str = "apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web, text: 'yes'}
  annotations: {carob/probe-periods: 'app/startup=100ms app/readiness=100ms', note: 'a: b # c'}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: setup, image: IMAGE, command: [sleep, '0.2']}
  - {name: side, image: IMAGE, restartPolicy: Always, command: [sleep, '1000']}
  containers:
  - name: app
    image: IMAGE
    volumeMounts: [{name: v, mountPath: /v}]
    command:
    - sh
    - -c
    - |
      echo x >> /v/n
      [ $(wc -l < /v/n) = 2 ] || exit 3
      sleep 0.3
      touch /tmp/up
      exec sleep 1000
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: [test, -e, /tmp/up]}, failureThreshold: 1000}
    readinessProbe: {exec: {command: ['true']}}
    resources: {requests: {cpu: 10m, memory: 16Mi}}
";

/// A pod `job` of one container that ends.
fn job(script: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: job}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - {{name: c, image: IMAGE, command: [sh, -c, '{script}']}}
"
    )
}

/// A call that goes on, and its output line by line.
struct Watching {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn new(scene: &Scene, args: &[&str]) -> Self {
        let mut child = scene.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads up to a line with these words.
    #[track_caller]
    fn until(&mut self, words: &[&str]) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "no {words:?} in {seen}");
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            seen += &line;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

fn with_stdin(scene: &Scene, args: &[&str], text: &str) -> Output {
    let mut command = scene.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_is_watched_and_drawn_from_its_first_moment_on() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root()).unwrap();
    let mut rows = Watching::new(&scene, &["pod", "ps", "--watch"]);
    scene.run(RICH);
    rows.until(&["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    rows.until(&["web", "0/2", "Init:0/2"]);
    rows.until(&["web", "1/2", "Running", " 1 ("]);
    rows.until(&["web", "2/2", "Running", " 1 ("]);
    scene.wait_ready("web");

    let table = scene.pod(&["ps", "-o", "wide"]).ok().stdout;
    assert!(table.lines().nth(1).unwrap().contains("127.0.0.1"), "{table}");
    let list = scene.pod(&["ps", "--format", "json"]).ok().json();
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
    assert_eq!(scene.pod(&["ps", "--format", "name"]).ok().stdout, "pod/web\n");

    let events = scene.pod(&["events", "web"]).ok().stdout;
    for reason in ["Pulled", "Created", "Started", "Unhealthy"] {
        assert!(events.contains(reason), "{events}");
    }
    assert!(!events.contains("Transition"), "{events}");

    let timeline = scene.pod(&["timeline", "web", "--format", "json"]).ok().json();
    let lanes = timeline["lanes"].as_array().unwrap();
    let names: Vec<_> = lanes.iter().map(|lane| lane["name"].as_str().unwrap()).collect();
    assert!(["setup", "side", "app"].iter().all(|name| names.contains(name)), "{names:?}");
    let text = scene.pod(&["timeline", "web"]).ok().stdout;
    assert!(["setup", "side", "app"].iter().all(|name| text.contains(name)), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let picture = scene.dir().join("web.svg");
    scene.pod(&["timeline", "web", "-f", "svg", "-o", picture.to_str().unwrap()]).ok();
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") || svg.starts_with("<?xml"), "{svg}");
    assert!(svg.trim_end().ends_with("</svg>") && svg.contains("app"), "{svg}");

    let mut news = Watching::new(&scene, &["pod", "events", "--all", "--watch", "web"]);
    news.until(&["PodReady"]);
    scene.pod(&["stop", "web"]).ok();
    news.until(&["Killing", "app"]);
    news.until(&["Ended"]);
    rows.until(&["web", "0/2"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_inspected_pod_is_a_manifest_again() {
    let scene = Scene::new();
    scene.run(RICH);
    scene.wait_ready("web");
    let yaml = scene.pod(&["inspect", "web"]).ok().stdout;
    let whole = with_stdin(&scene, &["pod", "validate", "-"], &yaml).ok();
    assert!(whole.stdout.starts_with("pod/web valid\n"), "{whole:?}");
    let end = yaml.find("\nstatus:").unwrap();
    with_stdin(&scene, &["pod", "validate", "-"], &yaml[..=end]).ok();
    let again = yaml[..=end].replace("  name: web\n", "  name: again\n");
    assert_ne!(again, yaml[..=end]);

    scene.try_run(&again).fails(1, &["metadata.uid: pod \"web\" has the uid"]);
    assert!(scene.pod(&["ps", "again"]).stdout.is_empty());
    // What is printed of the second one is what was of the first.
    let new: Vec<&str> = again.lines().filter(|line| !line.starts_with("  uid:")).collect();
    scene.run(&new.join("\n"));
    let spec = |pod: &str| scene.inspect(pod)["spec"].clone();
    assert_eq!(spec("again"), spec("web"));
    let annotations = scene.inspect("again")["metadata"]["annotations"].clone();
    assert_eq!(annotations["note"], "a: b # c");
    scene.wait_ready("again");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn wait_ends_when_the_pod_is_there_or_never_will_be() {
    let scene = Scene::new();
    let job = job("while [ ! -e /go ]; do sleep 0.1; done; exit 3");
    scene.run(&job);
    let wait = |args: &[&str]| scene.pod(&[&["wait", "job"], args].concat());
    wait(&["--for=ready"]).ok();
    wait(&["--for=running", "--timeout", "0"]).ok();
    wait(&["--for=exit", "--timeout", "200ms"]).fails(1, &["timed out waiting for pod job"]);
    let waiting = scene.command(&["pod", "wait", "job", "--for=exit"]).spawn().unwrap();
    scene.sh("job", "c", "touch /go").ok();

    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(3));
    wait(&["--for=stopped"]).ok();
    wait(&["--for=ready", "--timeout", "10s"]).fails(1, &["pod job will not be ready"]);
    scene.pod(&["wait", "none"]).fails(1, &["\"none\" not found"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn stats_tell_what_is_used() {
    let scene = Scene::new();
    scene.run(&job("while :; do :; done"));
    scene.wait_ready("job");
    let stats = |args: &[&str]| scene.pod(&[&["stats", "--interval", "300ms"], args].concat()).ok();
    let table = stats(&["job"]).stdout;
    assert!(table.contains("job") && table.contains('c'), "{table}");
    assert_eq!(stats(&[]).stdout.lines().count(), table.lines().count());
    assert_eq!(stats(&["--namespace", "other"]).stdout.lines().count(), 1);
    let all = stats(&["-A", "--format", "json"]).json();
    assert!(all[0]["total"]["memoryBytes"].as_u64().unwrap() > 0, "{all:#}");
    assert!(all[0]["total"].to_string().contains("cpu"), "{all:#}");
    let mut again =
        Watching::new(&scene, &["pod", "stats", "--watch", "--interval", "100ms", "job"]);
    again.until(&["job"]);
    again.until(&["job"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn words_of_kubectl_are_understood() {
    let scene = Scene::new();
    let manifest = scene.manifest("job.yaml", &job("echo here; sleep 1000"));
    let manifest = manifest.to_str().unwrap();
    assert_eq!(scene.pod(&["validate", "-f", manifest]).ok().stdout, "pod/job valid\n");
    scene.pod(&["validate"]).fails(1, &["FILE|DIR|-"]);
    scene.run(&job("echo here; sleep 1000"));
    scene.pod(&["wait", "pod/job", "--for=condition=Ready", "--timeout", "20s"]).ok();
    scene.wait_log("job", "c", "here");
    assert_eq!(scene.pod(&["logs", "pod/job"]).ok().stdout, "here\n");
    scene.pod(&["logs", "-n", "../other", "job"]).fails(1, &["is no name"]);
}

/// Lines of the examples of a verb's help.
fn examples(scene: &Scene, verb: &str) -> Vec<String> {
    let help = scene.pod(&[verb, "--help"]).ok().stdout;
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{help}"));
    examples.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The example as it is typed: without its explanation, which two spaces set off.
fn typed(example: &str) -> &str {
    example.split("   ").next().unwrap().split("  ").next().unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_examples_of_the_help_work() {
    let scene = Scene::new();
    let ran = RICH.replace("name: app", "name: nginx").replace("app/", "nginx/").replace(
        "  - {name: side,",
        "  - {name: proxy, image: IMAGE, restartPolicy: Always, command: [sleep, '1000']}
  - {name: shell, image: IMAGE, restartPolicy: Always, stdin: true, command: [cat]}
  - {name: side,",
    );
    let pod = scene.manifest("pod.yaml", &ran);
    fs::create_dir(scene.dir().join("config")).unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: v}\n";
    fs::write(scene.dir().join("config/map.yaml"), map).unwrap();
    fs::write(scene.dir().join("script"), "echo hello\n").unwrap();
    let made = scene.run_args("run", &["-d"], &[&pod]);
    scene.carob(&made.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    scene.wait_ready("web");
    let run = job("sleep 0.2");
    scene.run(&run);
    scene.wait_phase("job", "Succeeded");
    scene.run(&job("sleep 1000").replace("name: job", "name: db"));
    scene.wait_ready("db");

    let flags = scene.run_args("run", &[], &[])[2..].join(" ");
    let prelude = format!(
        "carob() {{ case $2 in run|create) v=$2; shift 2; set -- pod $v {flags} \"$@\" ;; esac; \
         {} --root {} \"$@\"; }}; ",
        env!("CARGO_BIN_EXE_carob"),
        scene.root().display()
    );
    let mut tried = 0;
    for verb in [
        "exec", "attach", "ps", "inspect", "logs", "events", "wait", "stats", "timeline",
        "validate", "explain", "kill", "stop", "rm", "create", "run",
    ] {
        for example in examples(&scene, verb) {
            let typed = typed(&example);
            let goes_on = ["--watch", " -f", "attach", "run pod.yaml"];
            // Terminals have tests of their own, kubectl need not be here, and who waits for the
            // end of the pod would wait for us.
            if ["-it", "kubectl", "--for=stopped"].iter().any(|word| typed.contains(word)) {
                continue;
            }
            let end = goes_on.iter().any(|word| typed.contains(word));
            let mut command = Command::new(if end { "timeout" } else { "sh" });
            if end {
                command.args(["-s", "INT", "2", "sh"]);
            }
            let script = format!("{prelude}{typed}");
            let out = command.arg("-c").arg(script).current_dir(scene.dir()).stdin(Stdio::null());
            let out = out.output().unwrap();
            let code = out.status.code().unwrap_or(-1);
            assert!(code == 0 || (end && code == 124), "{typed}: {out:?}");
            assert!(!String::from_utf8_lossy(&out.stderr).contains("error"), "{typed}: {out:?}");
            tried += 1;
        }
        if verb == "rm" || verb == "create" {
            scene.pod(&["rm", "--force", "web"]).ok();
        }
    }
    assert!(tried > 30, "{tried}");
}
