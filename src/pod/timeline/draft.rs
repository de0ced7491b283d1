//! One lane being drawn, event by event.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::{Activity, Lane, LaneKind, Mark, MarkKind, Span};
use crate::pod::event::{Event, EventKind};
use crate::pod::store::StoredPod;

/// A lane that is still being drawn.
pub(super) struct Draft {
    /// Empty for the pod.
    pub(super) container: String,
    lane: Lane,
    since: Duration,
    activity: Activity,
    has_startup_probe: bool,
    has_post_start: bool,
    /// What the current instance still has before it.
    startup_pending: bool,
    post_start_pending: bool,
    starts: u32,
    /// Of the last instance.
    exit_code: Option<i32>,
}

/// One for the pod, and one for each container.
pub(super) fn drafts(pod: &StoredPod) -> Vec<Draft> {
    let mut drafts = vec![Draft::new("", "pod".into(), LaneKind::Pod)];
    let Some(spec) = &pod.file.manifest.pod.spec else { return drafts };
    for container in spec.init_containers.iter().flatten() {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let kind = if sidecar { LaneKind::Sidecar } else { LaneKind::Init };
        drafts.push(Draft::of(container, kind));
    }
    drafts.extend(spec.containers.iter().map(|container| Draft::of(container, LaneKind::App)));
    drafts
}

impl Draft {
    fn of(container: &Container, kind: LaneKind) -> Self {
        let lifecycle = container.lifecycle.as_ref();
        Self {
            has_startup_probe: container.startup_probe.is_some(),
            has_post_start: lifecycle.is_some_and(|hooks| hooks.post_start.is_some()),
            ..Self::new(&container.name, container.name.clone(), kind)
        }
    }

    fn new(container: &str, name: String, kind: LaneKind) -> Self {
        Self {
            container: container.to_owned(),
            lane: Lane { name, kind, spans: Vec::new(), marks: Vec::new() },
            since: Duration::ZERO,
            activity: Activity::Waiting,
            has_startup_probe: false,
            has_post_start: false,
            startup_pending: false,
            post_start_pending: false,
            starts: 0,
            exit_code: None,
        }
    }

    /// What an event means for it.
    pub(super) fn step(&mut self, at: Duration, event: &Event) {
        let reason = event.reason.as_str();
        let running = self.activity.is_running();
        let ending = matches!(self.activity, Activity::PreStop | Activity::Stopping);
        match reason {
            "SandboxStarted" => self.go(at, Activity::Starting),
            "Running" | "Started" if !running => self.run(at),
            "StartupDone" => self.startup_pending = false,
            "PostStart" => self.post_start_pending = true,
            "PostStartDone" => self.post_start_pending = false,
            "Ready" | "PodReady" if !ending => self.go(at, Activity::Ready),
            "NotReady" if running && !ending => self.go(at, self.before_ready()),
            "PodNotReady" if self.activity == Activity::Ready => self.go(at, Activity::NotReady),
            "PreStop" => self.go(at, Activity::PreStop),
            "PreStopDone" | "Signalled" | "Stopping" => self.go(at, Activity::Stopping),
            "Killing" if running && !ending => self.go(at, Activity::Stopping),
            "Killed" => {
                self.go(at, Activity::Stopping);
                self.mark(at, MarkKind::Killed, event);
            }
            "Exited" => self.end(at, event),
            "Ended" => self.go(at, Activity::Ended { exit_code: None }),
            "BackOff" if !running => self.go(at, Activity::BackOff),
            "OOMKilled" | "OOMKilling" => self.mark(at, MarkKind::OomKilled, event),
            "Unhealthy" => self.mark(at, MarkKind::ProbeFailed, event),
            "Recovered" => self.mark(at, MarkKind::Recovered, event),
            "BackOff" => {}
            _ if event.kind == EventKind::Warning => self.mark(at, MarkKind::Failed, event),
            _ => {}
        }
        if self.activity == Activity::Starting && self.lane.kind != LaneKind::Pod {
            self.go(at, self.before_ready());
        }
    }

    fn run(&mut self, at: Duration) {
        self.startup_pending = self.has_startup_probe;
        self.post_start_pending = self.has_post_start;
        if self.starts > 0 {
            let after = match self.exit_code {
                Some(code) => format!(", after exit code {code}"),
                None => String::new(),
            };
            let message = format!("restart {}{after}", self.starts);
            self.lane.marks.push(Mark { kind: MarkKind::Restart, at, message });
        }
        if self.activity.is_end() {
            // It has waited for this, whether or not somebody said so.
            self.activity = Activity::BackOff;
        }
        self.starts += 1;
        self.go(at, self.before_ready());
    }

    /// What a running container is doing that is not ready.
    fn before_ready(&self) -> Activity {
        match self.lane.kind {
            LaneKind::Init => Activity::Init,
            _ if self.startup_pending || self.post_start_pending => Activity::Starting,
            _ => Activity::NotReady,
        }
    }

    fn end(&mut self, at: Duration, event: &Event) {
        if self.activity.is_end() {
            return;
        }
        let mut words = event.message.split_whitespace();
        let code = words.find_map(|word| word.trim_end_matches([',', ':', ';']).parse().ok());
        if event.message.contains("OOMKilled") {
            self.mark(at, MarkKind::OomKilled, event);
        }
        self.exit_code = code;
        self.go(at, Activity::Ended { exit_code: code });
    }

    fn mark(&mut self, at: Duration, kind: MarkKind, event: &Event) {
        let message = match event.kind {
            EventKind::Transition => event.message.clone(),
            _ => format!("{}: {}", event.reason, event.message),
        };
        self.lane.marks.push(Mark { kind, at, message });
    }

    fn go(&mut self, at: Duration, activity: Activity) {
        if activity == self.activity {
            return;
        }
        self.close(at);
        self.activity = activity;
    }

    fn close(&mut self, at: Duration) {
        if at > self.since {
            self.lane.spans.push(Span { activity: self.activity, from: self.since, to: at });
            self.since = at;
        }
    }

    /// It has ended and is to be started again.
    pub(super) fn awaits_restart(&mut self) {
        if self.activity.is_end() {
            self.activity = Activity::BackOff;
        }
    }

    /// The lane up to the end of the timeline.
    pub(super) fn finish(mut self, end: Duration) -> Lane {
        if self.activity.is_end() && end <= self.since {
            // It ended with the pod: a span without length, so that its exit code is known.
            self.lane.spans.push(Span { activity: self.activity, from: end, to: end });
        }
        self.close(end);
        self.lane
    }
}
