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
