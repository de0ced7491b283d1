//! `image inspect`.

use serde_json::json;

use super::StoreChoice;
use crate::cli::output::{self, Format, unserialisable};
use crate::cli::{Context, Verb};
use crate::error::Result;

/// Print all that is known of an image: names, layers, manifest and configuration
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    #[command(flatten)]
    store: StoreChoice,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "json",
          value_parser = Format::parser(&["yaml", "json"]))]
    format: Format,
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const EXAMPLES: &str = "\
Examples:
  carob image inspect busybox
  carob image inspect busybox | jq .config.config.Env";

impl Verb for Inspect {
    fn run(self, _: &Context) -> Result<i32> {
        let store = self.store.store();
        let table = store.table()?;
        let image = table.find(&self.image)?;
        let document = |digest| -> Result<serde_json::Value> {
            serde_json::from_slice(&store.document(digest)?).map_err(unserialisable)
        };
        let layers = image.layers.iter().map(|chain| {
            let layer = store.layer(chain)?;
            Ok(json!({"chainId": chain, "diffId": layer.diff_id, "bytes": layer.bytes}))
        });
        let shown = json!({
            "id": image.id,
            "names": image.names,
            "digests": image.digests,
            "platform": image.platform,
            "created": image.created,
            "added": image.added,
            "layers": layers.collect::<Result<Vec<_>>>()?,
            "usedBy": store.owners(&image.id)?.iter().map(|owner| owner.show()).collect::<Vec<_>>(),
            "manifest": document(&image.manifest)?,
            "config": document(&image.id)?,
        });
        output::print_object(self.format, &shown)?;
        Ok(0)
    }
}
