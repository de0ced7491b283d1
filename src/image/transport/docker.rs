//! Archives of `docker save`: a `manifest.json` that lists images, beside plain tars of layers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::files::{Archive, Files};
use super::{Archives, Offer};
use crate::error::{Error, OsContext, Result};
use crate::image::digest::{Digest, Hashing};
use crate::image::manifest::{self, Blob, Platform};
use crate::image::reference::Reference;

/// An archive of `docker save`.
pub(super) struct DockerArchive {
    files: Archive,
    name: Option<String>,
    /// Paths of layers by their digests.
    layers: RefCell<HashMap<Digest, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    pub(super) fn open(path: &Path, scratch: &Path, name: Option<String>) -> Result<Self> {
        let files = Archive::open(path, scratch)?;
        Ok(Self { files, name, layers: RefCell::default() })
    }

    fn error(&self, why: &str) -> Error {
        Error::Invalid(format!("{}: {why}", self.files.name()))
    }

    fn items(&self) -> Result<Vec<Item>> {
        if self.files.find("manifest.json")?.is_none() && self.files.find("index.json")?.is_some() {
            return Err(self.error("is an OCI archive; name it oci-archive:FILE"));
        }
        let text = self.files.read("manifest.json")?;
        serde_json::from_slice(&text)
            .map_err(|error| self.error(&format!("manifest.json: {error}")))
    }

    /// The archive has no manifest of the OCI; this is what it would be.
    fn offer(&self, item: &Item) -> Result<Offer> {
        let config = self.files.read(&item.config)?;
        let mut layers = Vec::new();
        for path in &item.layers {
            // What a layer is follows from its content alone: nothing else names it.
            let mut hashing = Hashing::new(self.files.open(path)?);
            io::copy(&mut hashing, &mut io::sink())
                .os("read", || format!("{path} in {}", self.files.name()))?;
            let (digest, size) = hashing.so_far();
            self.layers.borrow_mut().insert(digest.clone(), path.clone());
            layers.push(Blob { digest, size });
        }
        let descriptor = |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest.to_string(), "size": blob.size});
        let config_blob = Blob { digest: Digest::of(&config), size: config.len() as u64 };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest::MEDIA_TYPES[1],
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_blob),
            "layers": layers.iter()
                .map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar", blob))
                .collect::<Vec<_>>(),
        });
        let names = item.repo_tags.iter().flatten();
        let names = names.map(|name| name.parse().map(|full: Reference| full.to_string()));
        Ok(Offer {
            names: names.collect::<Result<_>>().map_err(|error| self.error(&error.to_string()))?,
            manifest: manifest.to_string().into_bytes(),
            config,
            layers,
        })
    }

    fn is_wanted(&self, at: usize, item: &Item) -> bool {
        let Some(name) = &self.name else { return true };
        if let Some(number) = name.strip_prefix('@') {
            return number.parse() == Ok(at);
        }
        let full = |name: &str| name.parse::<Reference>().ok();
        let wanted = full(name);
        wanted.is_some() && item.repo_tags.iter().flatten().any(|tag| full(tag) == wanted)
    }
}

impl Archives for DockerArchive {
    fn offers(&self, _platform: &Platform) -> Result<Vec<Offer>> {
        let items = self.items()?;
        let wanted = items.iter().enumerate().filter(|(at, item)| self.is_wanted(*at, item));
        let offers = wanted.map(|(_, item)| self.offer(item)).collect::<Result<Vec<_>>>()?;
        if offers.is_empty() {
            let there: Vec<&str> = items
                .iter()
                .flat_map(|item| item.repo_tags.iter().flatten())
                .map(String::as_str)
                .collect();
            let name = self.name.as_deref().unwrap_or_default();
            return Err(
                self.error(&format!("no image {name:?} in it; there are: {}", there.join(", ")))
            );
        }
        Ok(offers)
    }

    fn layer(&self, blob: &Blob) -> Result<Box<dyn Read>> {
        let path = self.layers.borrow().get(&blob.digest).cloned();
        self.files.open(&path.ok_or_else(|| self.error("a layer is missing"))?)
    }
}
