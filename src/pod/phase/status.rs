//! `status` of a pod, as the kubelet would report it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerState as State, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{conditions, is_ready};
use super::{is_unpublished, phase, restarting_all, seconds_of};
use crate::pod::clock::{Moment, Stamp};
use crate::pod::record::{
    ContainerRecord, ContainerState, Ended, PodRecord, StartFailure, StopCause,
};
use crate::pod::restart::{self, StartAt};
use crate::pod::rules::{ContainerRules, PodRules};

/// Bytes that the termination messages of a pod may have together.
const MESSAGES_BYTES: usize = 12288;

/// How long the reason of a failed pull is shown before that it is waited for.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);

/// What a status says that neither rules nor record know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// `qosClass`.
    pub qos_class: Option<&'a str>,
    /// Addresses of the machine.
    pub host_ips: &'a [String],
}

/// The whole status.
#[must_use]
pub fn status(
    pod: &Pod,
    rules: &PodRules,
    record: &PodRecord,
    around: &Surroundings<'_>,
    now: Moment,
) -> PodStatus {
    let phase = phase(rules, record);
    let (reason, message) = if phase.is_terminal() { why(record) } else { (None, None) };
    let ips = record.sandbox.as_ref().map_or(&[][..], |sandbox| sandbox.ips.as_slice());
    let view = View { rules, record, now, restarting: restarting_all(rules, record) };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let apps = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let init = view.containers(init, &rules.init, &record.init);
    let mut apps = view.containers(apps, &rules.apps, &record.apps);
    apps.sort_by(|one, other| one.name.cmp(&other.name));
    // As the kubelet does: nothing is said of the containers of a pod that it has not admitted.
    let admitted = record.stop.as_ref().is_none_or(|stop| stop.cause != StopCause::Refused);
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason,
        message,
        conditions: Some(conditions(pod, rules, record)),
        host_ip: around.host_ips.first().cloned(),
        host_ips: list(around.host_ips, |ip| HostIP { ip: ip.clone() }),
        pod_ip: ips.first().cloned(),
        pod_ips: list(ips, |ip| PodIP { ip: ip.clone() }),
        start_time: record.started.map(time),
        qos_class: around.qos_class.map(str::to_owned),
        init_container_statuses: Some(init).filter(|all| admitted && !all.is_empty()),
        container_statuses: Some(apps).filter(|_| admitted),
        ..PodStatus::default()
    }
}

/// How long a container is still held back before it is started again; `None` if it is not.
#[must_use]
pub fn back_off_left(
    rules: &PodRules,
    record: &PodRecord,
    container: &str,
    now: Moment,
) -> Option<Duration> {
    if record.stop.is_some() {
        return None;
    }
    let own = rules.container(container)?;
    match restart::next_start(rules, own, record.container(container)?, now) {
        StartAt::At(moment) => Some(moment.since(now)),
        StartAt::Now | StartAt::Never => None,
    }
}

/// `status.reason` and `status.message` of a pod that has ended.
fn why(record: &PodRecord) -> (Option<String>, Option<String>) {
    let refusal = record.refusal.as_ref();
    let message = refusal.map(|refusal| refusal.message.clone());
    match record.stop.as_ref().map(|stop| stop.cause) {
        Some(StopCause::Deadline) => {
            let message = "Pod was active on the node longer than the specified deadline";
            (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()))
        }
        Some(StopCause::Evicted) => (Some("Evicted".to_owned()), message),
        Some(StopCause::Refused) => (refusal.map(|refusal| refusal.reason.clone()), message),
        Some(StopCause::Asked | StopCause::Finished) | None => (None, None),
    }
}

/// What the statuses of the containers are made from.
struct View<'a> {
    rules: &'a PodRules,
    record: &'a PodRecord,
    now: Moment,
    restarting: bool,
}

/// A container's state as it is shown, and the instance that is its `lastState`.
enum Shown<'a> {
    Waiting { reason: String, message: Option<String>, last: Option<&'a Ended> },
    Running { since: Stamp, last: Option<&'a Ended> },
    Ended { ended: &'a Ended, last: Option<&'a Ended> },
}

impl View<'_> {
    fn containers(
        &self,
        specs: &[Container],
        rules: &[ContainerRules],
        records: &[ContainerRecord],
    ) -> Vec<ContainerStatus> {
        let members = specs.iter().zip(rules).zip(records);
        members.map(|((spec, rules), record)| self.container(spec, rules, record)).collect()
    }

    fn container(
        &self,
        spec: &Container,
        rules: &ContainerRules,
        record: &ContainerRecord,
    ) -> ContainerStatus {
        let (state, last) = match self.shown(rules, record) {
            Shown::Waiting { reason, message, last } => {
                let waiting = ContainerStateWaiting { reason: Some(reason), message };
                (State { waiting: Some(waiting), ..State::default() }, last)
            }
            Shown::Running { since, last } => {
                let running = ContainerStateRunning { started_at: Some(time(since)) };
                (State { running: Some(running), ..State::default() }, last)
            }
            Shown::Ended { ended, last } => (self.terminated(ended), last),
        };
        let id = match &record.state {
            ContainerState::Running(running) => Some(&running.id),
            ContainerState::Ended(ended) => Some(&ended.id),
            ContainerState::Waiting { .. } => record.last.as_ref().map(|last| &last.id),
        };
        let id = id.filter(|id| !id.is_empty());
        let image = spec.image.clone().unwrap_or_default();
        ContainerStatus {
            name: spec.name.clone(),
            state: Some(state),
            last_state: Some(last.map_or_else(State::default, |ended| self.terminated(ended))),
            ready: is_ready(rules, record),
            started: Some(self.started(record)),
            restart_count: i32::try_from(record.restart_count).unwrap_or(i32::MAX),
            image_id: if id.is_some() { image.clone() } else { String::new() },
            image,
            container_id: id.map(|id| uri(id)),
            resources: spec.resources.clone(),
            allocated_resources: spec.resources.as_ref().and_then(|own| own.requests.clone()),
            volume_mounts: mounts(spec),
            ..ContainerStatus::default()
        }
    }

    fn started(&self, record: &ContainerRecord) -> bool {
        record.started && record.running().is_some()
    }

    fn shown<'a>(&self, rules: &ContainerRules, record: &'a ContainerRecord) -> Shown<'a> {
        let last = record.last.as_ref();
        match &record.state {
            ContainerState::Running(running) if is_unpublished(running) => self.not_yet(last),
            ContainerState::Running(running) => Shown::Running { since: running.since, last },
            ContainerState::Ended(ended) if self.record.stop.is_some() => {
                Shown::Ended { ended, last }
            }
            ContainerState::Ended(ended) if self.restarting => {
                self.waiting("RestartingAllContainers", None, Some(ended))
            }
            ContainerState::Ended(ended) => match self.crash_loop(rules, record) {
                Some(message) => self.waiting("CrashLoopBackOff", Some(message), Some(ended)),
                None => Shown::Ended { ended, last },
            },
            ContainerState::Waiting { failure } => {
                if let (Some(ended), true) = (last, self.record.stop.is_some()) {
                    return Shown::Ended { ended, last: None };
                }
                if let Some(message) = self.crash_loop(rules, record) {
                    return self.waiting("CrashLoopBackOff", Some(message), last);
                }
                match failure {
                    Some(failure) if self.backs_off_pull(rules, record, failure) => {
                        let message =
                            failure.message.replacen("failed to pull", "Back-off pulling", 1);
                        self.waiting("ImagePullBackOff", Some(message), last)
                    }
                    Some(failure) => {
                        self.waiting(&failure.reason, Some(failure.message.clone()), last)
                    }
                    None => self.not_yet(last),
                }
            }
        }
    }

    /// Whether a failed pull is old news, and the next one not due yet.
    fn backs_off_pull(
        &self,
        rules: &ContainerRules,
        record: &ContainerRecord,
        failure: &StartFailure,
    ) -> bool {
        let held =
            matches!(restart::next_start(self.rules, rules, record, self.now), StartAt::At(_));
        let tried = record.backoff.last_start;
        failure.reason == "ErrImagePull"
            && held
            && tried.is_some_and(|tried| self.now.since(tried) >= PULL_ERROR_SHOWN)
    }

    fn waiting<'a>(
        &self,
        reason: &str,
        message: Option<String>,
        last: Option<&'a Ended>,
    ) -> Shown<'a> {
        Shown::Waiting { reason: reason.to_owned(), message, last }
    }

    fn default_reason(&self) -> &'static str {
        if self.rules.init.is_empty() { "ContainerCreating" } else { "PodInitializing" }
    }

    /// A container that waits for its turn, or for the sandbox.
    fn not_yet<'a>(&self, last: Option<&'a Ended>) -> Shown<'a> {
        let error = self.record.sandbox_error.as_ref();
        let message = error.map(|error| format!("{}: {}", error.reason, error.message));
        self.waiting(self.default_reason(), message, last)
    }

    /// The message of a container that is held back after the end of an instance.
    fn crash_loop(&self, rules: &ContainerRules, record: &ContainerRecord) -> Option<String> {
        if !matches!(restart::next_start(self.rules, rules, record, self.now), StartAt::At(_)) {
            return None;
        }
        let end = restart::crash_loop_end(self.rules, record).filter(|end| *end > self.now)?;
        let delay = Duration::from_millis(record.backoff.delay_millis?);
        let (name, namespace, uid) = (&self.rules.name, &self.rules.namespace, &self.rules.uid);
        let left = end.since(self.now).as_secs_f64().ceil();
        Some(format!(
            "back-off {} restarting failed container={} pod={name}_{namespace}({uid}), {} left",
            go_duration(delay),
            rules.name,
            go_duration(Duration::try_from_secs_f64(left).unwrap_or(delay)),
        ))
    }

    fn terminated(&self, ended: &Ended) -> State {
        let members = self.record.containers().count().max(1);
        let message = cut(&ended.message, MESSAGES_BYTES.checked_div(members).unwrap_or(0));
        let terminated = ContainerStateTerminated {
            exit_code: ended.exit_code,
            signal: ended.signal,
            reason: Some(ended.reason.clone()).filter(|text| !text.is_empty()),
            message: Some(message.to_owned()).filter(|text| !text.is_empty()),
            started_at: Some(ended.started.map_or(Time(jiff::Timestamp::UNIX_EPOCH), time)),
            finished_at: Some(time(ended.finished)),
            container_id: Some(&ended.id).filter(|id| !id.is_empty()).map(|id| uri(id)),
        };
        State { terminated: Some(terminated), ..State::default() }
    }
}

fn mounts(spec: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.as_deref().unwrap_or_default();
    list(mounts, |mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        ..VolumeMountStatus::default()
    })
}

fn uri(id: &str) -> String {
    format!("carob://{id}")
}

fn time(stamp: Stamp) -> Time {
    Time(seconds_of(stamp.wall))
}

fn list<T, U>(from: &[T], each: impl Fn(&T) -> U) -> Option<Vec<U>> {
    (!from.is_empty()).then(|| from.iter().map(each).collect())
}

/// At most so many bytes, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// As Go prints a duration: `500ms`, `10s`, `2m40s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut last = (seconds % 60).to_string();
    if millis > 0 {
        last = format!("{last}.{millis:03}").trim_end_matches('0').to_owned();
    }
    match (hours, minutes) {
        (0, 0) => format!("{last}s"),
        (0, _) => format!("{minutes}m{last}s"),
        _ => format!("{hours}h{minutes}m{last}s"),
    }
}
