//! `doctor`: what this host has for containers, and what to do about the rest.

use super::list::Format;
use super::output::{self, Colour, Paint, plain};
use super::{Context, Verb};
use crate::doctor::{self, Check, Report, Status};
use crate::error::Result;

/// Look at this host: what carob can do here, what it falls back to, and what to do about the rest
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = Format::parser())]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob doctor
  carob doctor --format json | jq -r '.checks[] | select(.status != \"ok\") | .name'

It changes nothing and needs no rights: run it as the user who runs containers. The exit status is
0 if carob can run containers here, else 1.";

impl Verb for Doctor {
    fn run(self, context: &Context) -> Result<i32> {
        let report = doctor::examine(&context.runtime.root);
        match self.format {
            Format::Json => output::print_json(&report)?,
            Format::Table => output::print(&table(&report, Paint::of_stdout()))?,
        }
        Ok(i32::from(!report.usable))
    }
}

/// The mark of a check, as wide as any other.
fn mark(status: Status) -> (Colour, &'static str) {
    match status {
        Status::Ok => (Colour::Green, "ok     "),
        Status::Warn => (Colour::Yellow, "warn   "),
        Status::Missing => (Colour::Yellow, "missing"),
        Status::Fatal => (Colour::Red, "fatal  "),
    }
}

fn table(report: &Report, paint: Paint) -> String {
    let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = "";
    for check in &report.checks {
        if check.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = check.section;
            text += &format!("{gap}{section}\n");
        }
        text += &row(check, width, paint);
    }
    text + &verdict(report, paint)
}

fn row(check: &Check, width: usize, paint: Paint) -> String {
    let (colour, word) = mark(check.status);
    let mark = paint.paint(colour, word);
    let mut text = format!("  {mark}  {:width$}  {}\n", plain(&check.name), plain(&check.found));
    if let Some(advice) = &check.advice {
        let indent = " ".repeat(width + 13);
        let advice = paint.paint(Colour::Dim, &format!("→ {}", plain(advice)));
        text += &format!("{indent}{advice}\n");
    }
    text
}

fn verdict(report: &Report, paint: Paint) -> String {
    let fatal = report.checks.iter().filter(|check| check.status == Status::Fatal).count();
    if fatal == 0 {
        return paint.paint(Colour::Green, "\ncarob can run containers here\n");
    }
    let text =
        format!("\ncarob cannot run containers here: see the lines marked fatal ({fatal})\n");
    paint.paint(Colour::Red, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section: &'static str, name: &str, status: Status, advice: Option<&str>) -> Check {
        let (name, found, advice) = (name.into(), "x".into(), advice.map(str::to_owned));
        Check { section, name, status, found, advice }
    }

    #[test]
    fn the_table_has_sections_marks_and_advice() {
        let checks = vec![
            check("a", "one", Status::Ok, None),
            check("a", "two-two", Status::Warn, Some("do\x1b it")),
            check("b", "three", Status::Fatal, None),
        ];
        let report = Report { version: "0", usable: false, checks };
        let expected = "\
a
  ok       one      x
  warn     two-two  x
                    → do\\u{1b} it

b
  fatal    three    x

carob cannot run containers here: see the lines marked fatal (1)
";
        assert_eq!(table(&report, Paint::Plain), expected);
    }
}
