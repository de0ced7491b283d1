//! Layers are compressed in ways that their first bytes tell.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::tar::unreadable;
use crate::error::{Error, Result};

/// Largest window of zstd, as a power of two: what its own tool accepts. It bounds our memory.
const WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 << 10;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    /// What is not supported.
    Other(&'static str),
}

/// By the first bytes, and not by what a manifest says of it.
pub(super) fn kind(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one to be skipped, with which zstd:chunked could begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Compression::Other("xz"),
        _ => Compression::None,
    }
}

/// The uncompressed content of a layer.
///
/// # Errors
/// [`Error::Invalid`] for a compression that is not known.
pub(super) fn decompress<'a>(input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    match kind(input.fill_buf().map_err(unreadable)?) {
        Compression::None => Ok(Box::new(input)),
        Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => {
            let mut decoder = ZstdDecoder::with_buffer(input).map_err(unreadable)?;
            decoder.window_log_max(WINDOW_LOG).map_err(unreadable)?;
            Ok(Box::new(decoder))
        }
        Compression::Other(name) => Err(Error::Invalid(format!(
            "compressed with {name}; layers may be plain tar, gzip or zstd"
        ))),
    }
}
