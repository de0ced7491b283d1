//! A stream of tar, entry by entry, with everything in it bounded but the content of files.
//!
//! Blocks are parsed by the `tar` crate; long names, PAX records and sparse maps here, because who
//! has made the archive decides how long they are. The bytes that are no content of a regular
//! file go to a [`Skeleton`], from which the very same archive can be put together again.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::entry::{Entry, Kind, check_pieces, id, number, special};
use super::pax::{self, Pax};
use super::skeleton::Skeleton;
use crate::error::{Error, Result};

/// A block, bytes.
const BLOCK: usize = 512;
/// Longest name or set of PAX records of one entry, bytes. Source: that of Go's `archive/tar`.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most pieces of a sparse file.
pub(super) const MAX_PIECES: usize = 65_536;

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct Entries<R> {
    input: R,
    skeleton: Skeleton,
    /// Bytes of content of the current entry that have not been read.
    left: u64,
    /// Bytes after it, to the end of the block.
    padding: u64,
    ended: bool,
}

impl<R: Read> Entries<R> {
    /// Begins to read.
    pub(super) fn new(input: R, skeleton: Skeleton) -> Self {
        Self { input, skeleton, left: 0, padding: 0, ended: false }
    }

    /// The next entry; `None` when the archive has been read to its last byte.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no tar, or is cut off.
    pub(super) fn advance(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut extension = Pax::default();
        loop {
            let Some(header) = self.header()? else {
                self.drain()?;
                return Ok(None);
            };
            let size = number(header.entry_size(), "size")?;
            match header.entry_type() {
                EntryType::GNULongName => extension.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extension.link = Some(self.long_name(size)?),
                EntryType::XHeader => extension.read(&self.extension(size)?)?,
                // Of no meaning to a file system: the comment of `git archive`, and the like.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                kind => return self.entry(&header, kind, extension).map(Some),
            }
        }
    }

    /// Reads the content of the current entry.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content { entries: self }
    }

    /// Ends the skeleton. All entries must have been read.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be written.
    pub(super) fn finish(self) -> Result<R> {
        self.skeleton.finish()?;
        Ok(self.input)
    }

    /// What is read from.
    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// What has not been read of the current entry, bytes: content, and what fills its last block.
    pub(super) fn rest(&self) -> (u64, u64) {
        (self.left, self.padding)
    }

    /// The caller has passed over that.
    pub(super) fn passed(&mut self) {
        (self.left, self.padding) = (0, 0);
    }

    fn entry(&mut self, header: &Header, kind: EntryType, mut pax: Pax) -> Result<Entry> {
        let size = pax.size.map_or_else(|| number(header.entry_size(), "size"), Ok)?;
        let raw = pax.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let has_content =
            matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        self.left = if has_content { size } else { 0 };
        self.padding = padding(self.left);
        let (kind, size) = match kind {
            EntryType::Regular | EntryType::Continuous => match self.pax_sparse(&mut pax)? {
                Some(pieces) => (Kind::Sparse(pieces), pax.sparse_size.unwrap_or_default()),
                // Before there were types, a name with a slash at its end was a directory.
                None if raw.ends_with(b"/") => (Kind::Directory, 0),
                None => (Kind::File, size),
            },
            EntryType::GNUSparse => {
                let (pieces, whole) = self.gnu_sparse(header)?;
                (Kind::Sparse(pieces), whole)
            }
            other => (special(header, other, &mut pax, &raw)?, 0),
        };
        if let Kind::Sparse(pieces) = &kind {
            check_pieces(pieces, self.left, size)?;
        }
        let path = pax.sparse_name.take().unwrap_or(raw);
        if kind == Kind::File && self.left > 0 {
            self.skeleton.file(&path, self.left)?;
        }
        let seconds =
            || number(header.mtime(), "mtime").map(|s| (i64::try_from(s).unwrap_or(0), 0));
        Ok(Entry {
            mode: number(header.mode(), "mode")? & 0o7777,
            uid: id(pax.uid.map_or_else(|| number(header.uid(), "uid"), Ok)?, "uid")?,
            gid: id(pax.gid.map_or_else(|| number(header.gid(), "gid"), Ok)?, "gid")?,
            mtime: pax.mtime.map_or_else(seconds, Ok)?,
            size,
            xattrs: pax.xattrs,
            path,
            kind,
        })
    }

    /// The map of a sparse file of PAX; in version 1.0 it is at the beginning of the content.
    fn pax_sparse(&mut self, pax: &mut Pax) -> Result<Option<Vec<(u64, u64)>>> {
        if pax.is_sparse_1() {
            let mut map = pax::MapReader::default();
            while !map.is_complete() {
                if self.left < BLOCK as u64 {
                    return Err(Error::Invalid("map of a sparse file is cut off".into()));
                }
                let block = self.block()?.ok_or_else(cut_off)?;
                self.skeleton.raw(&block)?;
                self.left -= BLOCK as u64;
                map.read(&block)?;
            }
            return map.pieces().map(Some);
        }
        Ok(pax.sparse_map.take())
    }

    /// The map of a sparse file of GNU tar, which may go on in the blocks after the header.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64)> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| Error::Invalid("a sparse file must have a header of GNU".into()))?;
        let mut pieces = Vec::new();
        let add = |pieces: &mut Vec<(u64, u64)>, parts: &[tar::GnuSparseHeader]| {
            for part in parts.iter().filter(|part| !part.is_empty()) {
                let piece =
                    (number(part.offset(), "sparse map")?, number(part.length(), "sparse map")?);
                pieces.push(piece);
            }
            if pieces.len() > MAX_PIECES {
                return Err(Error::Invalid(format!(
                    "a sparse file has more than {MAX_PIECES} pieces"
                )));
            }
            Ok(())
        };
        add(&mut pieces, &gnu.sparse)?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let block = self.block()?.ok_or_else(cut_off)?;
            self.skeleton.raw(&block)?;
            let mut more = tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            add(&mut pieces, more.sparse())?;
            goes_on = more.is_extended();
        }
        Ok((pieces, number(gnu.real_size(), "size")?))
    }

    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            // Some writers leave the two empty blocks out.
            self.ended = true;
            return Ok(None);
        };
        self.skeleton.raw(&block)?;
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum =
            |range: std::ops::Range<usize>| block[range].iter().map(|b| u32::from(*b)).sum::<u32>();
        let expected = sum(0..148) + 8 * 32 + sum(156..BLOCK);
        if header.cksum().ok() != Some(expected) {
            return Err(Error::Invalid("not a tar archive: a header has a wrong checksum".into()));
        }
        Ok(Some(header))
    }

    /// A whole block; `None` at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match read(&mut self.input, &mut block[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(cut_off()),
                count => have += count,
            }
        }
        Ok(Some(block))
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// The content of an entry that describes the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::Invalid(format!(
                "a name or set of attributes has {size} bytes, at most {MAX_EXTENSION} are read"
            )));
        }
        let whole = size + padding(size);
        let mut content = Vec::new();
        let count = (&mut self.input).take(whole).read_to_end(&mut content).map_err(unreadable)?;
        if (count as u64) < whole {
            return Err(cut_off());
        }
        self.skeleton.raw(&content)?;
        content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// Passes over what the caller has not read of the current entry.
    fn skip_rest(&mut self) -> Result<()> {
        io::copy(&mut self.content(), &mut io::sink()).map_err(unreadable)?;
        let mut padding = [0; BLOCK];
        let mut left = &mut padding[..usize::try_from(self.padding).unwrap_or(0)];
        self.padding = 0;
        while !left.is_empty() {
            let count = read(&mut self.input, left)?;
            if count == 0 {
                // Nothing is missing but what fills the block: umoci's `insert` leaves it out.
                self.ended = true;
                break;
            }
            let (have, rest) = left.split_at_mut(count);
            self.skeleton.raw(have)?;
            left = rest;
        }
        Ok(())
    }

    /// What follows the end of an archive belongs to its digest.
    fn drain(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match read(&mut self.input, &mut buffer)? {
                0 => return Ok(()),
                count => self.skeleton.raw(&buffer[..count])?,
            }
        }
    }
}

/// The content of an entry.
#[derive(Debug)]
pub(super) struct Content<'a, R> {
    entries: &'a mut Entries<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.entries.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.entries.input.read(&mut into[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.entries.left -= count as u64;
        Ok(count)
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn read(input: &mut impl Read, into: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(unreadable),
        }
    }
}

pub(super) fn unreadable(error: io::Error) -> Error {
    Error::Invalid(format!("cannot be read: {error}"))
}

fn cut_off() -> Error {
    Error::Invalid("the archive is cut off".into())
}
