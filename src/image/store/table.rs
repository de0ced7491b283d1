//! Which images there are, and what they are called.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, read_json, replace, to_json};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// Version of the file.
const FORMAT: u32 = 1;

/// The content of `images.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Version of the file.
    pub format: u32,
    /// All images.
    pub images: Vec<ImageRecord>,
}

/// An image that is there with all its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of its configuration: the id of the image.
    pub id: Digest,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Full names; each belongs to one image.
    pub names: Vec<String>,
    /// `repository@digest`, of manifest and index, by which it can be named as well.
    pub digests: Vec<String>,
    /// What it is built for.
    pub platform: String,
    /// When it was built, as it says.
    pub created: Option<String>,
    /// When it came into the store.
    pub added: Timestamp,
    /// Chain ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
}

impl Table {
    /// Finds an image by a name, a repository and digest, or the beginning of its id.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not there, or the beginning of more than one.
    pub fn find(&self, text: &str) -> Result<&ImageRecord> {
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(found) = self.by_reference(&reference)
        {
            return Ok(found);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let mut found = self.images.iter().filter(|image| {
            hex.len() >= 4 && hex.bytes().all(is_hex) && image.id.hex().starts_with(hex)
        });
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => {
                Err(Error::Invalid(format!("image {text:?} is the beginning of more than one id")))
            }
            (None, _) => Err(Error::Invalid(format!(
                "image {text:?} is not here; carob image ls shows what is, carob image pull gets it"
            ))),
        }
    }

    /// Finds an image by its full name.
    #[must_use]
    pub fn by_reference(&self, reference: &Reference) -> Option<&ImageRecord> {
        match &reference.digest {
            None => {
                let name = reference.to_string();
                self.images.iter().find(|image| image.names.contains(&name))
            }
            Some(digest) => {
                let name = reference.at(digest).to_string();
                self.images.iter().find(|image| image.digests.contains(&name))
            }
        }
    }

    /// Gives a name to an image; the one that had it loses it.
    fn name(&mut self, id: &Digest, name: &str) {
        for image in &mut self.images {
            image.names.retain(|known| known != name);
            if image.id == *id {
                image.names.push(name.to_owned());
                image.names.sort_unstable();
            }
        }
    }
}

impl Store {
    /// All that is known.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a table of another version, or one that is damaged.
    pub fn table(&self) -> Result<Table> {
        let path = self.path("images.json");
        let table: Table =
            read_json(&path)?.unwrap_or_else(|| Table { format: FORMAT, images: Vec::new() });
        if table.format != FORMAT {
            return Err(Error::Invalid(format!(
                "{} has format {}, this carob knows {FORMAT}",
                path.display(),
                table.format
            )));
        }
        Ok(table)
    }

    /// Changes the table; others see the old one or the new one.
    pub(super) fn change_table<T>(
        &self,
        change: impl FnOnce(&mut Table) -> Result<T>,
    ) -> Result<T> {
        let _lock = self.lock_table()?;
        let mut table = self.table()?;
        let before = table.clone();
        let outcome = change(&mut table)?;
        if table != before {
            replace(&self.path("images.json"), &to_json(&table)?)?;
        }
        Ok(outcome)
    }

    /// Adds an image whose layers and documents are there, or names to one that is.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn add_image(&self, new: ImageRecord) -> Result<ImageRecord> {
        self.change_table(|table| {
            let id = new.id.clone();
            let (names, digests) = (new.names.clone(), new.digests.clone());
            match table.images.iter_mut().find(|image| image.id == id) {
                Some(known) => {
                    known.manifest = new.manifest;
                    for digest in digests {
                        if !known.digests.contains(&digest) {
                            known.digests.push(digest);
                        }
                    }
                }
                None => table.images.push(ImageRecord { names: Vec::new(), ..new }),
            }
            for name in &names {
                table.name(&id, name);
            }
            table.find(&id.to_string()).cloned()
        })
    }

    /// What an image takes on the disk, bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not there.
    pub fn image_bytes(&self, image: &str) -> Result<u64> {
        let table = self.table()?;
        let layers = &table.find(image)?.layers;
        layers.iter().map(|layer| self.layer(layer).map(|record| record.bytes)).sum()
    }

    /// Names an image.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn name_image(&self, id: &Digest, name: &str) -> Result<()> {
        self.change_table(|table| {
            table.name(id, name);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str, names: &[&str]) -> ImageRecord {
        let id = Digest::of(text.as_bytes());
        ImageRecord {
            manifest: id.clone(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            digests: vec![format!("docker.io/library/{text}@{id}")],
            platform: "linux/amd64".into(),
            created: None,
            added: Timestamp::UNIX_EPOCH,
            layers: Vec::new(),
            id,
        }
    }

    #[test]
    fn images_are_found_by_name_digest_and_id() {
        let a = image("a", &["docker.io/library/a:latest"]);
        let b = image("b", &["docker.io/library/b:1"]);
        let table = Table { format: 1, images: vec![a.clone(), b.clone()] };
        assert_eq!(table.find("a").unwrap().id, a.id);
        assert_eq!(table.find("b:1").unwrap().id, b.id);
        assert_eq!(table.find(&format!("b@{}", b.id)).unwrap().id, b.id);
        assert_eq!(table.find(&b.id.to_string()).unwrap().id, b.id);
        assert_eq!(table.find(&b.id.short()).unwrap().id, b.id);
        for absent in ["b", "c", "", "Not/Valid:", &b.id.hex()[..3]] {
            let error = table.find(absent).unwrap_err().to_string();
            assert!(error.contains("not here"), "{absent}: {error}");
        }
    }

    #[test]
    fn a_name_moves() {
        let mut table = Table { format: 1, images: vec![image("a", &["x"]), image("b", &[])] };
        let id = table.images[1].id.clone();
        table.name(&id, "x");
        assert!(table.images[0].names.is_empty());
        assert_eq!(table.images[1].names, ["x"]);
    }
}
