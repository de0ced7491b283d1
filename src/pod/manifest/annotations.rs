//! carob's own annotations of a pod.
//!
//! `carob/backoff-initial`, `carob/backoff-max`, `carob/backoff-reset`: a duration such as
//! `500ms`, `1s`, `5m`. `carob/probe-periods`: `web/liveness=200ms web/readiness=100ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use super::problem::Problems;
use crate::pod::rules::BackoffRules;

const PREFIX: &str = "carob/";
const INITIAL: &str = "carob/backoff-initial";
const MAX: &str = "carob/backoff-max";
const RESET: &str = "carob/backoff-reset";
const PERIODS: &str = "carob/probe-periods";
const KNOWN: [&str; 4] = [INITIAL, MAX, RESET, PERIODS];
/// The shortest period of a probe.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The three probes that a container can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
}

impl ProbeKind {
    const ALL: [(&str, Self); 3] =
        [("liveness", Self::Liveness), ("readiness", Self::Readiness), ("startup", Self::Startup)];

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

/// How restarts of a pod are delayed: the kubelet's rules, unless annotations say otherwise.
///
/// Values that are no durations count as absent; a loaded manifest has none.
#[must_use]
pub fn backoff(pod: &Pod) -> BackoffRules {
    let given = |key| get(pod, key).and_then(|text| duration(text).ok());
    let default = BackoffRules::default();
    let max = given(MAX).unwrap_or(default.max);
    BackoffRules {
        initial: given(INITIAL).unwrap_or(default.initial).min(max),
        max,
        reset: given(RESET).unwrap_or(default.reset),
    }
}

/// Periods of probes by container, where an annotation gives them.
///
/// What cannot be read counts as absent; a loaded manifest has nothing of the kind.
#[must_use]
pub fn probe_periods(pod: &Pod) -> BTreeMap<(String, ProbeKind), Duration> {
    let text = get(pod, PERIODS).unwrap_or_default();
    let parsed = text.split_whitespace().filter_map(|item| period(item).ok());
    parsed.map(|(name, kind, period)| ((name.to_owned(), kind), period)).collect()
}

fn get<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("must be a duration such as 500ms, 10s or 5m: {error}"))
}

fn period(item: &str) -> Result<(&str, ProbeKind, Duration), String> {
    let form = || format!("{item:?} must have the form container/probe=duration");
    let (name, period) = item.split_once('=').ok_or_else(form)?;
    let (container, probe) = name.split_once('/').ok_or_else(form)?;
    let kind = ProbeKind::ALL.iter().find(|(name, _)| *name == probe);
    let (_, kind) = kind.ok_or_else(|| {
        format!("{probe:?} must be one of \"liveness\", \"readiness\", \"startup\"")
    })?;
    let period = duration(period)?;
    if period < SHORTEST_PERIOD {
        return Err(format!("{item:?} must not be shorter than {SHORTEST_PERIOD:?}"));
    }
    Ok((container, *kind, period))
}

/// Checks those of a pod.
pub(super) fn check(pod: &Pod, problems: &mut Problems) {
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        let path = format!("metadata.annotations[{key}]");
        match key.as_str() {
            INITIAL | MAX | RESET => {
                if let Err(reason) = duration(value) {
                    problems.invalid(&path, value, reason);
                }
            }
            PERIODS => periods(&path, pod, value, problems),
            key if key.starts_with(PREFIX) => problems.unsupported(&path, key, &KNOWN),
            _ => {}
        }
    }
}

fn periods(path: &str, pod: &Pod, value: &str, problems: &mut Problems) {
    for item in value.split_whitespace() {
        match period(item) {
            Err(reason) => problems.invalid(path, value, reason),
            Ok((name, kind, _)) => {
                let spec = pod.spec.as_ref();
                let init = spec.and_then(|spec| spec.init_containers.as_deref());
                let apps = spec.map(|spec| spec.containers.as_slice());
                let mut all = init.into_iter().chain(apps).flatten();
                if !all.any(|item| item.name == name && kind.of(item).is_some()) {
                    let detail = format!("no container {name:?} has this probe");
                    problems.not_found(path, item, &detail);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "web", "livenessProbe": {}}]},
        }))
        .unwrap()
    }

    #[test]
    fn annotations_tune_back_off_and_probes() {
        assert_eq!(backoff(&pod(&[])), BackoffRules::default());
        let tuned = pod(&[
            (INITIAL, "1s"),
            (MAX, "500ms"),
            (RESET, "5m"),
            (PERIODS, "web/liveness=200ms"),
            ("other/x", "y"),
        ]);
        let rules = backoff(&tuned);
        assert_eq!((rules.initial, rules.max), (rules.max, Duration::from_millis(500)));
        assert_eq!(rules.reset, Duration::from_secs(300));
        let key = ("web".to_owned(), ProbeKind::Liveness);
        assert_eq!(probe_periods(&tuned)[&key], Duration::from_millis(200));
        let mut problems = Problems::default();
        check(&tuned, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        for (key, value) in [
            (INITIAL, "soon"),
            (PERIODS, "web"),
            (PERIODS, "web/liveness=1"),
            (PERIODS, "web/liveness=1ms"),
            (PERIODS, "web/health=1s"),
            (PERIODS, "web/readiness=1s"),
            (PERIODS, "db/liveness=1s"),
            ("carob/backof", "1s"),
        ] {
            let mut problems = Problems::default();
            check(&pod(&[(key, value)]), &mut problems);
            assert!(!problems.is_empty(), "{key}: {value}");
        }
    }
}
