//! carob's own annotations of a pod. What their values mean is known to [`crate::pod::rules`].

use k8s_openapi::api::core::v1::Pod;

use super::problem::Problems;
use crate::error::Error;
use crate::pod::network::wish;
use crate::pod::rules::PodRules;

const PREFIX: &str = "carob/";
const OF_RULES: [&str; 4] =
    ["carob/backoff-initial", "carob/backoff-max", "carob/backoff-reset", "carob/probe-periods"];
const OF_NETWORK: [&str; 6] =
    [wish::NETWORK, wish::IPS, wish::MAC, wish::TIMEOUT, wish::INGRESS, wish::EGRESS];

/// Checks those of a pod, each alone, so that every wrong one is found.
pub(super) fn check(pod: &Pod, problems: &mut Problems) {
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        let path = format!("metadata.annotations[{key}]");
        let alone = || {
            let mut alone = pod.clone();
            alone.metadata.annotations = Some([(key.clone(), value.clone())].into());
            alone
        };
        let checked = if OF_RULES.contains(&key.as_str()) {
            PodRules::from_pod(&alone()).map(drop)
        } else if OF_NETWORK.contains(&key.as_str()) {
            wish::Wish::of(&alone()).map(drop)
        } else if key.starts_with(PREFIX) {
            let network = OF_NETWORK.into_iter().filter(|known| known.starts_with(PREFIX));
            problems.unsupported(
                &path,
                key,
                &OF_RULES.into_iter().chain(network).collect::<Vec<_>>(),
            );
            continue;
        } else {
            continue;
        };
        match checked {
            Err(Error::Config { field, reason }) if field == path => {
                problems.invalid(&path, value, reason);
            }
            // Other fields have their own checks.
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(key: &str, value: &str) -> Problems {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "annotations": {key: value}},
            "spec": {
                "restartPolicy": "Always",
                "containers": [{"name": "web", "livenessProbe": {"exec": {"command": ["x"]}}}],
            },
        }))
        .unwrap();
        let mut problems = Problems::default();
        check(&pod, &mut problems);
        problems
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        for (key, value) in [
            ("carob/backoff-initial", "1s"),
            ("carob/backoff-max", "500ms"),
            ("carob/probe-periods", "web/liveness=200ms"),
            ("carob/network", "none"),
            ("carob/network", "db"),
            ("carob/ips", "10.0.0.7/16,fd00::7"),
            ("kubernetes.io/egress-bandwidth", "10M"),
            ("other/x", "y"),
        ] {
            let problems = problems(key, value);
            assert!(problems.is_empty(), "{key}: {value}: {problems:?}");
        }
        for (key, value) in [
            ("carob/backoff-initial", "soon"),
            ("carob/probe-periods", "web"),
            ("carob/probe-periods", "web/liveness=1ms"),
            ("carob/probe-periods", "web/health=1s"),
            ("carob/probe-periods", "web/readiness=1s"),
            ("carob/probe-periods", "db/liveness=1s"),
            ("carob/backof", "1s"),
            ("carob/network", "host"),
            ("carob/network", "a/b"),
            ("carob/ips", "10.0.0"),
            ("carob/mac", "2"),
            ("carob/network-timeout", "0"),
            ("kubernetes.io/ingress-bandwidth", "1"),
        ] {
            assert!(!problems(key, value).is_empty(), "{key}: {value}");
        }
    }
}
