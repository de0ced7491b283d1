//! The content of files, from an archive to the disk.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

use super::tar::unreadable;
use crate::error::{OsContext, Result};

/// Writes all that there is. Returns how much it was, bytes.
pub(super) fn copy(content: &mut impl Read, mut file: &File, buffer: &mut [u8]) -> Result<u64> {
    let mut written = 0;
    loop {
        let count = match content.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(unreadable)?,
        };
        if count == 0 {
            return Ok(written);
        }
        file.write_all(&buffer[..count]).os("write", || "the file")?;
        written += count as u64;
    }
}

/// Writes a piece of a sparse file: its offset and length.
pub(super) fn copy_piece(
    content: &mut impl Read,
    file: &File,
    buffer: &mut [u8],
    (mut offset, mut left): (u64, u64),
) -> Result<()> {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = &mut buffer[..most];
        content.read_exact(part).map_err(unreadable)?;
        file.write_all_at(part, offset).os("write", || "the file")?;
        offset += most as u64;
        left -= most as u64;
    }
    Ok(())
}
