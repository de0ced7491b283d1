//! The files of a pod → the Kubernetes object that it is.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::clock::Stamp;
use super::member;
use super::phase::{self, Columns, Phase, Surroundings};
use super::record::{PodRecord, StopCause};
use super::rules::PodRules;
use super::store::StoredPod;
use crate::error::Result;

/// `status`. A pod that is still being made is Pending.
///
/// # Errors
/// As [`PodRules::from_pod`], which it has passed before.
pub fn status(pod: &StoredPod, now: Stamp) -> Result<PodStatus> {
    let manifest = &pod.file.manifest.pod;
    Ok(match &pod.record {
        Some(record) => {
            let rules = PodRules::from_pod(manifest)?;
            let host_ips = member::node::addresses();
            let qos_class = Some(member::qos(manifest).as_str());
            let around = Surroundings { qos_class, host_ips: &host_ips };
            phase::status(manifest, &rules, record, &around, now.at)
        }
        None => {
            PodStatus { phase: Some(Phase::Pending.as_str().to_owned()), ..PodStatus::default() }
        }
    })
}

/// The pod with its status; with `deletionTimestamp` while somebody's wish to end it is being
/// fulfilled.
///
/// # Errors
/// As [`status`].
pub fn object(pod: &StoredPod, now: Stamp) -> Result<Pod> {
    let mut object = pod.file.manifest.pod.clone();
    object.status = Some(status(pod, now)?);
    if let Some(record) = &pod.record {
        deletion(&mut object, record);
    }
    Ok(object)
}

fn deletion(object: &mut Pod, record: &PodRecord) {
    let asked = record.stop.as_ref().filter(|stop| stop.cause == StopCause::Asked);
    let Some(stop) = asked.filter(|_| record.ended.is_none()) else { return };
    let spec = object.spec.as_ref();
    let grace = stop
        .grace_seconds
        .map(i64::from)
        .or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(30);
    let due = jiff::SignedDuration::from_secs(grace);
    let due = stop.since.wall.checked_add(due).unwrap_or(stop.since.wall);
    let whole = jiff::Timestamp::from_second(due.as_second()).unwrap_or(due);
    object.metadata.deletion_timestamp = Some(Time(whole));
    object.metadata.deletion_grace_period_seconds = Some(grace);
}

/// What `kubectl get pods` would show.
///
/// # Errors
/// As [`status`].
pub fn columns(pod: &StoredPod, now: Stamp) -> Result<Columns> {
    let manifest = &pod.file.manifest.pod;
    let rules = PodRules::from_pod(manifest)?;
    Ok(match &pod.record {
        Some(record) => phase::columns(manifest, &rules, record, now),
        None => Columns {
            name: rules.name,
            ready: format!("0/{}", rules.apps.len()),
            status: Phase::Pending.as_str().to_owned(),
            restarts: "0".to_owned(),
            age: "0s".to_owned(),
            ip: "<none>".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::PodStop;
    use super::super::timeline::tests::{pod, stamp};
    use super::*;

    #[test]
    fn a_pod_that_is_being_made_is_pending() {
        let mut pod = pod();
        pod.record = None;
        assert_eq!(status(&pod, stamp(0)).unwrap().phase.as_deref(), Some("Pending"));
        assert_eq!(columns(&pod, stamp(0)).unwrap().ready, "0/1");
    }

    #[test]
    fn a_pod_that_is_being_ended_has_a_time_for_it() {
        let mut pod = pod();
        let mut json = serde_json::to_value(object(&pod, stamp(900)).unwrap()).unwrap();
        assert_eq!(json["kind"], "Pod");
        assert_eq!(json["status"]["phase"], "Pending");
        assert!(json["metadata"].get("deletionTimestamp").is_none());
        let record = pod.record.as_mut().unwrap();
        let since = stamp(500);
        record.stop = Some(PodStop { cause: StopCause::Asked, since, grace_seconds: Some(5) });
        json = serde_json::to_value(object(&pod, stamp(900)).unwrap()).unwrap();
        assert_eq!(json["metadata"]["deletionTimestamp"], "2026-11-20T12:03:09Z");
        assert_eq!(json["metadata"]["deletionGracePeriodSeconds"], 5);
    }
}
