//! `carob image`: the table of its verbs.

pub(super) mod bundle;
mod export;
mod import;
mod inspect;
mod ls;
mod mount;
mod progress;
pub(super) mod pull;
mod remove;
pub(super) mod run;

use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::{Context, Failure, Row, row};
use crate::container::{self, Entered};
use crate::error::{Error, Result};
use crate::image::{self, Store};

/// `carob image` in the table of all verbs.
pub(super) const ROW: Row =
    Row { name: "image", about: "", arguments, quick: |_| None, run, failure };

/// Every verb of `carob image`, in the order of its help.
const VERBS: &[Row] = &[
    row::<pull::Pull>("pull", "Fetch an image from a registry"),
    row::<import::Import>("import", "Take an image over from a file or a directory"),
    row::<export::Export>("export", "Write an image to a file or a directory"),
    row::<ls::List>("ls", "List images and what they take on the disk"),
    row::<inspect::Inspect>("inspect", "Print all that is known of an image"),
    row::<mount::Mount>("mount", "Mount the files of an image, read-only"),
    row::<export::Unpack>("unpack", "Copy the files of an image to a directory"),
    row::<remove::Remove>("rm", "Remove images"),
    row::<remove::Prune>("prune", "Remove images and layers that nothing needs"),
];

const EXAMPLES: &str = "\
Examples:
  carob image pull busybox
  carob image ls
  carob image rm app";

/// Where the images are.
#[derive(Debug, Default, clap::Args)]
pub(super) struct StoreChoice {
    // Without a default value: finding it out would cost every `carob run` its system calls.
    /// Where images and writable layers are kept [default: /var/lib/carob, or the caller's
    /// ~/.local/share/carob]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
}

impl StoreChoice {
    /// The store.
    pub(super) fn store(&self) -> Store {
        let root = self.data_root.clone().unwrap_or_else(image::default_data_root);
        // Paths of it end up in records that are read in another directory.
        Store::new(&std::path::absolute(&root).unwrap_or(root))
    }
}

fn arguments(image: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    image
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .arg_required_else_help(true)
        .after_help(EXAMPLES)
}

fn run(matches: &mut ArgMatches, context: &Context) -> Result<i32> {
    let (name, mut arguments) = matches
        .remove_subcommand()
        .ok_or_else(|| Error::Invalid("image: a verb is missing; see carob image --help".into()))?;
    let row = verb(&name).ok_or_else(|| Error::Invalid(format!("image: unknown verb {name:?}")))?;
    if container::enter_own_namespace()? == Entered::Yes && name == "mount" {
        return Err(Error::Invalid(
            "image mount needs root: nobody else would see the mount; carob image unpack copies the \
             files"
                .into(),
        ));
    }
    (row.run)(&mut arguments, context)
}

/// That of the verb.
fn failure(matches: &ArgMatches) -> Failure {
    let called = matches.subcommand().and_then(|(name, arguments)| Some((verb(name)?, arguments)));
    called.map_or(Failure { code: 1, prefix: "" }, |(row, arguments)| (row.failure)(arguments))
}

fn verb(name: &str) -> Option<&'static Row> {
    VERBS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_help_with_an_example() {
        for row in VERBS {
            let line = ["image", row.name, "--help"];
            let help = arguments(Command::new("image")).try_get_matches_from(line).unwrap_err();
            let text = help.to_string();
            assert!(text.contains("Examples:\n"), "{text}");
            assert!(text.contains(&format!("\n  carob image {}", row.name)), "{text}");
        }
    }
}
