//! `carob pod`: the table of its verbs.

mod logs;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row, row};
use crate::error::{Error, Result};

/// `carob pod` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "pod", about: "", arguments, run, failure: Failure { code: 1, prefix: "" } };

/// Every verb of `carob pod`, in the order of its help.
const VERBS: &[Row] = &[row::<logs::Logs>("logs", "Print the logs of containers")];

const EXAMPLES: &str = "\
Examples:
  carob pod logs web -f           see what the pod `web` prints";

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
