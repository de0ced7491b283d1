//! Text from containers and manifests, made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text in one line without anything that a terminal obeys: control characters of both sets
/// and those that turn the direction of writing are written as `\n`, `\u{1b}`.
pub(in crate::cli) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => plain.push_str("\\n"),
            '\t' => plain.push(' '),
            '\r' => plain.push_str("\\r"),
            _ if is_obeyed(character) => drop(write!(plain, "{}", character.escape_unicode())),
            _ => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

/// Whether a character does something instead of being shown.
pub(super) fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text in at most `width` characters, the last one `…` if it was longer.
pub(in crate::cli) fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        for (text, shown) in [
            ("grüße, 世界", "grüße, 世界"),
            ("\x1b]0;owned\x07", "\\u{1b}]0;owned\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\nb\r\tc\x7f", "a\\nb\\r c\\u{7f}"),
            ("x\u{202e}y", "x\\u{202e}y"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn what_is_too_long_says_so() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "ab…");
        assert_eq!(shortened("abcd", 0), "");
    }
}
