//! `pod validate`: everything that is wrong with a manifest, and what has no effect.

use std::path::PathBuf;

use crate::cli::{Context, Verb, output};
use crate::error::Result;
use crate::pod::manifest::{self, Input};

/// Check a manifest without running it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Validate {
    /// Files or directories with YAML or JSON, - for stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  carob pod validate pod.yaml
  carob pod validate pod.yaml config/
  kubectl kustomize web/ | carob pod validate -";

impl Verb for Validate {
    fn run(self, _: &Context) -> Result<i32> {
        let inputs: Vec<Input> = self.files.into_iter().map(Input::from).collect();
        let manifest = manifest::load(&inputs)?;
        let name = manifest.pod.metadata.name.as_deref().unwrap_or_default();
        let mut text = format!("pod/{name} valid\n");
        for path in manifest::ignored(&manifest.pod) {
            text += &format!("  {path} is ignored\n");
        }
        output::print(&text)?;
        Ok(0)
    }
}
