//! What a pull tells about itself while it goes on.

use super::digest::Digest;
use super::reference::Reference;

/// Something has happened in a pull.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The image is known.
    Found {
        /// Its name.
        image: &'a Reference,
        /// All of its layers.
        layers: usize,
        /// How many of them are to be fetched.
        missing: usize,
        /// What is to be fetched, bytes.
        bytes: u64,
    },
    /// More bytes of layers are there.
    Fetched(u64),
    /// A layer comes from the beginning again: these bytes count no more.
    Dropped(u64),
    /// A transfer was cut off and goes on.
    Retry {
        /// The layer.
        layer: &'a Digest,
        /// Why.
        why: &'a str,
    },
    /// A layer is complete.
    Unpacked(&'a Digest),
}

/// Who listens.
pub trait Progress {
    /// Is told what has happened.
    fn event(&self, event: Event);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
