//! postStart and preStop: by exec, HTTP and sleep.

use std::time::Duration;

use serde_json::json;

use crate::history::{History, condition, container, restarts};
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_post_start_hook_holds_the_next_container() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: one
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts: [{name: data, mountPath: /data}]
    lifecycle:
      postStart:
        exec: {command: [sh, -c, 'until test -e /data/go; do sleep 0.05; done; echo $$ > /data/hook']}
  - name: two
    image: IMAGE
    command: [sleep, '1000']
    lifecycle: {postStart: {sleep: {seconds: 1}}}
  - {name: three, image: IMAGE, command: [sleep, '1000']}
",
    );
    std::thread::sleep(Duration::from_millis(300));
    let object = scene.inspect("web");
    // Nothing is published of an instance before its hook has ended.
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(container(&object, "one")["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(container(&object, "one")["started"], false);
    assert_eq!(scene.status("web"), "ContainerCreating");
    assert_eq!(History::of(&scene, "web").all("two/Running").len(), 0);
    scene.sh("web", "one", "touch /data/go").ok();
    scene.wait_ready("web");
    let history = History::of(&scene, "web");
    history.shows(&[
        "one/Running",
        "one/PostStart",
        "one/PostStartDone",
        "two/Running",
        "two/PostStart",
        "two/PostStartDone",
        "three/Running",
        "PodReady",
    ]);
    assert!(history.between("two/PostStart", "two/PostStartDone") >= SECOND);
    // In the container's namespaces.
    let pid = scene.sh("web", "one", "cat /data/hook").ok().stdout;
    assert!(pid.trim().parse::<u32>().unwrap() < 1000, "{pid}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_post_start_hook_that_fails_ends_its_container() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/backoff-initial: 100s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: bad
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
    lifecycle: {postStart: {exec: {command: [sh, -c, 'exit 4']}}}
  - name: none
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
    lifecycle: {postStart: {exec: {command: [/bin/nothing]}}}
  - {name: good, image: IMAGE, command: [sleep, '1000']}
",
    );
    let object = scene.wait("web", "both in back-off", |object| {
        ["bad", "none"]
            .iter()
            .all(|name| container(object, name)["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    });
    for name in ["bad", "none"] {
        assert_eq!(restarts(&object, name), 1);
        let history = History::of(&scene, "web");
        let text = "PostStartHook failed";
        history.says("Warning", &format!("{name}/FailedPostStartHook"), text);
        history.says("Normal", &format!("{name}/Killing"), "FailedPostStartHook");
    }
    assert_eq!(container(&object, "good")["ready"], true);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hooks_by_http_succeed_on_any_status() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {carob/probe-periods: server/startup=50ms}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: data, emptyDir: {}}
  - {name: www, configMap: {name: www, defaultMode: 0755}}
  initContainers:
  - name: server
    image: IMAGE
    restartPolicy: Always
    command: [sh, -c, 'cp -r /www/cgi-bin /data; exec httpd -f -p 8080 -h /data']
    volumeMounts: [{name: data, mountPath: /data}, {name: www, mountPath: /www/cgi-bin}]
    startupProbe: {tcpSocket: {port: 8080}}
  containers:
  - name: app
    image: IMAGE
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']
    volumeMounts: [{name: data, mountPath: /data}]
    lifecycle:
      postStart: {httpGet: {port: 8080, path: /cgi-bin/hello}}
      preStop: {httpGet: {port: 1, path: /bye}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: www}
data:
  hello: |
    #!/bin/sh
    echo \"$REQUEST_METHOD $REQUEST_URI $HTTP_USER_AGENT\" >> /data/log
    printf 'Status: 500 no\\r\\n\\r\\n'
",
    );
    scene.wait_ready("web");
    let seen = scene.sh("web", "app", "cat /data/log").ok().stdout;
    assert!(seen.starts_with("GET /cgi-bin/hello kube-lifecycle/"), "{seen}");
    assert_eq!(History::of(&scene, "web").all("app/FailedPostStartHook").len(), 0);
    scene.pod(&["stop", "web"]).ok();
    // A hook that fails does not keep the container from being stopped.
    let history = History::of(&scene, "web");
    history.says("Warning", "app/FailedPreStopHook", "PreStopHook failed");
    history.shows(&["app/FailedPreStopHook", "app/Signalled", "app/Exited"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pre_stop_hook_runs_before_the_signal_and_inside_the_grace() {
    let scene = Scene::new();
    let patient = "trap \"echo signal; exit 0\" TERM; while :; do sleep 0.05; done";
    scene.run(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: sleeps
    image: IMAGE
    command: [sh, -c, '{patient}']
    lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
  - name: stubborn
    image: IMAGE
    command: [sh, -c, \"trap '' TERM; while :; do sleep 0.05; done\"]
    lifecycle: {{preStop: {{exec: {{command: [sleep, '1']}}}}}}
  - name: overruns
    image: IMAGE
    command: [sh, -c, \"trap '' TERM; while :; do sleep 0.05; done\"]
    lifecycle: {{preStop: {{exec: {{command: [sleep, '1000']}}}}}}
  - {{name: plain, image: IMAGE, command: [sh, -c, '{patient}']}}
"
    ));
    scene.wait_ready("web");
    scene.pod(&["stop", "--no-wait", "web"]).ok();
    assert_eq!(scene.status("web"), "Terminating");
    scene.pod(&["wait", "--for=stopped", "web"]).ok();
    let object = scene.inspect("web");
    for (name, code) in [("sleeps", 0), ("stubborn", 137), ("overruns", 137), ("plain", 0)] {
        let end = &container(&object, name)["state"]["terminated"];
        assert_eq!(end["exitCode"], code, "{name}: {end:#}");
    }
    let history = History::of(&scene, "web");
    history.shows(&["sleeps/PreStop", "plain/Exited", "sleeps/PreStopDone", "sleeps/Signalled"]);
    assert!(history.between("sleeps/PreStop", "sleeps/Signalled") >= SECOND);
    // The rest of the grace, and not all of it.
    let killed = history.between("Stopping", "stubborn/Exited");
    assert!(killed >= 3 * SECOND && killed < 5 * SECOND, "{killed:?}");
    assert!(history.between("Stopping", "overruns/Signalled") >= 3 * SECOND);
    // The least that a container has after its signal.
    assert!(history.between("overruns/Signalled", "overruns/Exited") >= 2 * SECOND);
    assert_eq!(history.all("overruns/PreStopDone").len(), 0);
    assert_eq!(history.all("overruns/FailedPreStopHook").len(), 0);
    assert_eq!(condition(&object, "Ready")["status"], "False");
    assert_eq!(object["status"]["phase"], json!("Failed"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_ends_by_itself_has_no_pre_stop() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: IMAGE
    command: [sleep, '0.2']
    lifecycle: {preStop: {exec: {command: ['true']}}}
",
    );
    scene.wait_phase("web", "Succeeded");
    assert_eq!(History::of(&scene, "web").all("c/PreStop").len(), 0);
}
