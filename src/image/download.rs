//! Archives of layers on their way: kept where they were cut off, gone on with from there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt;

use super::digest::Digest;
use super::manifest::Blob;
use super::progress::{Event, Progress};
use super::store::Store;
use super::transport::registry::{Part, Registry};
use crate::error::{Error, OsContext, Result};

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// How often to look whether another process has fetched it.
const POLL: Duration = Duration::from_millis(50);

/// Fetches an archive, or waits for who does. `None` if its layer has come into the store meanwhile.
///
/// # Errors
/// [`Error::Invalid`] with what the registry said last.
pub(super) async fn fetch(
    store: &Store,
    registry: &Registry,
    (blob, chain): (&Blob, &Digest),
    progress: &dyn Progress,
) -> Result<Option<File>> {
    let _lock = loop {
        if let Some(lock) = store.try_lock_download(&blob.digest)? {
            break lock;
        }
        tokio::time::sleep(POLL).await;
    };
    if store.has_layer(chain) {
        return Ok(None);
    }
    let mut transfer = Transfer::open(store, registry, blob, progress)?;
    let mut failures = 0;
    while transfer.have < blob.size {
        let before = transfer.have;
        let Err(failed) = transfer.attempt().await else { break };
        failures = if transfer.have > before { 1 } else { failures + 1 };
        if !failed.may_retry || failures >= ATTEMPTS {
            return Err(Error::Invalid(format!("layer {}: {}", blob.digest.short(), failed.why)));
        }
        progress.event(Event::Retry { layer: &blob.digest, why: &failed.why });
        tokio::time::sleep(FIRST_DELAY * 2_u32.pow(failures - 1)).await;
    }
    Ok(Some(transfer.file))
}

/// Removes what was fetched.
pub(super) fn forget(store: &Store, blob: &Blob) {
    let _gone = std::fs::remove_file(path(store, blob));
}

fn path(store: &Store, blob: &Blob) -> PathBuf {
    store.path("downloads").join(blob.digest.hex())
}

struct Transfer<'a> {
    registry: &'a Registry,
    blob: &'a Blob,
    progress: &'a dyn Progress,
    file: File,
    /// Bytes in the file.
    have: u64,
}

use super::transport::registry::Failed;

impl<'a> Transfer<'a> {
    fn open(
        store: &Store,
        registry: &'a Registry,
        blob: &'a Blob,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let path = path(store, blob);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&path)
            .os("open", || path.display())?;
        let mut have = file.metadata().os("stat", || path.display())?.len();
        if have > blob.size {
            file.set_len(0).os("truncate", || path.display())?;
            have = 0;
        }
        progress.event(Event::Fetched(have));
        Ok(Self { registry, blob, progress, file, have })
    }

    async fn attempt(&mut self) -> Result<(), Failed> {
        let part = self.registry.part(self.blob, self.have).await?;
        if part.from_beginning && self.have > 0 {
            self.progress.event(Event::Dropped(self.have));
            self.file.set_len(0).map_err(|error| final_failure(&error))?;
            self.have = 0;
        }
        self.take(part).await
    }

    async fn take(&mut self, mut part: Part) -> Result<(), Failed> {
        loop {
            let piece = part.stream.try_next().await;
            let piece = piece.map_err(|error| Failed {
                why: self.registry.broken(&error).to_string(),
                may_retry: true,
            })?;
            let Some(piece) = piece else { break };
            // More than it should be is found out by its digest; the disk is not filled with it.
            if self.have + piece.len() as u64 > self.blob.size {
                return Err(Failed {
                    why: format!("the registry sends more than {} bytes", self.blob.size),
                    may_retry: false,
                });
            }
            self.file.write_all(&piece).map_err(|error| final_failure(&error))?;
            self.have += piece.len() as u64;
            self.progress.event(Event::Fetched(piece.len() as u64));
        }
        if self.have == self.blob.size {
            return Ok(());
        }
        let (have, size) = (self.have, self.blob.size);
        Err(Failed { why: format!("cut off after {have} of {size} bytes"), may_retry: true })
    }
}

fn final_failure(error: &std::io::Error) -> Failed {
    Failed { why: format!("write to the store: {error}"), may_retry: false }
}
