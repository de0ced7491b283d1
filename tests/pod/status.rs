//! What is shown of a pod: phases, conditions, columns, events.

use std::time::Duration;

use serde_json::{Value, json};

use crate::history::{History, condition, container, restarts};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_object_of_a_running_pod_is_what_a_kubelet_reports() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: b, image: IMAGE, command: [sleep, '1000']}
  - {name: a, image: IMAGE, command: [sleep, '1000']}
",
    );
    let object = scene.wait_ready("web");
    let status = &object["status"];
    assert_eq!(object["kind"], "Pod");
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["podIP"], "127.0.0.1");
    assert_eq!(status["podIPs"], json!([{"ip": "127.0.0.1"}]));
    let is_time = |value: &Value| value.as_str().unwrap_or_default().ends_with('Z');
    assert!(is_time(&status["startTime"]), "{status:#}");
    for kind in
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    {
        let condition = condition(&object, kind);
        assert_eq!(condition["status"], "True", "{condition:#}");
        assert!(is_time(&condition["lastTransitionTime"]), "{condition:#}");
    }
    let names: Vec<&Value> =
        status["containerStatuses"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["a", "b"], "by name");
    let one = container(&object, "a");
    assert!(is_time(&one["state"]["running"]["startedAt"]), "{one:#}");
    assert_eq!(one["lastState"], json!({}));
    assert_eq!((&one["ready"], &one["started"]), (&json!(true), &json!(true)));
    assert_eq!(one["containerID"], "carob://default_web_a_0");
    assert_eq!(one["image"], Scene::image());

    let table = scene.pod(&["ps"]).ok().stdout;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..4], ["web", "2/2", "Running", "0"]);

    let history = History::of(&scene, "web");
    history.shows(&["SandboxStarted", "b/Pulled", "b/Created", "b/Started", "a/Started"]);
    history.says("Normal", "a/Created", "Created container: a");
    history.says("Normal", "a/Started", "Started container a");
    let image = Scene::image();
    let text = format!("Container image \"{image}\" already present on machine");
    history.says("Normal", "a/Pulled", &text);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn conditions_change_their_time_only_with_their_value() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/probe-periods: c/readiness=50ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: c
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {exec: {command: [test, -e, /data/up]}, failureThreshold: 1}
",
    );
    let object = scene.wait("web", "Running", |object| object["status"]["phase"] == "Running");
    let before = condition(&object, "Ready");
    assert_eq!(
        (&before["status"], &before["reason"]),
        (&json!("False"), &json!("ContainersNotReady"))
    );
    assert_eq!(container(&object, "c")["started"], true);
    assert_eq!(scene.status("web"), "Running");
    // Times are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    scene.sh("web", "c", "touch /data/up").ok();
    let object = scene.wait_ready("web");
    let since = |kind: &str| condition(&object, kind)["lastTransitionTime"].clone();
    assert!(since("Ready").as_str() > before["lastTransitionTime"].as_str());
    assert!(since("Initialized").as_str() < since("Ready").as_str());
    scene.sh("web", "c", "rm /data/up").ok();
    let object =
        scene.wait("web", "not ready", |object| condition(object, "Ready")["status"] == "False");
    assert_eq!(condition(&object, "Initialized")["status"], "True");
    let history = History::of(&scene, "web");
    history.says("Warning", "c/Unhealthy", "Readiness probe failed: ");
    history.shows(&["c/Ready", "PodReady", "c/NotReady", "PodNotReady"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_a_probe_ends_is_shown_as_such() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/probe-periods: c/liveness=50ms d/liveness=50ms}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; touch /tmp/well; while :; do sleep 0.05; done']
    livenessProbe: {exec: {command: [test, -e, /tmp/well]}, failureThreshold: 2}
  - name: d
    image: IMAGE
    restartPolicy: Never
    command: [sh, -c, 'trap \"exit 3\" TERM; touch /tmp/well; while :; do sleep 0.05; done']
    livenessProbe: {exec: {command: [test, -e, /tmp/well]}, failureThreshold: 2}
",
    );
    scene.wait_ready("web");
    for name in ["c", "d"] {
        scene.sh("web", name, "rm /tmp/well").ok();
    }
    let object = scene.wait("web", "a restart", |object| {
        restarts(object, "c") == 1 && container(object, "d")["state"].get("terminated").is_some()
    });
    assert_eq!(container(&object, "c")["lastState"]["terminated"]["exitCode"], 0);
    assert_eq!(container(&object, "d")["state"]["terminated"]["exitCode"], 3);
    assert_eq!(restarts(&object, "d"), 0);
    let history = History::of(&scene, "web");
    history.says("Warning", "c/Unhealthy", "Liveness probe failed: ");
    let text = "Container c failed liveness probe, will be restarted";
    history.says("Normal", "c/Killing", text);
    assert_eq!(history.first("d/Killing").message, "Container d failed liveness probe");
    let events = scene.pod(&["events", "web"]).ok().stdout;
    for word in ["Unhealthy", "Killing", "Started", text] {
        assert!(events.contains(word), "{events}");
    }
    assert_eq!(scene.status("web"), "Error");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_that_lost_one_of_its_containers_is_not_ready() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: stays, image: IMAGE, command: [sleep, '1000']}
  - {name: goes, image: IMAGE, command: [sleep, '0.1']}
",
    );
    let object = scene.wait("web", "its end", |object| {
        container(object, "goes")["state"].get("terminated").is_some()
    });
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(scene.status("web"), "NotReady");
    let row = scene.pod(&["ps", "web"]).ok().stdout;
    assert!(row.contains("1/2"), "{row}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_keeps_a_container_from_starting_is_its_reason_to_wait() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 300ms}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: good, image: IMAGE, command: [sleep, '1000']}
  - name: root
    image: IMAGE
    command: [sleep, '1000']
    securityContext: {runAsNonRoot: true}
  - {name: lost, image: 'rootfs:/nowhere', command: [sleep, '1000']}
",
    );
    let object = scene.wait("web", "its reasons", |object| {
        container(object, "good")["ready"] == true
            && container(object, "lost")["state"]["waiting"].get("message").is_some()
    });
    // One that has never run is enough.
    assert_eq!(object["status"]["phase"], "Pending");
    let root = &container(&object, "root")["state"]["waiting"];
    assert_eq!(root["reason"], "CreateContainerConfigError");
    let message = root["message"].as_str().unwrap();
    assert!(message.contains("container has runAsNonRoot and image will run as root"), "{message}");
    let lost = &container(&object, "lost")["state"]["waiting"];
    assert!(lost["message"].as_str().unwrap().contains("/nowhere"), "{lost}");
    let history = History::of(&scene, "web");
    history.says("Warning", "root/Failed", "Error: container has runAsNonRoot");
    assert_eq!(restarts(&object, "root"), 0);
    // The first by name.
    assert_eq!(scene.status("web"), lost["reason"].as_str().unwrap());
}
