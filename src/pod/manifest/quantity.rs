//! Quantities: `100m`, `0.5`, `64Mi`, `1e3`.
//!
//! Source: apimachinery `pkg/api/resource/quantity.go`; the API's doc comment of `Quantity`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths; what is finer is rounded up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

/// The largest quantity there is.
const MAX_MILLI: i128 = (i64::MAX as i128) * 1000;
/// Factors in thousandths, as a product and a divisor.
const SUFFIXES: [(&str, i128, i128); 16] = [
    ("", 1_000, 1),
    ("n", 1, 1_000_000),
    ("u", 1, 1_000),
    ("m", 1, 1),
    ("k", 1_000_000, 1),
    ("M", 1_000_000_000, 1),
    ("G", 1_000_000_000_000, 1),
    ("T", 1_000_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000_000, 1),
    ("Ki", 1_000 << 10, 1),
    ("Mi", 1_000 << 20, 1),
    ("Gi", 1_000 << 30, 1),
    ("Ti", 1_000 << 40, 1),
    ("Pi", 1_000 << 50, 1),
    ("Ei", 1_000 << 60, 1),
];

impl Amount {
    /// Parses what the API accepts; larger than 2^63-1 counts as that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (factor, divisor) = scale(suffix)?;
        let milli = scaled(whole, fraction, factor, divisor)?;
        Some(Self(if negative { -milli } else { milli }))
    }

    /// Of a quantity that has been checked; 0 if it has not.
    #[must_use]
    pub fn of(quantity: &Quantity) -> Self {
        Self::parse(&quantity.0).unwrap_or_default()
    }

    /// In thousandths.
    #[must_use]
    pub fn milli(self) -> i128 {
        self.0
    }

    /// In ones, rounded up.
    #[must_use]
    pub fn ones(self) -> i128 {
        self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) != 0)
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(MAX_MILLI))
    }
}

impl fmt::Display for Amount {
    /// With the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 != 0 {
            return write!(f, "{}m", self.0);
        }
        let ones = self.0 / 1000;
        let suffixes = ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"];
        for (power, suffix) in (1..=6).rev().zip(suffixes) {
            let unit = 1_i128 << (10 * power);
            if ones != 0 && ones % unit == 0 {
                return write!(f, "{}{suffix}", ones / unit);
            }
        }
        write!(f, "{ones}")
    }
}

/// The factor of a suffix in thousandths.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some((_, factor, divisor)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((*factor, *divisor));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    // Beyond these everything is 0 or the largest.
    let exponent: i32 = exponent.parse::<i32>().ok()?.clamp(-30, 30) + 3;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

/// `whole.fraction * factor / divisor`, rounded up.
fn scaled(whole: &str, fraction: &str, factor: i128, divisor: i128) -> Option<i128> {
    let whole = whole.trim_start_matches('0');
    if whole.len() > 30 {
        return Some(MAX_MILLI);
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (kept, dropped) = fraction.split_at(fraction.len().min(12));
    let mut part: i128 = format!("{kept:0<12}").parse().ok()?;
    if dropped.bytes().any(|digit| digit != b'0') {
        part += 1;
    }
    let unit = 1_000_000_000_000;
    let whole = whole.saturating_mul(factor);
    let divide = |value: i128, by: i128| value / by + i128::from(value % by != 0);
    let part = divide(part.saturating_mul(factor), unit);
    Some(divide(whole.saturating_add(part), divisor).min(MAX_MILLI))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths() {
        for (text, milli) in [
            ("1", 1000),
            ("100m", 100),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5000),
            ("-1", -1000),
            ("+1", 1000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1e-3", 1),
            ("1e-9", 1),
            ("0.1m", 1),
            ("1n", 1),
            ("1500u", 2),
            ("0.0000000000001", 1),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("99999999999999999999999E", MAX_MILLI),
            ("9E30", MAX_MILLI),
            ("0", 0),
            ("007", 7000),
        ] {
            assert_eq!(Amount::parse(text).map(Amount::milli), Some(milli), "{text}");
        }
        for text in
            ["", ".", "-", "1.2.3", "1x", "1 Mi", "Mi", "1e", "--1", "1mi", "1KI", "é", "1é"]
        {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
        assert_eq!(Amount::parse("1m").unwrap().ones(), 1);
    }

    #[test]
    fn amounts_are_written_with_the_largest_suffix() {
        for (text, written) in
            [("1024Mi", "1Gi"), ("1500m", "1500m"), ("1000", "1000"), ("0", "0"), ("2k", "2k")]
        {
            let written = written.replace("2k", "2000");
            assert_eq!(Amount::parse(text).unwrap().to_string(), written, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(milli in 0..MAX_MILLI) {
            proptest::prop_assert_eq!(Amount::parse(&Amount(milli).to_string()), Some(Amount(milli)));
        }

        #[test]
        fn no_text_is_too_strange(text in "[-+0-9.eEmkKiMGTPnu]{0,40}") {
            let _parsed = Amount::parse(&text);
        }
    }
}
