//! PAX records: what an entry of tar says that does not fit into its header.
//!
//! Source: pax(1), "pax Extended Header"; the manual of GNU tar, "Storing Sparse Files".

use super::tar::MAX_PIECES;
use crate::error::{Error, Result};

/// Prefix of the keys of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one entry.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Path of a sparse file; `path` is for readers that do not know of them.
    pub(super) sparse_name: Option<Vec<u8>>,
    /// Size of a sparse file.
    pub(super) sparse_size: Option<u64>,
    /// Map of a sparse file, format 0.1.
    pub(super) sparse_map: Option<Vec<(u64, u64)>>,
    sparse_major: Option<u64>,
}

impl Pax {
    /// Whether the content begins with the map of a sparse file.
    pub(super) fn is_sparse_1(&self) -> bool {
        self.sparse_major == Some(1)
    }

    /// Takes in records. Values may hold any byte, so lengths count, not lines.
    pub(super) fn read(&mut self, mut text: &[u8]) -> Result<()> {
        let wrong = || Error::Invalid("an entry has malformed PAX records".into());
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length = decimal(&text[..space]).ok_or_else(wrong)?;
            let length = usize::try_from(length).map_err(|_large| wrong())?;
            if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &text[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            self.set(&record[..equals], &record[equals + 1..]).ok_or_else(|| {
                let key = String::from_utf8_lossy(&record[..equals]).into_owned();
                Error::Invalid(format!("an entry has a malformed PAX record {key:?}"))
            })?;
            text = &text[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse_major = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse_name = Some(name(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse_size = Some(decimal(value)?),
            b"GNU.sparse.map" => self.sparse_map = Some(map(value)?),
            // The map of format 0.0 is in records that come again and again.
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return None,
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name(attribute)?, value.to_owned()));
                }
            }
        }
        Some(())
    }
}

/// Names end at no NUL: there is none in them.
fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_owned())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Seconds with a fraction, maybe negative.
fn time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) = (whole.parse().ok()?, digits.parse().ok()?);
    match (whole.starts_with('-'), nanoseconds) {
        (false, _) | (true, 0) => Some((seconds, nanoseconds)),
        (true, _) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
    }
}

fn map(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    let numbers: Vec<u64> = text.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?;
    let pieces: Vec<(u64, u64)> = numbers.chunks_exact(2).map(|two| (two[0], two[1])).collect();
    (numbers.len().is_multiple_of(2) && pieces.len() <= MAX_PIECES).then_some(pieces)
}

/// The map of a sparse file of format 1.0: numbers, one a line, padded to a block.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    rest: Vec<u8>,
}

impl MapReader {
    /// Takes in a block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<()> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                self.rest.push(*byte);
                if self.rest.len() > 20 {
                    return Err(malformed());
                }
                continue;
            }
            let number = decimal(&self.rest).ok_or_else(malformed)?;
            if self.numbers.is_empty() && number > MAX_PIECES as u64 {
                return Err(Error::Invalid(format!(
                    "a sparse file has {number} pieces, at most {MAX_PIECES} are read"
                )));
            }
            self.numbers.push(number);
            self.rest.clear();
        }
        Ok(())
    }

    /// Whether no more blocks are needed.
    pub(super) fn is_complete(&self) -> bool {
        self.numbers.first().is_some_and(|count| self.numbers.len() as u64 == 1 + 2 * count)
    }

    pub(super) fn pieces(&self) -> Result<Vec<(u64, u64)>> {
        let numbers = self.numbers.get(1..).ok_or_else(malformed)?;
        Ok(numbers.chunks_exact(2).map(|two| (two[0], two[1])).collect())
    }
}

fn malformed() -> Error {
    Error::Invalid("a sparse file has a malformed map".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length.to_string().len() + body != length {
            length += 1;
        }
        let mut text = format!("{length} {key}=").into_bytes();
        text.extend_from_slice(value);
        text.push(b'\n');
        text
    }

    #[test]
    fn values_hold_any_byte() {
        let mut pax = Pax::default();
        let binary = b"\x01\n=\0\n12 x=y\n";
        let mut text = record("SCHILY.xattr.security.capability", binary);
        text.extend(record("path", "é/x".as_bytes()));
        text.extend(record("mtime", b"-1.25"));
        text.extend(record("uid", b"3000000000"));
        pax.read(&text).unwrap();
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), binary.to_vec())]);
        assert_eq!(pax.path.unwrap(), "é/x".as_bytes());
        assert_eq!(pax.mtime, Some((-2, 750_000_000)));
        assert_eq!(pax.uid, Some(3_000_000_000));
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in [
            &b"5 a=b\n"[..],
            b"x",
            b"99 a=b\n",
            b"6 ab\n",
            b"18446744073709551616 a=b\n",
            b"0 \n",
            &record("size", b"-1"),
            &record("path", b"a\0b"),
            &record("GNU.sparse.map", b"1,2,3"),
            &record("GNU.sparse.offset", b"1"),
        ] {
            assert!(Pax::default().read(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
