//! `image rm` and `image prune`.

use super::StoreChoice;
use crate::cli::{Context, Verb, output};
use crate::error::Result;
use crate::image::{Pruned, Which};

/// Remove images: a name of an image, and the image itself with its last name; by its id with all
/// of them. One that a container, a pod or a mount uses stays
#[derive(Debug, clap::Args)]
#[command(after_help = REMOVE_EXAMPLES)]
pub(super) struct Remove {
    #[command(flatten)]
    store: StoreChoice,
    /// Names, or beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

const REMOVE_EXAMPLES: &str = "\
Examples:
  carob image rm busybox
  carob image rm app:1.1 app:1.2";

impl Verb for Remove {
    fn run(self, _: &Context) -> Result<i32> {
        let store = self.store.store();
        for image in &self.images {
            output::print(&lines(&store.remove_image(image)?))?;
        }
        Ok(0)
    }
}

/// Remove images without a name that nobody uses, layers that no image has, and what interrupted
/// pulls have left
#[derive(Debug, clap::Args)]
#[command(after_help = PRUNE_EXAMPLES)]
pub(super) struct Prune {
    #[command(flatten)]
    store: StoreChoice,
    /// Also images with a name
    #[arg(short, long)]
    all: bool,
}

const PRUNE_EXAMPLES: &str = "\
Examples:
  carob image prune
  carob image prune --all";

impl Verb for Prune {
    fn run(self, _: &Context) -> Result<i32> {
        let which = if self.all { Which::Unused } else { Which::Unnamed };
        let pruned = self.store.store().prune(which)?;
        output::print(&format!("{}freed: {}\n", lines(&pruned), output::size(pruned.bytes)))?;
        Ok(0)
    }
}

fn lines(pruned: &Pruned) -> String {
    let untagged = pruned.untagged.iter().map(|name| format!("untagged: {name}\n"));
    let deleted = pruned.deleted.iter().map(|id| format!("deleted: {id}\n"));
    untagged.chain(deleted).collect()
}
