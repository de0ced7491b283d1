//! What an entry of an archive is, and how its fields are read.

use std::io;

use tar::{EntryType, Header};

use super::pax::Pax;
use crate::error::{Error, Result};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content follows.
    File,
    /// A regular file whose content is these pieces (offset, length), one after the other.
    Sparse(Vec<(u64, u64)>),
    /// A directory.
    Directory,
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// Another name of the file of this path.
    HardLink(Vec<u8>),
    /// A character device, major and minor number.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry of an archive. Nothing in it has been checked against anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds of the epoch, nanoseconds.
    pub mtime: (i64, i64),
    /// Size of the file that it becomes, bytes.
    pub size: u64,
    /// Extended attributes, by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What has no content.
pub(super) fn special(
    header: &Header,
    kind: EntryType,
    pax: &mut Pax,
    path: &[u8],
) -> Result<Kind> {
    let mut link = || {
        let of_header = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
        pax.link.take().or_else(of_header).unwrap_or_default()
    };
    let device = || {
        let field =
            |part: io::Result<Option<u32>>| number(part, "device").map(Option::unwrap_or_default);
        Ok::<_, Error>((field(header.device_major())?, field(header.device_minor())?))
    };
    Ok(match kind {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link()),
        EntryType::Link => Kind::HardLink(link()),
        EntryType::Char => device().map(|(major, minor)| Kind::Char(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(Error::Invalid(format!(
                "{}: entries of type {:?} are not known",
                show(path),
                char::from(other.as_byte())
            )));
        }
    })
}

/// The pieces of a sparse file follow each other, lie in the file, and are what there is.
pub(super) fn check_pieces(pieces: &[(u64, u64)], content: u64, size: u64) -> Result<()> {
    let wrong = || Error::Invalid("the map of a sparse file does not agree with its size".into());
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in pieces {
        if *offset < end {
            return Err(wrong());
        }
        end = offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(wrong)?;
        sum += length;
    }
    if sum == content { Ok(()) } else { Err(wrong()) }
}

pub(super) fn number<T>(value: io::Result<T>, field: &str) -> Result<T> {
    value.map_err(|error| Error::Invalid(format!("{field} of an entry: {error}")))
}

/// The largest number means "unchanged" to chown(2).
pub(super) fn id(value: u64, field: &str) -> Result<u32> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
        Error::Invalid(format!(
            "{field} {value} of an entry must be between 0 and {}",
            u32::MAX - 1
        ))
    })
}

/// A name of the archive, for people.
pub(super) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}
