//! Whoever is killed with SIGKILL, and whenever: no container notices, nothing is forgotten,
//! nothing is left.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scene::{Scene, make_orphans, processes, tells_ends_of_strangers};

const SLEEPER: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'echo hello; exec sleep 1000']}
";

fn signal(pid: i32, signal: Signal) {
    // It may have gone by itself.
    let _gone = kill(Pid::from_raw(pid), signal);
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[track_caller]
fn until(what: &str, reached: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(Instant::now() < end, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `status.json` says, whoever lives.
fn record(scene: &Scene, pod: &str) -> Value {
    serde_json::from_slice(&fs::read(scene.state(pod).join("status.json")).unwrap()).unwrap()
}

/// The init of a pod's first app container, from the record alone.
fn pid_of(scene: &Scene, pod: &str) -> i32 {
    i32::try_from(record(scene, pod)["apps"][0]["state"]["pid"].as_i64().unwrap()).unwrap()
}

/// How a container ended whose supervisor was killed before: like this, or unknown where the kernel does not
/// tell.
#[track_caller]
fn assert_end(terminated: &Value, code: i32, reason: &str) {
    let end = (terminated["exitCode"].as_i64(), terminated["reason"].as_str());
    let is_unknown = end == (Some(137), Some("ContainerStatusUnknown"));
    let known = (Some(code.into()), Some(reason));
    assert!(end == known || is_unknown && !tells_ends_of_strangers(), "{terminated}");
}

/// Waits until all of a pod have ended with 0, as far as that can be known.
#[track_caller]
fn wait_end(scene: &Scene, pod: &str) {
    let object = scene.wait(pod, "its end", |object| {
        ["Succeeded", "Failed"].iter().any(|phase| object["status"]["phase"] == *phase)
    });
    for status in object["status"]["containerStatuses"].as_array().unwrap() {
        assert_end(&status["state"]["terminated"], 0, "Completed");
    }
}

/// Processes whose command line has this word: a duration nobody else sleeps.
fn sleepers(word: &str) -> usize {
    processes(|line| line.starts_with("sleep\0") && line.contains(word)).len()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn every_verb_brings_a_killed_supervisor_back_and_no_container_notices() {
    let scene = Scene::new();
    scene.run(SLEEPER);
    scene.wait_ready("web");
    let pid = pid_of(&scene, "web");
    let verbs: [&[&str]; 8] = [
        &["ps"],
        &["logs", "web"],
        &["inspect", "web"],
        &["exec", "web", "--", "true"],
        &["wait", "--for=ready", "web"],
        &["stats", "web"],
        &["events", "web"],
        &["timeline", "web"],
    ];
    for verb in verbs {
        scene.crash("web");
        assert!(lives(pid), "killed with its supervisor");
        let out = scene.pod(verb);
        assert_eq!(out.code, 0, "{verb:?}: {out:?}");
        assert!(scene.supervisor("web").is_some(), "{verb:?} has not brought it back");
    }
    let status = scene.container("web", "one");
    assert_eq!(status["restartCount"], 0);
    assert_eq!(pid_of(&scene, "web"), pid);
    assert_eq!(scene.pod(&["logs", "web"]).ok().stdout, "hello\n");

    scene.crash("web");
    scene.pod(&["stop", "web"]).ok();
    assert!(!lives(pid));
    assert!(scene.inspect("web")["status"]["phase"] == "Failed");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_supervisor_killed_at_any_moment_of_a_start_leaves_one_instance_of_each_container() {
    let scene = Scene::new();
    let word = format!("9{}", std::process::id());
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, annotations: {{carob/backoff-initial: 50ms, carob/backoff-max: 100ms}}}}
spec:
  terminationGracePeriodSeconds: 0
  shareProcessNamespace: true
  initContainers:
  - {{name: first, image: IMAGE, command: ['true']}}
  - {{name: side, image: IMAGE, restartPolicy: Always, command: [sleep, '{word}.1']}}
  containers:
  - name: one
    image: IMAGE
    command: [sleep, '{word}.2']
    lifecycle: {{postStart: {{exec: {{command: [sleep, '0.05']}}}}}}
  - {{name: two, image: IMAGE, command: [sleep, '{word}.3']}}
"
    );
    let path = scene.manifest("pod.yaml", &text);
    let args = scene.run_args("run", &["-d"], &[&path]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for moment in 0..12 {
        let mut run =
            scene.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the supervisor", || scene.supervisor("web").is_some());
        std::thread::sleep(Duration::from_millis(moment * 9));
        // Twice: also while it takes over.
        for _ in 0..2 {
            if let Some(pid) = scene.supervisor("web") {
                make_orphans(pid);
                signal(pid, Signal::SIGKILL);
                until("its end", || !lives(pid));
            }
            let mut ps = scene.command(&["pod", "ps"]).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(moment * 3));
            ps.wait().unwrap();
        }
        run.wait().unwrap();
        scene.pod(&["start", "web"]);
        scene.wait_ready("web");
        // An instance that had been written down and not begun yet is made again.
        for number in 1..=3 {
            let word = format!("{word}.{number}");
            until("each container", || sleepers(&word) == 1);
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(sleepers(&word), 3, "{moment}");
        scene.pod(&["rm", "--force", "web"]).ok();
        assert_eq!(sleepers(&word), 0, "{moment}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn lines_are_neither_lost_nor_doubled_when_supervisors_are_killed() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: one
    image: IMAGE
    command: [sh, -c, 'i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; usleep 5000; done']
",
    );
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(60));
        scene.crash("web");
        // Nobody reads meanwhile.
        std::thread::sleep(Duration::from_millis(40));
        scene.pod(&["ps"]).ok();
    }
    wait_end(&scene, "web");
    let expected: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(scene.pod(&["logs", "web"]).ok().stdout, expected);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn of_output_at_full_speed_nothing_is_lost_and_nothing_comes_twice() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {name: one, image: IMAGE, command: [seq, '10000000', '10140000']}
",
    );
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(30));
        if let Some(pid) = scene.supervisor("web") {
            make_orphans(pid);
            signal(pid, Signal::SIGKILL);
            until("its end", || !lives(pid));
        }
        scene.pod(&["ps"]).ok();
    }
    wait_end(&scene, "web");
    let log = scene.pod(&["logs", "web"]).ok().stdout;
    let expected: String = (10_000_000..=10_140_000).map(|n| format!("{n}\n")).collect();
    let first = log.lines().zip(expected.lines()).position(|(line, wanted)| line != wanted);
    assert!(log == expected, "{} lines; the first other one is {first:?}", log.lines().count());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn half_a_line_waits_for_its_other_half_across_supervisors() {
    let scene = Scene::new();
    let go = scene.dir().join("go");
    fs::create_dir(&go).unwrap();
    let script = "printf half; printf wrong >&2; touch /go/written; \
                  while [ ! -e /go/on ]; do sleep 0.02; done; echo -line; echo -message >&2; \
                  printf no-newline";
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  restartPolicy: Never
  volumes: [{{name: go, hostPath: {{path: {}}}}}]
  containers:
  - name: one
    image: IMAGE
    command: [sh, -c, '{script}']
    volumeMounts: [{{name: go, mountPath: /go}}]
",
        go.display()
    ));
    until("half a line", || go.join("written").exists());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        scene.crash("web");
        scene.pod(&["ps"]).ok();
    }
    scene.crash("web");
    fs::write(go.join("on"), "").unwrap();
    wait_end(&scene, "web");
    let log = scene.pod(&["logs", "web"]).ok().stdout;
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["half-line", "no-newline", "wrong-message"]);
    let left = fs::read_dir(scene.state("web").join("journals")).unwrap().count();
    assert_eq!(left, 0, "journals go with their instance");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn how_containers_ended_while_no_supervisor_lived_is_known() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: exits
    image: IMAGE
    command: [sh, -c, 'trap \"echo last; exit 7\" TERM; echo ready; while :; do sleep 0.02; done']
  - {name: dies, image: IMAGE, command: [sleep, '1000']}
  - {name: stays, image: IMAGE, command: [sleep, '1000']}
  terminationGracePeriodSeconds: 0
",
    );
    scene.wait_ready("web");
    scene.wait_log("web", "exits", "ready");
    let record = record(&scene, "web");
    let pid = |index: usize| {
        i32::try_from(record["apps"][index]["state"]["pid"].as_i64().unwrap()).unwrap()
    };
    scene.crash("web");
    signal(pid(0), Signal::SIGTERM);
    signal(pid(1), Signal::SIGKILL);
    until("the ends", || !lives(pid(0)) && !lives(pid(1)));

    let ended = |name: &str| scene.container("web", name)["state"]["terminated"].clone();
    let wait_for = |name: &str| until("the end", || !ended(name).is_null());
    wait_for("exits");
    assert_end(&ended("exits"), 7, "Error");
    wait_for("dies");
    assert_end(&ended("dies"), 137, "Error");
    assert_eq!(scene.pod(&["logs", "web", "-c", "exits"]).ok().stdout, "ready\nlast\n");
    assert!(lives(pid(2)));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_back_off_goes_on_where_it_was() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 2s, carob/backoff-max: 1h}}
spec:
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'echo $((1+1)); exit 3']}
",
    );
    let moments = |wanted: &str| {
        let text = fs::read_to_string(scene.state("web").join("events.jsonl")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let wanted = events.filter(|event| event["reason"] == wanted);
        wanted.map(|event| event["at"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    until("its first back-off", || moments("Exited").len() == 2);
    for _ in 0..3 {
        scene.crash("web");
        scene.pod(&["ps"]).ok();
    }
    until("its second restart", || moments("Started").len() == 3);
    let delay = moments("Started")[2] - moments("Exited")[1];
    assert!(delay >= 2_000_000_000, "{delay}");
    let record = record(&scene, "web");
    assert_eq!(record["apps"][0]["restart_count"], 2);
    assert_eq!(record["apps"][0]["backoff"]["delay_millis"], 4000, "doubled once");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hooks_that_ran_when_their_supervisor_was_killed_are_run_to_their_end() {
    let scene = Scene::new();
    let notes = scene.dir().join("notes");
    fs::create_dir(&notes).unwrap();
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{{name: notes, hostPath: {{path: {}}}}}]
  containers:
  - name: one
    image: IMAGE
    command: [sh, -c, 'trap \"echo term >> /notes/all; exit 0\" TERM; while :; do sleep 0.02; done']
    volumeMounts: [{{name: notes, mountPath: /notes}}]
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo post >> /notes/all; sleep 0.5; echo posted >> /notes/all']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo pre >> /notes/all; sleep 0.5; echo pred >> /notes/all']}}}}
",
        notes.display()
    ));
    let all = || fs::read_to_string(notes.join("all")).unwrap_or_default();
    until("postStart", || all().contains("post\n"));
    scene.crash("web");
    let pid = pid_of(&scene, "web");
    assert!(lives(pid));
    let object = scene.wait_ready("web");
    assert_eq!(object["status"]["containerStatuses"][0]["restartCount"], 0);
    assert!(all().contains("posted\n"));

    scene.pod(&["stop", "--no-wait", "web"]).ok();
    until("preStop", || all().contains("pre\n"));
    scene.crash("web");
    assert!(lives(pid));
    scene.pod(&["stop", "web"]).ok();
    let order = all();
    assert!(order.find("pred\n").unwrap() < order.find("term\n").unwrap(), "{order}");
    let ended = &scene.container("web", "one")["state"]["terminated"];
    assert_end(ended, 0, "Completed");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_stop_goes_on_after_its_supervisor_was_killed() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'trap : TERM; echo ready; while :; do sleep 0.02; done']}
",
    );
    scene.wait_log("web", "one", "ready");
    let mut stop = scene.command(&["pod", "stop", "web"]).stdout(Stdio::null()).spawn().unwrap();
    until("the signal", || scene.events("web").iter().any(|reason| reason == "one/Signalled"));
    let began = Instant::now();
    scene.crash("web");
    assert!(stop.wait().unwrap().success(), "it has brought the supervisor back itself");
    assert!(began.elapsed() > Duration::from_secs(1), "the grace was cut short");
    let ended = &scene.container("web", "one")["state"]["terminated"];
    assert_eq!(ended["exitCode"], 137, "{ended}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn terminals_and_standard_inputs_outlive_supervisors() {
    let scene = Scene::new();
    let reader = "echo ready; while read line; do echo got $line; done; echo end";
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - {{name: pipe, image: IMAGE, stdin: true, stdinOnce: true, command: [sh, -c, '{reader}']}}
  - {{name: tty, image: IMAGE, stdin: true, tty: true, command: [sh, -c, '{reader}']}}
"
    ));
    for name in ["pipe", "tty"] {
        scene.wait_log("web", name, "ready");
    }
    for round in 0..2 {
        scene.crash("web");
        scene.pod(&["ps"]).ok();
        for name in ["tty", "pipe"] {
            if name == "pipe" && round == 0 {
                continue;
            }
            let mut attach = scene
                .command(&["pod", "attach", "-i", "-c", name, "web"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = attach.stdin.take().unwrap();
            writeln!(input, "line-{round}").unwrap();
            scene.wait_log("web", name, &format!("got line-{round}"));
            drop(input);
            if name == "tty" {
                attach.kill().unwrap();
            }
            attach.wait().unwrap();
        }
    }
    scene.wait_log("web", "pipe", "end");
    let tty = scene.container("web", "tty");
    assert!(tty["state"]["running"].is_object(), "{tty}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn there_is_one_supervisor_however_many_ask_for_one() {
    let scene = Scene::new();
    scene.run(SLEEPER);
    scene.wait_ready("web");
    let state = scene.state("web").display().to_string();
    let first = scene.supervisor("web");
    scene.pod(&["supervise", &state]).ok();
    assert_eq!(scene.supervisor("web"), first);
    for _ in 0..5 {
        scene.crash("web");
        let verbs: Vec<_> = (0..6)
            .map(|_| scene.command(&["pod", "ps"]).stdout(Stdio::null()).spawn().unwrap())
            .collect();
        for mut verb in verbs {
            assert!(verb.wait().unwrap().success());
        }
        let is_supervisor = |line: &str| line.contains("\0supervise\0") && line.contains(&state);
        until("the others to leave", || processes(is_supervisor).len() == 1);
    }
    assert_eq!(scene.container("web", "one")["restartCount"], 0);
}

/// Runs a verb and kills it, in its whole process group of one, after a while.
fn killed_after(scene: &Scene, args: &[String], micros: u64) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut verb = scene
        .command(&args)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_micros(micros));
    let _ended_before = verb.kill();
    verb.wait().unwrap();
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn after_a_killed_run_create_or_rm_the_next_one_finds_its_way() {
    let scene = Scene::new();
    let path: &Path = &scene.manifest("pod.yaml", SLEEPER);
    let run = scene.run_args("run", &["-d"], &[path]);
    let create = scene.run_args("create", &[], &[path]);
    let remove = words(&["pod", "rm", "--force", "web"]);
    let run_now: Vec<&str> = run.iter().map(String::as_str).collect();
    for round in 0..14 {
        killed_after(&scene, if round % 2 == 0 { &run } else { &create }, 4000 + round * 2500);
        if round % 3 == 0 {
            scene.carob(&run_now).ok();
            scene.wait_ready("web");
            killed_after(&scene, &remove, 4000 + round * 4000);
        }
        if round % 3 == 1 {
            killed_after(&scene, &remove, 4000 + round * 4000);
        }
        scene.pod(&["rm", "--force", "web"]).ok();
        assert_eq!(scene.leaks(), Vec::<String>::new(), "round {round}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn every_step_of_rm_can_be_the_last_one() {
    let scene = Scene::new();
    let path: &Path = &scene.manifest("pod.yaml", SLEEPER);
    let create = scene.run_args("create", &[], &[path]);
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    for call in ["unlinkat", "unlink", "rmdir", "umount2"] {
        for time in 1..=3 {
            scene.carob(&create).ok();
            scene.pod(&["start", "web"]).ok();
            scene.wait_ready("web");
            scene.pod(&["stop", "web"]).ok();
            let inject = format!("inject={call}:signal=KILL:when={time}");
            let root = scene.root().display().to_string();
            let carob = env!("CARGO_BIN_EXE_carob");
            let line = ["-f", "-o", "/dev/null", "-e", &inject, carob, "--root", &root];
            let _killed = std::process::Command::new("strace")
                .args(line)
                .args(["pod", "rm", "web"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            scene.pod(&["rm", "--force", "web"]).ok();
            assert_eq!(scene.leaks(), Vec::<String>::new(), "{call} {time}");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sigterm_to_the_supervisor_stops_the_pod() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'trap \"exit 0\" TERM; echo ready; while :; do sleep 0.02; done']}
",
    );
    scene.wait_log("web", "one", "ready");
    let pid = scene.supervisor("web").unwrap();
    signal(pid, Signal::SIGTERM);
    until("its end", || !lives(pid));
    let object = scene.inspect("web");
    assert_eq!(object["status"]["phase"], "Succeeded", "{object:#}");
    assert!(scene.supervisor("web").is_none(), "a pod that has ended needs none");
}
