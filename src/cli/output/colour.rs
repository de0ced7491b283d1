//! Colours, where somebody sees them.

use super::terminal_width;

/// What a colour says. Source: ECMA-48, SGR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Colour {
    /// Of minor importance.
    Dim,
    /// As it should be.
    Green,
    /// Not yet, or not any more.
    Yellow,
    /// Wrong.
    Red,
    /// On its way.
    Blue,
    /// Ending.
    Magenta,
}

impl Colour {
    const fn code(self) -> u8 {
        match self {
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Blue => 34,
            Self::Magenta => 35,
        }
    }
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Paint {
    /// A terminal.
    Colours,
    /// Anything else, or `NO_COLOR` is set (no-color.org).
    Plain,
}

impl Paint {
    /// What suits stdout.
    pub(in crate::cli) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal_width().is_some() && !unwanted { Self::Colours } else { Self::Plain }
    }

    /// The text, which is [`super::plain()`] already, in a colour.
    pub(in crate::cli) fn paint(self, colour: Colour, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colours => format!("\x1b[{}m{text}\x1b[0m", colour.code()),
        }
    }
}
