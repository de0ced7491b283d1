//! From a transport into the store.

use std::io::Read;

use jiff::Timestamp;

use super::digest::Digest;
use super::manifest::{self, Blob, Platform};
use super::reference::Reference;
use super::store::{ImageRecord, NewLayer, Store, chain_ids};
use super::transport::{Location, Offer};
use crate::error::{Error, Result};

/// An image whose documents are known and agree with each other; its layers are still to come.
#[derive(Debug)]
pub(super) struct Announced<'a> {
    offer: &'a Offer,
    platform: Platform,
    created: Option<String>,
    diff_ids: Vec<Digest>,
    /// Chain ids of the layers.
    pub(super) chains: Vec<Digest>,
}

impl<'a> Announced<'a> {
    /// Checks the documents of an image.
    pub(super) fn new(offer: &'a Offer) -> Result<Self> {
        let (config, diff_ids) = manifest::parse_config(&offer.config, offer.layers.len())?;
        let platform = manifest::platform_of(&config);
        if platform.os != "linux" {
            return Err(Error::Invalid(format!("the image is for {platform}, not for Linux")));
        }
        Ok(Self {
            platform,
            created: config.created().clone(),
            chains: chain_ids(&diff_ids),
            diff_ids,
            offer,
        })
    }

    /// What it is for.
    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The layer at a place, counted from the lowest.
    pub(super) fn layer(&self, at: usize) -> NewLayer<'_> {
        NewLayer {
            parent: at.checked_sub(1).map(|below| &self.chains[below]),
            chain: &self.chains[at],
            diff_id: &self.diff_ids[at],
            blob: &self.offer.layers[at],
        }
    }

    /// Enters the image in the table; its layers are there.
    pub(super) fn finish(
        self,
        store: &Store,
        names: &[Reference],
        digests: Vec<String>,
    ) -> Result<ImageRecord> {
        let manifest = store.write_document(&self.offer.manifest)?;
        let id = store.write_document(&self.offer.config)?;
        store.add_image(ImageRecord {
            id,
            manifest,
            names: names.iter().map(ToString::to_string).collect(),
            digests,
            platform: self.platform.to_string(),
            created: self.created,
            added: Timestamp::now(),
            layers: self.chains,
        })
    }
}

/// Takes over all images of a layout or an archive; `name` is for the only one of them.
///
/// # Errors
/// [`Error::Invalid`] if it holds no image, or one that is not what its digests say; images before
/// that one are there then.
pub fn import(
    store: &Store,
    location: &Location,
    name: Option<&Reference>,
    platform: &Platform,
) -> Result<Vec<ImageRecord>> {
    let _lock = store.lock_content()?;
    let Some(archives) = location.open(&store.scratch())? else {
        return Err(Error::Invalid(
            "only oci:, oci-archive:, docker-archive: and dir: can be imported; carob image pull \
             gets an image from a registry"
                .into(),
        ));
    };
    let offers = archives.offers(platform)?;
    if let (Some(name), true) = (name, offers.len() > 1) {
        let count = offers.len();
        return Err(Error::Invalid(format!(
            "{count} images cannot all be named {name}; choose one of them, e.g. by :NAME after the path"
        )));
    }
    let add = |offer: &Offer| {
        let names = match name {
            Some(name) => vec![name.clone()],
            None => offer.names.iter().map(|name| name.parse()).collect::<Result<_>>()?,
        };
        add_offer(store, offer, &names, |blob| archives.layer(blob))
    };
    offers.iter().map(add).collect()
}

fn add_offer(
    store: &Store,
    offer: &Offer,
    names: &[Reference],
    open: impl Fn(&Blob) -> Result<Box<dyn Read>>,
) -> Result<ImageRecord> {
    let announced = Announced::new(offer)?;
    for (at, blob) in offer.layers.iter().enumerate() {
        store.add_layer(&announced.layer(at), || open(blob))?;
    }
    let manifest = Digest::of(&offer.manifest);
    let digests = names.iter().map(|name| name.at(&manifest).to_string()).collect();
    announced.finish(store, names, digests)
}
