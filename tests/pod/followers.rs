//! Verbs that go on until something happens to a pod whose supervisor is killed meanwhile: nothing
//! would, as long as nobody supervises it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{Scene, tells_ends_of_strangers};

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: one
    image: IMAGE
    command: [sh, -c, 'until test -e /go; do sleep 0.05; done; echo gone; exit 7']
";

const VERBS: [&[&str]; 3] = [
    &["wait", "--for=exit", "--timeout=80s", "web"],
    &["logs", "--follow", "web"],
    &["events", "--all", "--watch", "web"],
];

/// Starts a verb and waits until it watches the pod.
#[track_caller]
fn follow(scene: &Scene, verb: &[&str]) -> Child {
    let mut command = scene.command(&[&["pod"], verb].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_watched(scene, child.id());
    child
}

#[track_caller]
fn wait_until_watched(scene: &Scene, pid: u32) {
    let state = fs::canonicalize(scene.state("web")).unwrap();
    let number = format!("ino:{:x} ", fs::metadata(state).unwrap().ino());
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten();
        let mut texts = infos.flatten().filter_map(|info| fs::read_to_string(info.path()).ok());
        if texts.any(|text| text.contains(&number)) {
            return;
        }
        assert!(Instant::now() < end, "{pid} does not watch the pod");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The root filesystem of the pod's container, from the record alone.
fn rootfs(scene: &Scene) -> String {
    let text = fs::read(scene.state("web").join("status.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    format!("/proc/{}/root", record["apps"][0]["state"]["pid"])
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_follows_a_pod_brings_back_a_supervisor_that_is_killed_meanwhile() {
    let scene = Scene::new();
    let all: [&[&str]; 4] = [VERBS[0], VERBS[1], VERBS[2], &["ps", "--watch", "web"]];
    for verb in all {
        scene.run(POD);
        scene.wait_ready("web");
        let mut follower = follow(&scene, verb);
        scene.crash("web");
        fs::write(format!("{}/go", rootfs(&scene)), "").unwrap();
        let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
        if verb[0] == "events" {
            // Until then: nobody but this verb may look after the pod.
            assert!(lines.any(|line| line.unwrap().contains("Ended")), "no end of the pod");
            scene.pod(&["rm", "--force", "web"]).ok();
        }
        if verb[0] == "ps" {
            let ends = ["Error", "ContainerStatusUnknown"];
            let ends = if tells_ends_of_strangers() { &ends[..1] } else { &ends };
            let is_end = |line: String| ends.iter().any(|end| line.contains(end));
            assert!(lines.any(|line| is_end(line.unwrap())), "no end of the pod");
            // It waits for the next pod.
            follower.kill().unwrap();
        }
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let code = follower.wait().unwrap().code();
        match verb[0] {
            "wait" if tells_ends_of_strangers() => assert_eq!(code, Some(7)),
            "wait" => assert!([Some(7), Some(137)].contains(&code), "{code:?}"),
            "logs" => assert_eq!((code, rest), (Some(0), vec!["gone".to_owned()])),
            "events" => assert_eq!(code, Some(0)),
            _ => assert_eq!(code, None),
        }
        scene.pod(&["rm", "--force", "web"]).ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_follows_a_pod_says_why_there_can_be_no_supervisor() {
    let scene = Scene::new();
    scene.run(POD);
    scene.wait_ready("web");
    let mut followers = VERBS.map(|verb| follow(&scene, verb));
    // The next supervisor finds this where its lock should be.
    let lock = scene.state("web").join("supervisor");
    let replacement = scene.dir().join("no-lock");
    symlink("/nonexistent", &replacement).unwrap();
    fs::rename(&replacement, &lock).unwrap();
    for follower in &mut followers {
        let mut said = String::new();
        follower.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(follower.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains(r#"pod "web": no supervisor: "#), "{said}");
    }
    scene.crash("web");
    fs::remove_file(&lock).unwrap();
}
