//! Images: found or fetched, verified, unpacked once, mounted as overlays.
//!
//! ```text
//! reference.rs digest.rs manifest.rs config.rs    names and documents: pure
//! transport/   where images come from: registries, layouts, archives
//! layer/       an archive of anybody → a directory for overlayfs
//! store/       what is there: by content, complete or not at all
//! add.rs       files → store
//! pull.rs      registry → store: download.rs; auth.rs, registries.rs, progress.rs
//! mount.rs     store → overlay; copy.rs: → directory
//! export.rs    store → files
//! ```
//!
//! Everything that comes from outside has a digest to be compared with, and is compared before it
//! gets a name in the store.

mod add;
pub mod auth;
mod config;
mod copy;
pub mod digest;
mod download;
mod export;
pub mod layer;
pub mod manifest;
mod mount;
pub mod progress;
mod pull;
mod reference;
mod registries;
pub mod store;
pub mod transport;

pub use add::import;
pub use config::Config;
pub use digest::Digest;
pub use export::export;
pub use layer::Style;
pub use manifest::Platform;
pub use mount::{Writable, mount_at, overlay, unpack};
pub use progress::{Event, Progress, Silent};
pub use pull::{PullOptions, pull};
pub use reference::Reference;
pub use store::{DATA_ROOT, ImageRecord, Lock, Owner, Pruned, Store, Table, Use, Which};
pub use transport::Location;

use std::path::PathBuf;

use crate::error::Result;
use crate::sys::credentials::in_user_namespace;

/// Default of `--data-root`: the caller's own place if that is not the host's root.
#[must_use]
pub fn default_data_root() -> PathBuf {
    let is_root = nix::unistd::geteuid().is_root() && !in_user_namespace();
    let of = |key| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    if is_root {
        return DATA_ROOT.into();
    }
    match of("XDG_DATA_HOME").or_else(|| Some(of("HOME")?.join(".local/share"))) {
        Some(data) => data.join("carob"),
        None => DATA_ROOT.into(),
    }
}

/// How deleted files are marked in the stores of this user.
#[must_use]
pub fn style() -> Style {
    if in_user_namespace() { Style::User } else { Style::Trusted }
}

/// An image of the store.
#[derive(Debug)]
pub struct Image {
    /// What it is called, and what it consists of.
    pub record: ImageRecord,
    /// What it says about its process.
    pub config: Config,
}

impl Image {
    /// Reads what there is to know of an image.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] if the store is damaged.
    pub fn open(store: &Store, record: ImageRecord) -> Result<Self> {
        let text = store.document(&record.id)?;
        let (config, _) = manifest::parse_config(&text, record.layers.len())?;
        Ok(Self { config: Config::of(&config), record })
    }
}
