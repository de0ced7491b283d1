//! Layers of the store: unpacked once, verified, and only then there.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, open_dir, read_json, replace, to_json};
use crate::error::{Error, OsContext, Result};
use crate::image::digest::Digest;
use crate::image::layer::{self, Style, Target};
use crate::image::manifest::Blob;
use crate::sys::dir;

/// The content of `layer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Chain id of the layer below.
    pub parent: Option<Digest>,
    /// What it takes on the disk, bytes.
    pub bytes: u64,
    /// It hides all that is below it.
    pub hides_all: bool,
    /// How deleted files are marked in it.
    pub style: Style,
}

/// A layer to be added.
#[derive(Debug, Clone)]
pub struct NewLayer<'a> {
    /// Chain id of the layer below.
    pub parent: Option<&'a Digest>,
    /// Its own chain id.
    pub chain: &'a Digest,
    /// Digest of the uncompressed archive.
    pub diff_id: &'a Digest,
    /// The archive.
    pub blob: &'a Blob,
}

/// Names of layers with all that is below them. Source: image-spec, config.md, "Layer ChainID".
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

impl Store {
    pub(super) fn layer_path(&self, chain: &Digest) -> PathBuf {
        self.path("layers").join(chain.hex())
    }

    /// Whether a layer is there.
    #[must_use]
    pub fn has_layer(&self, chain: &Digest) -> bool {
        self.layer_path(chain).is_dir()
    }

    /// What is known of a layer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not there.
    pub fn layer(&self, chain: &Digest) -> Result<LayerRecord> {
        let path = self.layer_path(chain).join("layer.json");
        read_json(&path)?
            .ok_or_else(|| Error::Invalid(format!("layer {chain} is not in the store")))
    }

    /// The tree of a layer, for reading.
    ///
    /// # Errors
    /// [`Error::Os`] if it is not there.
    pub fn open_layer(&self, chain: &Digest) -> Result<OwnedFd> {
        open_dir(&self.layer_path(chain).join("diff")).map(OwnedFd::from)
    }

    /// What the archive of a layer can be made from again.
    ///
    /// # Errors
    /// [`Error::Os`] if it is not there.
    pub fn open_skeleton(&self, chain: &Digest) -> Result<File> {
        let path = self.layer_path(chain).join("skeleton");
        File::open(&path).os("open", || path.display())
    }

    /// Unpacks a layer unless it is there. The ones below it must be.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the archive is not what its digests say, or is no layer; nothing of it
    /// is left then.
    pub fn add_layer<R: Read>(
        &self,
        new: &NewLayer,
        archive: impl FnOnce() -> Result<R>,
    ) -> Result<()> {
        if self.has_layer(new.chain) {
            return Ok(());
        }
        let _lock = self.lock_layer(new.chain)?;
        if self.has_layer(new.chain) {
            return Ok(());
        }
        let layers = open_dir(&self.path("layers"))?;
        let name = format!("new-{}", new.chain.hex());
        // Of somebody who was killed in the middle of this.
        dir::remove(&layers, name.as_str()).os("remove", || name.clone())?;
        let outcome = self.unpack_new(new, &name, archive);
        if outcome.is_err() {
            dir::remove(&layers, name.as_str()).os("remove", || name.clone())?;
        }
        outcome.map_err(|error| in_layer(&new.blob.digest, &error))
    }

    fn unpack_new<R: Read>(
        &self,
        new: &NewLayer,
        name: &str,
        archive: impl FnOnce() -> Result<R>,
    ) -> Result<()> {
        let place = self.path("layers").join(name);
        let tree = place.join("diff");
        // By a name that was never there: ext4 chooses its place on the disk by that, and where
        // thousands of files have just been removed, each new one takes milliseconds.
        let fresh = self.path("layers").join(format!("new-{}", uuid::Uuid::new_v4()));
        let make =
            |path: &Path| DirBuilder::new().mode(0o755).create(path).os("mkdir", || path.display());
        make(&fresh)?;
        fs::rename(&fresh, &place).os("rename", || fresh.display())?;
        make(&tree)?;
        let root = OwnedFd::from(open_dir(&tree)?);
        let below = self.open_below(new.parent)?;
        let skeleton = place.join("skeleton");
        let skeleton = File::create_new(&skeleton).os("create", || skeleton.display())?;
        let target = Target { root: &root, below: &below, style: self.style };
        let layer = layer::unpack(archive()?, &target, skeleton)?;
        check(&new.blob.digest, &layer.digest, "it is")?;
        if new.blob.size != layer.compressed_bytes {
            let (expected, is) = (new.blob.size, layer.compressed_bytes);
            return Err(Error::Invalid(format!("it has {is} bytes and must have {expected}")));
        }
        check(new.diff_id, &layer.diff_id, "its uncompressed content is")?;
        for lost in &layer.unpacked.lost_attributes {
            let layer = new.blob.digest.short();
            crate::log::warn(format_args!(
                "layer {layer}: the file system of the store does not take the attribute {lost}"
            ));
        }
        let record = LayerRecord {
            diff_id: layer.diff_id,
            parent: new.parent.cloned(),
            bytes: layer.unpacked.bytes,
            hides_all: layer.unpacked.hides_all,
            style: self.style,
        };
        replace(&place.join("layer.json"), &to_json(&record)?)?;
        crate::sys::fd::sync_file_system(&root).os("syncfs", || tree.display())?;
        let path = self.layer_path(new.chain);
        fs::rename(&place, &path).os("rename", || path.display())
    }

    /// The trees of a layer and those below it, the uppermost first.
    fn open_below(&self, uppermost: Option<&Digest>) -> Result<Vec<OwnedFd>> {
        let mut trees = Vec::new();
        let mut next = uppermost.cloned();
        while let Some(chain) = next {
            trees.push(self.open_layer(&chain)?);
            let record = self.layer(&chain)?;
            next = record.parent.filter(|_| !record.hides_all);
        }
        Ok(trees)
    }

    /// The trees that an image consists of, the uppermost first; never none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one is not there, or was made for a store of another kind.
    pub fn open_layers(&self, layers: &[Digest]) -> Result<Vec<OwnedFd>> {
        let mut trees = self.open_below(layers.last())?;
        if let Some(uppermost) = layers.last()
            && self.layer(uppermost)?.style != self.style
        {
            return Err(Error::Invalid(format!(
                "the layers in {} were made {}; use another --data-root",
                self.path("layers").display(),
                match self.style {
                    Style::Trusted => "in a user namespace",
                    Style::User => "by the host's root",
                }
            )));
        }
        if trees.is_empty() {
            trees.push(open_dir(&self.path("empty"))?.into());
        }
        Ok(trees)
    }
}

fn check(expected: &Digest, is: &Digest, what: &str) -> Result<()> {
    if expected == is {
        return Ok(());
    }
    Err(Error::Invalid(format!("{what} not what its digest says: {is}, must be {expected}")))
}

fn in_layer(digest: &Digest, error: &Error) -> Error {
    Error::Invalid(format!("layer {}: {error}", digest.short()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_depend_on_all_below() {
        let diff_ids = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"a")];
        let chains = chain_ids(&diff_ids);
        assert_eq!(chains[0], diff_ids[0]);
        assert_eq!(chains[1], Digest::of(format!("{} {}", chains[0], diff_ids[1]).as_bytes()));
        assert_ne!(chains[2], chains[0]);
        assert!(chain_ids(&[]).is_empty());
    }
}
