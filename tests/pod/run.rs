//! `pod run`: a manifest becomes a pod, and nothing is left of it.

use crate::scene::Scene;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_runs_prints_and_goes() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'echo hello; exec sleep 1000']}
  - {name: two, image: IMAGE, command: [sleep, '1000']}
",
    );

    scene.wait_ready("web");

    assert_eq!(scene.wait_log("web", "one", "hello"), "hello\n");
    assert_eq!(scene.sh("web", "two", "echo in two").ok().stdout, "in two\n");
    scene.pod(&["stop", "web"]).ok();
    assert_eq!(scene.inspect("web")["status"]["phase"], "Failed", "ended by a signal");
    scene.pod(&["rm", "web"]).ok();
}

/// Most hosts have shared mounts; the one that runs the tests may not.
#[test]
#[ignore = "needs root: run scripts/test"]
fn where_mounts_are_shared_nothing_mounted_in_a_container_reaches_the_host() {
    let scene = Scene::new();
    let manifest = scene.manifest(
        "shared.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {medium: Memory}}]
",
    );
    let carob = format!("{} --root {}", env!("CARGO_BIN_EXE_carob"), scene.root().display());
    let run = scene.run_args("run", &["-d"], &[&manifest]).join(" ");
    let script = format!(
        "{carob} {run} && {carob} pod wait --for=ready --timeout 10s web || exit 1
         grep -F {dir} /proc/self/mountinfo | cut -d' ' -f5
         {carob} pod rm --force web && echo and then:
         grep -F {dir} /proc/self/mountinfo",
        dir = scene.dir().display()
    );
    let out = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "shared", "sh", "-c", &script])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let (there, left) = told.split_once("and then:").unwrap_or_else(|| panic!("{out:?}"));
    let state = scene.state("web").display().to_string();
    let mut mounts: Vec<&str> =
        there.lines().filter_map(|line| line.strip_prefix(state.as_str())).collect();
    mounts.sort_unstable();
    assert_eq!(mounts, ["/etc", "/memory/v", "/shm"], "{told}");
    assert_eq!(left.trim(), "", "{told}");
}
