//! A manifest's pod to rules.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec, Probe};

use super::{
    BackoffRules, CodeMatch, ContainerRules, ExitAction, ExitRule, Kind, PodRules, ProbeRules,
    RestartPolicy,
};
use crate::error::{Error, Result};

const INITIAL: &str = "carob/backoff-initial";
const MAX: &str = "carob/backoff-max";
const RESET: &str = "carob/backoff-reset";
const PERIODS: &str = "carob/probe-periods";
/// Shortest of carob's own durations: what is shorter would only burn time.
const SHORTEST: Duration = Duration::from_millis(10);
/// `terminationGracePeriodSeconds` of a pod that says nothing.
const GRACE_SECONDS: i64 = 30;

type Annotations = BTreeMap<String, String>;

pub(super) fn pod(pod: &Pod) -> Result<PodRules> {
    let none = Annotations::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let spec = pod.spec.as_ref().ok_or_else(|| wrong("spec", "must be there"))?;
    let restart = match spec.restart_policy.as_deref() {
        Some(text) => policy(text, "spec.restartPolicy")?,
        None => RestartPolicy::Always,
    };
    let metadata = &pod.metadata;
    let mut rules = PodRules {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        restart,
        grace: seconds(spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS)),
        active_deadline: spec.active_deadline_seconds.map(seconds),
        backoff: backoff(annotations)?,
        init: init(spec, restart)?,
        apps: apps(spec, restart)?,
    };
    if let Some(periods) = annotations.get(PERIODS) {
        shorten_periods(&mut rules, periods)?;
    }
    Ok(rules)
}

fn init(spec: &PodSpec, pod: RestartPolicy) -> Result<Vec<ContainerRules>> {
    let containers = spec.init_containers.as_deref().unwrap_or_default();
    let read = |(index, own): (usize, &Container)| {
        let sidecar = own.restart_policy.as_deref() == Some("Always");
        let kind = if sidecar { Kind::Sidecar } else { Kind::Init };
        container(own, kind, pod, &format!("spec.initContainers[{index}]"))
    };
    containers.iter().enumerate().map(read).collect()
}

fn apps(spec: &PodSpec, pod: RestartPolicy) -> Result<Vec<ContainerRules>> {
    let read = |(index, own): (usize, &Container)| {
        container(own, Kind::App, pod, &format!("spec.containers[{index}]"))
    };
    spec.containers.iter().enumerate().map(read).collect()
}

fn container(
    own: &Container,
    kind: Kind,
    pod: RestartPolicy,
    path: &str,
) -> Result<ContainerRules> {
    let restart = match own.restart_policy.as_deref() {
        Some(text) => policy(text, &format!("{path}.restartPolicy"))?,
        None => pod,
    };
    let rules = own.restart_policy_rules.as_deref().unwrap_or_default().iter().enumerate();
    let rules = rules
        .map(|(index, rule)| exit_rule(rule, &format!("{path}.restartPolicyRules[{index}]")))
        .collect::<Result<_>>()?;
    let lifecycle = own.lifecycle.as_ref();
    Ok(ContainerRules {
        name: own.name.clone(),
        kind,
        restart,
        exit_rules: rules,
        post_start: lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some()),
        pre_stop: lifecycle.is_some_and(|lifecycle| lifecycle.pre_stop.is_some()),
        startup: own.startup_probe.as_ref().map(probe),
        liveness: own.liveness_probe.as_ref().map(probe),
        readiness: own.readiness_probe.as_ref().map(probe),
    })
}

fn policy(text: &str, path: &str) -> Result<RestartPolicy> {
    match text {
        "Always" => Ok(RestartPolicy::Always),
        "OnFailure" => Ok(RestartPolicy::OnFailure),
        "Never" => Ok(RestartPolicy::Never),
        _ => Err(wrong(path, &format!("{text:?} must be Always, OnFailure or Never"))),
    }
}

fn exit_rule(rule: &ContainerRestartRule, path: &str) -> Result<ExitRule> {
    let action = match rule.action.as_str() {
        "Restart" => ExitAction::Restart,
        "RestartAllContainers" => ExitAction::RestartAll,
        other => {
            let reason = format!("{other:?} must be Restart or RestartAllContainers");
            return Err(wrong(&format!("{path}.action"), &reason));
        }
    };
    let path = format!("{path}.exitCodes");
    let codes = rule.exit_codes.as_ref().ok_or_else(|| wrong(&path, "must be there"))?;
    let matches = match codes.operator.as_str() {
        "In" => CodeMatch::In,
        "NotIn" => CodeMatch::NotIn,
        other => {
            let reason = format!("{other:?} must be In or NotIn");
            return Err(wrong(&format!("{path}.operator"), &reason));
        }
    };
    Ok(ExitRule { matches, codes: codes.values.clone().unwrap_or_default(), action })
}

fn probe(probe: &Probe) -> ProbeRules {
    ProbeRules {
        initial_delay: seconds(probe.initial_delay_seconds.unwrap_or(0).into()),
        period: positive(probe.period_seconds, 10),
        timeout: positive(probe.timeout_seconds, 1),
        success_threshold: threshold(probe.success_threshold, 1),
        failure_threshold: threshold(probe.failure_threshold, 3),
        grace: probe.termination_grace_period_seconds.map(seconds),
    }
}

fn positive(value: Option<i32>, default: i32) -> Duration {
    seconds(value.filter(|value| *value > 0).unwrap_or(default).into())
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn backoff(annotations: &Annotations) -> Result<BackoffRules> {
    let default = BackoffRules::default();
    let own = |key: &str, default| {
        annotations.get(key).map_or(Ok(default), |text| {
            duration(text).ok_or_else(|| wrong(&annotation(key), &bad_duration(text)))
        })
    };
    let max = own(MAX, default.max)?;
    let initial = own(INITIAL, default.initial)?.min(max);
    Ok(BackoffRules { initial, max, reset: own(RESET, default.reset)? })
}

/// `container/probe=period`, separated by spaces.
fn shorten_periods(rules: &mut PodRules, text: &str) -> Result<()> {
    let path = annotation(PERIODS);
    for item in text.split_whitespace() {
        let syntax = || wrong(&path, &format!("{item:?} must be <container>/<probe>=<period>"));
        let (target, period_text) = item.split_once('=').ok_or_else(syntax)?;
        let (container, probe) = target.split_once('/').ok_or_else(syntax)?;
        let period =
            duration(period_text).ok_or_else(|| wrong(&path, &bad_duration(period_text)))?;
        let mut containers = rules.init.iter_mut().chain(&mut rules.apps);
        let container = containers
            .find(|rules| rules.name == container)
            .ok_or_else(|| wrong(&path, &format!("{item:?}: no container {container:?}")))?;
        let slot = match probe {
            "startup" => &mut container.startup,
            "liveness" => &mut container.liveness,
            "readiness" => &mut container.readiness,
            _ => {
                let allowed = "probe must be startup, liveness or readiness";
                return Err(wrong(&path, &format!("{item:?}: {allowed}")));
            }
        };
        let missing = || wrong(&path, &format!("{item:?}: the container has no such probe"));
        slot.as_mut().ok_or_else(missing)?.period = period;
    }
    Ok(())
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| *duration >= SHORTEST)
}

fn bad_duration(text: &str) -> String {
    format!("{text:?} must be a duration of at least 10ms, like 500ms, 1s or 5m")
}

fn annotation(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

fn wrong(field: &str, reason: &str) -> Error {
    Error::Config { field: field.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
