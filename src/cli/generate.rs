//! `completion` and `man`: files for packagers, made from the tree of commands.

use std::path::PathBuf;

use super::{Context, Verb, output, tree};
use crate::error::{OsContext, Result};

/// Print a script that completes carob's command line
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETION_EXAMPLES)]
pub(super) struct Completion {
    /// The shell that reads it
    #[arg(value_name = "SHELL", value_enum)]
    shell: clap_complete::Shell,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  carob completion bash >/etc/bash_completion.d/carob
  source <(carob completion zsh)";

impl Verb for Completion {
    fn run(self, _: &Context) -> Result<i32> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut tree(), "carob", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}

/// Write a manual page for carob and one for each verb
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct Man {
    /// An existing directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

const MAN_EXAMPLES: &str = "\
Examples:
  carob man /usr/local/share/man/man1";

impl Verb for Man {
    fn run(self, _: &Context) -> Result<i32> {
        clap_mangen::generate_to(tree(), &self.directory)
            .os("write manual pages to", || self.directory.display())?;
        Ok(0)
    }
}
