//! Signal numbers, and the names people give them.

use std::{fmt, str::FromStr};

use nix::sys::signal::SigSet;

use crate::error::{Error, Result};

/// What `SIGRTMIN` and `SIGRTMAX` are to everyone who names a signal. Not the C library's: musl keeps
/// one more to itself, and its first would be another one than the container's.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// Every signal, also those that the C library keeps to itself: they may be meant for a container.
pub fn all() -> SigSet {
    let mut set = *SigSet::all().as_ref();
    // SAFETY: each kind of sigset_t begins with the kernel's, which has a bit for each of 64 signals.
    unsafe { (&raw mut set).cast::<u64>().write(u64::MAX) };
    // SAFETY: it was a valid set, and every bit means a signal.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// A signal number that the kernel knows, or 0, which only asks whether the process exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// What `kill` sends when no signal is named.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Cannot be caught, blocked or ignored.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// The number, 0 to `SIGRTMAX`.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(known) => f.write_str(known.as_str()),
            Err(_) => self.0.fmt(f),
        }
    }
}

/// Names that are not the kernel's first name of their number.
const ALIASES: &[(&str, i32)] =
    &[("IOT", libc::SIGABRT), ("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO), ("UNUSED", 31)];

/// Numbers (`9`, `0`), names in any case with or without `SIG` (`kill`, `SIGKILL`), and the
/// real-time signals relative to either end (`RTMIN+3`, `SIGRTMAX-1`).
///
/// Source: signal(7).
impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = name
            .parse()
            .ok()
            .filter(|_| name == text && !text.starts_with('+'))
            .or_else(|| real_time(name))
            .or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, n)| *n))
            .or_else(|| format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(number));
        match number {
            Some(number) if (0..=RT_MAX).contains(&number) => Ok(Self(number)),
            _ => Err(Error::Invalid(format!("unknown signal {text:?}"))),
        }
    }
}

fn number(signal: nix::sys::signal::Signal) -> i32 {
    signal as i32
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`, as long as the result is a real-time signal.
fn real_time(name: &str) -> Option<i32> {
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (RT_MIN, distance(rest, '+')?),
        (_, Some(rest)) => (RT_MAX, -distance(rest, '-')?),
        (None, None) => return None,
    };
    let number = base.checked_add(offset)?;
    (RT_MIN..=RT_MAX).contains(&number).then_some(number)
}

/// The number after `sign`; 0 if there is nothing at all.
fn distance(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let (min, max) = (RT_MIN, RT_MAX);
        let table = [
            ("0", 0),
            ("9", 9),
            ("15", 15),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("kill", 9),
            ("SigTerm", 15),
            ("HUP", 1),
            ("USR1", libc::SIGUSR1),
            ("WINCH", libc::SIGWINCH),
            ("STKFLT", libc::SIGSTKFLT),
            ("IOT", libc::SIGABRT),
            ("SIGPOLL", libc::SIGIO),
            ("SYS", libc::SIGSYS),
            ("RTMIN", min),
            ("SIGRTMIN+3", min + 3),
            ("rtmin+0", min),
            ("RTMAX", max),
            ("RTMAX-14", max - 14),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Signal>().unwrap().number(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_named_in_the_error() {
        for text in [
            "NOSUCH",
            "",
            "SIG",
            "-9",
            "+9",
            "65",
            "SIG9",
            " 9",
            "9 ",
            "0x9",
            "99999999999",
            "RTMIN-1",
            "RTMIN+99",
            "RTMIN+",
            "RTMIN+-1",
            "RTMAX+1",
            "RTMIN+2147483647",
            "SIGSIGKILL",
        ] {
            let error = text.parse::<Signal>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown signal {text:?}"));
        }
    }

    #[test]
    fn the_name_is_shown_where_there_is_one() {
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
        assert_eq!("RTMIN+1".parse::<Signal>().unwrap().to_string(), "35");
    }
}
