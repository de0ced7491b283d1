//! stdout. Nothing else in carob writes to it.

use std::io::{self, Write};

use nix::errno::Errno;
use serde::Serialize;

use crate::error::{Error, OsContext, Result};

const WRITE: &str = "write to";
const STDOUT: &str = "stdout";

/// Writes to stdout and flushes.
///
/// # Errors
/// The errno of write(2); `EPIPE` when the reader has gone, which [`reader_left`] recognises.
pub(super) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// As [`print()`], for what may not be text: the output of a container.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).os(WRITE, || STDOUT)
}

/// Writes a value as one line of JSON.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(value).map_err(unserialisable)? + "\n"))
}

/// Writes a value as JSON for people, indented by two spaces.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value).map_err(unserialisable)? + "\n"))
}

/// A value of ours that JSON cannot hold: a path that is not UTF-8.
pub(super) fn unserialisable(error: serde_json::Error) -> Error {
    Error::Invalid(format!("write JSON: {error}"))
}

/// Whether an error only says that nobody reads our stdout any more (`carob list | head -1`):
/// whoever left has what he wanted.
pub(super) fn reader_left(error: &Error) -> bool {
    matches!(error, Error::Os { op, target, .. } if *op == WRITE && target == STDOUT)
        && error.errno() == Some(Errno::EPIPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_stdout_is_silent() {
        let broken = |op, target: &str, errno: Errno| Error::Os {
            op,
            target: target.into(),
            source: errno.into(),
        };
        assert!(reader_left(&broken(WRITE, STDOUT, Errno::EPIPE)));
        assert!(!reader_left(&broken(WRITE, STDOUT, Errno::ENOSPC)));
        assert!(!reader_left(&broken("send", "console socket", Errno::EPIPE)));
        assert!(!reader_left(&Error::NotFound { id: "c".into() }));
    }
}
