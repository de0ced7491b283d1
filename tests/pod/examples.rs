//! bundles/pods: each example runs as it is, and does what its comment says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::scene::{Scene, condition};

/// Every example has a test of its own below, which is called like it; that of `nginx`, whose images
/// come from a registry, is `tests/image/nginx.rs`.
const ALL: &[&str] = &[
    "hooks",
    "host-aliases",
    "init",
    "limits",
    "liveness-exec",
    "liveness-grpc",
    "liveness-http",
    "nginx",
    "process-namespace",
    "projected",
    "published-port",
    "sidecar",
    "volume",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/pods")
}

/// A pod of an example that runs.
struct Example {
    scene: Scene,
    name: &'static str,
}

impl Example {
    fn run(name: &'static str) -> Self {
        Self::run_in(Scene::new(), name, &["-d"])
    }

    fn run_in(scene: Scene, name: &'static str, flags: &[&str]) -> Self {
        let example = Self { scene, name };
        example.apply_with(flags, &directory().join(format!("{name}.yaml")), "created");
        example
    }

    fn apply(&self, file: &Path, done: &str) {
        self.apply_with(&["-d"], file, done);
    }

    fn apply_with(&self, flags: &[&str], file: &Path, done: &str) {
        let args = self.scene.run_args("run", flags, &[file]);
        let out = self.scene.carob(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        assert_eq!(out.stdout, format!("pod/{} {done}\n", self.name));
        assert_eq!(out.stderr, "", "an example has nothing that is ignored");
    }

    fn ready(self) -> Self {
        self.scene.wait_ready(self.name);
        self
    }

    fn log(&self, container: &str, text: &str) -> String {
        self.scene.wait_log(self.name, container, text)
    }

    fn sh(&self, container: &str, script: &str) -> String {
        self.scene.sh(self.name, container, script).ok().stdout
    }

    fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        self.scene.wait(self.name, what, wanted);
    }

    fn restarts(&self, container: &str, at_least: u64) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while self.container(container)["restartCount"].as_u64().unwrap() < at_least {
            assert!(std::time::Instant::now() < end, "{container} is never restarted");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn container(&self, name: &str) -> Value {
        self.scene.container(self.name, name)
    }
}

#[test]
fn every_example_is_in_the_list_and_in_the_readme() {
    let mut found: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let listed: Vec<String> = ALL.iter().map(|name| format!("{name}.yaml")).collect();
    assert_eq!(found, listed);
    let readme = include_str!("../../README.md");
    for file in found {
        assert!(readme.contains(&format!("](bundles/pods/{file})")), "{file}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn volume() {
    let example = Example::run("volume").ready();
    example.log("reader", "the writer is at ");
    example.sh("writer", "echo 1000 > /out/number");
    example.log("reader", "the writer is at 100");
    assert_ne!(example.scene.sh("volume", "reader", "touch /in/x").code, 0, "read-only");
    example.scene.pod(&["kill", "-c", "writer", "volume"]).ok();
    example.restarts("writer", 1);
    let number = || -> u32 { example.sh("reader", "cat /in/number").trim().parse().unwrap_or(0) };
    let before = number();
    assert!(before >= 1000, "{before}");
    example.wait("a higher number", |_| number() > before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn init() {
    let example = Example::run("init");
    let object = example.scene.wait_phase("init", "Succeeded");
    assert!(condition(&object, "Initialized"));
    assert_eq!(example.log("show", "fetch"), "<h1>made by fetch</h1>\n");
    let events = example.scene.events("init");
    let at = |event: &str| events.iter().position(|one| one == event).unwrap();
    assert!(at("fetch/Started") < at("check/Started") && at("check/Started") < at("show/Started"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sidecar() {
    let example = Example::run("sidecar");
    example.scene.wait_phase("sidecar", "Succeeded");
    assert_eq!(
        example.log("ship", "last line"),
        "shipped: line 1\nshipped: line 2\nshipped: line 3\nshipped: last line\n"
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn liveness_exec() {
    let example = Example::run("liveness-exec").ready();
    example.restarts("app", 1);
    let events = example.scene.pod(&["events", "liveness-exec"]).ok().stdout;
    assert!(events.contains("Liveness probe failed"), "{events}");
    assert!(events.contains("Container app failed liveness probe"), "{events}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn liveness_http() {
    let example = Example::run("liveness-http").ready();
    example.sh("web", "rm /www/ready");
    example.wait("not ready", |object| !condition(object, "Ready"));
    assert_eq!(example.container("web")["restartCount"], 0);
    example.sh("web", "rm /www/healthz");
    example.restarts("web", 1);
    example.ready();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn liveness_grpc() {
    let server = directory().join("../grpc/rootfs/health");
    assert!(server.exists(), "make it first: scripts/bundles --grpc");
    let example = Example::run("liveness-grpc").ready();
    example.sh("tools", "echo shop NOT_SERVING > /status/file");
    example.restarts("server", 1);
    assert_eq!(example.container("tools")["restartCount"], 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn process_namespace() {
    let example = Example::run("process-namespace").ready();
    let log = example.log("debug", "app's file");
    assert!(log.contains("process 1 is pause") && log.contains("secret of app"), "{log}");
    assert!(example.sh("debug", "ps").contains("sleep 1234567"));
    example.sh("debug", "killall -HUP sleep");
    example.restarts("app", 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn projected() {
    let example = Example::run("projected").ready();
    let log = example.log("app", "projected runs in production");
    assert!(log.contains("-r--r--r--"), "{log}");
    assert_eq!(
        example
            .sh("app", "cd /etc/app; stat -L -c %a private/token; cat private/token labels memory"),
        "400\nswordfishtier=\"backend\"64"
    );
    // What the comment asks for: another value, and the same command.
    let text = fs::read_to_string(directory().join("projected.yaml")).unwrap();
    let image = format!("rootfs:{}/busybox/rootfs", directory().parent().unwrap().display());
    let changed = text.replace("mode: production", "mode: test");
    let changed = changed.replace("rootfs:../busybox/rootfs", &image);
    example.apply(&example.scene.manifest("changed.yaml", &changed), "configured");
    example.log("app", "projected runs in test");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn published_port() {
    let scene = Scene::with_own_network();
    let example =
        Example::run_in(scene, "published-port", &["-d", "--cni-conf-dir", "/etc/cni"]).ready();
    let object = example.scene.inspect("published-port");
    let said = format!("hello from {}\n", object["status"]["podIP"].as_str().unwrap());
    let fetch = "busybox timeout 5 busybox wget -qO- http://localhost:8088/";
    assert_eq!(example.scene.sh_on_machine(fetch).ok().stdout, said);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn host_aliases() {
    let example = Example::run("host-aliases");
    example.scene.wait_phase("host-aliases", "Succeeded");
    assert_eq!(
        example.log("show", "self answers"),
        "web-1\n\
         10.1.2.3\tdatabase\tdb.example\n127.0.0.1\tself\n\
         search example\nnameserver 10.0.0.53\noptions ndots:2\n\
         self answers\n"
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn limits() {
    let example = Example::run("limits");
    example.log("modest", "I may use 100 m of CPU and 32 MiB");
    example.restarts("greedy", 1);
    let ended = &example.container("greedy")["lastState"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()));
    let modest = example.container("modest");
    assert_eq!((&modest["restartCount"], &modest["ready"]), (&0.into(), &true.into()));
    let stats = example.scene.pod(&["stats", "limits"]).ok().stdout;
    assert!(stats.contains("32MiB"), "{stats}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hooks() {
    let example = Example::run("hooks").ready();
    assert_eq!(example.log("app", "postStart"), "program starts\npostStart\n");
    example.scene.pod(&["stop", "hooks"]).ok();
    assert_eq!(
        example.log("app", "ending"),
        "program starts\npostStart\npreStop\nSIGTERM: ending\n"
    );
    assert_eq!(example.scene.inspect("hooks")["status"]["phase"], "Succeeded");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_readme_leads_from_nothing_to_a_running_pod() {
    let scene = Scene::new();
    let (_, section) = include_str!("../../README.md").split_once("\n## Run a pod\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (commands, _) = block.split_once("```").unwrap();
    // As it is there, but in the directories and the cgroup of this test.
    let run = scene.run_args("run", &[], &[]).split_off(2).join(" ");
    let carob = format!(
        "carob() {{ if [ $2 = run ]; then shift 2; set -- pod run {run} \"$@\"; fi; \
         \"$CAROB\" --root \"$ROOT\" \"$@\"; }}\n"
    );
    let out = Command::new("sh")
        .args(["-euc", &(carob + commands)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CAROB", env!("CARGO_BIN_EXE_carob"))
        .env("ROOT", scene.root())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{stdout}{}", String::from_utf8_lossy(&out.stderr));
    let row = stdout.lines().find(|line| line.starts_with("liveness-http")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("1/1"), "{row}");
    for text in ["pod/liveness-http created\n", "Liveness probe failed", "K SIGKILL", "removed\n"] {
        assert!(stdout.contains(text), "{text:?} is not in {stdout}");
    }
}
