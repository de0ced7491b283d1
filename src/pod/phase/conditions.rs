//! The conditions of a pod.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Phase, phase, restarting_all, seconds_of};
use crate::pod::clock::Stamp;
use crate::pod::decide::apps_begun;
use crate::pod::record::{ConditionChange, ContainerRecord, ContainerState, PodRecord, StopCause};
use crate::pod::rules::{ContainerRules, Kind, PodRules};

/// A condition, before it has a time.
struct Condition {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(kind: &'static str, is_true: bool) -> Self {
        Self { kind, is_true, reason: "", message: String::new() }
    }

    fn because(mut self, reason: &'static str, message: String) -> Self {
        self.reason = reason;
        self.message = message;
        self
    }
}

/// The conditions, in the order in which the kubelet gives them; the times are those of
/// `PodRecord::conditions`, or that of the pod's making for one which has never changed.
#[must_use]
pub fn conditions(pod: &Pod, rules: &PodRules, record: &PodRecord) -> Vec<PodCondition> {
    let own = |condition: Condition| {
        let change = record.conditions.get(condition.kind);
        let since = change.map_or(record.created, |change| change.since);
        PodCondition {
            type_: condition.kind.to_owned(),
            status: if condition.is_true { "True" } else { "False" }.to_owned(),
            reason: Some(condition.reason.to_owned()).filter(|text| !text.is_empty()),
            message: Some(condition.message).filter(|text| !text.is_empty()),
            last_transition_time: Some(Time(seconds_of(since.wall))),
            ..PodCondition::default()
        }
    };
    computed(pod, rules, record).into_iter().map(own).collect()
}

/// Brings `PodRecord::conditions` up to date; to be called after each change of the record.
/// Returns the conditions that have changed, with the value they now have; to be False from the
/// start is no change.
pub fn update_conditions(
    pod: &Pod,
    rules: &PodRules,
    record: &mut PodRecord,
    now: Stamp,
) -> Vec<(&'static str, bool)> {
    let mut changed = Vec::new();
    for condition in computed(pod, rules, record) {
        let is_true = condition.is_true;
        let known = record.conditions.get(condition.kind).map(|known| known.is_true);
        if known == Some(is_true) {
            continue;
        }
        record
            .conditions
            .insert(condition.kind.to_owned(), ConditionChange { is_true, since: now });
        if is_true || known.is_some() {
            changed.push((condition.kind, is_true));
        }
    }
    changed
}

fn computed(pod: &Pod, rules: &PodRules, record: &PodRecord) -> Vec<Condition> {
    let phase = phase(rules, record);
    let containers_ready = containers_ready(rules, record, phase);
    let mut all = vec![
        Condition::new("PodReadyToStartContainers", record.usable_sandbox().is_some()),
        initialized(rules, record, phase),
        ready(pod, &containers_ready),
        containers_ready,
        Condition::new("PodScheduled", true),
    ];
    if restarting_all(rules, record) || record.conditions.contains_key(RESTARTING) {
        all.push(Condition::new(RESTARTING, restarting_all(rules, record)));
    }
    let evicted = record.stop.as_ref().filter(|stop| stop.cause == StopCause::Evicted);
    if evicted.is_some() {
        let message = record.refusal.as_ref().map(|refusal| refusal.message.clone());
        let condition = Condition::new("DisruptionTarget", true);
        all.push(condition.because("TerminationByKubelet", message.unwrap_or_default()));
    }
    all
}

const RESTARTING: &str = "AllContainersRestarting";

/// Source: kubelet `GeneratePodInitializedCondition`.
fn initialized(rules: &PodRules, record: &PodRecord, phase: Phase) -> Condition {
    let incomplete =
        names(rules.init.iter().zip(&record.init), |rules, container| match rules.kind {
            Kind::Sidecar => !container.started,
            Kind::Init | Kind::App => !is_ready(rules, container),
        });
    if phase == Phase::Succeeded {
        Condition::new("Initialized", true).because("PodCompleted", String::new())
    } else if apps_begun(rules, record) || incomplete.is_empty() {
        Condition::new("Initialized", true)
    } else {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        Condition::new("Initialized", false).because("ContainersNotInitialized", message)
    }
}

/// Source: kubelet `GenerateContainersReadyCondition`.
fn containers_ready(rules: &PodRules, record: &PodRecord, phase: Phase) -> Condition {
    let init = rules.init.iter().zip(&record.init).filter(|(rules, _)| rules.kind == Kind::Sidecar);
    let members = init.chain(rules.apps.iter().zip(&record.apps));
    let unready = names(members, |rules, container| !is_ready(rules, container));
    let condition = Condition::new("ContainersReady", false);
    match phase {
        Phase::Succeeded => condition.because("PodCompleted", String::new()),
        Phase::Failed => condition.because("PodFailed", String::new()),
        Phase::Pending | Phase::Running if unready.is_empty() => {
            Condition::new("ContainersReady", true)
        }
        Phase::Pending | Phase::Running => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            condition.because("ContainersNotReady", message)
        }
    }
}

/// Nobody outside sets conditions here: a readiness gate is never passed.
fn ready(pod: &Pod, containers_ready: &Condition) -> Condition {
    let condition = Condition::new("Ready", containers_ready.is_true);
    if !containers_ready.is_true {
        return condition.because(containers_ready.reason, containers_ready.message.clone());
    }
    let spec = pod.spec.as_ref();
    let gates = spec.and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return condition;
    }
    let missing = gates.iter().map(|gate| {
        let kind = &gate.condition_type;
        format!("corresponding condition of pod readiness gate {kind:?} does not exist.")
    });
    let message = missing.collect::<Vec<_>>().join(", ");
    Condition::new("Ready", false).because("ReadinessGatesNotReady", message)
}

/// `ready` of a container's status.
pub(super) fn is_ready(rules: &ContainerRules, container: &ContainerRecord) -> bool {
    match (&container.state, rules.kind) {
        (ContainerState::Ended(ended), Kind::Init) => ended.exit_code == 0,
        (ContainerState::Running(_), Kind::Sidecar | Kind::App) => container.ready,
        _ => false,
    }
}

fn names<'a>(
    members: impl Iterator<Item = (&'a ContainerRules, &'a ContainerRecord)>,
    which: impl Fn(&ContainerRules, &ContainerRecord) -> bool,
) -> Vec<&'a str> {
    members
        .filter(|(rules, container)| which(rules, container))
        .map(|(rules, _)| rules.name.as_str())
        .collect()
}
