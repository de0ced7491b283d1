//! The end of a pod: signals, graces, deadlines.

use std::time::Duration;

use serde_json::json;

use crate::history::{History, condition, container};
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_stops_others_at_birth_does_not_stop_the_supervisor() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: bad, image: IMAGE, command: [sh, -c, 'while :; do kill -STOP -1; done 2>/dev/null']}
  - {name: late, image: IMAGE, command: [sleep, '1000']}
",
    );
    let stopped = scene.pod(&["stop", "p"]);
    stopped.ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn containers_get_their_stop_signal_and_exit_codes_decide_the_phase() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  os: {name: linux}
  containers:
  - name: term
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
  - name: usr1
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" USR1; while :; do sleep 0.05; done']
    lifecycle: {stopSignal: SIGUSR1}
",
    );
    scene.wait_ready("web");
    assert_eq!(scene.pod(&["stop", "web"]).ok().stdout, "pod/web stopped\n");
    let object = scene.inspect("web");
    assert_eq!(object["status"]["phase"], "Succeeded", "{:#}", object["status"]);
    for name in ["term", "usr1"] {
        let end = &container(&object, name)["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("Completed")), "{name}");
        let text = format!("Stopping container {name}");
        History::of(&scene, "web").says("Normal", &format!("{name}/Killing"), &text);
    }
    assert_eq!(History::of(&scene, "web").all("Killed").len(), 0);
    assert_eq!(scene.supervisor("web"), None);
    // Once more is no error.
    scene.pod(&["stop", "web"]).ok();
    scene.pod(&["stop", "other"]).fails(1, &["pods \"other\" not found"]);
}

/// A pod whose only container ignores SIGTERM.
fn stubborn(scene: &Scene, name: &str, more: &str) {
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  {more}
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, \"trap '' TERM; echo deaf; while :; do sleep 0.05; done\"]
"
    ));
    scene.wait_log(name, "c", "deaf");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_ignores_the_signal_is_killed_after_the_grace_or_two_seconds() {
    let scene = Scene::new();
    stubborn(&scene, "own", "terminationGracePeriodSeconds: 3");
    stubborn(&scene, "zero", "terminationGracePeriodSeconds: 0");
    stubborn(&scene, "asked", "shareProcessNamespace: true");
    scene.pod(&["stop", "--no-wait", "own"]).ok();
    scene.pod(&["stop", "--no-wait", "zero"]).ok();
    scene.pod(&["stop", "-t", "0", "asked"]).ok();
    for (name, least) in [("own", 3), ("zero", 2), ("asked", 2)] {
        scene.pod(&["wait", "--for=stopped", name]).ok();
        let object = scene.inspect(name);
        let end = &container(&object, "c")["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["signal"]), (&json!(137), &json!(9)), "{name}");
        assert_eq!(end["reason"], "Error");
        assert_eq!(object["status"]["phase"], "Failed");
        let history = History::of(&scene, name);
        let time = history.between("c/Signalled", "c/Exited");
        assert!(time >= least * SECOND && time < (least + 2) * SECOND, "{name}: {time:?}");
        history.shows(&["c/Killing", "c/Signalled", "c/Killed", "c/Exited", "Ended"]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_second_stop_shortens_the_grace_and_never_lengthens_it() {
    let scene = Scene::new();
    stubborn(&scene, "web", "terminationGracePeriodSeconds: 100");
    scene.pod(&["stop", "--no-wait", "-t", "50", "web"]).ok();
    scene.pod(&["stop", "--no-wait", "-t", "1", "web"]).ok();
    scene.pod(&["stop", "-t", "90", "web"]).ok();
    let time = History::of(&scene, "web").between("c/Signalled", "c/Exited");
    assert!(time >= 2 * SECOND && time < 5 * SECOND, "{time:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_that_is_too_old_ends() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 5
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
  - {name: looping, image: IMAGE, command: ['true']}
",
    );
    let object = scene.wait_phase("web", "Failed");
    let text = "Pod was active on the node longer than the specified deadline";
    assert_eq!(object["status"]["reason"], "DeadlineExceeded");
    assert_eq!(object["status"]["message"], text);
    assert_eq!(container(&object, "c")["state"]["terminated"]["exitCode"], 0);
    History::of(&scene, "web").says("Normal", "DeadlineExceeded", text);
    assert_eq!(scene.pod(&["wait", "--for=exit", "web"]).code, 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_in_back_off_stops_at_once() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: loop, annotations: {carob/backoff-initial: 100s}}
spec:
  containers: [{name: c, image: IMAGE, command: ['false']}]
",
    );
    scene.wait("loop", "CrashLoopBackOff", |object| {
        container(object, "c")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    scene.pod(&["stop", "loop"]).ok();
    let object = scene.inspect("loop");
    assert_eq!(object["status"]["phase"], "Failed");
    assert_eq!(container(&object, "c")["state"]["terminated"]["exitCode"], 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_is_started_in_a_pod_that_is_stopped_while_it_initializes() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: init}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: setup
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
  containers: [{name: app, image: IMAGE, command: [sleep, '1000']}]
",
    );
    scene.wait("init", "setup", |object| {
        container(object, "setup")["state"].get("running").is_some()
    });
    // It has its trap by then.
    std::thread::sleep(Duration::from_millis(200));
    scene.pod(&["stop", "init"]).ok();
    let object = scene.inspect("init");
    // Although the init container has been successful, nothing comes after it.
    assert_eq!(object["status"]["phase"], "Failed");
    let history = History::of(&scene, "init");
    assert_eq!(history.all("app/Running").len(), 0);
    assert_eq!(container(&object, "setup")["state"]["terminated"]["exitCode"], 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_whose_volumes_or_hooks_do_not_come_to_an_end_is_stopped_all_the_same() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: mount}
spec:
  volumes: [{name: none, hostPath: {path: /nonexistent, type: Directory}}]
  containers:
  - {name: c, image: IMAGE, volumeMounts: [{name: none, mountPath: /data}]}
",
    );
    let object = scene.wait("mount", "a failure", |object| {
        container(object, "c")["state"]["waiting"].get("message").is_some()
    });
    let message = container(&object, "c")["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("FailedMount: "), "{message}");
    assert_eq!(scene.status("mount"), "ContainerCreating");
    assert_eq!(condition(&object, "PodReadyToStartContainers")["status"], "False");
    scene.pod(&["stop", "mount"]).ok();
    assert_eq!(scene.status("mount"), "Failed");

    // While its hook runs.
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: hook}
spec:
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; echo up; while :; do sleep 0.05; done']
    lifecycle: {postStart: {exec: {command: [sleep, '1000']}}}
",
    );
    scene.wait_log("hook", "c", "up");
    scene.pod(&["stop", "hook"]).ok();
    assert_eq!(scene.inspect("hook")["status"]["phase"], "Succeeded");
    assert_eq!(History::of(&scene, "hook").all("c/FailedPostStartHook").len(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn children_that_ignore_the_signal_do_not_outlive_their_container() {
    let scene = Scene::new();
    for (name, shared) in [("own", false), ("shared", true)] {
        scene.run(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  shareProcessNamespace: {shared}
  terminationGracePeriodSeconds: 5
  restartPolicy: Never
  containers:
  - name: c
    image: IMAGE
    command:
    - sh
    - -c
    - \"trap 'exit 0' TERM; (trap '' TERM; exec sleep 77777) & while :; do sleep 0.05; done\"
  - name: d
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
"
        ));
        scene.wait_ready(name);
        scene.pod(&["kill", "-c", "c", "-s", "TERM", name]).ok();
        let object = scene.wait(name, "the end of c", |object| {
            container(object, "c")["state"].get("terminated").is_some()
        });
        assert_eq!(container(&object, "c")["state"]["terminated"]["exitCode"], 0, "{name}");
        let left = scene.sh(name, "d", "ps | grep -c '[7]7777'").stdout;
        assert_eq!(left, "0\n", "{name}");
        assert_eq!(object["status"]["phase"], "Running");
        assert_eq!(condition(&object, "Ready")["status"], "False");
        assert_eq!(scene.status(name), "NotReady");
        scene.pod(&["stop", name]).ok();
        assert_eq!(scene.inspect(name)["status"]["phase"], "Succeeded");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn several_pods_are_stopped_and_removed_side_by_side() {
    let scene = Scene::new();
    for name in ["one", "two", "three"] {
        stubborn(&scene, name, "terminationGracePeriodSeconds: 100");
    }
    let begin = std::time::Instant::now();
    let stopped = scene.pod(&["stop", "--time", "3", "pod/one", "two", "one"]).ok();
    assert_eq!(stopped.stdout, "pod/one stopped\npod/two stopped\n");
    assert!(begin.elapsed() < 6 * SECOND, "one after the other: {:?}", begin.elapsed());
    // A failure of one is no failure of the others; a name that is none is one of all.
    scene.pod(&["start", "two", "a/b"]).fails(1, &["\"a/b\" is no name"]);
    assert_eq!(scene.supervisor("two"), None);
    let started = scene.pod(&["start", "gone", "two", "lost"]);
    assert_eq!(started.stdout, "pod/two started\n");
    started.fails(1, &["pods \"gone\" not found", "pods \"lost\" not found"]);
    scene.wait_log("two", "c", "deaf");
    let removed = scene.pod(&["rm", "--all"]);
    assert_eq!(removed.stdout, "pod/one removed\n");
    removed.fails(1, &["pod \"three\" is running", "pod \"two\" is running"]);
    scene.pod(&["rm", "--time", "1", "two"]).fails(1, &["--force"]);
    scene.pod(&["rm", "--all", "two"]).fails(1, &["cannot be used with"]);
    scene.pod(&["rm"]).fails(1, &["POD"]);
    let removed = scene.pod(&["rm", "--force", "--all", "--namespace", "other"]).ok();
    assert_eq!(removed.stdout, "");
    let begin = std::time::Instant::now();
    let removed = scene.pod(&["rm", "--force", "--time", "3", "--all"]).ok();
    assert_eq!(removed.stdout, "pod/three removed\npod/two removed\n");
    assert!(begin.elapsed() < 6 * SECOND, "one after the other: {:?}", begin.elapsed());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_signal_goes_to_several_pods() {
    let scene = Scene::new();
    for name in ["one", "two"] {
        stubborn(&scene, name, "restartPolicy: Never");
    }
    scene.pod(&["kill", "one", "gone", "two"]).fails(1, &["pods \"gone\" not found"]);
    for name in ["one", "two"] {
        scene.pod(&["wait", "--for=exit", name]).fails(137, &[]);
    }
}
