//! Quantities of Kubernetes: `100m`, `1.5`, `64Mi`, `1e3`. Exact: integers of 10⁻⁹.
//!
//! Source: Kubernetes API, `Quantity`: the grammar, 2⁶³−1 as the largest magnitude, and rounding
//! away from zero.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{Add, Sub};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// Parts of one unit.
const UNIT: i128 = 1_000_000_000;
/// Parts of a thousandth.
const MILLI: i128 = 1_000_000;
/// Largest magnitude, in parts.
const MAX: i128 = (i64::MAX as i128) * UNIT;
/// Digits that are counted exactly: `MAX` has 28.
const DECIMAL_DIGITS: usize = 28;
/// As many times 2⁶⁰ still fit.
const BINARY_DIGITS: usize = 19;

/// A quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// What a suffix multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// 10 to the power of this.
    Ten(i32),
    /// 2 to the power of this.
    Two(u32),
}

const SUFFIXES: &[(&str, Scale)] = &[
    ("", Scale::Ten(0)),
    ("n", Scale::Ten(-9)),
    ("u", Scale::Ten(-6)),
    ("m", Scale::Ten(-3)),
    ("k", Scale::Ten(3)),
    ("M", Scale::Ten(6)),
    ("G", Scale::Ten(9)),
    ("T", Scale::Ten(12)),
    ("P", Scale::Ten(15)),
    ("E", Scale::Ten(18)),
    ("Ki", Scale::Two(10)),
    ("Mi", Scale::Two(20)),
    ("Gi", Scale::Two(30)),
    ("Ti", Scale::Two(40)),
    ("Pi", Scale::Two(50)),
    ("Ei", Scale::Two(60)),
];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0 };

    /// That many units.
    #[must_use]
    pub fn units(units: u64) -> Self {
        Self { nanos: (i128::from(units) * UNIT).min(MAX) }
    }

    /// That many thousandths.
    #[must_use]
    pub fn millis(millis: u64) -> Self {
        Self { nanos: (i128::from(millis) * MILLI).min(MAX) }
    }

    /// Reads one; more than nine decimals are rounded away from zero, what is too large becomes
    /// the largest.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let scale = scale(suffix)?;
        let nanos = magnitude(whole, fraction, scale).min(MAX);
        Some(Self { nanos: if negative { -nanos } else { nanos } })
    }

    /// The entry of this name in `requests` or `limits`. The manifest has been checked: what is no
    /// quantity counts as absent.
    #[must_use]
    pub fn of(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<Self> {
        Self::parse(&list?.get(name)?.0)
    }

    /// In thousandths, rounded up.
    #[must_use]
    pub fn milli(self) -> i64 {
        saturate(ceil(self.nanos, MILLI))
    }

    /// In units, rounded up.
    #[must_use]
    pub fn value(self) -> i64 {
        saturate(ceil(self.nanos, UNIT))
    }

    /// Rounded up to thousandths, as the API keeps what is requested and limited.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        Self { nanos: ceil(self.nanos, MILLI) * MILLI }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX) }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { nanos: (self.nanos - other.nanos).clamp(-MAX, MAX) }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Self::add)
    }
}

fn scale(suffix: &str) -> Option<Scale> {
    if let Some((_, scale)) = SUFFIXES.iter().find(|(known, _)| *known == suffix) {
        return Some(*scale);
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Beyond this everything is zero or too large.
    let size: i32 = digits.parse().unwrap_or(i32::MAX).min(1_000_000);
    Some(Scale::Ten(if exponent.starts_with('-') { -size } else { size }))
}

/// The number in parts, at most a bit more than [`MAX`].
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let (keep, tens, factor) = match scale {
        Scale::Ten(tens) => (DECIMAL_DIGITS, tens, 1),
        Scale::Two(twos) => (BINARY_DIGITS, 0, 1_i128 << twos),
    };
    let digits = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
    let (mut mantissa, mut kept, mut dropped, mut lost) = (0_i128, 0, 0_i64, false);
    for digit in digits {
        if kept < keep {
            mantissa = mantissa * 10 + i128::from(digit - b'0');
            kept += 1;
        } else {
            dropped += 1;
            lost |= digit != b'0';
        }
    }
    let mantissa = mantissa * factor;
    let decimals = i64::try_from(fraction.len()).unwrap_or(i64::MAX / 4);
    let exponent = 9 + i64::from(tens) + dropped - decimals;
    let lost = i128::from(lost);
    if mantissa == 0 {
        return 0;
    }
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|e| 10_i128.checked_pow(e));
    match (power, exponent < 0) {
        (Some(power), false) => {
            mantissa.checked_mul(power).map_or(MAX, |parts| parts.saturating_add(lost))
        }
        (None, false) => MAX,
        (Some(power), true) => {
            let exact = lost == 0 || mantissa % power != 0;
            ceil(mantissa, power) + i128::from(!exact)
        }
        (None, true) => 1,
    }
}

/// Rounded up, towards +∞ for what is above zero; k8s rounds what is below away from zero.
fn ceil(parts: i128, of: i128) -> i128 {
    let rest = i128::from(parts % of != 0);
    parts / of + rest * parts.signum()
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values() {
        for (text, milli, value) in [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("+1", 1000, 1),
            ("100m", 100, 1),
            ("1.5", 1500, 2),
            (".5", 500, 1),
            ("5.", 5000, 5),
            ("0.1m", 1, 1),
            ("1n", 1, 1),
            ("1u", 1, 1),
            ("2k", 2_000_000, 2000),
            ("1M", 1_000_000_000, 1_000_000),
            ("1Ki", 1_024_000, 1024),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("0.1Ki", 102_400, 103),
            ("1e3", 1_000_000, 1000),
            ("1E3", 1_000_000, 1000),
            ("1E", i64::MAX, 1_000_000_000_000_000_000),
            ("12e-1", 1200, 2),
            ("1e+2", 100_000, 100),
            ("9Ei", i64::MAX, i64::MAX),
            ("1e100", i64::MAX, i64::MAX),
            ("1e-100", 1, 1),
            ("0e100", 0, 0),
            ("-1", -1000, -1),
            ("-1.5", -1500, -2),
            ("9223372036854775807", i64::MAX, i64::MAX),
            ("99999999999999999999999999999999999999999999", i64::MAX, i64::MAX),
            ("0.00000000000000000000000000000000000000000001", 1, 1),
            ("1.00000000000000000000000000000000000000000001", 1001, 2),
            ("000000000000000000000000000000000000000000001", 1000, 1),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!((quantity.milli(), quantity.value()), (milli, value), "{text}");
        }
    }

    #[test]
    fn malformed() {
        for text in [
            "", ".", "-", "+", "1.2.3", "1 ", " 1", "1x", "1mi", "1K", "1ki", "1e", "1e+", "1ee3",
            "1e1.5", "m", "Ki", "--1", "1-", "0x10", "１", "1e3k", "1Zi",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn equal_ones_are_equal() {
        for (a, b) in [("1", "1000m"), ("1Ki", "1024"), ("1e3", "1k"), ("0", "-0"), ("1G", "1e9")] {
            assert_eq!(Quantity::parse(a), Quantity::parse(b), "{a} {b}");
        }
        assert!(Quantity::parse("1Ki") > Quantity::parse("1k"));
        let third = Quantity::parse("0.3333333333").unwrap();
        assert_eq!(third.rounded_to_milli(), Quantity::millis(334));
    }

    proptest! {
        #[test]
        fn integers_are_exact(units in 0..i64::MAX / 1000) {
            let quantity = Quantity::parse(&units.to_string()).unwrap();
            prop_assert_eq!(quantity.value(), units);
            prop_assert_eq!(quantity.milli(), units * 1000);
        }

        #[test]
        fn binary_suffixes_are_exact(n in 0..1_000_000_i64, power in 0..4_usize) {
            let suffix = ["Ki", "Mi", "Gi", "Ti"][power];
            let quantity = Quantity::parse(&format!("{n}{suffix}")).unwrap();
            let expected = i128::from(n) << (10 * (power + 1));
            prop_assert_eq!(i128::from(quantity.value()), expected.min(i64::MAX.into()));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.eEnumkKMGTPi]{0,60}") {
            let _any = Quantity::parse(&text);
        }
    }
}
