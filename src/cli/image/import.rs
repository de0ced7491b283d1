//! `image import`.

use super::StoreChoice;
use crate::cli::{Context, Verb, output};
use crate::error::Result;
use crate::image::{self, Location, Platform, Reference};

/// Take images over from an OCI layout, an archive of `docker save`, or skopeo's `dir:`, and print
/// their names
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    #[command(flatten)]
    store: StoreChoice,
    /// The platform, of images for several, OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    // Not a comment for rustdoc, which would take the brackets for links.
    #[arg(
        value_name = "SOURCE",
        help = "oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME] or dir:DIR; the \
                FILE - is the standard input"
    )]
    source: Location,
    /// The name that the image gets [default: those that it has there]
    #[arg(value_name = "NAME")]
    name: Option<Reference>,
}

const EXAMPLES: &str = "\
Examples:
  carob image import docker-archive:app.tar
  docker save app | carob image import docker-archive:-
  carob image import oci:layout:latest app:1.2";

impl Verb for Import {
    fn run(self, _: &Context) -> Result<i32> {
        let store = self.store.store();
        let platform = self.platform.unwrap_or_default();
        for image in image::import(&store, &self.source, self.name.as_ref(), &platform)? {
            let line = image.names.first().cloned().unwrap_or_else(|| image.id.to_string());
            output::print(&format!("{line}\n"))?;
        }
        Ok(0)
    }
}
