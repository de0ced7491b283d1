//! Removing images, and what nobody refers to any more.

use std::collections::BTreeSet;

use super::uses::in_use;
use super::{ImageRecord, Store, Table, names, open_dir};
use crate::error::{OsContext, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::sys::dir;

/// How the names of layers begin that are being removed.
const OLD: &str = "old-";

/// What has been removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Names that lead nowhere any more.
    pub untagged: Vec<String>,
    /// Ids of images.
    pub deleted: Vec<Digest>,
    /// What the layers took on the disk, bytes.
    pub bytes: u64,
}

/// Which images `prune` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those without a name.
    Unnamed,
    /// All that nobody uses.
    Unused,
}

impl Store {
    /// Removes a name of an image, and the image with its last one; by its id all of them.
    ///
    /// # Errors
    /// [`crate::error::Error::Invalid`] if it is not there or in use.
    pub fn remove_image(&self, text: &str) -> Result<Pruned> {
        let lock = self.lock_for_removal()?;
        let mut pruned = Pruned::default();
        self.change_table(|table| {
            let image = table.find(text)?.clone();
            let name = text.parse::<Reference>().ok().map(|reference| reference.to_string());
            let named = name.filter(|name| image.names.contains(name));
            let last = named.is_none() || image.names.len() <= 1;
            if last {
                let owners = self.owners(&image.id)?;
                if !owners.is_empty() {
                    return Err(in_use(text, &owners));
                }
                pruned.untagged = image.names.clone();
                pruned.deleted.push(image.id.clone());
                table.images.retain(|known| known.id != image.id);
            } else if let Some(name) = named {
                for known in &mut table.images {
                    known.names.retain(|known| *known != name);
                }
                pruned.untagged.push(name);
            }
            Ok(())
        })?;
        pruned.bytes = self.collect(&self.table()?)?;
        drop(lock);
        self.sweep()?;
        Ok(pruned)
    }

    /// Removes images that nobody uses, and all that no image and nobody refers to.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`].
    pub fn prune(&self, which: Which) -> Result<Pruned> {
        let lock = self.lock_for_removal()?;
        let used: BTreeSet<Digest> = self.end_stale_uses()?;
        let mut pruned = Pruned::default();
        let table = self.change_table(|table| {
            let goes = |image: &ImageRecord| {
                !used.contains(&image.id) && (which == Which::Unused || image.names.is_empty())
            };
            for image in table.images.iter().filter(|image| goes(image)) {
                pruned.untagged.extend(image.names.iter().cloned());
                pruned.deleted.push(image.id.clone());
            }
            table.images.retain(|image| !goes(image));
            Ok(table.clone())
        })?;
        pruned.bytes = self.collect(&table)?;
        drop(lock);
        self.sweep()?;
        Ok(pruned)
    }

    /// Ends the uses whose owners are gone; returns the images of the others.
    fn end_stale_uses(&self) -> Result<BTreeSet<Digest>> {
        let uses = self.uses()?;
        let mut used = BTreeSet::new();
        for name in names(&self.path("uses"))? {
            match uses.iter().find(|(known, _)| *known == name) {
                Some((_, found)) if found.owner.is_there()? => {
                    used.insert(found.image.clone());
                }
                _ => self.end_use(&name)?,
            }
        }
        Ok(used)
    }

    /// Removes layers, documents and downloads that nothing refers to. Returns what the layers took.
    fn collect(&self, table: &Table) -> Result<u64> {
        let mut layers: BTreeSet<String> =
            table.images.iter().flat_map(|image| &image.layers).map(Digest::hex).collect();
        for (_, found) in self.uses()? {
            layers.extend(found.layers.iter().map(Digest::hex));
        }
        let documents: BTreeSet<String> =
            table.images.iter().flat_map(|image| [image.id.hex(), image.manifest.hex()]).collect();
        let mut bytes = 0;
        for name in names(&self.path("layers"))? {
            if layers.contains(&name) || name.starts_with(OLD) {
                continue;
            }
            if let Ok(chain) = format!("sha256:{name}").parse::<Digest>() {
                bytes += self.layer(&chain).map_or(0, |record| record.bytes);
            }
            self.set_aside(&name)?;
        }
        self.remove_others("documents", &documents)?;
        self.remove_others("downloads", &BTreeSet::new())?;
        Ok(bytes)
    }

    /// Removes what was set aside, which may take long and is in nobody's way.
    fn sweep(&self) -> Result<()> {
        let path = self.path("layers");
        let layers = open_dir(&path)?;
        for name in names(&path)?.iter().filter(|name| name.starts_with(OLD)) {
            dir::remove(&layers, name.as_str())
                .os("remove", || path.join(name).display().to_string())?;
        }
        Ok(())
    }

    /// A layer that is only half there has no longer the name of a whole one.
    fn set_aside(&self, name: &str) -> Result<()> {
        let from = self.path("layers").join(name);
        let to = self.path("layers").join(format!("{OLD}{}", uuid::Uuid::new_v4()));
        std::fs::rename(&from, &to).os("rename", || from.display())
    }

    fn remove_others(&self, directory: &str, kept: &BTreeSet<String>) -> Result<()> {
        let path = self.path(directory);
        let open = open_dir(&path)?;
        for name in names(&path)?.iter().filter(|name| !kept.contains(*name)) {
            dir::remove(&open, name.as_str())
                .os("remove", || path.join(name).display().to_string())?;
        }
        Ok(())
    }
}
