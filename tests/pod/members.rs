//! A member is an OCI container like any other, with a root of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scene::Scene;
use crate::support::wait_until;

fn rootfs() -> PathBuf {
    Scene::image().trim_start_matches("rootfs:").into()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn every_instance_has_a_fresh_root_and_the_image_stays_as_it_was() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {carob/backoff-initial: 100ms, carob/backoff-max: 100ms}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: again
    image: IMAGE
    command: [sh, -c, 'ls /written; echo x > /written; rm /etc/passwd; [ -e /stay/second ] && exec sleep 1000; touch /stay/second; i=0; while [ $i -lt 1500 ]; do mkdir d && cd -P d; i=$((i+1)); done; exit 1']
    volumeMounts: [{name: stay, mountPath: /stay}]
  - {name: other, image: IMAGE, command: [sleep, '1000']}
  volumes: [{name: stay, emptyDir: {}}]
",
    );
    scene.wait("p", "the second instance", |object| {
        let running = |name: &str| {
            let all = object["status"]["containerStatuses"].as_array().unwrap();
            let status = all.iter().find(|status| status["name"] == name).unwrap();
            status["state"]["running"].is_object()
        };
        scene.container("p", "again")["restartCount"] == 1 && running("again") && running("other")
    });
    let log = scene.wait_log("p", "again", "written");
    assert!(log.contains("No such file"), "what the first one wrote is gone: {log}");
    scene.sh("p", "again", "test -e /written && ! test -e /etc/passwd").ok();
    scene.sh("p", "other", "! test -e /written && test -e /etc/passwd").ok();
    assert!(!rootfs().join("written").exists() && rootfs().join("etc/passwd").exists());
    for made in ["stay", "dev/null", "etc/hosts", "etc/resolv.conf", "proc/self"] {
        assert!(!rootfs().join(made).exists(), "{made} was made in the image");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts.lines().filter(|line| line.contains(scene.marker()));
    let roots: Vec<&str> = ours.filter(|line| line.contains(" overlay ")).collect();
    assert!(roots.is_empty(), "roots are mounted nowhere on the host: {roots:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_verbs_for_containers_work_on_members() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: IMAGE, command: [sleep, '1000'], securityContext: {runAsUser: 5}}
",
    );
    scene.wait_ready("p");
    let list = scene.carob(&["list"]).ok().stdout;
    assert!(list.contains("default_p_c_0") && list.contains("default_p_POD_0"), "{list}");
    let state = scene.carob(&["state", "default_p_c_0"]).ok().json();
    assert_eq!(state["status"], "running");
    assert_eq!(state["annotations"]["io.kubernetes.pod.name"], "p");
    assert_eq!(state["annotations"]["io.kubernetes.container.name"], "c");
    let told = scene.carob(&["exec", "default_p_c_0", "id", "-u"]).ok().stdout;
    assert_eq!(told, "5\n");
    let processes = scene.carob(&["ps", "--format", "json", "default_p_c_0"]).ok().json();
    assert_eq!(processes.as_array().unwrap().len(), 1);

    // Killed behind its pod's back, it comes again.
    scene.carob(&["kill", "default_p_c_0", "KILL"]).ok();
    scene.wait("p", "a restart", |_| scene.container("p", "c")["restartCount"] == 1);
    scene.wait_ready("p");
    let told = scene.carob(&["exec", "default_p_c_1", "hostname"]).ok().stdout;
    assert_eq!(told, "p\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_member_does_not_see_the_host() {
    let scene = Scene::new();
    let secret = scene.dir().join("secret");
    fs::write(&secret, "of the host").unwrap();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  shareProcessNamespace: true
  containers:
  - {name: a, image: IMAGE, command: [sleep, '1000']}
  - {name: b, image: IMAGE, command: [sleep, '1000']}
",
    );
    scene.wait_ready("p");
    let path = secret.display();
    // Neither by its own descriptors nor through the root of a neighbour or of pause.
    let script = format!(
        "for root in '' /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/fd/*; do \
         cat $root{path} $root/../../../..{path} 2>/dev/null; done; ls /proc/1/root/; true"
    );
    let seen = scene.sh("p", "a", &script).ok().stdout;
    assert!(!seen.contains("of the host"), "{seen}");
    let mounts = scene.sh("p", "a", "cat /proc/self/mountinfo").ok().stdout;
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        let own = ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
        let is_own = point == "/" || own.iter().any(|own| point.starts_with(own));
        assert!(is_own, "{line}");
    }
    let fds = scene.sh("p", "a", "ls -l /proc/2/fd 2>/dev/null; ls /proc/self/fd").ok().stdout;
    assert!(!fds.contains("/tmp/"), "{fds}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_an_instance_has_written_goes_beside_the_work_of_the_supervisor() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'test ! -e /old; mkdir /old; cd /old; for i in $(seq 2000); do mkdir $i; done; echo made; sleep 1000']
",
    );
    scene.wait_log("p", "c", "made");

    scene.pod(&["kill", "p"]).ok();

    scene.wait("p", "a second instance", |object| {
        object["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    let layers = scene.dir().join("data/pods");
    let layers = fs::read_dir(layers).unwrap().next().unwrap().unwrap().path().join("containers/c");
    let old = || {
        let names = fs::read_dir(&layers).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("layer.old-")).count()
    };
    wait_until("the old layer is gone", || match old() {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_only_has_the_name_of_one_stays() {
    let scene = Scene::new();
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: IMAGE, command: [sleep, '1000']}]
";
    scene.run(pod);
    scene.wait_ready("p");
    let bundle = scene.dir().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let config = fs::read_to_string(scene.state("p").join("bundles/c/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    // Its own: without an overlay the runtime makes devices in it.
    let root = bundle.join("root");
    let copied = Command::new("cp").arg("-a").arg(rootfs()).arg(&root).status().unwrap();
    assert!(copied.success());
    config["root"]["path"] = root.display().to_string().into();
    config["linux"]["cgroupsPath"] = format!("/{}/other", scene.marker()).into();
    config["mounts"] = serde_json::json!([]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let run = ["run", "-d", "-b", &bundle.display().to_string(), "default_p_other"];
    // It keeps the streams that it is given.
    let run = scene.command(&run).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(run.unwrap().success());

    scene.pod(&["rm", "--force", "p"]).ok();

    let state = scene.carob(&["state", "default_p_other"]).ok().json();
    assert_eq!(state["status"], "running");
    scene.carob(&["delete", "--force", "default_p_other"]).ok();
}
