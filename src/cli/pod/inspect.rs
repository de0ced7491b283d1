//! `pod inspect`.

use super::choice::PodChoice;
use crate::cli::output::{self, Format};
use crate::cli::{Context, Verb};
use crate::error::Result;
use crate::pod::{clock::Stamp, view};

/// Print a pod as a Kubernetes object, with its status
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    #[command(flatten)]
    pod: PodChoice,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "yaml",
          value_parser = Format::parser(&["yaml", "json"]))]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob pod inspect web
  carob pod inspect web --format json | jq -r .status.phase";

impl Verb for Inspect {
    fn run(self, context: &Context) -> Result<i32> {
        let pod = self.pod.find(context)?;
        output::print_object(self.format, &view::object(&pod, Stamp::now())?)?;
        Ok(0)
    }
}
