//! `events`.

use std::time::Duration;

use serde::Serialize;

use super::{Context, Verb, output};
use crate::{
    container::Event,
    error::{Error, Result},
};

/// Print usage statistics of a container at an interval, and its out-of-memory kills as they
/// happen, one JSON object per line
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Events {
    /// Time between two statistics: 5s, 100ms, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: String,
    /// Print the statistics once and exit
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const EXAMPLES: &str = "\
Examples:
  carob events --stats web | jq .data.memory.usage
  carob events --interval 500ms web";

/// How long `events` goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Until the container stops.
    Every(Duration),
    /// `--stats`.
    Once,
}

impl Events {
    /// What the command line asks for.
    ///
    /// # Errors
    /// If the interval is no duration, or zero.
    pub(super) fn options(self) -> Result<(String, Mode)> {
        if self.stats {
            return Ok((self.id, Mode::Once));
        }
        let interval = humantime::parse_duration(&self.interval)
            .map_err(|e| bad_interval(&self.interval, &e))?;
        if interval.is_zero() {
            return Err(bad_interval(&self.interval, &"too short"));
        }
        Ok((self.id, Mode::Every(interval)))
    }
}

fn bad_interval(text: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!(
        "--interval {text:?}: must be a duration such as 5s or 100ms ({reason})"
    ))
}

impl Verb for Events {
    fn run(self, context: &Context) -> Result<i32> {
        let (id, mode) = self.options()?;
        let print = |event: &Event| output::print_json_line(&Line::new(&id, event));
        match mode {
            Mode::Once => print(&Event::Stats(context.runtime.stats(&id)?))?,
            Mode::Every(interval) => {
                context.runtime.events(&id, interval, &mut |event| print(&event))?;
            }
        }
        Ok(0)
    }
}

/// The shape that go-runc decodes.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a serde_json::Value>,
}

impl<'a> Line<'a> {
    fn new(id: &'a str, event: &'a Event) -> Self {
        match event {
            Event::Stats(stats) => Self { r#type: "stats", id, data: Some(stats) },
            Event::Oom => Self { r#type: "oom", id, data: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_type_and_container() {
        let line = |event| serde_json::to_string(&Line::new("c1", &event)).unwrap();
        assert_eq!(line(Event::Oom), r#"{"type":"oom","id":"c1"}"#);
        assert_eq!(
            line(Event::Stats(serde_json::json!({"pids": {}}))),
            r#"{"type":"stats","id":"c1","data":{"pids":{}}}"#
        );
    }
}
