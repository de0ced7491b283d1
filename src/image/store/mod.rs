//! The store: what has been pulled or imported, by content.
//!
//! ```text
//! <data>/images/                   0700
//!     images.json                  [`Table`], replaced as a whole
//!     documents/<hex>              manifests and configurations
//!     layers/<hex of chain id>/    diff/ (the tree), skeleton (see layer/skeleton.rs), layer.json
//!     layers/new-<hex>/            being unpacked; layers/old-*/ being removed
//!     downloads/<hex>              archives of layers on their way, resumed if they are cut off
//!     uses/<name>/                 use.json: who has layers mounted; of `run --image` also the
//!                                  bundle and the writable layer
//!     empty/                       a layer with nothing in it
//!     lock                         [`Lock`]s are ranges of it
//! ```
//!
//! What has its final name is complete: things are made under other names, verified, and renamed.
//! So a process that is killed leaves things that the next one removes, and never half a layer.

mod layers;
mod lock;
mod prune;
mod table;
mod uses;

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub use layers::{LayerRecord, NewLayer, chain_ids};
pub use lock::Lock;
pub use prune::{Pruned, Which};
pub use table::{ImageRecord, Table};
pub use uses::{Owner, Use};

use super::digest::Digest;
use super::layer::Style;
use super::manifest::MAX_DOCUMENT;
use crate::error::{Error, OsContext, Result};
use crate::sys::credentials::in_user_namespace;
use crate::sys::fd;
use crate::sys::inode_flags::scatter_subdirectories;

/// Default of `--data-root`.
pub const DATA_ROOT: &str = "/var/lib/carob";

/// A store of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    style: Style,
}

impl Store {
    /// The store below a data root; nothing is made yet.
    #[must_use]
    pub fn new(data_root: &Path) -> Self {
        let style = if in_user_namespace() { Style::User } else { Style::Trusted };
        Self { root: data_root.join("images"), style }
    }

    /// How deleted files are marked in it.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// Makes the directories that are not there.
    fn prepare(&self) -> Result<()> {
        for name in ["documents", "layers", "downloads", "uses", "empty"] {
            let path = self.root.join(name);
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(true).create(&path).os("mkdir", || path.display())?;
        }
        // Other file systems know nothing of this, and need it not.
        let _not_ext4 = scatter_subdirectories(open_dir(&self.root.join("layers"))?);
        Ok(())
    }

    /// Where files may be made that are gone with their last descriptor.
    pub(super) fn scratch(&self) -> PathBuf {
        self.path("downloads")
    }

    /// A path of the store.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Keeps a manifest or a configuration.
    pub(super) fn write_document(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        let path = self.root.join("documents").join(digest.hex());
        if !path.exists() {
            replace(&path, content)?;
        }
        Ok(digest)
    }

    /// Reads a manifest or a configuration.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not what it was.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.root.join("documents").join(digest.hex());
        let content = fd::read_file(&path, MAX_DOCUMENT)?;
        if Digest::of(&content) != *digest {
            let path = path.display();
            return Err(Error::Invalid(format!(
                "{path} is damaged; remove the image and pull it again"
            )));
        }
        Ok(content)
    }
}

/// Replaces a file as a whole, on the disk before its name is.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(&new)
        .os("create", || new.display())?;
    file.write_all(content).os("write", || new.display())?;
    file.sync_data().os("fsync", || new.display())?;
    std::fs::rename(&new, path).os("rename", || path.display())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    const MAX_BYTES: u64 = 64 << 20;
    let text = match fd::read_file(path, MAX_BYTES) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::Invalid(error.to_string()))
}

fn open_dir(path: &Path) -> Result<File> {
    File::open(path).os("open", || path.display())
}

/// Names of all that is in a directory of the store; none if that is not there yet.
fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.os("read", || path.display())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.os("read", || path.display())?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
