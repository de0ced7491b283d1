//! What of an archive is not the content of a regular file, kept so that the archive can be made
//! again, byte by byte: no layer is stored twice.
//!
//! A gzip stream of frames: `0`, length (u32), bytes; or `1`, length (u32), path, size (u64): here
//! the content of that file. Numbers are little-endian.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nix::fcntl::OFlag;

use super::path::relative;
use crate::error::{Error, OsContext, Result};
use crate::sys::dir;

const RAW: u8 = 0;
const CONTENT: u8 = 1;
/// Longest frame that is read back, bytes.
const MAX_FRAME: u32 = 2 << 20;
/// Raw bytes are collected up to here.
const FLUSH: usize = 64 << 10;

/// A skeleton being written.
#[derive(Debug)]
pub(super) struct Skeleton {
    output: Option<GzEncoder<BufWriter<File>>>,
    raw: Vec<u8>,
}

impl Skeleton {
    /// Begins a new one.
    #[must_use]
    pub(super) fn new(file: File) -> Self {
        let output = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Self { output: Some(output), raw: Vec::new() }
    }

    /// For an archive that is only looked at.
    pub(super) fn none() -> Self {
        Self { output: None, raw: Vec::new() }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if self.output.is_none() {
            return Ok(());
        }
        self.raw.extend_from_slice(bytes);
        if self.raw.len() >= FLUSH { self.flush() } else { Ok(()) }
    }

    pub(super) fn file(&mut self, path: &[u8], size: u64) -> Result<()> {
        self.flush()?;
        self.frame(CONTENT, path)?;
        self.write(&size.to_le_bytes())
    }

    fn flush(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        for piece in raw.chunks(FLUSH) {
            self.frame(RAW, piece)?;
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut head = vec![kind];
        head.extend(length.to_le_bytes());
        self.write(&head)?;
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        output.write_all(bytes).os("write", || "the skeleton of a layer")
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let Some(output) = self.output else { return Ok(()) };
        let file = output.finish().os("write", || "the skeleton of a layer")?;
        let flushed = file.into_inner().map_err(io::IntoInnerError::into_error);
        flushed.os("write", || "the skeleton of a layer").map(drop)
    }
}

/// Writes the archive that a skeleton was taken from; `tree` is what it was unpacked to.
///
/// # Errors
/// [`Error::Invalid`] if the tree does not have what the archive had; [`Error::Os`].
pub fn rebuild(skeleton: File, tree: BorrowedFd, output: &mut impl Write) -> Result<()> {
    let mut input = BufReader::new(GzDecoder::new(BufReader::new(skeleton)));
    let damaged = |error: io::Error| Error::Invalid(format!("the skeleton is damaged: {error}"));
    let mut frame = Vec::new();
    loop {
        let mut kind = [0];
        if input.read(&mut kind).map_err(damaged)? == 0 {
            return Ok(());
        }
        let length = u32::from_le_bytes(array(&mut input).map_err(damaged)?);
        if length > MAX_FRAME {
            return Err(Error::Invalid(format!(
                "the skeleton is damaged: a frame of {length} bytes"
            )));
        }
        frame.resize(usize::try_from(length).unwrap_or(0), 0);
        input.read_exact(&mut frame).map_err(damaged)?;
        if kind[0] == RAW {
            output.write_all(&frame).os("write", || "the archive")?;
            continue;
        }
        let size = u64::from_le_bytes(array(&mut input).map_err(damaged)?);
        copy(tree, &relative(&frame)?, size, output)?;
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn copy(tree: BorrowedFd, path: &Path, size: u64, output: &mut impl Write) -> Result<()> {
    let name = || path.display();
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = File::from(dir::exactly(tree, path, flags).os("open", name)?);
    let is = file.metadata().os("stat", name)?;
    if !is.is_file() || is.len() != size {
        return Err(Error::Invalid(format!(
            "{} is no longer the file of {size} bytes that it was: the archive had it twice",
            path.display()
        )));
    }
    let copied = io::copy(&mut file, output).os("copy", name)?;
    if copied == size {
        Ok(())
    } else {
        Err(Error::Invalid(format!("{} has changed", path.display())))
    }
}
