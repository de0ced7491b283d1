//! `carob pod`: the table of its verbs.

mod choice;
mod events;
mod inspect;
#[expect(dead_code, reason = "for the foreground of `pod run`")]
mod live;
mod ps;
mod stats;
mod timeline;
mod wait;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row, row};
use crate::error::{Error, Result};

/// `carob pod` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "pod", about: "", arguments, run, failure: Failure { code: 1, prefix: "" } };

/// Every verb of `carob pod`, in the order of its help.
const VERBS: &[Row] = &[
    row::<ps::Ps>("ps", "List pods"),
    row::<inspect::Inspect>("inspect", "Print a pod as a Kubernetes object"),
    row::<events::Events>("events", "List what has happened to a pod"),
    row::<wait::Wait>("wait", "Wait until a pod has got somewhere"),
    row::<stats::Stats>("stats", "Show what pods and their containers use"),
    row::<timeline::Timeline>("timeline", "Draw what a pod was doing when"),
];

const EXAMPLES: &str = "\
Examples:
  carob pod ps                    see what there is
  carob pod timeline web          see why `web` was slow to start";

fn arguments(pod: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    pod.subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .arg_required_else_help(true)
        .after_help(EXAMPLES)
}

fn run(matches: &ArgMatches, context: &Context) -> Result<i32> {
    let (name, arguments) = matches
        .subcommand()
        .ok_or_else(|| Error::Invalid("pod: a verb is missing; see carob pod --help".into()))?;
    let row = VERBS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| Error::Invalid(format!("pod: unknown verb {name:?}")))?;
    (row.run)(arguments, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_help_with_an_example() {
        for row in VERBS {
            let line = ["pod", row.name, "--help"];
            let help = arguments(Command::new("pod")).try_get_matches_from(line).unwrap_err();
            let text = help.to_string();
            assert!(text.contains("Examples:\n"), "{text}");
            assert!(text.contains(&format!("\n  carob pod {}", row.name)), "{text}");
        }
    }
}
