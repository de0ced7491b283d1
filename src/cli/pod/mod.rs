//! `carob pod`: the table of its verbs.

mod explain;
mod validate;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row, Verb, output, row};
use crate::error::{Error, Result};

/// `carob pod` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "pod", about: "", arguments, run, failure: Failure { code: 1, prefix: "" } };

/// Every verb of `carob pod`, in the order of its help.
const VERBS: &[Row] = &[
    row::<explain::Explain>("explain", "Show what becomes of each field of a manifest"),
    row::<validate::Validate>("validate", "Check a manifest without running it"),
];

fn arguments(pod: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    pod.subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .arg_required_else_help(true)
}

fn run(matches: &ArgMatches, context: &Context) -> Result<i32> {
    let (name, arguments) = matches
        .subcommand()
        .ok_or_else(|| Error::Invalid("pod: a verb is missing; see carob pod --help".into()))?;
    let row = VERBS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| Error::Invalid(format!("pod: unknown verb {name:?}")))?;
    (row.run)(arguments, context)
}
