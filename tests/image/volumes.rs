//! Volumes of pods that are images, and credentials that a pod brings along.

use crate::made::{layout, sh};
use crate::proxy::{Proxy, Way};
use crate::registry::{Access, Registry};
use crate::scene::Scene;

/// A pod of busybox with volumes; `more` is of its container.
fn manifest(volumes: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Always\n  \
         terminationGracePeriodSeconds: 0\n  volumes: [{volumes}]\n  containers:\n  - name: c\n    \
         image: IMAGE\n    command: [sleep, \"1000\"]\n{more}"
    )
}

fn waiting(scene: &Scene, container: &str) -> (String, String) {
    let state = scene.container("p", container)["state"]["waiting"].clone();
    let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_files_of_an_image_are_a_volume() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let name = registry.name("two:latest");
    let mounts = "    volumeMounts:
    - {name: v, mountPath: /all}
    - {name: v, mountPath: /home, subPath: home}
    - {name: v, mountPath: /file, subPathExpr: etc/$(NAME)}
    env: [{name: NAME, value: plain}]
  - name: other
    image: IMAGE
    command: [sleep, '1000']
    securityContext: {privileged: true}
    volumeMounts: [{name: v, mountPath: /all}]
";
    scene.run(&manifest(&format!("{{name: v, image: {{reference: '{name}'}}}}"), mounts));
    scene.wait_ready("p");
    let script = "cat /all/home/linked /home/new /file; ls /all/bin/vi; stat -c %u:%g:%a /all/srv; \
        for f in /all/x /home/x /file; do echo x > $f || echo refused; done";
    let out = scene.sh("p", "c", script);
    let expected = "new\nnew\nchanged\n7:8:2775\nrefused\nrefused\nrefused\n";
    assert_eq!(out.clone().ok().stdout, expected, "{out:?}");
    assert_eq!(out.stderr.matches("Read-only file system").count(), 3, "{out:?}");
    let out = scene.sh("p", "other", "cat /all/etc/plain; echo x > /all/x");
    assert!(out.stdout == "changed\n" && out.stderr.contains("Read-only"), "{out:?}");
    let events = scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains(&format!("Successfully pulled image \"{name}\" in ")), "{events}");
    scene.image_verb("prune", &["--all"]).ok();
    scene.image_verb("rm", &[&name]).fails(1, &["used by pod default_p"]);
    // It outlives the supervisor and the containers.
    scene.crash("p");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(scene.init("p", "c")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    scene.wait("p", "a restart", |_| {
        let status = scene.container("p", "c");
        status["restartCount"] == 1 && status["ready"] == true
    });
    assert_eq!(scene.sh("p", "c", "cat /home/new").ok().stdout, "new\n");
    scene.pod(&["rm", "--force", "p"]).ok();
    scene.image_verb("prune", &["--all"]).ok();
    assert!(scene.in_store("layers").is_empty() && scene.in_store("uses").is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_volume_whose_image_is_not_there_keeps_its_container_waiting() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::Everybody);
    let name = registry.name("later:v1");
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}]\n  - name: other\n    image: IMAGE\n    \
                  command: [sleep, '1000']\n";
    for (source, reason, word) in [
        (format!("reference: '{name}', pullPolicy: Never"), "ErrImageNeverPull", "pull policy"),
        ("reference: UPPER".to_owned(), "InvalidImageName", "lowercase"),
        ("reference: 'rootfs:/nonexistent'".to_owned(), "ErrImagePull", "does not exist"),
    ] {
        scene.run(&manifest(&format!("{{name: v, image: {{{source}}}}}"), mounts));
        scene.wait("p", reason, |_| waiting(&scene, "c").0 == reason);
        assert!(waiting(&scene, "c").1.contains(word), "{:?}", waiting(&scene, "c"));
        // Who does not use it does not wait.
        scene.wait("p", "other", |_| !scene.container("p", "other")["state"]["running"].is_null());
        scene.pod(&["rm", "--force", "p"]).ok();
    }
    let volume = format!("{{name: v, image: {{reference: '{name}'}}}}");
    let args = ["-d", "--backoff-initial", "3s"];
    scene.try_run_with(&args, &manifest(&volume, mounts)).ok();
    scene.wait("p", "ErrImagePull", |_| waiting(&scene, "c").0 == "ErrImagePull");
    scene.wait("p", "ImagePullBackOff", |_| waiting(&scene, "c").0 == "ImagePullBackOff");
    let events = scene.pod(&["events", "p"]).ok().stdout;
    assert!(events.contains(&format!("Back-off pulling image \"{name}\"")), "{events}");
    let from = format!("oci:{}/layout:one", layout().display());
    registry.push(&from, "later:v1", "");
    scene.wait_ready("p");
    assert_eq!(scene.sh("p", "c", "ls /v/bin/sh").ok().stdout, "/v/bin/sh\n");
    scene.pod(&["rm", "--force", "p"]).ok();

    // What is not in the image is not made.
    let part = "    volumeMounts: [{name: v, mountPath: /v, subPath: none/there}]\n";
    scene.run(&manifest(&volume, part));
    scene.wait("p", "an error", |_| waiting(&scene, "c").0 == "CreateContainerConfigError");
    assert!(waiting(&scene, "c").1.contains("subPath"), "{:?}", waiting(&scene, "c"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn volumes_of_images_and_directories_have_the_ids_of_the_pod() {
    let scene = Scene::new();
    scene.import("two");
    let volumes = "{name: v, image: {reference: two, pullPolicy: Never}}, \
                   {name: d, image: {reference: IMAGE}}";
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}, {name: d, mountPath: /d}]\n";
    scene.run(&manifest(volumes, mounts).replace("spec:\n", "spec:\n  hostUsers: false\n"));
    scene.wait_ready("p");
    let out = scene.sh("p", "c", "stat -c %u:%g:%a /v/srv /v/home/new /d/bin; echo x > /d/x");
    assert_eq!(out.stdout, "7:8:2775\n0:0:644\n0:0:755\n", "{out:?}");
    assert!(out.stderr.contains("Read-only"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_brings_its_credentials_along() {
    let scene = Scene::new();
    let registry = Registry::new(&scene, Access::User);
    let proxy = Proxy::new(registry.address, Way::Through);
    let name = proxy.name("one:latest");
    // user:wrong, and user:secret in the older form.
    let secrets = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: wrong}}\n\
         type: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '{{\"auths\": \
         {{\"{address}\": {{\"auth\": \"dXNlcjp3cm9uZw==\"}}}}, \"credHelpers\": \
         {{\"{address}\": \"test\"}}}}'\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: right}}\n\
         type: kubernetes.io/dockercfg\nstringData:\n  .dockercfg: '{{\"http://{address}/v1/\": \
         {{\"auth\": \"dXNlcjpzZWNyZXQ=\"}}}}'\n",
        address = proxy.address
    );
    let pod = |secrets: &str| {
        let text = manifest("", "").replace("IMAGE", &name);
        text.replace("spec:\n", &format!("spec:\n  imagePullSecrets: [{secrets}]\n"))
    };
    scene.run(&format!("{}{secrets}", pod("{name: wrong}, {name: none}")));
    scene.wait("p", "ErrImagePull", |_| waiting(&scene, "c").0 == "ErrImagePull");
    assert!(waiting(&scene, "c").1.contains("unauthorized"), "{:?}", waiting(&scene, "c"));
    let events = scene.pod(&["events", "p"]).ok().stdout;
    let words = "Unable to retrieve some image pull secrets (none);";
    assert!(events.contains("FailedToRetrieveImagePullSecret"), "{events}");
    assert!(events.contains(words), "{events}");
    scene.pod(&["rm", "--force", "p"]).ok();

    // All of them are tried.
    scene.run(&format!("{}{secrets}", pod("{name: wrong}, {name: right}")));
    scene.wait_ready("p");
    // Only who pulls has ever had them.
    let state = scene.dir().join("data");
    let found = crate::made::sh(&format!("grep -rls dXNlcjpzZWNyZXQ {} || true", state.display()));
    assert_eq!(found, "");
}

/// CVE-2022-23648: the image of a stranger, whose links would lead to files of the host.
#[test]
#[ignore = "needs root: run scripts/test"]
fn links_on_the_way_to_volumes_of_an_image_lead_nowhere() {
    let scene = Scene::new();
    let dir = scene.dir().display();
    let host = scene.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "of the host\n").unwrap();
    sh(&format!(
        "cd {dir}; cp -r {}/layout made; umoci unpack --image made:one bundle >/dev/null
         ln -s {dir}/host bundle/rootfs/straight
         ln -s ../../../../../../../..{dir}/host bundle/rootfs/home/up
         umoci repack --image made:one bundle >/dev/null; rm -r bundle
         umoci config --image made:one --config.volume /straight/a --config.volume /home/up/b \
           --config.volume /straight --config.volume ../../../..{dir}/host/c",
        layout().display()
    ));
    let image = format!("oci:{dir}/made:one");
    let script =
        format!("cat /straight/secret /home/up/secret {dir}/host/secret; touch /straight/x");
    let out = scene.run_image(&["--image", &image, "sh", "-c", &script]);
    assert_eq!((out.code, out.stderr.matches("can't open").count()), (0, 3), "{out:?}");
    let (bundle, data) = (scene.dir().join("bundle"), scene.dir().join("data"));
    std::fs::create_dir(&bundle).unwrap();
    let out = scene.carob(&[
        "spec",
        "--data-root",
        data.to_str().unwrap(),
        "--image",
        &image,
        "--bundle",
        bundle.to_str().unwrap(),
    ]);
    out.ok();
    let volume = format!("{{name: v, image: {{reference: '{image}'}}}}");
    for part in ["straight", "home/up", "straight/secret"] {
        let mounts = format!("    volumeMounts: [{{name: v, mountPath: /v, subPath: {part}}}]\n");
        scene.run(&manifest(&volume, &mounts));
        scene.wait("p", "an error", |_| waiting(&scene, "c").0 == "CreateContainerConfigError");
        assert!(waiting(&scene, "c").1.contains("subPath"), "{:?}", waiting(&scene, "c"));
        scene.pod(&["rm", "--force", "p"]).ok();
    }
    let names = std::fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["secret"]);
    assert_eq!(std::fs::read_to_string(host.join("secret")).unwrap(), "of the host\n");
}
