//! Pods on a host that systemd has booted: a slice for the pod, a scope for each container.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::Scene;
use crate::support::driver::{has_systemd, systemctl};
use crate::support::{cgroup, skip, wait_until};

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_is_a_slice_and_its_containers_are_scopes_in_it() {
    if !has_systemd() {
        return skip("systemd does not run here");
    }
    let scene = Scene::new();
    let parent = scene.marker().replace('-', "_");
    let flags = ["-d", "--cgroup-parent", &format!("{parent}.slice")];
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: a
    image: IMAGE
    command: [sleep, '1000']
    resources: {limits: {cpu: 500m, memory: 16Mi}}
  - name: b
    image: IMAGE
    command: [sh, -c, 'test -e /tmp/again || { touch /tmp/again; exit 1; }; sleep 1000']
    resources: {limits: {cpu: 250m, memory: 32Mi}}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  volumes: [{name: tmp, emptyDir: {}}]
";
    scene.try_run_with(&flags, text).ok();
    let pod = scene.wait_ready("p");
    let uid = pod["metadata"]["uid"].as_str().unwrap().replace('-', "_");
    let slice = format!("{parent}-pod{uid}");
    let unit = format!("{slice}.slice");
    let memory = if cgroup::is_v2() { "MemoryMax" } else { "MemoryLimit" };
    let told = |at: &str| {
        assert_eq!(property(&unit, "ActiveState"), "active", "{at}");
        assert_eq!(property(&unit, memory), (48_u64 << 20).to_string(), "{at}");
        assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "750ms", "{at}");
        let scope = format!("{slice}-a_0.scope");
        assert_eq!(property(&scope, "Slice"), unit, "{at}");
        assert_eq!(property(&scope, memory), (16_u64 << 20).to_string(), "{at}");
    };
    told("at first");
    systemctl(&["daemon-reload"]);
    told("reloaded");
    // The second has ended once: its next instance is a scope again.
    let restarts = |pod: &serde_json::Value| {
        let all = pod["status"]["containerStatuses"].as_array().unwrap();
        all.iter().any(|status| status["restartCount"] == 1 && status["ready"] == true)
    };
    scene.wait("p", "its second container to be there again", restarts);
    assert_eq!(property(&format!("{slice}-b_1.scope"), "Slice"), unit);
    scene.crash("p");
    scene.pod(&["exec", "-c", "a", "p", "--", "true"]).ok();
    scene.pod(&["rm", "--force", "p"]).ok();
    assert_eq!(property(&unit, "ActiveState"), "inactive");
    assert_eq!(property(&format!("{slice}-a_0.scope"), "LoadState"), "not-found");
    systemctl(&["stop", &format!("{parent}.slice")]);
}

/// systemd takes the cgroup of a scope away as soon as nobody is in it, and with it what is known of its end.
#[test]
#[ignore = "needs root: run scripts/test"]
fn an_oom_kill_is_known_after_the_cgroup_has_gone() {
    if !has_systemd() || !cgroup::is_v2() {
        return skip("needs systemd and cgroup v2, whose slices count the kills below them");
    }
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p, uid: u-1}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: greedy
    image: IMAGE
    command: [sh, -c, 'until test -e /tmp/go; do sleep 0.1; done; exec tail /dev/zero']
    resources: {limits: {memory: 16Mi}}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  - {name: modest, image: IMAGE, command: [sh, -c, 'until test -e /tmp/go; do sleep 0.1; done; exit 3'],
     volumeMounts: [{name: tmp, mountPath: /tmp}]}
  volumes: [{name: tmp, emptyDir: {}}]
",
    );
    scene.wait_ready("p");
    let supervisor = Pid::from_raw(scene.supervisor("p").unwrap());
    kill(supervisor, Signal::SIGSTOP).unwrap();
    scene.carob(&["exec", "default_p_greedy_0", "touch", "/tmp/go"]).ok();
    for name in ["greedy_0", "modest_0"] {
        let dir = scene.container_cgroup(Path::new("/sys/fs/cgroup"), "u-1", name);
        wait_until("systemd to remove the cgroup", || {
            if dir.exists() { Err(dir.display().to_string()) } else { Ok(()) }
        });
    }
    kill(supervisor, Signal::SIGCONT).unwrap();
    scene.wait_phase("p", "Failed");
    let end = |name: &str| scene.container("p", name)["state"]["terminated"]["reason"].clone();
    assert_eq!((end("greedy"), end("modest")), ("OOMKilled".into(), "Error".into()));
}
