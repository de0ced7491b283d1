//! `image export` and `image unpack`.

use std::path::PathBuf;

use super::StoreChoice;
use crate::cli::{Context, Verb};
use crate::error::{OsContext, Result};
use crate::image::{self, Location};

/// Write an image to an OCI layout, or to an archive that docker load, podman load and skopeo
/// read. Layers are the very same ones, not compressed
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct Export {
    #[command(flatten)]
    store: StoreChoice,
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    // Not a comment for rustdoc, which would take the brackets for links.
    #[arg(
        value_name = "DESTINATION",
        help = "oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:NAME], which must not \
                be there yet; the FILE - is the standard output"
    )]
    to: Location,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  carob image export app docker-archive:app.tar
  carob image export app docker-archive:- | docker load
  carob image export app oci:layout:latest";

impl Verb for Export {
    fn run(self, _: &Context) -> Result<i32> {
        image::export(&self.store.store(), &self.image, &self.to)?;
        Ok(0)
    }
}

/// Copy the files of an image, all layers together, to a new or empty directory, with owners,
/// modes, times and extended attributes
#[derive(Debug, clap::Args)]
#[command(after_help = UNPACK_EXAMPLES)]
pub(super) struct Unpack {
    #[command(flatten)]
    store: StoreChoice,
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A directory that is empty, or not there yet
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

const UNPACK_EXAMPLES: &str = "\
Examples:
  carob image unpack busybox rootfs";

impl Verb for Unpack {
    fn run(self, _: &Context) -> Result<i32> {
        let store = self.store.store();
        let layers = store.table()?.find(&self.image)?.layers.clone();
        match std::fs::create_dir(&self.to) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.os("mkdir", || self.to.display())?,
        }
        image::unpack(&store, &layers, &self.to)?;
        Ok(0)
    }
}
