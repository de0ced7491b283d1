//! What becomes of a container that has ended: policies, rules, back-off, counts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::history::{History, condition, container, restarts};
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_policy_of_a_container_and_its_rules_beat_those_of_the_pod() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 50ms, carob/backoff-max: 100ms}}
spec:
  containers:
  - {name: always-0, image: IMAGE, command: ['true']}
  - {name: always-1, image: IMAGE, command: ['false']}
  - {name: failure-0, image: IMAGE, command: ['true'], restartPolicy: OnFailure}
  - {name: failure-1, image: IMAGE, command: ['false'], restartPolicy: OnFailure}
  - {name: never-0, image: IMAGE, command: ['true'], restartPolicy: Never}
  - {name: never-1, image: IMAGE, command: ['false'], restartPolicy: Never}
  - name: rule
    image: IMAGE
    command: [sh, -c, 'exit 42']
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [41, 42]}}]
  - name: no-rule
    image: IMAGE
    command: [sh, -c, 'exit 41']
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: NotIn, values: [41]}}]
",
    );
    let again = ["always-0", "always-1", "failure-1", "rule"];
    let object = scene
        .wait("web", "restarts", |object| again.iter().all(|name| restarts(object, name) >= 2));
    assert_eq!(object["status"]["phase"], "Running");
    for (name, code, reason) in [
        ("failure-0", 0, "Completed"),
        ("never-0", 0, "Completed"),
        ("never-1", 1, "Error"),
        ("no-rule", 41, "Error"),
    ] {
        let status = container(&object, name);
        assert_eq!(status["restartCount"], 0, "{name}");
        assert_eq!(status["state"]["terminated"]["exitCode"], code, "{status:#}");
        assert_eq!(status["state"]["terminated"]["reason"], reason, "{status:#}");
    }
    let last = &container(&object, "rule")["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(42), &json!("Error")));
}

/// Runs a pod with one container; `script` ends, `policy` is the pod's.
fn one(scene: &Scene, name: &str, policy: &str, script: &str) {
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{carob/backoff-initial: 50ms}}}}
spec:
  restartPolicy: {policy}
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - name: only
    image: IMAGE
    command: [sh, -c, '{script}']
    volumeMounts: [{{name: data, mountPath: /data}}]
"
    ));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_whose_containers_are_finished_ends() {
    let scene = Scene::new();
    // Fails twice.
    let counting = "echo x >> /data/runs; test $(wc -l < /data/runs) = 3";
    for (name, policy, script, phase, count, code) in [
        ("well", "Never", "exit 0", "Succeeded", 0, 0),
        ("ill", "Never", "exit 3", "Failed", 0, 3),
        ("at-last", "OnFailure", counting, "Succeeded", 2, 0),
    ] {
        one(&scene, name, policy, script);
        let object = scene.wait_phase(name, phase);
        let only = container(&object, "only");
        assert_eq!(only["restartCount"], count, "{name}");
        assert_eq!(only["state"]["terminated"]["exitCode"], code, "{name}");
        assert_eq!((&only["ready"], &only["started"]), (&json!(false), &json!(false)), "{name}");
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        assert_eq!(condition(&object, "Ready")["reason"], reason, "{name}");
        assert_eq!(scene.status(name), if phase == "Failed" { "Error" } else { "Completed" });
        scene.pod(&["wait", "--for=stopped", name]).ok();
        History::of(&scene, name).shows(&["only/Exited", "Stopping", "Ended"]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_first_restart_comes_at_once_and_the_second_waits_from_the_end_of_the_last() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 1s, carob/backoff-max: 10s}}
spec:
  containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 0.2; exit 3']}]
",
    );
    let object = scene.wait("web", "CrashLoopBackOff", |object| {
        container(object, "c")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let status = container(&object, "c");
    let message = status["state"]["waiting"]["message"].as_str().unwrap();
    let text = format!("back-off 1s restarting failed container=c pod=web_default({uid})");
    assert!(message.starts_with(&text), "{message}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3, "{status:#}");
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(condition(&object, "Ready")["reason"], "ContainersNotReady");
    assert_eq!(
        condition(&object, "ContainersReady")["message"],
        "containers with unready status: [c]"
    );
    assert_eq!(scene.status("web"), "CrashLoopBackOff");
    // The record counts a restart before the event of it is written.
    scene.wait("web", "a third restart", |_| History::of(&scene, "web").all("c/Running").len() > 3);

    let history = History::of(&scene, "web");
    let (starts, ends) = (history.all("c/Running"), history.all("c/Exited"));
    assert!(starts[1].at - ends[0].at < SECOND, "the first restart waits: {starts:?} {ends:?}");
    assert!(starts[2].at - ends[1].at >= SECOND, "{starts:?} {ends:?}");
    assert!(starts[3].at - ends[2].at >= 2 * SECOND, "{starts:?} {ends:?}");
    let text = format!("Back-off restarting failed container c in pod web_default({uid})");
    history.says("Warning", "c/BackOff", &text);
    assert_eq!(ends[0].message, "exit code 3");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_ran_long_enough_is_not_in_a_crash_loop() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 300ms, carob/backoff-reset: 500ms}}
spec:
  containers: [{name: c, image: IMAGE, command: [sh, -c, 'sleep 0.8']}]
",
    );
    scene.wait("web", "a third restart", |object| restarts(object, "c") == 3);
    assert_eq!(History::of(&scene, "web").all("c/BackOff").len(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn one_container_can_have_all_of_them_restarted() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: setup
    image: IMAGE
    command: [sh, -c, 'echo x >> /data/setups']
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: trigger
    image: IMAGE
    command: [sh, -c, 'until test -e /data/now; do sleep 0.05; done; rm /data/now; exit 7']
    restartPolicy: Never
    restartPolicyRules:
    - {action: RestartAllContainers, exitCodes: {operator: In, values: [7]}}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: other
    image: IMAGE
    command: [sh, -c, \"trap '' TERM; while :; do sleep 0.1; done\"]
    volumeMounts: [{name: data, mountPath: /data}]
",
    );
    scene.wait_ready("web");
    scene.sh("web", "other", "touch /data/now").ok();
    let object = scene.wait("web", "RestartingAllContainers", |object| {
        container(object, "trigger")["state"]["waiting"]["reason"] == "RestartingAllContainers"
    });
    assert_eq!(condition(&object, "AllContainersRestarting")["status"], "True");
    let object = scene.wait("web", "Ready again", |object| {
        restarts(object, "other") == 1 && condition(object, "Ready")["status"] == "True"
    });
    assert_eq!(condition(&object, "AllContainersRestarting")["status"], "False");
    assert_eq!(restarts(&object, "trigger"), 1);
    assert_eq!(restarts(&object, "setup"), 1);
    assert_eq!(container(&object, "trigger")["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(container(&object, "other")["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(scene.sh("web", "other", "wc -l < /data/setups").ok().stdout, "2\n");
    // The grace is 0: the least there is.
    let killed = History::of(&scene, "web").between("other/Signalled", "other/Exited");
    assert!(killed >= 2 * SECOND && killed < 5 * SECOND, "{killed:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_ended_pod_that_is_started_again_goes_on_counting() {
    let scene = Scene::new();
    one(&scene, "web", "Never", "echo run >> /data/runs; wc -l < /data/runs; exit 4");
    scene.wait_phase("web", "Failed");
    // Its supervisor may still be busy with the end.
    assert_eq!(scene.pod(&["start", "web"]).ok().stdout, "pod/web started\n");
    let object = scene.wait("web", "a second end", |object| {
        restarts(object, "only") == 1 && object["status"]["phase"] == "Failed"
    });
    let only = container(&object, "only");
    assert_eq!(only["lastState"]["terminated"]["exitCode"], 4, "{only:#}");
    assert_eq!(scene.pod(&["logs", "--previous", "web"]).ok().stdout, "1\n");
    // One that runs goes on, one that does not exist does not start.
    scene.pod(&["start", "other"]).fails(1, &["pods \"other\" not found"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_created_pod_waits_to_be_started() {
    let scene = Scene::new();
    let path = scene.manifest(
        "pod.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: IMAGE, command: [sleep, '1000']}]
",
    );
    let args = scene.run_args("create", &[], &[&path]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(scene.carob(&args).ok().stdout, "pod/web created\n");
    assert_eq!(scene.inspect("web")["status"]["phase"], "Pending");
    assert_eq!(scene.supervisor("web"), None);
    scene.pod(&["start", "web"]).ok();
    scene.wait_ready("web");
    scene.pod(&["start", "web"]).ok();
    let object = scene.inspect("web");
    assert_eq!(restarts(&object, "c"), 0);
    // Somebody is in a hurry.
    scene.pod(&["kill", "web"]).ok();
    let object = scene.wait("web", "a restart", |object| restarts(object, "c") == 1);
    let last = &container(&object, "c")["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["signal"]), (&json!(137), &json!(9)), "{last:#}");
    assert_eq!(last["reason"], "Error");
    let words = "container \"no\" of pod \"web\" is not running";
    scene.pod(&["kill", "-c", "no", "web"]).fails(1, &[words]);
    scene.pod(&["kill", "-s", "NOPE", "web"]).fails(1, &["NOPE"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_kill_by_the_oom_killer_is_told_from_any_other() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: greedy
    image: IMAGE
    command: [sh, -c, 'exec tail /dev/zero']
    resources: {limits: {memory: 16Mi}}
  - {name: suicide, image: IMAGE, command: [sh, -c, 'sh -c \"kill -9 \\$\\$\"; exit 137']}
",
    );
    let object = scene.wait_phase("web", "Failed");
    for (name, reason) in [("greedy", "OOMKilled"), ("suicide", "Error")] {
        let end = &container(&object, name)["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(137), &json!(reason)), "{end:#}");
    }
    assert_eq!(scene.status("web"), "OOMKilled");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_says_why_it_ended() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - {name: file, image: IMAGE, command: [sh, -c, 'echo all well > /dev/termination-log']}
  - name: path
    image: IMAGE
    terminationMessagePath: /tmp/why
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, 'yes 123456789 | head -n 1000 > /tmp/why; exit 1']
  - name: log
    image: IMAGE
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, 'for i in $(seq 100); do echo line $i; done; exit 1']
  - name: long
    image: IMAGE
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, 'for i in $(seq 50); do seq -s, 100; done; exit 1']
  - name: good
    image: IMAGE
    terminationMessagePolicy: FallbackToLogsOnError
    command: [echo, 'nothing to say']
  - {name: silent, image: IMAGE, command: [sh, -c, 'echo no; exit 1']}
",
    );
    let object = scene.wait_phase("web", "Failed");
    let message = |name: &str| -> Value {
        container(&object, name)["state"]["terminated"]["message"].clone()
    };
    assert_eq!(message("file"), "all well\n");
    // Of the 4096 bytes that are read, what a pod of six containers may have each.
    let path = message("path");
    assert_eq!(path.as_str().unwrap().len(), 2048);
    let log = message("log");
    let lines: Vec<&str> = log.as_str().unwrap().lines().collect();
    assert_eq!((lines.len(), lines[0], lines[79]), (80, "line 21", "line 100"));
    let long = message("long");
    let long = long.as_str().unwrap();
    assert!(long.len() <= 2048 && long.len() > 1500, "{}", long.len());
    assert!(long.ends_with("99,100\n"), "{long}");
    assert_eq!(message("good"), Value::Null);
    assert_eq!(message("silent"), Value::Null);

    one(&scene, "alone", "Never", "yes 123456789 | head -n 1000 > /dev/termination-log");
    let object = scene.wait_phase("alone", "Succeeded");
    let message = &container(&object, "only")["state"]["terminated"]["message"];
    assert_eq!(message.as_str().unwrap(), &"123456789\n".repeat(500)[..4096]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_program_that_cannot_be_started_is_an_instance_that_ended_with_128() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 100s}}
spec:
  containers: [{name: c, image: IMAGE, command: [/bin/nothing]}]
",
    );
    let object = scene.wait("web", "the second attempt", |object| restarts(object, "c") == 1);
    let status = container(&object, "c");
    let last = &status["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(128), &json!("StartError")));
    assert_eq!(last["startedAt"], "1970-01-01T00:00:00Z");
    assert!(last["message"].as_str().unwrap().contains("/bin/nothing"), "{last:#}");
    assert_eq!(status["state"]["waiting"]["reason"], "CrashLoopBackOff", "{status:#}");
    let history = History::of(&scene, "web");
    history.says("Warning", "c/Failed", "Error: ");
    assert_eq!(history.all("c/Started").len(), 0);
    assert_eq!(history.all("c/Exited").len(), 0);
    history.shows(&["c/Failed", "c/Failed", "c/BackOff"]);

    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  restartPolicy: Never
  containers: [{name: c, image: IMAGE, command: [/etc/plain]}]
",
    );
    let object = scene.wait_phase("never", "Failed");
    assert_eq!(container(&object, "c")["state"]["terminated"]["reason"], "StartError");
    assert_eq!(scene.status("never"), "StartError");
}

/// Kills the pause process of a pod, as nobody should.
fn kill_sandbox(scene: &Scene, pod: &str) -> i32 {
    let pid = sandbox_pid(scene, pod);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    pid.as_raw()
}

fn sandbox_pid(scene: &Scene, pod: &str) -> nix::unistd::Pid {
    let text = std::fs::read_to_string(scene.state(pod).join("status.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let pid = i32::try_from(record["sandbox"]["pid"].as_i64().unwrap()).unwrap();
    nix::unistd::Pid::from_raw(pid)
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn when_the_sandbox_dies_the_pod_starts_over() {
    let scene = Scene::new();
    for (name, shared) in [("own", false), ("shared", true)] {
        scene.run(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: {shared}
  volumes: [{{name: data, emptyDir: {{}}}}]
  initContainers:
  - name: setup
    image: IMAGE
    command: [sh, -c, 'echo x >> /data/setups']
    volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
    volumeMounts: [{{name: data, mountPath: /data}}]
"
        ));
        scene.wait_ready(name);
        // A sandbox that dies in its first second would not be replaced at once.
        std::thread::sleep(SECOND);
        let before = scene.sh(name, "c", "readlink /proc/self/ns/net").ok().stdout;
        // Kept, or its number may be given again.
        let netns = format!("/proc/{}/ns/net", sandbox_pid(&scene, name));
        let _kept = std::fs::File::open(netns).unwrap();
        kill_sandbox(&scene, name);
        let object = scene.wait(name, "Ready again", |object| {
            restarts(object, "c") == 1 && condition(object, "Ready")["status"] == "True"
        });
        let code = if shared { 137 } else { 0 };
        let last = &container(&object, "c")["lastState"]["terminated"];
        assert_eq!(last["exitCode"], code, "{name}: {last:#}");
        assert_eq!(restarts(&object, "setup"), 1);
        assert_eq!(scene.sh(name, "c", "wc -l < /data/setups").ok().stdout, "2\n");
        let after = scene.sh(name, "c", "readlink /proc/self/ns/net").ok().stdout;
        assert_ne!(before, after);
        let history = History::of(&scene, name);
        let text = "Pod sandbox changed, it will be killed and re-created.";
        history.says("Normal", "SandboxChanged", text);
        assert_eq!(history.all("SandboxStarted").len(), 2);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_that_never_restarts_does_not_outlive_its_sandbox() {
    let scene = Scene::new();
    for (name, shared) in [("own", false), ("shared", true)] {
        scene.run(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  shareProcessNamespace: {shared}
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap \"exit 3\" TERM; while :; do sleep 0.05; done']
    lifecycle: {{preStop: {{exec: {{command: [sleep, '0.1']}}}}}}
"
        ));
        scene.wait_ready(name);
        kill_sandbox(&scene, name);
        let object = scene.wait_phase(name, "Failed");
        assert_eq!(restarts(&object, "c"), 0);
        let end = &container(&object, "c")["state"]["terminated"];
        assert_eq!(end["exitCode"], if shared { 137 } else { 3 });
        let history = History::of(&scene, name);
        assert_eq!(history.all("SandboxStarted").len(), 1);
        // With its grace, if the kernel has left it alive.
        assert_eq!(history.all("c/PreStopDone").len(), usize::from(!shared));
    }
}
