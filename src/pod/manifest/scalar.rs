//! What a plain scalar means: the rules of go-yaml for YAML 1.1, which kubectl applies.
//!
//! Source: gopkg.in/yaml.v2, `resolve.go`; YAML 1.1 types bool, int, float, null.

/// The type and value of a scalar. Its text is kept beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    /// Also the empty plain scalar.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// Decimal, or with the prefixes `0x`, `0o`, `0b` and `0`.
    Int(i64),
    /// What is no [`Self::Int`] and a number.
    Float(f64),
    /// All else, and all that is quoted.
    Text,
}

const TRUE: [&str; 11] = ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"];
const FALSE: [&str; 11] =
    ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"];
const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
const INFINITE: [&str; 9] =
    [".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"];
const NOT_A_NUMBER: [&str; 3] = [".nan", ".NaN", ".NAN"];

impl Scalar {
    /// Resolves a plain scalar.
    pub(super) fn of_plain(text: &str) -> Self {
        if NULL.contains(&text) {
            return Self::Null;
        }
        if TRUE.contains(&text) || FALSE.contains(&text) {
            return Self::Bool(TRUE.contains(&text));
        }
        if INFINITE.contains(&text) || NOT_A_NUMBER.contains(&text) {
            // No field takes one; what matters is that it is not a string.
            return Self::Float(f64::INFINITY);
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return Self::Text;
        }
        let digits = text.replace('_', "");
        integer(&digits).or_else(|| float(&digits)).unwrap_or(Self::Text)
    }

    /// The word for its type in errors: JSON's, as kubectl says it.
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::Text => "string",
        }
    }
}

fn integer(text: &str) -> Option<Scalar> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { "-" } else { "" }, rest),
        None => ("", text),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Scalar::Int)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => number(fraction),
        Some((whole, fraction)) => number(whole) && (fraction.is_empty() || number(fraction)),
        None => number(mantissa),
    };
    let exponent = exponent.is_none_or(|e| number(e.strip_prefix(['+', '-']).unwrap_or(e)));
    if !mantissa || !exponent {
        return None;
    }
    text.parse().ok().map(Scalar::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        for (text, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("null", Scalar::Null),
            ("nULL", Scalar::Text),
            ("yes", Scalar::Bool(true)),
            ("On", Scalar::Bool(true)),
            ("y", Scalar::Bool(true)),
            ("no", Scalar::Bool(false)),
            ("off", Scalar::Bool(false)),
            ("yEs", Scalar::Text),
            ("0", Scalar::Int(0)),
            ("-12", Scalar::Int(-12)),
            ("+12", Scalar::Int(12)),
            ("1_000", Scalar::Int(1000)),
            ("0644", Scalar::Int(420)),
            ("0o644", Scalar::Int(420)),
            ("0x1F", Scalar::Int(31)),
            ("0b101", Scalar::Int(5)),
            ("-0b101", Scalar::Int(-5)),
            ("0789", Scalar::Float(789.0)),
            ("+-1", Scalar::Text),
            ("0x+1", Scalar::Text),
            ("1.5", Scalar::Float(1.5)),
            (".5", Scalar::Float(0.5)),
            ("5.", Scalar::Float(5.0)),
            ("1e3", Scalar::Float(1000.0)),
            ("1e", Scalar::Text),
            (".", Scalar::Text),
            ("-", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("100m", Scalar::Text),
            ("64Mi", Scalar::Text),
            ("10:20", Scalar::Text),
            ("2001-01-01", Scalar::Text),
            ("99999999999999999999", Scalar::Float(1e20)),
            (".inf", Scalar::Float(f64::INFINITY)),
            ("1é", Scalar::Text),
            ("0é", Scalar::Text),
        ] {
            assert_eq!(Scalar::of_plain(text), expected, "{text:?}");
        }
    }
}
