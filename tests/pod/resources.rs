//! What a pod and its containers may use, in the words of the cgroups.

use std::fs;

use serde_json::Value;

use crate::scene::Scene;
use crate::support::cgroup;

/// The file of a controller for a pod's own cgroup, or one below it.
fn text(scene: &Scene, pod: &Value, below: &str, controller: &str, name: &str) -> String {
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let hierarchy = cgroup::hierarchy(controller);
    let dir = match below {
        "" => scene.pod_cgroup(&hierarchy, uid),
        container => scene.container_cgroup(&hierarchy, uid, container),
    };
    let path = dir.join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().into()
}

/// Shares, quota (-1: none), its period, and memory limit (-1: none).
fn limits(scene: &Scene, pod: &Value, below: &str) -> (i64, i64, i64, i64) {
    let text = |controller, name| text(scene, pod, below, controller, name);
    let number = |text: &str| if text == "max" { -1 } else { text.parse().unwrap() };
    if cgroup::is_v2() {
        let bandwidth = text("cpu", "cpu.max");
        let (quota, period) = bandwidth.split_once(' ').unwrap();
        let weight = number(&text("cpu", "cpu.weight"));
        return (
            if below.is_empty() { shares_of_pod(weight) } else { shares_of(weight) },
            number(quota),
            number(period),
            number(&text("memory", "memory.max")),
        );
    }
    let memory = number(&text("memory", "memory.limit_in_bytes"));
    (
        number(&text("cpu", "cpu.shares")),
        number(&text("cpu", "cpu.cfs_quota_us")),
        number(&text("cpu", "cpu.cfs_period_us")),
        if memory > 1 << 60 { -1 } else { memory },
    )
}

/// Which of the shares below become this weight of a container: by the curve of its runtime.
fn shares_of(weight: i64) -> i64 {
    one_of(&[(1, 2), (17, 102), (35, 256), (59, 512), (100, 1024), (303, 4096)], weight)
}

/// The same for pods: linear, as the kubelet does it.
fn shares_of_pod(weight: i64) -> i64 {
    one_of(&[(20, 512), (36, 921), (170, 4455)], weight)
}

fn one_of(known: &[(i64, i64)], weight: i64) -> i64 {
    let found = known.iter().find(|(known, _)| *known == weight);
    found.unwrap_or_else(|| panic!("weight {weight}")).1
}

fn run(scene: &Scene, name: &str, spec: &str, containers: &[(&str, &str)]) -> Value {
    let mut text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
{spec}
  containers:
"
    );
    for (name, resources) in containers {
        text.push_str(&format!(
            "  - {{name: {name}, image: IMAGE, command: [sleep, '1000'], resources: {{{resources}}}}}\n"
        ));
    }
    scene.run(&text);
    scene.wait_ready(name)
}

fn score(scene: &Scene, pod: &str, container: &str) -> i64 {
    let text = scene.sh(pod, container, "cat /proc/1/oom_score_adj").ok().stdout;
    text.trim().parse().unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn requests_and_limits_reach_the_cgroups() {
    const MIB: i64 = 1 << 20;
    if !cgroup::has("cpu") || !cgroup::has("memory") {
        return crate::support::skip("no cgroup controllers cpu and memory");
    }
    let period = 100_000;
    let scene = Scene::new();
    let pod = run(
        &scene,
        "p",
        "",
        &[
            ("c0", ""),
            ("c1", "requests: {cpu: 1m}, limits: {cpu: 1m}"),
            ("c100", "limits: {cpu: 100m, memory: 20Mi}"),
            ("c250", "requests: {cpu: 250m, memory: 10Mi}"),
            ("c4000", "requests: {cpu: 4, memory: 1Mi}, limits: {cpu: 4, memory: 30Mi}"),
        ],
    );
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    for (name, expected) in [
        ("c0", (2, -1, period, -1)),
        ("c1", (2, 1000, period, -1)),
        ("c100", (102, 10_000, period, 20 * MIB)),
        ("c250", (256, -1, period, -1)),
        ("c4000", (4096, 400_000, period, 30 * MIB)),
    ] {
        // With a hundredth of a CPU that is emulated, one may not come up at its first attempt.
        let all = pod["status"]["containerStatuses"].as_array().unwrap();
        let restarts = &all.iter().find(|status| status["name"] == name).unwrap()["restartCount"];
        assert_eq!(limits(&scene, &pod, &format!("{name}_{restarts}")), expected, "{name}");
    }
    // The sum of the requests; not every container has a limit.
    assert_eq!(limits(&scene, &pod, ""), (4455, -1, period, -1));
    assert_eq!(limits(&scene, &pod, "POD").0, 2);
    scene.pod(&["rm", "--force", "p"]).ok();

    let init = "  initContainers:
  - {name: i, image: IMAGE, command: ['true'], resources: {limits: {cpu: 900m, memory: 8Mi}}}";
    let pod = run(
        &scene,
        "p",
        init,
        &[("a", "limits: {cpu: 500m, memory: 16Mi}"), ("b", "limits: {cpu: 250m, memory: 32Mi}")],
    );
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    // The init container needs more of the one, the others together of the other.
    assert_eq!(limits(&scene, &pod, ""), (921, 90_000, period, 48 * MIB));
    scene.pod(&["rm", "--force", "p"]).ok();

    let of_pod =
        "  resources: {requests: {cpu: 500m, memory: 40Mi}, limits: {cpu: 1, memory: 64Mi}}";
    let pod = run(&scene, "p", of_pod, &[("a", "limits: {memory: 32Mi}"), ("b", "")]);
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    assert_eq!(limits(&scene, &pod, ""), (512, 100_000, period, 64 * MIB));
    // Without a limit of its own it has the pod's, and asks for as much.
    assert_eq!(limits(&scene, &pod, "a_0"), (1024, 100_000, period, 32 * MIB));
    assert_eq!(
        limits(&scene, &pod, "b_0").3,
        64 * MIB,
        "a container without a limit has the pod's"
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_class_of_a_pod_decides_who_is_killed_first() {
    let scene = Scene::new();
    let pod = run(&scene, "best", "", &[("c", "")]);
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert_eq!(score(&scene, "best", "c"), 1000);

    let total: i64 = fs::read_to_string("/proc/meminfo")
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let (total, mib) = (total << 10, 1_i64 << 20);
    let pod = run(
        &scene,
        "burst",
        "",
        &[("none", "requests: {cpu: 1m}"), ("some", "requests: {memory: 500Mi}")],
    );
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    assert_eq!(score(&scene, "burst", "none"), 999);
    assert_eq!(score(&scene, "burst", "some"), 1000 - 1000 * 500 * mib / total);

    // Below what it has already only who may do so can set it.
    let ours: i64 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let pod = run(&scene, "sure", "", &[("c", "limits: {cpu: 100m, memory: 16Mi}")]);
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    assert!([-997, ours].contains(&score(&scene, "sure", "c")));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_takes_more_memory_than_it_may_is_killed() {
    if !cgroup::has("memory") {
        return;
    }
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
  - {name: greedy, image: IMAGE, command: [tail, /dev/zero], resources: {limits: {memory: 16Mi}}}
  - {name: other, image: IMAGE, command: [sleep, '1']}
",
    );
    scene.wait_phase("p", "Failed");
    let ended = |name| scene.container("p", name)["state"]["terminated"].clone();
    let greedy = ended("greedy");
    assert_eq!(
        (greedy["reason"].as_str(), greedy["exitCode"].as_i64()),
        (Some("OOMKilled"), Some(137))
    );
    assert_eq!(ended("other")["exitCode"], 0);
    assert_eq!(scene.status("p"), "OOMKilled");
}
