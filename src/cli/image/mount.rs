//! `image mount`.

use std::fs::File;
use std::path::PathBuf;

use super::StoreChoice;
use crate::cli::{Context, Verb};
use crate::error::{OsContext, Result};
use crate::image;

/// Mount the files of an image on a directory, read-only, until `umount DIR`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Mount {
    #[command(flatten)]
    store: StoreChoice,
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A directory that is there
    #[arg(value_name = "DIR")]
    point: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  carob image mount busybox /mnt && ls /mnt/bin && umount /mnt";

impl Verb for Mount {
    fn run(self, _: &Context) -> Result<i32> {
        let store = self.store.store();
        let point = self.point.canonicalize().os("open", || self.point.display())?;
        let directory = File::open(&point).os("open", || point.display())?;
        image::mount_at(&store, &self.image, &point, &directory)?;
        Ok(0)
    }
}
