//! usage

use std::path::{Path, PathBuf};

use super::Place;
use crate::error::Result;

/// An emptyDir on disk with a limit; the supervisor checks it every ten seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeLimit {
    /// Name of the volume.
    pub volume: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Most it may hold.
    pub bytes: u64,
    /// The message of the pod that is evicted for it.
    pub message: String,
}

/// All emptyDirs of the pod that have a limit to be checked.
#[must_use]
pub fn size_limits(_place: &Place<'_>) -> Vec<SizeLimit> {
    vec![]
}

/// A count of what a directory holds, done in steps so that nobody waits for a huge one.
#[derive(Debug)]
pub struct Usage {
    bytes: u64,
}

impl Usage {
    /// Starts at a directory.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if it cannot be opened.
    pub fn new(_dir: &Path) -> Result<Self> {
        Ok(Self { bytes: 0 })
    }

    /// Looks at up to `entries` more; `Some(bytes)` when it has seen all.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`].
    pub fn step(&mut self, _entries: usize) -> Result<Option<u64>> {
        Ok(Some(self.bytes))
    }
}
