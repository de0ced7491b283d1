//! `carob pod`: the table of its verbs.

mod choice;
mod events;
mod exec;
mod explain;
mod inspect;
mod lifecycle;
mod live;
mod logs;
mod plugins;
mod port_forward;
mod prune;
mod ps;
mod run;
mod sandbox;
mod stats;
mod timeline;
mod validate;
mod wait;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row, row};
use crate::error::{Error, Result};

/// `carob pod` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "pod", about: "", arguments, quick: |_| None, run, failure };

/// Every verb of `carob pod`, in the order of its help.
const VERBS: &[Row] = &[
    row::<run::Run>("run", "Run a pod from a Kubernetes manifest"),
    row::<run::Create>("create", "Make a pod without starting it"),
    row::<lifecycle::Start>("start", "Start a pod that was made or has ended"),
    row::<lifecycle::Stop>("stop", "End a pod with its grace"),
    row::<lifecycle::Remove>("rm", "Remove a pod that has ended"),
    row::<prune::Prune>("prune", "Remove what belongs to no pod any more"),
    row::<lifecycle::Kill>("kill", "Send a signal to the containers of a pod"),
    row::<exec::Exec>("exec", "Run a command in a container of a pod"),
    row::<exec::Attach>("attach", "Join the standard streams of a container"),
    row::<port_forward::PortForward>("port-forward", "Pass local ports on into a pod"),
    row::<ps::Ps>("ps", "List pods"),
    row::<inspect::Inspect>("inspect", "Print a pod as a Kubernetes object"),
    row::<logs::Logs>("logs", "Print the logs of containers"),
    row::<events::Events>("events", "List what has happened to a pod"),
    row::<wait::Wait>("wait", "Wait until a pod has got somewhere"),
    row::<stats::Stats>("stats", "Show what pods and their containers use"),
    row::<timeline::Timeline>("timeline", "Draw what a pod was doing when"),
    row::<validate::Validate>("validate", "Check a manifest without running it"),
    row::<explain::Explain>("explain", "Show what becomes of each field of a manifest"),
    Row { name: "sandbox", about: "Make the namespaces of a pod alone", ..sandbox::ROW },
];

/// Not shown: carob starts it itself.
const SUPERVISE: Row = row::<run::Supervise>(crate::pod::supervisor::VERB, "Supervise a pod");

const EXAMPLES: &str = "\
Examples:
  carob pod run pod.yaml          run a pod and show what happens to it
  carob pod ps                    see what there is
  carob pod logs web -f           see what the pod `web` prints
  carob pod timeline web          see why `web` was slow to start";

fn arguments(pod: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    let supervise = Command::new(SUPERVISE.name).hide(true).defer(SUPERVISE.arguments);
    pod.subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .subcommand(supervise)
        .arg_required_else_help(true)
        .after_help(EXAMPLES)
}

fn run(matches: &mut ArgMatches, context: &Context) -> Result<i32> {
    let (name, mut arguments) = matches
        .remove_subcommand()
        .ok_or_else(|| Error::Invalid("pod: a verb is missing; see carob pod --help".into()))?;
    let row = verb(&name).ok_or_else(|| Error::Invalid(format!("pod: unknown verb {name:?}")))?;
    (row.run)(&mut arguments, context)
}

/// That of the verb.
fn failure(matches: &ArgMatches) -> Failure {
    let called = matches.subcommand().and_then(|(name, arguments)| Some((verb(name)?, arguments)));
    called.map_or(Failure { code: 1, prefix: "" }, |(row, arguments)| (row.failure)(arguments))
}

fn verb(name: &str) -> Option<&'static Row> {
    VERBS.iter().chain([&SUPERVISE]).find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_help_with_an_example() {
        // The verbs of a sandbox have their own.
        for row in VERBS.iter().filter(|row| row.name != sandbox::ROW.name) {
            let line = ["pod", row.name, "--help"];
            let help = arguments(Command::new("pod")).try_get_matches_from(line).unwrap_err();
            let text = help.to_string();
            assert!(text.contains("Examples:\n"), "{text}");
            assert!(text.contains(&format!("\n  carob pod {}", row.name)), "{text}");
        }
    }
}
