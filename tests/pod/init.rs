//! Init containers, one after the other, and sidecars beside the rest.

use std::time::Duration;

use serde_json::json;

use crate::history::{History, condition, container, restarts};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn init_containers_run_in_order_and_hold_the_others() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: one
    image: IMAGE
    command: [sh, -c, 'echo one >> /data/order; until test -e /data/go; do sleep 0.05; done']
    volumeMounts: [{name: data, mountPath: /data}]
  - name: two
    image: IMAGE
    command: [sh, -c, 'echo two >> /data/order; until test -e /data/go2; do sleep 0.05; done']
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: app
    image: IMAGE
    command: [sh, -c, 'echo app >> /data/order; exec sleep 1000']
    volumeMounts: [{name: data, mountPath: /data}]
",
    );
    let object = scene
        .wait("web", "one", |object| container(object, "one")["state"].get("running").is_some());
    assert_eq!(object["status"]["phase"], "Pending");
    for name in ["two", "app"] {
        let state = &container(&object, name)["state"];
        assert_eq!(state["waiting"]["reason"], "PodInitializing", "{name}: {state}");
    }
    let initialized = condition(&object, "Initialized");
    assert_eq!(initialized["status"], "False");
    assert_eq!(initialized["reason"], "ContainersNotInitialized");
    assert_eq!(initialized["message"], "containers with incomplete status: [one two]");
    assert_eq!(scene.status("web"), "Init:0/2");
    scene.sh("web", "one", "touch /data/go").ok();
    let object = scene
        .wait("web", "two", |object| container(object, "two")["state"].get("running").is_some());
    let one = container(&object, "one");
    assert_eq!(
        (&one["ready"], &one["state"]["terminated"]["reason"]),
        (&json!(true), &json!("Completed"))
    );
    assert_eq!(scene.status("web"), "Init:1/2");
    scene.sh("web", "two", "touch /data/go2").ok();
    let object = scene.wait_ready("web");
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(scene.status("web"), "Running");
    assert_eq!(condition(&object, "Initialized")["status"], "True");
    assert_eq!(scene.sh("web", "app", "cat /data/order").ok().stdout, "one\ntwo\napp\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  initContainers:
  - {name: side, image: IMAGE, command: [sleep, '1000'], restartPolicy: Always}
  - {name: bad, image: IMAGE, command: [sh, -c, 'exit 9']}
  - {name: later, image: IMAGE, command: ['true']}
  containers: [{name: app, image: IMAGE, command: ['true']}]
  terminationGracePeriodSeconds: 1
",
    );
    let object = scene.wait_phase("web", "Failed");
    assert_eq!(container(&object, "bad")["state"]["terminated"]["exitCode"], 9);
    for name in ["later", "app"] {
        assert_eq!(container(&object, name)["state"]["waiting"]["reason"], "PodInitializing");
    }
    assert_eq!(container(&object, "side")["state"]["terminated"]["exitCode"], 137);
    let history = History::of(&scene, "web");
    assert_eq!(history.all("app/Running").len(), 0);
    assert_eq!(scene.status("web"), "Init:Error");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_init_container_is_tried_again_until_it_succeeds() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 700ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - {name: before, image: IMAGE, command: ['true']}
  - name: setup
    image: IMAGE
    command: [sh, -c, 'echo x >> /data/tries; test $(wc -l < /data/tries) = 3']
    volumeMounts: [{name: data, mountPath: /data}]
  containers: [{name: app, image: IMAGE, command: [sleep, '1000']}]
",
    );
    let object = scene.wait("web", "CrashLoopBackOff", |object| {
        container(object, "setup")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(scene.status("web"), "Init:CrashLoopBackOff");
    let object = scene.wait_ready("web");
    assert_eq!((restarts(&object, "setup"), restarts(&object, "before")), (2, 0));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sidecar_holds_what_comes_after_it_until_its_startup_probe_succeeds() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/probe-periods: side/startup=50ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: side
    image: IMAGE
    command: [sleep, '1000']
    restartPolicy: Always
    volumeMounts: [{name: data, mountPath: /data}]
    startupProbe: {exec: {command: [test, -e, /data/up]}, failureThreshold: 1000}
  - {name: setup, image: IMAGE, command: ['true']}
  containers: [{name: app, image: IMAGE, command: [sleep, '1000']}]
",
    );
    let object = scene.wait("web", "the sidecar", |object| {
        container(object, "side")["state"].get("running").is_some()
    });
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(scene.status("web"), "Init:0/2");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(History::of(&scene, "web").all("setup/Running").len(), 0);
    assert_eq!(container(&scene.inspect("web"), "side")["started"], false);
    scene.sh("web", "side", "touch /data/up").ok();
    scene.wait_ready("web");
    History::of(&scene, "web").shows(&[
        "side/Running",
        "side/StartupDone",
        "setup/Running",
        "setup/Exited",
        "app/Running",
    ]);
    let row = scene.pod(&["ps", "web"]).ok().stdout;
    assert!(row.contains("2/2"), "{row}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sidecars_are_kept_alive_and_go_last_in_reverse() {
    let scene = Scene::new();
    let lasting = "trap \"echo bye; exit 0\" TERM; while :; do sleep 0.05; done";
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web, annotations: {{carob/backoff-initial: 50ms}}}}
spec:
  terminationGracePeriodSeconds: 20
  initContainers:
  - {{name: one, image: IMAGE, command: [sh, -c, '{lasting}'], restartPolicy: Always}}
  - name: two
    image: IMAGE
    command: [sh, -c, '{lasting}']
    restartPolicy: Always
    lifecycle: {{preStop: {{exec: {{command: ['true']}}}}}}
  containers:
  - name: app
    image: IMAGE
    command: [sh, -c, 'trap \"sleep 0.5; exit 0\" TERM; while :; do sleep 0.05; done']
"
    ));
    scene.wait_ready("web");
    // Dies although all is well: kept alive while the app container runs.
    scene.pod(&["kill", "-c", "one", "-s", "TERM", "web"]).ok();
    let object = scene.wait("web", "a restart", |object| {
        restarts(object, "one") == 1 && condition(object, "Ready")["status"] == "True"
    });
    assert_eq!(container(&object, "one")["lastState"]["terminated"]["exitCode"], 0);
    assert_eq!((restarts(&object, "two"), restarts(&object, "app")), (0, 0));

    scene.pod(&["stop", "web"]).ok();
    let history = History::of(&scene, "web");
    // The hook of a sidecar does not wait for its turn, its signal does.
    history.shows(&[
        "Stopping",
        "two/PreStop",
        "two/PreStopDone",
        "app/Exited",
        "two/Signalled",
        "two/Exited",
        "one/Signalled",
        "one/Exited",
        "Ended",
    ]);
    history.shows(&["Stopping", "one/Killing", "two/Killing", "app/Signalled", "app/Exited"]);
    assert_eq!(scene.inspect("web")["status"]["phase"], "Succeeded");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn when_the_app_containers_are_finished_the_sidecars_are_stopped() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: OnFailure
  initContainers:
  - name: side
    image: IMAGE
    restartPolicy: Always
    command: [sh, -c, 'trap \"exit 5\" TERM; while :; do sleep 0.05; done']
  containers:
  - {name: app, image: IMAGE, command: [sleep, '0.3']}
",
    );
    // Exit codes of sidecars do not count.
    let object = scene.wait_phase("web", "Succeeded");
    assert_eq!(container(&object, "side")["state"]["terminated"]["exitCode"], 5);
    assert_eq!(restarts(&object, "side"), 0);
    scene.pod(&["wait", "--for=stopped", "web"]).ok();
    History::of(&scene, "web").shows(&["app/Exited", "side/Killing", "side/Exited", "Ended"]);
    assert_eq!(scene.status("web"), "Completed");
}
