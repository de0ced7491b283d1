//! What has happened to a pod, from its events: when, in which order, in which words.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::scene::Scene;

/// One line of the events.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Since boot.
    pub at: Duration,
    /// `Normal`, `Warning` or `Transition`.
    pub kind: String,
    /// `web/Started`, or `Stopping` of the pod.
    pub what: String,
    pub message: String,
}

/// All events and transitions of a pod so far.
pub struct History(Vec<Happened>);

impl History {
    pub fn of(scene: &Scene, pod: &str) -> Self {
        let text = fs::read_to_string(scene.state(pod).join("events.jsonl")).unwrap();
        Self(text.lines().map(happened).collect())
    }

    /// All events of this name: `web/Exited`.
    pub fn all(&self, what: &str) -> Vec<&Happened> {
        self.0.iter().filter(|event| event.what == what).collect()
    }

    /// The first of this name.
    #[track_caller]
    pub fn first(&self, what: &str) -> &Happened {
        self.0.iter().find(|event| event.what == what).unwrap_or_else(|| {
            panic!("{what} has not happened: {:#?}", self.0);
        })
    }

    /// These have happened in this order, others between them.
    #[track_caller]
    pub fn shows(&self, whats: &[&str]) {
        let mut events = self.0.iter();
        for what in whats {
            let found = events.any(|event| event.what == *what);
            assert!(found, "{what} is missing or too early, of {whats:?}: {:#?}", self.0);
        }
    }

    /// An event of the kubelet with this type and text.
    #[track_caller]
    pub fn says(&self, kind: &str, what: &str, message: &str) {
        let found = self.0.iter().any(|event| {
            event.kind == kind && event.what == what && event.message.contains(message)
        });
        assert!(found, "{kind} {what} {message:?} is missing: {:#?}", self.0);
    }

    /// How much later the second happened than the first; of each the first time.
    #[track_caller]
    pub fn between(&self, earlier: &str, later: &str) -> Duration {
        let (earlier, later) = (self.first(earlier), self.first(later));
        assert!(earlier.at <= later.at, "{later:?} before {earlier:?}");
        later.at - earlier.at
    }
}

fn happened(line: &str) -> Happened {
    let event: Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let what = match event["container"].as_str() {
        Some(container) => format!("{container}/{}", text("reason")),
        None => text("reason"),
    };
    let at = Duration::from_nanos(event["at"].as_u64().unwrap());
    Happened { at, kind: text("kind"), what, message: text("message") }
}

/// `status` of a container within the object of its pod.
#[track_caller]
pub fn container<'a>(object: &'a Value, name: &str) -> &'a Value {
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .filter_map(|key| object["status"][key].as_array())
        .flatten()
        .find(|status| status["name"] == name)
        .unwrap_or_else(|| panic!("no container {name}: {object:#}"))
}

/// How often a container has been started again.
#[track_caller]
pub fn restarts(object: &Value, name: &str) -> u64 {
    container(object, name)["restartCount"].as_u64().unwrap()
}

/// A pod's condition.
#[track_caller]
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_else(|| panic!("no condition {kind}: {conditions:#?}"))
}
