//! `pod validate`: everything that is wrong with a manifest, and what has no effect.

use super::choice::ManifestChoice;
use crate::cli::{Context, Verb, output};
use crate::error::Result;
use crate::pod::manifest;

/// Check a manifest without running it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Validate {
    #[command(flatten)]
    manifests: ManifestChoice,
}

const EXAMPLES: &str = "\
Examples:
  carob pod validate pod.yaml
  carob pod validate pod.yaml config/
  kubectl kustomize web/ | carob pod validate -";

impl Verb for Validate {
    fn run(self, _: &Context) -> Result<i32> {
        let manifest = manifest::load(&self.manifests.inputs())?;
        let name = manifest.pod.metadata.name.as_deref().unwrap_or_default();
        let mut text = format!("pod/{name} valid\n");
        manifest.left_out.iter().for_each(crate::log::warn);
        for path in manifest::ignored(&manifest.pod) {
            text += &format!("  {path} is ignored\n");
        }
        output::print(&text)?;
        Ok(0)
    }
}
