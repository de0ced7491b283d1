//! OCI layouts, and skopeo's `dir:`. Source: image-spec, image-layout.md.

use std::io::Read;

use oci_spec::image::{Descriptor, ImageIndex};

use super::files::Files;
use super::{Archives, Offer};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Blob, Document, Platform};
use crate::image::reference::Reference;

/// The names of images in an index: the specification's, and containerd's full one.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// Indexes that lead to indexes, at most.
const MAX_DEPTH: usize = 4;

/// An OCI layout.
pub(super) struct Layout<F> {
    files: F,
    name: Option<String>,
}

impl<F: Files> Layout<F> {
    pub(super) fn new(files: F, name: Option<String>) -> Self {
        Self { files, name }
    }

    fn index(&self) -> Result<ImageIndex> {
        match manifest::parse(&self.files.read("index.json")?) {
            Ok(Document::Index(index)) => Ok(*index),
            Ok(Document::Manifest(_)) => Err(self.error("index.json is no index")),
            Err(error) => Err(self.error(&error.to_string())),
        }
    }

    fn error(&self, why: &str) -> Error {
        Error::Invalid(format!("{}: {why}", self.files.name()))
    }

    fn blob(&self, blob: &Blob) -> Result<Vec<u8>> {
        let content = self.files.read(&path(&blob.digest))?;
        verified(content, blob).map_err(|error| self.error(&error.to_string()))
    }

    /// The image that a descriptor leads to, through indexes.
    fn offer(&self, blob: &Blob, names: Vec<String>, platform: &Platform) -> Result<Offer> {
        let mut blob = blob.clone();
        for _ in 0..MAX_DEPTH {
            let text = self.blob(&blob)?;
            match manifest::parse(&text).map_err(|error| self.error(&error.to_string()))? {
                Document::Index(index) => {
                    blob = manifest::choose(&index, platform)
                        .map_err(|error| self.error(&error.to_string()))?;
                }
                Document::Manifest(parsed) => {
                    let config = self.blob(&parsed.config)?;
                    return Ok(Offer { names, manifest: text, config, layers: parsed.layers });
                }
            }
        }
        Err(self.error("an index that leads to indexes"))
    }
}

impl<F: Files> Archives for Layout<F> {
    fn offers(&self, platform: &Platform) -> Result<Vec<Offer>> {
        let index = self.index()?;
        let all = index.manifests();
        let wanted: Vec<&Descriptor> = match &self.name {
            Some(name) => all.iter().filter(|entry| is_called(entry, name)).collect(),
            None => all.iter().collect(),
        };
        // Without names it is one image for several platforms.
        if self.name.is_none()
            && wanted.iter().all(|entry| names(entry).is_empty())
            && all.len() > 1
        {
            let blob =
                manifest::choose(&index, platform).map_err(|e| self.error(&e.to_string()))?;
            return Ok(vec![self.offer(&blob, Vec::new(), platform)?]);
        }
        if wanted.is_empty() {
            let there: Vec<String> = all.iter().flat_map(names).collect();
            let name = self.name.as_deref().unwrap_or_default();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(self.error(&format!("no image {name:?} in it; there are: {there}")));
        }
        wanted
            .into_iter()
            .map(|entry| {
                let digest = entry.digest().to_string().parse()?;
                let blob = Blob { digest, size: entry.size() };
                self.offer(&blob, full_names(entry), platform)
            })
            .collect()
    }

    fn layer(&self, blob: &Blob) -> Result<Box<dyn Read>> {
        self.files.open(&path(&blob.digest))
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn names(entry: &Descriptor) -> Vec<String> {
    let annotations = entry.annotations().as_ref();
    let named = |key: &str| annotations.and_then(|all| all.get(key)).cloned();
    [FULL_NAME, REF_NAME].into_iter().filter_map(named).collect()
}

fn is_called(entry: &Descriptor, name: &str) -> bool {
    names(entry).iter().any(|known| known == name)
        || name
            .parse::<Reference>()
            .is_ok_and(|wanted| full_names(entry).iter().any(|known| *known == wanted.to_string()))
}

/// A name that is only a tag is no name of an image.
fn full_names(entry: &Descriptor) -> Vec<String> {
    let whole = |name: &String| name.contains([':', '/']);
    let mut full: Vec<String> = names(entry)
        .iter()
        .filter(|name| whole(name))
        .filter_map(|name| name.parse::<Reference>().ok())
        .map(|reference| reference.to_string())
        .collect();
    full.dedup();
    full
}

/// Content that is what its digest says.
pub(super) fn verified(content: Vec<u8>, blob: &Blob) -> Result<Vec<u8>> {
    let digest = Digest::of(&content);
    if digest != blob.digest {
        return Err(Error::Invalid(format!("content of {} has the digest {digest}", blob.digest)));
    }
    Ok(content)
}

/// skopeo's `dir:`: `manifest.json`, and blobs by their hex digests.
pub(super) struct Flat<F> {
    files: F,
}

impl<F: Files> Flat<F> {
    pub(super) fn new(files: F) -> Self {
        Self { files }
    }
}

impl<F: Files> Archives for Flat<F> {
    fn offers(&self, platform: &Platform) -> Result<Vec<Offer>> {
        let error = |error: Error| Error::Invalid(format!("{}: {error}", self.files.name()));
        let mut text = self.files.read("manifest.json")?;
        let mut document = manifest::parse(&text).map_err(error)?;
        // All platforms: each manifest is beside it, by its digest.
        if let Document::Index(index) = &document {
            let blob = manifest::choose(index, platform).map_err(error)?;
            let path = format!("{}.manifest.json", blob.digest.hex());
            text = verified(self.files.read(&path)?, &blob).map_err(error)?;
            document = manifest::parse(&text).map_err(error)?;
        }
        let Document::Manifest(parsed) = document else {
            return Err(error(Error::Invalid("an index that leads to an index".into())));
        };
        let config = self.files.read(&parsed.config.digest.hex())?;
        let config = verified(config, &parsed.config).map_err(error)?;
        Ok(vec![Offer { names: Vec::new(), manifest: text, config, layers: parsed.layers }])
    }

    fn layer(&self, blob: &Blob) -> Result<Box<dyn Read>> {
        self.files.open(&blob.digest.hex())
    }
}
