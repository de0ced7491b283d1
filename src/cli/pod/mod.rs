//! `carob pod`: the table of its verbs.

mod sandbox;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row};
use crate::error::{Error, Result};

/// `carob pod` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "pod", about: "", arguments, run, failure: Failure { code: 1, prefix: "" } };

/// Every verb of `carob pod`, in the order of its help.
const VERBS: &[Row] =
    &[Row { name: "sandbox", about: "Make the namespaces of a pod alone", ..sandbox::ROW }];

fn arguments(pod: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    pod.subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .after_help(EXAMPLES)
        .arg_required_else_help(true)
}

const EXAMPLES: &str = "\
Examples:
  carob pod sandbox create web    make namespaces for containers of any runtime";

fn run(matches: &ArgMatches, context: &Context) -> Result<i32> {
    let (name, arguments) = matches
        .subcommand()
        .ok_or_else(|| Error::Invalid("pod: a verb is missing; see carob pod --help".into()))?;
    let row = VERBS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| Error::Invalid(format!("pod: unknown verb {name:?}")))?;
    (row.run)(arguments, context)
}
