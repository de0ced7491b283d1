//! Locks of a store: bytes of one file, so that there is a lock for every digest and no litter.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use super::Store;
use crate::error::{OsContext, Result};
use crate::image::digest::Digest;
use crate::sys::fd::{self, Access};

/// Held by who adds, in common, and by who removes, alone.
const CONTENT: i64 = 0;
/// Held by who changes `images.json`.
const TABLE: i64 = 1;
/// Digests are beyond.
const DIGESTS: i64 = 1 << 8;

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Store {
    /// Nothing of the store is removed as long as this is held.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`].
    pub fn lock_content(&self) -> Result<Lock> {
        self.prepare()?;
        self.lock(CONTENT, Access::Shared)
    }

    /// Nobody else adds anything, or relies on what nobody refers to.
    pub(super) fn lock_for_removal(&self) -> Result<Lock> {
        self.prepare()?;
        self.lock(CONTENT, Access::Exclusive)
    }

    pub(super) fn lock_table(&self) -> Result<Lock> {
        self.lock(TABLE, Access::Exclusive)
    }

    /// One process at a time unpacks a layer.
    pub(super) fn lock_layer(&self, chain: &Digest) -> Result<Lock> {
        self.lock(place(chain, 0), Access::Exclusive)
    }

    /// One process at a time fetches an archive; `None` if another one does.
    pub(in crate::image) fn try_lock_download(&self, blob: &Digest) -> Result<Option<Lock>> {
        let file = self.open_lock()?;
        let locked = fd::try_lock_byte(&file, place(blob, 1), Access::Exclusive)
            .os("lock", || "the store of images")?;
        Ok(locked.then_some(Lock { _file: file }))
    }

    fn lock(&self, byte: i64, access: Access) -> Result<Lock> {
        let file = self.open_lock()?;
        let at_once =
            fd::try_lock_byte(&file, byte, access).os("lock", || "the store of images")?;
        if !at_once {
            crate::log::debug(format_args!("waiting for another carob that uses the images"));
            fd::lock_byte(&file, byte, access).os("lock", || "the store of images")?;
        }
        Ok(Lock { _file: file })
    }

    fn open_lock(&self) -> Result<File> {
        let path = self.path("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&path)
            .os("open", || path.display())
    }
}

/// A byte for a digest; two that meet only wait for each other.
fn place(digest: &Digest, kind: i64) -> i64 {
    let bytes = digest.prefix();
    let number = i64::from_be_bytes(bytes) & (i64::MAX >> 2);
    DIGESTS + (number & !1) + kind
}
