//! carob's own annotations of a pod. What their values mean is known to [`crate::pod::rules`].

use k8s_openapi::api::core::v1::Pod;

use super::problem::Problems;
use crate::error::Error;
use crate::pod::rules::PodRules;

const PREFIX: &str = "carob/";
const KNOWN: [&str; 4] =
    ["carob/backoff-initial", "carob/backoff-max", "carob/backoff-reset", "carob/probe-periods"];

/// Checks those of a pod, each alone, so that every wrong one is found.
pub(super) fn check(pod: &Pod, problems: &mut Problems) {
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        let path = format!("metadata.annotations[{key}]");
        if KNOWN.contains(&key.as_str()) {
            let mut alone = pod.clone();
            alone.metadata.annotations = Some([(key.clone(), value.clone())].into());
            match PodRules::from_pod(&alone) {
                Err(Error::Config { field, reason }) if field == path => {
                    problems.invalid(&path, value, reason);
                }
                // Other fields have their own checks.
                Ok(_) | Err(_) => {}
            }
        } else if key.starts_with(PREFIX) {
            problems.unsupported(&path, key, &KNOWN);
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
        ] {
            assert!(!problems(key, value).is_empty(), "{key}: {value}");
        }
    }
}
