//! Pods whose manifests name images.

use std::fs;

use crate::proxy::{Proxy, Way};
use crate::registry::{Access, Registry};
use crate::scene::Scene;

fn manifest(image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Always\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: {image}\n{more}"
    )
}

fn waiting(scene: &Scene) -> (String, String) {
    let state = scene.container("p", "c")["state"]["waiting"].clone();
    let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_pulls_what_is_missing() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let name = registry.name("two:latest");
    let command =
        "    imagePullPolicy: IfNotPresent\n    command: [sh, -c, \"id; pwd; sleep 1000\"]\n";
    scene.run(&manifest(&name, command));
    scene.wait_ready("p");
    let log = scene.wait_log("p", "c", "/srv");
    assert!(log.contains("uid=1000(user) gid=1000(user)"), "{log}");
    let events = scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains(&format!("Pulling image \"{name}\"")), "{events}");
    assert!(events.contains(&format!("Successfully pulled image \"{name}\" in ")), "{events}");
    assert!(events.contains(" including waiting). Image size: "), "{events}");
    // The pod holds it.
    scene.image_verb("prune", &["--all"]).ok();
    assert_eq!(scene.in_store("layers").len(), 2);
    scene.image_verb("rm", &[&name]).fails(1, &["used by pod default_p"]);
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.run(&manifest(&name, command));
    scene.wait_ready("p");
    let events = scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains("already present on machine"), "{events}");
    assert!(!events.contains("Pulling"), "{events}");
    scene.pod(&["rm", "--force", "p"]).ok();
    scene.image_verb("prune", &["--all"]).ok();
    assert!(scene.in_store("layers").is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_cannot_be_pulled_is_tried_again() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let name = registry.name("later:v1");
    let args = ["-d", "--backoff-initial", "3s"];
    scene.try_run_with(&args, &manifest(&name, "    command: [sleep, \"1000\"]\n")).ok();
    scene.wait("p", "ErrImagePull", |_| waiting(&scene).0 == "ErrImagePull");
    scene.wait("p", "ImagePullBackOff", |_| waiting(&scene).0 == "ImagePullBackOff");
    let events = scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains(&format!("Failed to pull image \"{name}\": ")), "{events}");
    assert!(events.contains("not found"), "{events}");
    assert!(events.contains(&format!("Back-off pulling image \"{name}\"")), "{events}");
    let from = format!("oci:{}/layout:one", crate::made::layout().display());
    registry.push(&from, "later:v1", "");
    scene.wait_ready("p");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn policies_and_names_are_the_kubelets() {
    let scene = Scene::new();
    scene.import("one");
    let never = "    imagePullPolicy: Never\n    command: [sleep, \"1000\"]\n";
    for (image, more, reason, word) in [
        ("none", never, "ErrImageNeverPull", "is not present with pull policy of Never"),
        ("UPPER", "", "InvalidImageName", "must be lowercase"),
        // `latest` is always asked for, and nobody listens there.
        ("127.0.0.1:1/one", "", "ErrImagePull", "127.0.0.1:1"),
    ] {
        scene.run(&manifest(image, more));
        scene.wait("p", reason, |_| waiting(&scene).0 == reason);
        let (_, message) = waiting(&scene);
        assert!(message.contains(word), "{message}");
        scene.pod(&["rm", "--force", "p"]).ok();
    }
    scene.run(&manifest("one", never));
    scene.wait_ready("p");
    assert!(scene.sh("p", "c", "echo $FROM").ok().stdout.contains("image"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pull_holds_nothing_up() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let proxy = Proxy::new(registry.address, Way::StallAfter(300_000));
    let name = proxy.name("one");
    let other = "    imagePullPolicy: IfNotPresent\n    command: [sleep, \"1000\"]\n  - name: other\n    image: IMAGE\n    \
                 command: [sleep, \"1000\"]\n";
    scene.run(&manifest(&name, other));
    scene.wait("p", "other running", |_| {
        !scene.container("p", "other")["state"]["running"].is_null()
    });
    assert_eq!(waiting(&scene).0, "ContainerCreating");
    // A supervisor that is killed meanwhile asks again.
    scene.crash("p");
    proxy.set(Way::Through);
    scene.pod(&["wait", "--for", "condition=Ready", "--timeout", "60s", "p"]).ok();
    assert!(scene.events("p").contains(&"Recovered".to_owned()));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_of_its_own_ids_has_the_images_files() {
    let scene = Scene::new();
    scene.import("two");
    let text = manifest("two", "    imagePullPolicy: Never\n    command: [sleep, \"1000\"]\n")
        .replace("spec:\n", "spec:\n  hostUsers: false\n");
    scene.run(&text);
    scene.wait_ready("p");
    let out = scene.sh("p", "c", "stat -c %u:%g:%a /srv /home/new; cat /home/linked; id -u");
    assert_eq!(out.ok().stdout, "7:8:2775\n0:0:644\nnew\n1000\n");
}
