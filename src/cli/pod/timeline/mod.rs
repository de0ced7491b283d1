//! `pod timeline`.

mod svg;
mod text;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::choice::PodChoice;
use crate::cli::output::{self, Paint};
use crate::cli::{Context, Verb};
use crate::error::{OsContext, Result};
use crate::pod::{clock::Stamp, timeline};

/// Draw what a pod and its containers were doing when
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Timeline {
    #[command(flatten)]
    pod: PodChoice,
    /// How to draw it
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = Format::parser())]
    format: Format,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  carob pod timeline web
  carob pod timeline web --format svg -o web.svg
  carob pod timeline web --format json | jq '.lanes[] | {name, spans}'";

/// `--format`.
#[derive(Debug, Clone, Copy)]
enum Format {
    /// Bars of characters.
    Text,
    /// A picture for browsers and documents.
    Svg,
    /// For programs, in seconds.
    Json,
}

impl Format {
    fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(["text", "svg", "json"]).map(|format| match format.as_str() {
            "svg" => Self::Svg,
            "json" => Self::Json,
            _ => Self::Text,
        })
    }
}

/// Characters in a line where there is no terminal.
const WIDTH: usize = 100;

impl Verb for Timeline {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        let timeline = timeline::Timeline::new(&pod, &pod.events()?, Stamp::now());
        let on_terminal = self.output.is_none();
        let drawn = match self.format {
            Format::Svg => svg::draw(&timeline),
            Format::Json => {
                serde_json::to_string_pretty(&timeline).map_err(output::unserialisable)? + "\n"
            }
            Format::Text if on_terminal => {
                let width = output::terminal_width().unwrap_or(WIDTH);
                text::draw(&timeline, width, Paint::of_stdout())
            }
            Format::Text => text::draw(&timeline, WIDTH, Paint::Plain),
        };
        match self.output {
            None => output::print(&drawn)?,
            Some(path) => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .and_then(|mut file| file.write_all(drawn.as_bytes()))
                .os("write", || path.display())?,
        }
        Ok(0)
    }
}

/// Distances between two ticks of an axis that people can read.
const STEPS_MILLIS: &[u64] = &[
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000,
    300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000,
];

/// Ticks of an axis of that length, `most` of them at most (more for weeks), each with its text.
fn ticks(length: std::time::Duration, most: u64) -> Vec<(std::time::Duration, String)> {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let fits = |step: &&u64| millis / **step < most;
    let days = (millis / 86_400_000 / most.max(1) + 1).saturating_mul(86_400_000);
    let step = STEPS_MILLIS.iter().find(fits).copied().unwrap_or(days);
    (0..=millis / step)
        .map(|number| {
            let at = std::time::Duration::from_millis(number * step);
            (at, tick_text(at))
        })
        .collect()
}

fn tick_text(at: std::time::Duration) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if millis > 0 => {
            format!("{seconds}.{}s", format!("{millis:03}").trim_end_matches('0'))
        }
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, 0, 0) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// The first line: which pod, since when, how long.
fn heading(timeline: &timeline::Timeline) -> String {
    let state = if timeline.ended { "ended after" } else { "alive for" };
    format!(
        "pod {} in {}: {state} {}, since {} UTC",
        output::plain(&timeline.name),
        output::plain(&timeline.namespace),
        crate::pod::age::exact_duration(timeline.length),
        timeline.start.strftime("%F %T"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let texts = |millis, most| -> Vec<String> {
            let ticks = ticks(Duration::from_millis(millis), most);
            ticks.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(1_100, 3), ["0s", "0.5s", "1s"]);
        assert_eq!(texts(40_000, 6), ["0s", "10s", "20s", "30s", "40s"]);
        assert_eq!(texts(250_000, 4), ["0s", "2m", "4m"]);
        assert_eq!(texts(95_000, 8), ["0s", "15s", "30s", "45s", "1m", "1m15s", "1m30s"]);
        assert_eq!(texts(0, 5), ["0s"]);
        assert_eq!(texts(400 * 86_400_000, 4).len(), 4);
    }
}
