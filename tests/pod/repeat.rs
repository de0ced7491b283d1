//! The same manifest again, a changed one, names that clash, pods that are gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use crate::scene::{Output, Scene};

const WEB: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: settings, configMap: {name: settings}}]
  containers:
  - name: one
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: settings, mountPath: /single, subPath: key}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: old}
";

fn pid(scene: &Scene) -> String {
    scene.container("web", "one")["containerID"].to_string()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_that_is_run_again_stays_and_changed_data_reaches_its_volumes() {
    let scene = Scene::new();
    assert_eq!(scene.run(WEB).stdout, "pod/web created\n");
    scene.wait_ready("web");
    let before = (scene.supervisor("web"), pid(&scene));
    assert_eq!(scene.run(WEB).stdout, "pod/web unchanged\n");
    let changed = WEB.replace("key: old", "key: new, other: more");
    assert_eq!(scene.run(&changed).stdout, "pod/web configured\n");
    let read = |script: &str| scene.sh("web", "one", script).ok().stdout;
    assert_eq!(read("cat /settings/key /settings/other"), "newmore");
    assert_eq!(read("cat /single"), "old", "a subPath is what it was at the start");
    assert_eq!(scene.run(&changed).stdout, "pod/web unchanged\n");
    assert_eq!((scene.supervisor("web"), pid(&scene)), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn changed_data_reaches_a_pod_whose_supervisor_was_killed() {
    let scene = Scene::new();
    scene.run(WEB);
    scene.wait_ready("web");
    scene.crash("web");
    let changed = WEB.replace("key: old", "key: new");
    assert_eq!(scene.run(&changed).stdout, "pod/web configured\n");
    assert_eq!(scene.sh("web", "one", "cat /settings/key").ok().stdout, "new");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_changed_pod_is_named_and_replaced_only_if_that_is_wanted() {
    let scene = Scene::new();
    scene.run(WEB);
    scene.wait_ready("web");
    let changed =
        WEB.replace("'1000'", "'1001'").replace("GracePeriodSeconds: 0", "GracePeriodSeconds: 1");
    let words =
        ["spec.containers[0].command[1]", "spec.terminationGracePeriodSeconds", "--replace"];
    scene.try_run(&changed).fails(1, &words);
    scene.wait_ready("web");
    let uid = scene.inspect("web")["metadata"]["uid"].clone();
    let out = scene.try_run_with(&["-d", "--replace"], &changed).ok();
    assert_eq!(out.stdout, "pod/web replaced\n");
    let object = scene.wait_ready("web");
    assert_ne!(object["metadata"]["uid"], uid);
    assert_eq!(object["spec"]["containers"][0]["command"][1], "1001");
    assert_eq!(fs::read_dir(scene.dir().join("data/pods")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(scene.dir().join("logs")).unwrap().count(), 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn of_two_who_run_a_pod_at_once_one_makes_it() {
    let scene = Scene::new();
    let path: &Path = &scene.manifest("pod.yaml", WEB);
    let args = scene.run_args("run", &["-d"], &[path]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for _ in 0..4 {
        let both: Vec<_> =
            (0..3).map(|_| scene.command(&args).stdout(Stdio::piped()).spawn().unwrap()).collect();
        let mut said: Vec<String> = both
            .into_iter()
            .map(|run| run.wait_with_output().unwrap())
            .map(|out| String::from_utf8(out.stdout).unwrap())
            .collect();
        said.sort();
        assert_eq!(said, ["pod/web created\n", "pod/web unchanged\n", "pod/web unchanged\n"]);
        scene.wait_ready("web");
        assert_eq!(scene.container("web", "one")["restartCount"], 0);
        scene.pod(&["rm", "--force", "web"]).ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pods_of_one_name_live_side_by_side_in_namespaces() {
    let scene = Scene::new();
    let there = WEB
        .replace("{name: web}", "{name: web, namespace: there}")
        .replace("metadata: {name: settings}", "metadata: {name: settings, namespace: there}");
    scene.run(WEB);
    scene.run(&there);
    scene.pod(&["wait", "--for=ready", "-n", "there", "web"]).ok();
    scene.wait_ready("web");
    scene.pod(&["rm", "--force", "-n", "there", "web"]).ok();
    assert!(scene.container("web", "one")["state"]["running"].is_object());
    scene.pod(&["inspect", "-n", "there", "web"]).fails(1, &["pods \"web\" not found"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn rm_takes_away_what_runs_only_with_force() {
    let scene = Scene::new();
    scene.run(WEB);
    scene.pod(&["rm", "web"]).fails(1, &["pod \"web\" is running", "--force"]);
    scene.wait_ready("web");
    scene.pod(&["rm", "--force", "web"]).ok();
    scene.pod(&["rm", "--force", "web"]).ok();
    scene.pod(&["rm", "web"]).fails(1, &["pods \"web\" not found"]);
    assert_eq!(scene.leaks(), Vec::<String>::new());
    // One that was only made.
    let path = scene.manifest("pod.yaml", WEB);
    let args = scene.run_args("create", &[], &[&path]);
    scene.carob(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    scene.pod(&["rm", "web"]).ok();
    assert_eq!(scene.leaks(), Vec::<String>::new());
}

/// What is left when a machine was switched off: data and logs, nothing else.
fn lose_state(scene: &Scene, pod: &str) {
    let dirs: serde_json::Value =
        serde_json::from_slice(&fs::read(scene.state(pod).join("pod.json")).unwrap()).unwrap();
    let data = dirs["dirs"]["data"].as_str().unwrap();
    let kept = scene.dir().join("kept");
    let copy = |from: &str, to: &Path| {
        let status = std::process::Command::new("cp").args(["-a", from]).arg(to).status().unwrap();
        assert!(status.success());
    };
    copy(data, &kept);
    let logs = dirs["dirs"]["logs"].as_str().unwrap();
    let kept_logs = scene.dir().join("kept-logs");
    copy(logs, &kept_logs);
    scene.pod(&["rm", "--force", pod]).ok();
    fs::rename(kept, data).unwrap();
    fs::rename(kept_logs, logs).unwrap();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn data_of_pods_whose_state_was_lost_goes_with_the_next_pod() {
    let scene = Scene::new();
    let fixed =
        WEB.replace("{name: web}", "{name: web, uid: 11111111-2222-3333-4444-555555555555}");
    scene.run(&fixed);
    scene.wait_ready("web");
    lose_state(&scene, "web");
    let others = [scene.dir().join("data/pods/not-ours"), scene.dir().join("logs/not-ours")];
    for dir in &others {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("pod.json"), "{}").unwrap();
    }
    // Of another state root.
    let elsewhere = scene.dir().join("data/pods/elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let dirs = serde_json::json!({"state": "/nowhere/@pods/default_web", "data": elsewhere,
        "logs": "/nowhere/x_elsewhere", "cgroup": "/nowhere/podelsewhere"});
    fs::write(elsewhere.join("pod.json"), dirs.to_string()).unwrap();

    let out: Output = scene.run(&fixed);
    assert_eq!(out.stdout, "pod/web created\n");
    assert_eq!(out.stderr, "");
    scene.wait_ready("web");
    for dir in others.iter().chain([&elsewhere]) {
        assert!(dir.join("pod.json").exists(), "{}", dir.display());
        fs::remove_dir_all(dir).unwrap();
    }
    let uid = "11111111-2222-3333-4444-555555555555";
    let data = scene.dir().join("data/pods").join(uid);
    assert_eq!(fs::metadata(data).unwrap().mode() & 0o777, 0o750);
    scene.pod(&["rm", "--force", "web"]).ok();
    // A pod of another name takes it away as well.
    scene.run(&fixed);
    scene.wait_ready("web");
    lose_state(&scene, "web");
    scene.run(&WEB.replace("name: web", "name: other"));
    assert!(!scene.dir().join("data/pods").join(uid).exists());
    assert!(!scene.dir().join(format!("logs/default_web_{uid}")).exists());
}
