//! stdout. Nothing else in carob writes to it.

mod colour;
mod format;
mod plain;
mod size;
mod table;
mod yaml;

use std::io::{self, IsTerminal, Write};

use nix::errno::Errno;
use serde::Serialize;

pub(super) use self::colour::{Colour, Paint};
pub(super) use self::format::{Format, print_object};
pub(super) use self::plain::{plain, shortened};
pub(super) use self::size::size;
pub(super) use self::table::{KUBECTL, RUNC, Table};
pub(super) use self::yaml::to_yaml;
use crate::error::{Error, OsContext, Result};
use crate::sys::tty;

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

/// Characters in a line of stdout; none if it is no terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = tty::window_size(&stdout).map_or(0, |size| usize::from(size.columns));
    Some(if columns == 0 { 80 } else { columns })
}

/// Writes a value as one line of JSON.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<()> {
    print(&(harmless(serde_json::to_string(value).map_err(unserialisable)?) + "\n"))
}

/// Writes a value as JSON for people, indented by two spaces.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(harmless(serde_json::to_string_pretty(value).map_err(unserialisable)?) + "\n"))
}

/// JSON escapes only the first set of control characters by itself; this escapes the rest of what
/// a terminal obeys, which can be nowhere but in strings.
fn harmless(json: String) -> String {
    let obeyed = |character: char| character != '\n' && plain::is_obeyed(character);
    if !json.contains(obeyed) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if obeyed(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
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
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({"a\u{9b}b": "\u{1b}\u{7f}\u{202e}\u{e0001}é\n"});
        let text = harmless(serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(|c: char| c != '\n' && plain::is_obeyed(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

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
