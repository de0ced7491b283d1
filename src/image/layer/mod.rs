//! Layers: from a compressed archive of anybody to a directory for overlayfs.
//!
//! ```text
//! decompress.rs   gzip, zstd, nothing
//! tar.rs          archive → entries; pax.rs, entry.rs
//! unpack.rs       entries → directory; content.rs, attributes.rs, whiteout.rs
//! archive.rs      where the files of an archive of images lie
//! skeleton.rs     what is needed to make the very same archive again
//! ```

pub mod archive;
mod attributes;
mod content;
mod decompress;
mod entry;
mod path;
mod pax;
mod skeleton;
mod tar;
mod unpack;
mod whiteout;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

pub use attributes::{set_time, set_time_at};
pub use skeleton::rebuild;
pub use unpack::{Target, Unpacked};
pub use whiteout::Style;

use super::digest::{Digest, Hashing};
use crate::error::Result;

/// A layer that was unpacked, and what it has turned out to be.
#[derive(Debug)]
pub struct Layer {
    /// Digest of the archive as it came.
    pub digest: Digest,
    /// Size of the archive as it came, bytes.
    pub compressed_bytes: u64,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What it has become.
    pub unpacked: Unpacked,
}

/// Unpacks an archive; its skeleton goes to `skeleton`. The digests are what it has, to be compared
/// with what it should have before the result is used for anything.
///
/// # Errors
/// As `unpack::unpack`.
pub fn unpack(archive: impl Read, target: &Target, skeleton: File) -> Result<Layer> {
    let compressed = Shared(Rc::new(RefCell::new(Hashing::new(archive))));
    let plain = Hashing::new(decompress::decompress(compressed.clone())?);
    let mut entries = tar::Entries::new(plain, skeleton::Skeleton::new(skeleton));
    let unpacked = unpack::unpack(&mut entries, target)?;
    let (diff_id, _) = entries.finish()?.so_far();
    // What may follow the compressed stream is part of the digest.
    io::copy(&mut compressed.clone(), &mut io::sink()).map_err(tar::unreadable)?;
    let (digest, compressed_bytes) = compressed.0.borrow().so_far();
    Ok(Layer { digest, compressed_bytes, diff_id, unpacked })
}

/// A reader that the decompressor owns and we still need.
struct Shared<R>(Rc<RefCell<Hashing<R>>>);

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(into)
    }
}
