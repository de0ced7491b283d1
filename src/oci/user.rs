//! `exec --user`.

use crate::error::{Error, Result};

/// Largest uid or gid; the one above it, -1, means "leave as it is" to the kernel.
pub const MAX_ID: u32 = u32::MAX - 1;

/// The ids of a process, from the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserIds {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container; the container's own process decides without one.
    pub gid: Option<u32>,
}

/// Reads `uid[:gid]`. Names are refused: they would have to be looked up in files that the
/// container can write.
///
/// # Errors
/// [`Error::Invalid`] if an id is not a decimal number from 0 to [`MAX_ID`].
pub fn parse(text: &str) -> Result<UserIds> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let gid = gid.map(|gid| parse_id(gid, "gid", text)).transpose()?;
    Ok(UserIds { uid: parse_id(uid, "uid", text)?, gid })
}

fn parse_id(id: &str, what: &str, text: &str) -> Result<u32> {
    // `parse` alone would also take a sign.
    let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    match id.parse() {
        Ok(id @ 0..=MAX_ID) if digits => Ok(id),
        _ => Err(Error::Invalid(format!(
            "user {text:?}: {what} {id:?} must be a number from 0 to {MAX_ID} (names are not looked up)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted() {
        for (text, uid, gid) in [
            ("0", 0, None),
            ("1000", 1000, None),
            ("1:2", 1, Some(2)),
            ("4294967294:4294967294", MAX_ID, Some(MAX_ID)),
            ("007", 7, None),
        ] {
            assert_eq!(parse(text).unwrap(), UserIds { uid, gid }, "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "root",
            "root:root",
            "1:wheel",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1\n",
            "0x0",
            "1.0",
            "1e3",
            "1:2:3",
            "4294967295",
            "4294967296",
            "1:4294967295",
            "99999999999999999999999",
            "１",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("0 to 4294967294"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip(uid in 0..=MAX_ID, gid in 0..=MAX_ID) {
            prop_assert_eq!(parse(&uid.to_string()).unwrap(), UserIds { uid, gid: None });
            prop_assert_eq!(
                parse(&format!("{uid}:{gid}")).unwrap(), UserIds { uid, gid: Some(gid) });
        }

        #[test]
        fn larger_ids_are_refused(id in u64::from(u32::MAX)..) {
            prop_assert!(parse(&id.to_string()).is_err());
        }

        #[test]
        fn anything_that_is_accepted_is_digits_and_one_colon(text in ".{0,12}") {
            if parse(&text).is_ok() {
                prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b':'));
            }
        }
    }
}
