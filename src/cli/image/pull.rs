//! `image pull`.

use std::io::Read;
use std::path::PathBuf;

use super::StoreChoice;
use super::progress::Shown;
use crate::cli::{Context, Verb, output};
use crate::error::{Error, OsContext, Result};
use crate::image::{self, ImageRecord, Location, Platform, Progress, PullOptions, Silent, Store};

/// Longest credentials of a pod, bytes: a Secret has at most 1 MiB.
const MAX_SECRETS: u64 = 16 << 20;

/// How registries are asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct RegistryChoice {
    /// File with credentials [default: those of podman, then those of Docker]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Talk HTTP without TLS also to a registry that is not on this machine
    #[arg(long)]
    plain_http: bool,
}

impl RegistryChoice {
    pub(in crate::cli) fn options(&self, platform: Option<Platform>) -> PullOptions {
        PullOptions {
            platform: platform.unwrap_or_default(),
            auth_file: self.authfile.clone(),
            plain_http: self.plain_http,
            pull_secrets: None,
        }
    }
}

/// Fetch an image from a registry, or take it over from files, and print its id. What is there
/// already is not fetched again
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Pull {
    #[command(flatten)]
    store: StoreChoice,
    #[command(flatten)]
    registry: RegistryChoice,
    /// The platform, of images for several, OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Read credentials that come before all others from standard input: of a pod
    #[arg(long, hide = true)]
    secrets_on_stdin: bool,
    /// A name (busybox is docker.io/library/busybox:latest), docker://NAME, or what `image import`
    /// takes
    #[arg(value_name = "IMAGE")]
    image: Location,
}

const EXAMPLES: &str = "\
Examples:
  carob image pull busybox
  carob image pull --platform linux/arm64 registry.example/team/app:1.2
  carob image pull localhost:5000/app@sha256:DIGEST";

impl Verb for Pull {
    fn run(self, _: &Context) -> Result<i32> {
        let mut options = self.registry.options(self.platform);
        if self.secrets_on_stdin {
            let mut text = Vec::new();
            let secrets = std::io::stdin().take(MAX_SECRETS).read_to_end(&mut text);
            secrets.os("read", || "the credentials of the pod")?;
            options.pull_secrets = Some(text);
        }
        let image = fetch(&self.store.store(), &self.image, &options, self.quiet)?;
        output::print(&format!("{}\n", image.id))?;
        Ok(0)
    }
}

/// Brings an image into the store, wherever it is.
pub(in crate::cli) fn fetch(
    store: &Store,
    location: &Location,
    options: &PullOptions,
    quiet: bool,
) -> Result<ImageRecord> {
    match location {
        Location::Name(name) => {
            let shown = (!quiet).then(Shown::new);
            let progress: &dyn Progress = match &shown {
                Some(shown) => shown,
                None => &Silent,
            };
            image::pull(store, name, options, progress)
        }
        files => {
            let images = image::import(store, files, None, &options.platform)?;
            match images.as_slice() {
                [only] => Ok(only.clone()),
                many => Err(Error::Invalid(format!(
                    "there are {} images; choose one of them, e.g. by :NAME after the path",
                    many.len()
                ))),
            }
        }
    }
}
