//! Quality of service: the class of a pod, and whom the OOM killer takes first.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::quantity::Quantity;
use super::resources::{Side, all_containers, of_container, of_pod};
use super::{Node, is_sidecar, pod_spec};

/// `status.qosClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Requests equal limits, everywhere.
    Guaranteed,
    /// In between.
    Burstable,
    /// Neither requests nor limits.
    BestEffort,
}

impl QosClass {
    /// The API's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// What counts for the class.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// What somebody has of one resource; zeros do not count.
#[derive(Debug, Clone, Copy)]
struct Part {
    request: Option<Quantity>,
    limit: Option<Quantity>,
}

impl Part {
    fn new(request: Option<Quantity>, limit: Option<Quantity>) -> Self {
        let given = |value: Option<Quantity>| value.filter(|value| *value > Quantity::ZERO);
        Self { request: given(request), limit: given(limit) }
    }
}

/// The class of a pod. If it has resources as a whole, only those decide.
#[must_use]
pub fn qos(pod: &Pod) -> QosClass {
    let spec = pod_spec(pod);
    let as_whole = |name| {
        let limit = of_pod(&spec, Side::Limits, name);
        Part::new(of_pod(&spec, Side::Requests, name).or(limit), limit)
    };
    let of_one = |one, name| {
        let request = of_container(one, Side::Requests, name);
        Part::new(request, of_container(one, Side::Limits, name))
    };
    let parts: Vec<[Part; 2]> = match &spec.resources {
        Some(_) => vec![COUNTED.map(as_whole)],
        None => all_containers(&spec).map(|one| COUNTED.map(|name| of_one(one, name))).collect(),
    };
    let mut all = parts.iter().flatten();
    if all.clone().all(|part| part.request.or(part.limit).is_none()) {
        return QosClass::BestEffort;
    }
    let total = |index: usize| {
        let of_it = || parts.iter().filter_map(|part| part.get(index));
        let requests = of_it().filter_map(|part| part.request).sum::<Quantity>();
        (requests, of_it().filter_map(|part| part.limit).sum::<Quantity>())
    };
    let equal = (0..COUNTED.len()).map(total).all(|(requests, limits)| requests == limits);
    match all.all(|part| part.limit.is_some()) && equal {
        true => QosClass::Guaranteed,
        false => QosClass::Burstable,
    }
}

/// Of Guaranteed pods, and of those the machine cannot do without.
const GUARANTEED: i64 = -997;
/// Of BestEffort pods.
const BEST_EFFORT: i64 = 1000;
/// Of the pause container.
const PAUSE: i64 = -998;
/// The priority class of pods that the machine cannot do without.
const NODE_CRITICAL: &str = "system-node-critical";

/// `oom_score_adj` of a member.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, node: &Node) -> i32 {
    allowed(node, of_member(pod, container, node.memory_bytes))
}

/// `oom_score_adj` of the pause container.
#[must_use]
pub fn pause_oom_score_adj(node: &Node) -> i32 {
    allowed(node, PAUSE)
}

/// Without CAP_SYS_RESOURCE nobody can go below what he has.
fn allowed(node: &Node, score: i64) -> i32 {
    i32::try_from(score).unwrap_or(0).max(node.oom_score_floor)
}

fn of_member(pod: &Pod, container: &Container, capacity: u64) -> i64 {
    let spec = pod_spec(pod);
    let class = match spec.priority_class_name.as_deref() {
        Some(NODE_CRITICAL) => QosClass::Guaranteed,
        _ => qos(pod),
    };
    match class {
        QosClass::Guaranteed => return GUARANTEED,
        QosClass::BestEffort => return BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let request =
        |one: &Container| of_container(one, Side::Requests, "memory").unwrap_or_default().value();
    let running = || {
        let sidecars = spec.init_containers.iter().flatten().filter(|one| is_sidecar(one));
        sidecars.chain(&spec.containers)
    };
    // What the pod as a whole requests beyond its containers is split evenly among them.
    let extra = of_pod(&spec, Side::Requests, "memory").map_or(0, |of_pod| {
        let rest = of_pod.value() - running().map(request).sum::<i64>();
        rest.max(0) / i64::try_from(running().count().max(1)).unwrap_or(1)
    });
    let capacity = i128::from(capacity.max(1));
    let score =
        |bytes: i64| i64::try_from(1000 - 1000 * i128::from(bytes) / capacity).unwrap_or(i64::MIN);
    let mut adj = score(request(container).saturating_add(extra));
    // A sidecar does not go before the apps it serves.
    if is_sidecar(container) {
        let least = spec.containers.iter().map(request).min().unwrap_or(0);
        adj = adj.min(score(least.saturating_add(extra)));
    }
    adj.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn container(resources: Value) -> Value {
        json!({"name": "c", "resources": resources})
    }

    #[test]
    fn classes() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"},
                          "limits": {"cpu": "1000m", "memory": "1024Mi"}});
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let some = json!({"requests": {"cpu": "100m"}});
        let less = json!({"requests": {"cpu": "500m", "memory": "1Gi"},
                          "limits": {"cpu": "1", "memory": "1Gi"}});
        let zero = json!({"requests": {"cpu": "0"}, "limits": {"memory": "0"}});
        let storage = json!({"requests": {"ephemeral-storage": "1Gi"}});
        let none = json!({});
        for (apps, init, whole, expected) in [
            (vec![&full], vec![], None, "Guaranteed"),
            (vec![&limits], vec![], None, "Guaranteed"),
            (vec![&full, &limits], vec![&full], None, "Guaranteed"),
            (vec![&none], vec![], None, "BestEffort"),
            (vec![&zero, &storage], vec![&none], None, "BestEffort"),
            (vec![&some], vec![], None, "Burstable"),
            (vec![&less], vec![], None, "Burstable"),
            (vec![&full, &none], vec![], None, "Burstable"),
            (vec![&full], vec![&none], None, "Burstable"),
            (vec![&none], vec![&some], None, "Burstable"),
            (vec![&none], vec![], Some(&full), "Guaranteed"),
            (vec![&full], vec![], Some(&some), "Burstable"),
            (vec![&some], vec![], Some(&limits), "Guaranteed"),
            (vec![&full], vec![], Some(&zero), "BestEffort"),
        ] {
            let list = |all: &[&Value]| -> Vec<Value> {
                all.iter().map(|one| container((*one).clone())).collect()
            };
            let mut spec = json!({"containers": list(&apps), "initContainers": list(&init)});
            if let Some(whole) = whole {
                spec["resources"] = whole.clone();
            }
            assert_eq!(qos(&pod(spec.clone())).as_str(), expected, "{spec}");
        }
    }

    #[test]
    fn oom_scores() {
        let memory = |text: &str| container(json!({"requests": {"memory": text}}));
        let sidecar = |text: &str| {
            let mut one = memory(text);
            one["restartPolicy"] = "Always".into();
            one
        };
        let node = Node::example(); // 8 GiB
        for (spec, expected) in [
            (json!({"containers": [memory("4Gi")]}), 500),
            (json!({"containers": [memory("1Gi")]}), 875),
            (json!({"containers": [memory("1")]}), 999),
            (json!({"containers": [memory("8Gi")]}), 3),
            (json!({"containers": [memory("80Gi")]}), 3),
            (json!({"containers": [container(json!({"requests": {"cpu": "1"}}))]}), 999),
            (json!({"containers": [container(json!({}))]}), 1000),
            (
                json!({"containers": [container(
                    json!({"limits": {"cpu": "1", "memory": "1Gi"}}))]}),
                -997,
            ),
            (
                json!({"priorityClassName": "system-node-critical",
                       "containers": [container(json!({}))]}),
                -997,
            ),
            // 2 GiB to share between two.
            (
                json!({"resources": {"requests": {"memory": "4Gi"}},
                       "containers": [memory("1Gi"), memory("1Gi")]}),
                750,
            ),
            (
                json!({"resources": {"requests": {"memory": "4Gi"}},
                       "containers": [container(json!({}))]}),
                500,
            ),
        ] {
            let pod = pod(spec.clone());
            let first = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(oom_score_adj(&pod, first, &node), expected, "{spec}");
        }
        for (own, expected) in [("1Gi", 500), ("6Gi", 250)] {
            let spec = json!({"initContainers": [sidecar(own)],
                              "containers": [memory("5Gi"), memory("4Gi")]});
            let pod = pod(spec);
            let side = &pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
            assert_eq!(oom_score_adj(&pod, side, &node), expected, "{own}");
        }
    }

    #[test]
    fn no_lower_than_the_machine_allows() {
        let mut node = Node::example();
        assert_eq!(pause_oom_score_adj(&node), -998);
        node.oom_score_floor = 0;
        assert_eq!(pause_oom_score_adj(&node), 0);
    }
}
