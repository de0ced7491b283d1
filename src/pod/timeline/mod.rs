//! What each container of a pod was doing when: events and record → spans and marks.
//!
//! Pure. How it is drawn is the business of whoever draws.

mod draft;
mod lost;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::clock::Stamp;
use super::event::Event;
use super::phase;
use super::rules::PodRules;
use super::store::StoredPod;

/// The life of a pod so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// When it was made; everything else counts from here.
    pub start: Timestamp,
    /// Until its end, or until now.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// Whether that is its end.
    pub ended: bool,
    /// The pod itself, then its containers in the order of the manifest.
    pub lanes: Vec<Lane>,
}

/// The pod, or a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LaneKind,
    /// Without gaps, in order.
    pub spans: Vec<Span>,
    /// In order.
    pub marks: Vec<Mark>,
}

/// What a lane is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneKind {
    /// The pod as a whole.
    Pod,
    /// An init container.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    App,
}

/// A time of doing one thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// What.
    #[serde(flatten)]
    pub activity: Activity,
    /// From when, since the start.
    #[serde(serialize_with = "seconds")]
    pub from: Duration,
    /// Until when, since the start.
    #[serde(serialize_with = "seconds")]
    pub to: Duration,
}

/// What a container can be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "activity")]
pub enum Activity {
    /// It was not started yet.
    Waiting,
    /// An init container runs.
    Init,
    /// It runs, and its startup probe or its postStart hook has not succeeded yet. Of a pod: it
    /// has its sandbox.
    Starting,
    /// It runs and is not ready.
    NotReady,
    /// It is ready.
    Ready,
    /// It has ended, and its restart is being delayed.
    BackOff,
    /// Its preStop hook runs.
    PreStop,
    /// It has been told to stop.
    Stopping,
    /// It has ended.
    Ended {
        /// How; absent for a pod.
        #[serde(rename = "exitCode", skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
}

/// Something at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// What.
    pub kind: MarkKind,
    /// When, since the start.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// For people; may come from a container.
    pub message: String,
}

/// What can happen at one moment. The later ones matter more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// It was started again.
    Restart,
    /// The supervisor came back.
    Recovered,
    /// A probe failed.
    ProbeFailed,
    /// Something else that Kubernetes warns of: a hook, an image, a volume.
    Failed,
    /// It got SIGKILL.
    Killed,
    /// It ran out of memory.
    OomKilled,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Timeline {
    /// Of a pod, from all its events, oldest first.
    #[must_use]
    pub fn new(pod: &StoredPod, events: &[Event], now: Stamp) -> Self {
        let record = pod.record.as_ref();
        let first = events.first().map(|event| event.stamp);
        let start = record.map(|record| record.created).or(first).unwrap_or(now);
        let ended = record.and_then(|record| record.ended);
        let last = events.iter().map(|event| event.stamp.at).max();
        // An event can be later than `now`: it came while the files were read.
        let end = ended.unwrap_or(now).at.max(last.unwrap_or(start.at));
        let completed = lost::complete(events, record);
        let mut drafts = draft::drafts(pod);
        for event in &completed {
            let name = event.container.as_deref().unwrap_or_default();
            let draft = drafts.iter_mut().find(|draft| draft.container == name);
            if let Some(draft) = draft {
                draft.step(event.stamp.at.since(start.at), event);
            }
        }
        let rules = PodRules::from_pod(&pod.file.manifest.pod).ok();
        if let Some((rules, record)) = rules.zip(record) {
            for draft in &mut drafts {
                if phase::back_off_left(&rules, record, &draft.container, now.at).is_some() {
                    draft.awaits_restart();
                }
            }
        }
        let length = end.since(start.at);
        let metadata = &pod.file.manifest.pod.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            start: start.wall,
            length,
            ended: ended.is_some(),
            lanes: drafts.into_iter().map(|draft| draft.finish(length)).collect(),
        }
    }
}

impl Lane {
    /// Time spent with each activity, in the order of their first appearance; all ends are one.
    #[must_use]
    pub fn totals(&self) -> Vec<(Activity, Duration)> {
        let mut totals: Vec<(Activity, Duration)> = Vec::new();
        for span in self.spans.iter().filter(|span| !span.activity.is_end()) {
            let time = span.to.saturating_sub(span.from);
            match totals.iter_mut().find(|(activity, _)| *activity == span.activity) {
                Some((_, total)) => *total += time,
                None => totals.push((span.activity, time)),
            }
        }
        totals
    }

    /// How it ended, if it has and was not started again.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.spans.last()?.activity {
            Activity::Ended { exit_code } => exit_code,
            _ => None,
        }
    }

    /// Number of marks of a kind.
    #[must_use]
    pub fn count(&self, kind: MarkKind) -> usize {
        self.marks.iter().filter(|mark| mark.kind == kind).count()
    }
}

impl Activity {
    /// Whether nothing follows by itself.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Init => "init running",
            Self::Starting => "starting up",
            Self::NotReady => "not ready",
            Self::Ready => "ready",
            Self::BackOff => "back-off",
            Self::PreStop => "preStop",
            Self::Stopping => "stopping",
            Self::Ended { .. } => "ended",
        }
    }

    const fn is_running(self) -> bool {
        matches!(
            self,
            Self::Init
                | Self::Starting
                | Self::NotReady
                | Self::Ready
                | Self::PreStop
                | Self::Stopping
        )
    }
}

impl MarkKind {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Recovered => "supervisor back",
            Self::ProbeFailed => "probe failed",
            Self::Failed => "failure",
            Self::Killed => "SIGKILL",
            Self::OomKilled => "out of memory",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pod::clock::Moment;
    use crate::pod::event::EventKind;
    use crate::pod::manifest::Manifest;
    use crate::pod::record::{ContainerState, PodRecord};
    use crate::pod::store::{PodDirs, PodFile};

    /// A stamp that many milliseconds after 2026-11-20 12:03:04 UTC.
    pub(crate) fn stamp(millis: u64) -> Stamp {
        let epoch: Timestamp = "2026-11-20T12:03:04Z".parse().unwrap();
        let wall = epoch + Duration::from_millis(millis);
        Stamp { at: Moment::from_nanos(7_000_000_000 + millis * 1_000_000), wall }
    }

    /// A transition, or a warning if the reason begins with `!`.
    pub(crate) fn event(millis: u64, container: &str, reason: &str, message: &str) -> Event {
        let kind = if reason.starts_with('!') { EventKind::Warning } else { EventKind::Transition };
        Event {
            stamp: stamp(millis),
            kind,
            reason: reason.trim_start_matches('!').into(),
            container: Some(container.to_owned()).filter(|name| !name.is_empty()),
            message: message.into(),
        }
    }

    /// A pod of an init container, a sidecar and an app with a startup probe; it was made at 0.
    pub(crate) fn pod() -> StoredPod {
        let pod = json!({
            "metadata": {"name": "demo", "namespace": "default", "uid": "8f3a"},
            "spec": {
                "initContainers": [
                    {"name": "setup", "image": "rootfs:/x"},
                    {"name": "log", "image": "rootfs:/x", "restartPolicy": "Always"},
                ],
                "containers": [{
                    "name": "web", "image": "rootfs:/x",
                    "startupProbe": {"exec": {"command": ["true"]}},
                }],
            },
        });
        let manifest = json!({"pod": pod, "objects": {
            "config_maps": {}, "secrets": {}, "claims": {}, "volumes": {},
        }});
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let rules = PodRules::from_pod(&manifest.pod).unwrap();
        let record = PodRecord { started: Some(stamp(0)), ..PodRecord::new(&rules, stamp(0)) };
        let dirs = PodDirs {
            state: "/s".into(),
            data: "/d".into(),
            logs: "/l".into(),
            cgroup: "/c".into(),
        };
        StoredPod {
            file: PodFile { manifest, dirs, network: Default::default() },
            record: Some(record),
        }
    }

    /// A life with everything in it; 40 s long.
    pub(crate) fn life() -> Vec<Event> {
        vec![
            event(1_000, "", "SandboxStarted", ""),
            event(1_200, "setup", "Running", ""),
            event(4_000, "setup", "Exited", "exit code 0"),
            event(4_100, "log", "Running", ""),
            event(4_200, "log", "Ready", ""),
            event(4_500, "web", "Running", ""),
            event(6_000, "web", "!Unhealthy", "Startup probe failed: <no>\u{1b}[31m"),
            event(8_000, "web", "StartupDone", ""),
            event(9_000, "web", "Ready", ""),
            event(9_000, "", "PodReady", ""),
            event(15_000, "web", "Exited", "exit code 137 (OOMKilled)"),
            event(15_000, "web", "NotReady", ""),
            event(15_000, "", "PodNotReady", ""),
            event(15_010, "web", "!BackOff", "Back-off restarting failed container web"),
            event(25_000, "web", "Running", ""),
            event(27_000, "web", "StartupDone", ""),
            event(27_000, "web", "Ready", ""),
            event(27_000, "", "PodReady", ""),
            event(35_000, "", "Stopping", ""),
            event(35_000, "web", "PreStop", ""),
            event(37_000, "web", "PreStopDone", ""),
            event(37_000, "web", "Signalled", ""),
            event(39_000, "web", "Killed", ""),
            event(39_100, "web", "Exited", "exit code 137"),
            event(39_200, "log", "Signalled", ""),
            event(39_400, "log", "Exited", "exit code 0"),
            event(40_000, "", "Ended", "Failed"),
        ]
    }

    fn spans(lane: &Lane) -> Vec<(&'static str, u128, u128)> {
        let row = |span: &Span| (span.activity.name(), span.from.as_millis(), span.to.as_millis());
        lane.spans.iter().map(row).collect()
    }

    #[test]
    fn a_whole_life() {
        let mut pod = pod();
        pod.record.as_mut().unwrap().ended = Some(stamp(40_000));
        let timeline = Timeline::new(&pod, &life(), stamp(99_000));
        assert_eq!(timeline.length, Duration::from_secs(40));
        let [all, setup, log, web] = timeline.lanes.as_slice() else { panic!("{timeline:?}") };
        assert_eq!(
            spans(all),
            [
                ("waiting", 0, 1_000),
                ("starting up", 1_000, 9_000),
                ("ready", 9_000, 15_000),
                ("not ready", 15_000, 27_000),
                ("ready", 27_000, 35_000),
                ("stopping", 35_000, 40_000),
                ("ended", 40_000, 40_000),
            ]
        );
        assert_eq!(
            spans(setup),
            [("waiting", 0, 1_200), ("init running", 1_200, 4_000), ("ended", 4_000, 40_000)]
        );
        assert_eq!(setup.exit_code(), Some(0));
        assert_eq!(log.kind, LaneKind::Sidecar);
        assert_eq!(
            spans(web),
            [
                ("waiting", 0, 4_500),
                ("starting up", 4_500, 8_000),
                ("not ready", 8_000, 9_000),
                ("ready", 9_000, 15_000),
                ("ended", 15_000, 15_010),
                ("back-off", 15_010, 25_000),
                ("starting up", 25_000, 27_000),
                ("ready", 27_000, 35_000),
                ("preStop", 35_000, 37_000),
                ("stopping", 37_000, 39_100),
                ("ended", 39_100, 40_000),
            ]
        );
        assert_eq!(web.exit_code(), Some(137));
        let marks: Vec<_> = web.marks.iter().map(|mark| (mark.kind, mark.at.as_secs())).collect();
        use MarkKind::{Killed, OomKilled, ProbeFailed, Restart};
        assert_eq!(marks, [(ProbeFailed, 6), (OomKilled, 15), (Restart, 25), (Killed, 39)]);
        assert_eq!(web.totals()[3], (Activity::Ready, Duration::from_secs(14)));
    }

    #[test]
    fn a_live_pod_lasts_until_now_and_a_young_one_waits() {
        let timeline = Timeline::new(&pod(), &[], stamp(3_000));
        assert!(!timeline.ended);
        for lane in &timeline.lanes {
            assert_eq!(spans(lane), [("waiting", 0, 3_000)], "{}", lane.name);
        }
    }

    #[test]
    fn the_record_fills_in_what_the_log_has_lost() {
        let mut pod = pod();
        let web = &mut pod.record.as_mut().unwrap().apps[0];
        let ended = json!({
            "id": "i", "exit_code": 3, "signal": null, "reason": "Error", "message": "",
            "started": stamp(2_000), "finished": stamp(5_000), "killed": null,
        });
        web.last = Some(serde_json::from_value(ended).unwrap());
        let running = json!({
            "id": "i", "pid": 7, "since": stamp(6_000), "post_start": "none", "stopping": null,
            "startup_done": true, "oom_killed": false,
        });
        web.state = ContainerState::Running(serde_json::from_value(running).unwrap());
        let events = [event(6_001, "web", "Running", ""), event(7_000, "web", "StartupDone", "")];
        let mut timeline = Timeline::new(&pod, &events, stamp(9_000));
        assert_eq!(
            spans(&timeline.lanes[3]),
            [
                ("waiting", 0, 2_000),
                ("starting up", 2_000, 5_000),
                ("back-off", 5_000, 6_001),
                ("starting up", 6_001, 7_000),
                ("not ready", 7_000, 9_000),
            ]
        );
        assert_eq!(timeline.lanes[3].count(MarkKind::Restart), 1);
        pod.record.as_mut().unwrap().apps[0].ready = true;
        timeline = Timeline::new(&pod, &[], stamp(9_000));
        assert_eq!(spans(&timeline.lanes[3]).last(), Some(&("ready", 6_000, 9_000)));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let names = prop::sample::select(vec!["", "setup", "log", "web", "other"]);
        let reasons = prop::sample::select(vec![
            "SandboxStarted",
            "Running",
            "Started",
            "StartupDone",
            "Ready",
            "NotReady",
            "PostStart",
            "PostStartDone",
            "PreStop",
            "PreStopDone",
            "Signalled",
            "Killed",
            "Exited",
            "PodReady",
            "PodNotReady",
            "Stopping",
            "Ended",
            "!BackOff",
            "!Unhealthy",
            "Killing",
            "!Other",
        ]);
        (0_u64..9_000, names, reasons, "exit code -?[0-9]{0,12}")
            .prop_map(|(at, name, reason, message)| event(at, name, reason, &message))
    }

    proptest! {
        /// Whatever order events come in: no gap, no overlap, nothing outside.
        #[test]
        fn spans_cover_the_life(events in prop::collection::vec(any_event(), 0..40)) {
            let timeline = Timeline::new(&pod(), &events, stamp(5_000));
            for lane in &timeline.lanes {
                let mut at = Duration::ZERO;
                for span in &lane.spans {
                    prop_assert_eq!(span.from, at);
                    prop_assert!(span.to >= at);
                    at = span.to;
                }
                prop_assert_eq!(at, timeline.length);
                prop_assert!(lane.marks.iter().all(|mark| mark.at <= timeline.length));
            }
        }
    }

    #[test]
    fn a_container_that_awaits_its_restart_is_in_back_off() {
        let mut pod = pod();
        let web = &mut pod.record.as_mut().unwrap().apps[0];
        let ended = json!({
            "id": "i", "exit_code": 137, "signal": null, "reason": "OOMKilled", "message": "",
            "started": stamp(2_000), "finished": stamp(5_000), "killed": null,
        });
        web.state = ContainerState::Ended(serde_json::from_value(ended).unwrap());
        web.backoff.delay_millis = Some(10_000);
        web.backoff.last_start = Some(stamp(2_000).at);
        let events = [event(5_001, "web", "Exited", "exit code 137 (OOMKilled)")];
        let timeline = Timeline::new(&pod, &events, stamp(9_000));
        let web = &timeline.lanes[3];
        assert_eq!(spans(web).last(), Some(&("back-off", 5_001, 9_000)));
        assert_eq!(web.count(MarkKind::OomKilled), 1);
    }

    #[test]
    fn json_is_in_seconds() {
        let timeline = Timeline::new(&pod(), &life()[..3], stamp(4_500));
        let json = serde_json::to_value(&timeline).unwrap();
        assert_eq!(json["seconds"], json!(4.5));
        assert_eq!(
            json["lanes"][1]["spans"][2],
            json!({"activity": "ended", "exitCode": 0, "from": 4.0, "to": 4.5})
        );
    }
}
