//! For archives of images: where their files lie, and whether they are compressed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

pub use super::entry::{Entry, Kind};

use super::decompress;
use super::skeleton::Skeleton;
use super::tar::Entries;
use crate::error::{OsContext, Result};

/// Whether these first bytes are those of something compressed.
#[must_use]
pub fn is_compressed(magic: &[u8]) -> bool {
    !matches!(decompress::kind(magic), decompress::Compression::None)
}

/// The content of a compressed file.
///
/// # Errors
/// [`crate::error::Error::Invalid`] for a compression that is not known.
pub fn decompress<'a>(file: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    decompress::decompress(file)
}

/// The entries of a file, and where their contents are.
#[derive(Debug)]
pub struct Index<'a> {
    file: &'a File,
    entries: Entries<BufReader<&'a File>>,
}

impl<'a> Index<'a> {
    /// Begins to read.
    #[must_use]
    pub fn new(file: &'a File) -> Self {
        // Small: most of the file is passed over.
        let entries = Entries::new(BufReader::with_capacity(4096, file), Skeleton::none());
        Self { file, entries }
    }

    /// The next entry and the offset of its content.
    ///
    /// # Errors
    /// As `Entries::advance`.
    pub fn advance(&mut self) -> Result<Option<(Entry, u64)>> {
        let Some(entry) = self.entries.advance()? else { return Ok(None) };
        let buffered = self.entries.input().buffer().len() as u64;
        let mut file = self.file;
        let offset = file.stream_position().os("seek", || "the archive")? - buffered;
        let (left, padding) = self.entries.rest();
        let next = offset + left + padding;
        self.entries.passed();
        self.entries.input().seek(SeekFrom::Start(next)).os("seek", || "the archive")?;
        Ok(Some((entry, offset)))
    }
}
