//! `pod events`.

use std::time::Duration;

use jiff::Timestamp;

use super::choice::PodChoice;
use crate::cli::output::{self, Format, KUBECTL, Table};
use crate::cli::{Context, Verb};
use crate::error::Result;
use crate::pod::event::{Event, EventKind, EventTail};
use crate::pod::follow::{SILENCE, keep_supervised};
use crate::pod::phase::human_duration;
use crate::pod::watch::{Change, Watch};

/// List what has happened to a pod
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Events {
    #[command(flatten)]
    pod: PodChoice,
    /// Go on with those that come
    #[arg(short, long)]
    watch: bool,
    /// Also transitions, which are not events of Kubernetes
    #[arg(long)]
    all: bool,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "table",
          value_parser = Format::parser(&["table", "json", "yaml"]))]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob pod events web
  carob pod events --all --watch web
  carob pod events web --format json | jq -r '.[] | select(.kind == \"Warning\") | .message'";

impl Verb for Events {
    fn run(self, context: &Context) -> Result<i32> {
        if self.watch {
            self.format.check_watch()?;
        }
        let pod = self.pod.find(context)?;
        let state = &pod.file.dirs.state;
        let watch = if self.watch { Some(Watch::new([state])?) } else { None };
        let mut tail = EventTail::new(state);
        let mut shown = Shown::new(self.pod.name()?, self.format);
        shown.first(self.chosen(tail.read()?), watch.is_some())?;
        let Some(watch) = watch else { return Ok(0) };
        loop {
            // The directory may go between the reading and the waiting.
            if !state.exists() {
                return Ok(0);
            }
            if watch.next(Some(SILENCE))? == Change::TimedOut {
                keep_supervised(&context.runtime, &pod.file.dirs)?;
                continue;
            }
            for event in self.chosen(tail.read()?) {
                shown.next(event)?;
            }
        }
    }
}

impl Events {
    fn chosen(&self, mut events: Vec<Event>) -> Vec<Event> {
        events.retain(|event| self.all || event.kind != EventKind::Transition);
        events
    }
}

/// What has been printed.
struct Shown {
    format: Format,
    pod: String,
    folded: Vec<Folded>,
    table: Table,
}

impl Shown {
    fn new(pod: &str, format: Format) -> Self {
        let table = Table::new(KUBECTL, ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
        Self { format, pod: pod.to_owned(), folded: Vec::new(), table }
    }

    /// All there is; as objects a line each if more are to come.
    fn first(&mut self, events: Vec<Event>, more: bool) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide | Format::Name => {}
            _ if more => return events.iter().try_for_each(output::print_json_line),
            format => return output::print_object(format, &events),
        }
        let now = Timestamp::now();
        for event in events {
            fold(&mut self.folded, event);
        }
        for folded in &self.folded {
            self.table.push(folded.row(&self.pod, now));
        }
        output::print(&self.table.take())
    }

    fn next(&mut self, event: Event) -> Result<()> {
        if matches!(self.format, Format::Json | Format::Yaml) {
            return output::print_json_line(&event);
        }
        fold(&mut self.folded, event);
        if let Some(last) = self.folded.last() {
            self.table.push(last.row(&self.pod, Timestamp::now()));
        }
        output::print(&self.table.take())
    }
}

/// One event, or several that differ in nothing but their time.
struct Folded {
    event: Event,
    first: Timestamp,
    count: u32,
}

/// Adds an event; the last one to be seen is the last of the list.
fn fold(folded: &mut Vec<Folded>, event: Event) {
    let same = |other: &Folded| {
        let other = &other.event;
        (other.kind, &other.reason, &other.container, &other.message)
            == (event.kind, &event.reason, &event.container, &event.message)
    };
    let new = match folded.iter().position(same) {
        Some(known) => {
            let known = folded.remove(known);
            Folded { event, first: known.first, count: known.count.saturating_add(1) }
        }
        None => Folded { first: event.stamp.wall, event, count: 1 },
    };
    folded.push(new);
}

impl Folded {
    fn row(&self, pod: &str, now: Timestamp) -> [String; 5] {
        let last = ago(self.event.stamp.wall, now);
        let seen = match self.count {
            1 => last,
            count => format!("{last} (x{count} over {})", ago(self.first, now)),
        };
        let object = match &self.event.container {
            Some(container) => format!("pod/{pod}{{{container}}}"),
            None => format!("pod/{pod}"),
        };
        let message = self.event.message.trim_end().to_owned();
        [seen, self.event.kind.name().to_owned(), self.event.reason.clone(), object, message]
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    human_duration(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::timeline::tests::{event, stamp};

    #[test]
    fn the_same_again_is_counted() {
        let events = [
            event(0, "web", "!Unhealthy", "Readiness probe failed: HTTP 503"),
            event(1_000, "web", "Started", "Started container web"),
            event(5_000, "web", "!Unhealthy", "Readiness probe failed: HTTP 503"),
            event(7_000, "", "!FailedMount", "no\n\x1b[2Jdisk\n"),
            event(7_000, "web", "!Unhealthy", "Readiness probe failed: HTTP 503"),
        ];
        let mut shown = Shown::new("demo", Format::Table);
        for event in events {
            fold(&mut shown.folded, event);
        }
        for folded in &shown.folded {
            shown.table.push(folded.row("demo", stamp(12_000).wall));
        }
        let expected = "\
LAST SEEN          TYPE         REASON        OBJECT          MESSAGE
11s                Transition   Started       pod/demo{web}   Started container web
5s                 Warning      FailedMount   pod/demo        no\\n\\u{1b}[2Jdisk
5s (x3 over 12s)   Warning      Unhealthy     pod/demo{web}   Readiness probe failed: HTTP 503
";
        assert_eq!(shown.table.take(), expected);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_age() {
        assert_eq!(ago(stamp(5_000).wall, stamp(0).wall), "0s");
    }
}
