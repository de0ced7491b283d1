//! What happens to a pod, a line at a time: the foreground of `pod run`.

use std::time::Duration;

use crate::cli::output::{self, Colour, Paint, plain};
use crate::error::Result;
use crate::pod::age::exact_duration;
use crate::pod::clock::Moment;
use crate::pod::event::{Event, EventKind};
use crate::pod::record::{ContainerState, PodRecord};

/// Prints events as they come.
#[derive(Debug)]
pub(in crate::cli) struct Live {
    paint: Paint,
    /// Characters of the longest name so far.
    widest: usize,
    /// The last warning of each container: one that comes again and again is shown once.
    warned: Vec<Event>,
}

impl Live {
    /// A printer with or without colours.
    pub(in crate::cli) fn new(paint: Paint) -> Self {
        Self { paint, widest: "pod".len(), warned: Vec::new() }
    }

    /// Makes room for names that will come.
    pub(in crate::cli) fn expect<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.widest = names.map(|name| plain(name).chars().count()).fold(self.widest, usize::max);
    }

    /// Prints the transitions and warnings among new events; the record says how long a back-off
    /// lasts.
    ///
    /// # Errors
    /// As [`output::print`].
    pub(in crate::cli) fn show(
        &mut self,
        events: &[Event],
        record: Option<&PodRecord>,
    ) -> Result<()> {
        let lines = self.lines(events, record);
        if lines.is_empty() { Ok(()) } else { output::print(&lines) }
    }

    fn lines(&mut self, events: &[Event], record: Option<&PodRecord>) -> String {
        let mut lines = String::new();
        for event in events {
            if self.is_repeated(event) {
                continue;
            }
            let Some((colour, word, rest)) = words(event, record) else { continue };
            let name = plain(event.container.as_deref().unwrap_or("pod"));
            self.widest = self.widest.max(name.chars().count());
            let time = event.stamp.wall.strftime("%H:%M:%S").to_string();
            let time = self.paint.paint(Colour::Dim, &time);
            let word = self.paint.paint(colour, &plain(&word));
            let rest = plain(&rest);
            let colon = if rest.is_empty() { "" } else { ": " };
            let width = self.widest;
            lines += &format!("{time} {name:width$}  {word}{colon}{rest}\n");
        }
        lines
    }

    /// Whether the same warning was the last thing to be said of the container.
    fn is_repeated(&mut self, event: &Event) -> bool {
        let known = self.warned.iter().position(|other| other.container == event.container);
        if event.kind != EventKind::Warning {
            known.map(|known| self.warned.swap_remove(known));
            return false;
        }
        let same = |other: &Event| other.reason == event.reason && other.message == event.message;
        match known.and_then(|known| self.warned.get_mut(known)) {
            Some(last) if same(last) => return true,
            Some(last) => *last = event.clone(),
            None => self.warned.push(event.clone()),
        }
        false
    }
}

/// Events of Kubernetes that a transition says as well, or that say nothing here.
const SILENT: &[&str] = &["Created", "Killing", "Pulled", "Pulling", "Scheduled", "Started"];

/// What transitions are called, and whether they are good.
const TRANSITIONS: &[(&str, &str, Colour)] = &[
    ("SandboxStarted", "Sandbox started", Colour::Blue),
    ("Running", "Started", Colour::Blue),
    ("StartupDone", "Startup done", Colour::Blue),
    ("PostStart", "Running postStart hook", Colour::Blue),
    ("PostStartDone", "postStart hook done", Colour::Blue),
    ("Ready", "Ready", Colour::Green),
    ("PodReady", "Ready", Colour::Green),
    ("NotReady", "Not ready", Colour::Yellow),
    ("PodNotReady", "Not ready", Colour::Yellow),
    ("PreStop", "Running preStop hook", Colour::Magenta),
    ("PreStopDone", "preStop hook done", Colour::Magenta),
    ("Signalled", "Stopping", Colour::Magenta),
    ("Stopping", "Stopping", Colour::Magenta),
    ("Killed", "Killed", Colour::Red),
];

/// The status and its colour, and what there is to say besides; none for what is not shown.
fn words(event: &Event, record: Option<&PodRecord>) -> Option<(Colour, String, String)> {
    let (reason, message) = (event.reason.as_str(), event.message.clone());
    match event.kind {
        EventKind::Normal if SILENT.contains(&reason) => None,
        EventKind::Normal => Some((Colour::Blue, reason.to_owned(), message)),
        EventKind::Warning if reason == "BackOff" => Some(back_off(event, record)),
        EventKind::Warning => Some((Colour::Yellow, reason.to_owned(), message)),
        EventKind::Transition if reason == "Exited" => {
            let good = message == "exit code 0";
            let colour = if good { Colour::Green } else { Colour::Red };
            Some((colour, "Exited".to_owned(), message))
        }
        EventKind::Transition if reason == "Ended" => {
            let colour = if message == "Succeeded" { Colour::Green } else { Colour::Red };
            Some((colour, message, String::new()))
        }
        EventKind::Transition => {
            let row = TRANSITIONS.iter().find(|(known, ..)| *known == reason);
            let (word, colour) =
                row.map_or((reason, Colour::Blue), |(_, word, colour)| (*word, *colour));
            Some((colour, word.to_owned(), message))
        }
    }
}

fn back_off(event: &Event, record: Option<&PodRecord>) -> (Colour, String, String) {
    let word =
        if event.message.contains("pulling") { "ImagePullBackOff" } else { "CrashLoopBackOff" };
    let left = record
        .zip(event.container.as_deref())
        .and_then(|(record, container)| restart_due(record, container))
        .map(|due| due.since(event.stamp.at))
        .filter(|left| *left > Duration::ZERO);
    let rest = match left {
        Some(left) => format!("restart in {}", exact_duration(left)),
        None => event.message.clone(),
    };
    (Colour::Red, word.to_owned(), rest)
}

/// When the back-off of a container that has ended is over.
fn restart_due(record: &PodRecord, container: &str) -> Option<Moment> {
    let container = record.container(container)?;
    let ContainerState::Ended(ended) = &container.state else { return None };
    Some(ended.finished.at.after(Duration::from_millis(container.backoff.delay_millis?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::timeline::tests::{event, life, pod, stamp};

    #[test]
    fn a_line_for_each_transition() {
        let mut live = Live::new(Paint::Plain);
        let expected = "\
12:03:05 pod  Sandbox started
12:03:05 setup  Started
12:03:08 setup  Exited: exit code 0
12:03:08 log    Started
12:03:08 log    Ready
12:03:08 web    Started
12:03:10 web    Unhealthy: Startup probe failed: <no>\\u{1b}[31m
12:03:12 web    Startup done
12:03:13 web    Ready
12:03:13 pod    Ready
12:03:19 web    Exited: exit code 137 (OOMKilled)
";
        assert_eq!(live.lines(&life()[..11], None), expected);
        let mut normal = event(0, "web", "Started", "Started container web");
        normal.kind = EventKind::Normal;
        assert_eq!(live.lines(&[normal], None), "");
    }

    #[test]
    fn a_crash_loop_says_when_it_goes_on() {
        let mut record = pod().record.unwrap();
        let ended = json!({
            "id": "i", "exit_code": 3, "signal": null, "reason": "Error", "message": "",
            "started": null, "finished": stamp(5_000), "killed": null,
        });
        record.apps[0].state = ContainerState::Ended(serde_json::from_value(ended).unwrap());
        record.apps[0].backoff.delay_millis = Some(10_000);
        let warning = event(5_100, "web", "!BackOff", "Back-off restarting failed container web");
        let mut live = Live::new(Paint::Plain);
        assert_eq!(
            live.lines(std::slice::from_ref(&warning), Some(&record)),
            "12:03:09 web  CrashLoopBackOff: restart in 9.9s\n"
        );
        assert_eq!(live.lines(&[warning.clone(), warning.clone()], Some(&record)), "");
        let started = event(15_000, "web", "Running", "");
        assert_eq!(live.lines(&[started, warning], None).lines().count(), 2);
    }

    #[test]
    fn colours_on_a_terminal_and_nothing_else_of_a_container() {
        let mut live = Live::new(Paint::Colours);
        let line = live.lines(&[event(0, "w\x1b[2J", "Exited", "exit code 1")], None);
        assert_eq!(
            line,
            "\x1b[2m12:03:04\x1b[0m w\\u{1b}[2J  \x1b[31mExited\x1b[0m: exit code 1\n"
        );
    }
}
