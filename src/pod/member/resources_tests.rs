use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"spec": spec})).unwrap()
}

fn container(resources: Value) -> Value {
    json!({"name": "c", "resources": resources})
}

/// shares, quota, period, memory.
type Numbers = (Option<u64>, Option<i64>, Option<u64>, Option<i64>);

fn numbers(resources: &LinuxResources) -> Numbers {
    let cpu = resources.cpu().clone().unwrap_or_default();
    let memory = resources.memory().as_ref().and_then(LinuxMemory::limit);
    (cpu.shares(), cpu.quota(), cpu.period(), memory)
}

fn pages(resources: &LinuxResources) -> Vec<(&str, i64)> {
    let limits = resources.hugepage_limits().iter().flatten();
    limits.map(|one| (one.page_size().as_str(), one.limit())).collect()
}

#[test]
fn the_kubelet_s_numbers() {
    for (milli, expected_shares, expected_weight, expected_quota) in [
        (0, 2, 1, None),
        (1, 2, 1, Some(1000)),
        (5, 5, 1, Some(1000)),
        (100, 102, 4, Some(10_000)),
        (250, 256, 10, Some(25_000)),
        (500, 512, 20, Some(50_000)),
        (1000, 1024, 39, Some(100_000)),
        (4000, 4096, 157, Some(400_000)),
        (256_000, 262_144, 10_000, Some(25_600_000)),
        (i64::MAX, 262_144, 10_000, Some(i64::MAX / 1000)),
        (-1, 2, 1, None),
    ] {
        assert_eq!(shares(milli), expected_shares, "{milli}m");
        assert_eq!(weight(shares(milli)), expected_weight, "{milli}m");
        assert_eq!(quota(milli), expected_quota, "{milli}m");
    }
}

#[test]
fn members() {
    let node = Node::example();
    for (resources, whole, expected) in [
        (json!({}), json!({}), (Some(2), None, None, None)),
        (json!({"requests": {"cpu": "250m"}}), json!({}), (Some(256), None, None, None)),
        (
            json!({"limits": {"cpu": "500m"}}),
            json!({}),
            (Some(512), Some(50_000), Some(100_000), None),
        ),
        (
            json!({"requests": {"cpu": "0"}, "limits": {"cpu": "1"}}),
            json!({}),
            (Some(2), Some(100_000), Some(100_000), None),
        ),
        (json!({"limits": {"memory": "64Mi"}}), json!({}), (Some(2), None, None, Some(64 << 20))),
        (json!({"limits": {"memory": "0", "cpu": "0"}}), json!({}), (Some(2), None, None, None)),
        (
            json!({"requests": {"cpu": "100m"}}),
            json!({"limits": {"cpu": "2", "memory": "1Gi"}}),
            (Some(102), Some(200_000), Some(100_000), Some(1 << 30)),
        ),
        (
            json!({"limits": {"memory": "1Mi"}}),
            json!({"limits": {"memory": "1Gi"}}),
            (Some(2), None, None, Some(1 << 20)),
        ),
    ] {
        let pod = pod(json!({"containers": [container(resources.clone())], "resources": whole}));
        let one = &pod.spec.as_ref().unwrap().containers[0];
        let found = member_resources(&pod, one, &node);
        assert_eq!(numbers(&found), expected, "{resources} {whole}");
        assert!(found.unified().is_none());
    }
}

#[test]
fn members_of_v2() {
    let pod = pod(json!({"containers": [container(json!({}))]}));
    let one = &pod.spec.as_ref().unwrap().containers[0];
    let mut node = Node::example_v2();
    let unified = |node: &Node| {
        let unified = member_resources(&pod, one, node).unified().clone().unwrap_or_default();
        let mut keys: Vec<_> = unified.into_keys().collect();
        keys.sort();
        keys
    };
    assert_eq!(unified(&node), ["memory.oom.group", "memory.swap.max"]);
    node.cgroups.swap = false;
    assert_eq!(unified(&node), ["memory.oom.group"]);
    node.cgroups.controllers.clear();
    assert!(unified(&node).is_empty());
}

#[test]
fn pods() {
    let full = |cpu: &str, memory: &str| {
        let all = json!({"cpu": cpu, "memory": memory});
        container(json!({"requests": all, "limits": all}))
    };
    let requests = |cpu: &str| container(json!({"requests": {"cpu": cpu}}));
    let limit = |cpu: &str| container(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": cpu}}));
    let mut sidecar = limit("300m");
    sidecar["restartPolicy"] = "Always".into();
    let node = Node::example();
    for (spec, expected) in [
        (json!({"containers": [container(json!({}))]}), (Some(2), None, None, None)),
        (
            json!({"containers": [full("500m", "64Mi"), full("500m", "64Mi")]}),
            (Some(1024), Some(100_000), Some(100_000), Some(128 << 20)),
        ),
        // An init container that needs more than all apps.
        (
            json!({"containers": [full("500m", "64Mi")], "initContainers": [full("1", "32Mi")]}),
            (Some(1024), Some(100_000), Some(100_000), Some(64 << 20)),
        ),
        (json!({"containers": [requests("500m"), limit("1")]}), (Some(614), None, None, None)),
        (
            json!({"containers": [limit("200m"), limit("1")]}),
            (Some(204), Some(120_000), Some(100_000), None),
        ),
        // One init container without a limit is enough for none.
        (
            json!({"containers": [limit("200m")], "initContainers": [requests("1m")]}),
            (Some(102), None, None, None),
        ),
        (
            json!({"containers": [limit("200m")], "initContainers": [sidecar, limit("400m")]}),
            (Some(204), Some(70_000), Some(100_000), None),
        ),
        (
            json!({"containers": [requests("200m")],
                   "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}}),
            (Some(1024), None, None, Some(1 << 30)),
        ),
        (
            json!({"containers": [full("500m", "64Mi")],
                   "overhead": {"cpu": "500m", "memory": "64Mi"}}),
            (Some(1024), Some(100_000), Some(100_000), Some(128 << 20)),
        ),
        (
            json!({"containers": [requests("500m")], "overhead": {"cpu": "500m"}}),
            (Some(1024), None, None, None),
        ),
    ] {
        let found = pod_resources(&pod(spec.clone()), &node);
        assert_eq!(numbers(&found), expected, "{spec}");
    }
}

#[test]
fn pods_of_v2_have_the_linear_weight() {
    let spec = json!({"containers": [container(json!({"requests": {"cpu": "1"}}))]});
    let found = pod_resources(&pod(spec), &Node::example_v2());
    assert_eq!(numbers(&found), (None, None, None, None));
    let expected = HashMap::from([("cpu.weight".to_owned(), "39".to_owned())]);
    assert_eq!(found.unified().as_ref(), Some(&expected));
}

#[test]
fn huge_pages_are_limited_to_what_is_asked() {
    let all = json!({"hugepages-2Mi": "4Mi", "memory": "1Gi"});
    let spec = json!({"containers": [container(json!({"requests": all, "limits": all}))]});
    let asked = pod(spec);
    let plain = pod(json!({"containers": [container(json!({}))]}));
    let one = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].clone();
    let mut node = Node::example();
    let expected = [("2MB", 4 << 20), ("1GB", 0)];
    assert_eq!(pages(&pod_resources(&asked, &node)), expected);
    assert_eq!(pages(&member_resources(&asked, &one(&asked), &node)), expected);
    assert_eq!(pages(&pod_resources(&plain, &node)), [("2MB", 0), ("1GB", 0)]);

    node.huge_pages = vec![64 << 10];
    assert_eq!(pages(&pod_resources(&plain, &node)), [("64KB", 0)]);
}

#[test]
fn a_pod_that_asks_for_nothing_needs_no_controller() {
    let mut node = Node::example();
    node.cgroups.controllers.clear();
    let plain = pod(json!({"containers": [container(json!({}))]}));
    let one = &plain.spec.as_ref().unwrap().containers[0];
    for found in [pod_resources(&plain, &node), member_resources(&plain, one, &node)] {
        assert!(found.cpu().is_none() && found.memory().is_none());
        assert!(found.hugepage_limits().is_none() && found.unified().is_none());
    }
}

/// What the cgroup layer makes of it, in the file formats of this machine.
#[test]
fn the_cgroup_layer_takes_them() {
    use crate::cgroup::{Cgroup, CgroupDriver};
    let node = Node::read().unwrap();
    let pod = pod(json!({"containers": [container(json!({}))]}));
    let one = &pod.spec.as_ref().unwrap().containers[0];
    let path = std::path::Path::new("/carob-unit-test");
    let cgroup = Cgroup::resolve(Some(path), "x", CgroupDriver::Cgroupfs).unwrap();
    cgroup.check(Some(&pod_resources(&pod, &node))).unwrap();
    cgroup.check(Some(&member_resources(&pod, one, &node))).unwrap();
}
