//! `org.systemd.property.*`: properties of the unit, given as annotations of config.json. Pure.
//!
//! The values are GVariant text, `'inactive-or-failed'`, `uint64 5000000`, `['a.service']`: what
//! units have as properties, that is booleans, numbers, strings, arrays and tuples of them. What
//! else there is in GVariant is refused. Source: GLib, *GVariant Text Format*.

use zbus::wire::StructureBuilder;
use zbus::{Array, Signature, Variant};

use super::properties::Property;
use crate::error::{Error, Result};

const PREFIX: &str = "org.systemd.property.";
/// What says which processes are in the unit, and where it is, is carob's to say.
const OURS: &[&str] = &["PIDs", "Slice", "Controller", "Delegate"];
const DEEPEST: u32 = 8;

/// The properties that annotations ask for, in the order of their names.
///
/// `…Sec` takes seconds, as in unit files, for a property that is called `…USec` on the bus.
///
/// # Errors
/// [`Error::Config`] naming the annotation.
pub(super) fn properties<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Property>> {
    let mut found: Vec<_> =
        annotations.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value))).collect();
    found.sort_unstable();
    found.into_iter().map(|(name, value)| property(name, value)).collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    let bad = |why: &str| Error::config(format!("annotations[\"{PREFIX}{name}\"]"), why);
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_name {
        return Err(bad("is not the name of a property: letters and digits, the first a capital"));
    }
    if OURS.contains(&name) {
        return Err(bad("is set by carob and cannot be given"));
    }
    let mut parser = Parser { rest: text, depth: 0 };
    let value = parser.value().and_then(|value| {
        let rest = parser.rest.trim();
        if rest.is_empty() { Ok(value) } else { Err(format!("{rest:?} follows the value")) }
    });
    let value = value.map_err(|why| bad(&format!("{text:?} is not a value: {why}")))?;
    match name.strip_suffix("Sec") {
        Some(stem) if !name.ends_with("USec") => {
            let microseconds = microseconds(&value)
                .ok_or_else(|| bad(&format!("{text:?} is not a number of seconds")))?;
            Ok((format!("{stem}USec"), Variant::U64(microseconds)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Variant) -> Option<u64> {
    let whole = match value {
        Variant::U8(n) => u64::from(*n),
        Variant::I16(n) => u64::try_from(*n).ok()?,
        Variant::U16(n) => u64::from(*n),
        Variant::I32(n) => u64::try_from(*n).ok()?,
        Variant::U32(n) => u64::from(*n),
        Variant::I64(n) => u64::try_from(*n).ok()?,
        Variant::U64(n) => *n,
        Variant::F64(seconds) => {
            let duration = std::time::Duration::try_from_secs_f64(*seconds).ok()?;
            return u64::try_from(duration.as_micros()).ok();
        }
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

type Parsed = std::result::Result<Variant<'static>, String>;

/// Words before a value that say its type.
const TYPES: &[(&str, &str)] = &[
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

impl Parser<'_> {
    fn value(&mut self) -> Parsed {
        self.typed(None)
    }

    /// A value that must be, or where the text leaves it open is, of this type.
    fn typed(&mut self, wanted: Option<&Signature>) -> Parsed {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deeply".to_owned());
        }
        self.rest = self.rest.trim_start();
        let value = match self.rest.chars().next() {
            None => Err("there is none".to_owned()),
            Some('@') => {
                let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
                let signature = Signature::try_from(&self.rest[1..end]);
                let signature =
                    signature.map_err(|e| format!("{:?} is no type: {e}", &self.rest[..end]))?;
                self.rest = &self.rest[end..];
                self.typed(Some(&signature))
            }
            Some('\'' | '"') => self.string().map(Variant::from),
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some(_) => self.word(wanted),
        }?;
        self.depth -= 1;
        match wanted {
            Some(wanted) if value.value_signature() != wanted => {
                Err(format!("{value} is not of type {wanted}"))
            }
            _ => Ok(value),
        }
    }

    /// `true`, a number, or the name of a type and then a value.
    fn word(&mut self, wanted: Option<&Signature>) -> Parsed {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",])".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if let Some((_, signature)) = TYPES.iter().find(|(name, _)| *name == word) {
            let signature = Signature::try_from(*signature).map_err(|e| e.to_string())?;
            return self.typed(Some(&signature));
        }
        match word {
            "true" => Ok(Variant::Bool(true)),
            "false" => Ok(Variant::Bool(false)),
            _ => number(word, wanted),
        }
    }

    fn string(&mut self) -> std::result::Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            if Some(c) == quote {
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            match chars.next().map(|(_, c)| c) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                other => return Err(format!("\\{} is not understood", other.unwrap_or(' '))),
            }
        }
        Err("a string has no end".to_owned())
    }

    /// The values up to `close`, each after the first with a comma before it.
    fn list(
        &mut self,
        close: char,
        mut each: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.rest = &self.rest[1..];
        let mut is_first = true;
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                return Ok(());
            }
            if !is_first {
                let rest = self
                    .rest
                    .strip_prefix(',')
                    .ok_or_else(|| format!("expected {close:?} or a comma, not {:?}", self.rest))?;
                self.rest = rest.trim_start();
                if let Some(rest) = self.rest.strip_prefix(close) {
                    self.rest = rest;
                    return Ok(());
                }
            }
            is_first = false;
            each(self)?;
        }
    }

    fn array(&mut self, wanted: Option<&Signature>) -> Parsed {
        let mut element = match wanted {
            Some(Signature::Array(element)) => Some(element.signature().clone()),
            Some(other) => return Err(format!("an array is not of type {other}")),
            None => None,
        };
        let mut values = Vec::new();
        self.list(']', |parser| {
            let value = parser.typed(element.as_ref())?;
            element = Some(value.value_signature().clone());
            values.push(value);
            Ok(())
        })?;
        let element = element.ok_or("an empty array needs its type, as in @as []")?;
        let mut array = Array::new(&element);
        for value in values {
            array.append(value).map_err(|e| e.to_string())?;
        }
        Ok(Variant::Array(array))
    }

    fn tuple(&mut self, wanted: Option<&Signature>) -> Parsed {
        let fields: Option<Vec<Signature>> = match wanted {
            Some(Signature::Structure(fields)) => Some(fields.iter().cloned().collect()),
            Some(other) => return Err(format!("a tuple is not of type {other}")),
            None => None,
        };
        let mut builder = StructureBuilder::new();
        let mut count = 0;
        self.list(')', |parser| {
            let field = fields.as_ref().and_then(|fields| fields.get(count));
            count += 1;
            builder.push_value(parser.typed(field)?);
            Ok(())
        })?;
        builder.build().map(Variant::Structure).map_err(|e| e.to_string())
    }
}

fn number(word: &str, wanted: Option<&Signature>) -> Parsed {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let is_float = !digits.starts_with("0x") && digits.contains(['.', 'e', 'E']);
    let bad = |why: String| format!("{word:?} {why}");
    let wants_float = matches!(wanted, Some(Signature::F64));
    if is_float || wants_float {
        let number: f64 = word.parse().map_err(|e| bad(format!("is no number: {e}")))?;
        return Ok(Variant::F64(number));
    }
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => digits.parse::<i128>(),
    };
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
    let magnitude = magnitude.ok().filter(|_| is_number).ok_or_else(|| {
        bad("is neither a number, nor true or false, nor a type that is understood".into())
    })?;
    let value = if negative { -magnitude } else { magnitude };
    let fits = match wanted {
        None | Some(Signature::I32) => i32::try_from(value).map(Variant::I32),
        Some(Signature::U8) => u8::try_from(value).map(Variant::U8),
        Some(Signature::I16) => i16::try_from(value).map(Variant::I16),
        Some(Signature::U16) => u16::try_from(value).map(Variant::U16),
        Some(Signature::U32) => u32::try_from(value).map(Variant::U32),
        Some(Signature::I64) => i64::try_from(value).map(Variant::I64),
        Some(Signature::U64) => u64::try_from(value).map(Variant::U64),
        Some(other) => return Err(bad(format!("is not of type {other}"))),
    };
    let kind =
        wanted.map_or_else(|| "int32; say uint64 or int64 before it".into(), Signature::to_string);
    fits.map_err(|error| bad(format!("does not fit type {kind}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<String> {
        let (key, value) = (format!("{PREFIX}{name}"), text.to_owned());
        let found = properties([(&key, &value)].into_iter())?;
        let (name, value) = &found[0];
        Ok(format!("{name}: {} {value}", value.value_signature()))
    }

    #[test]
    fn values_and_their_types() {
        for (name, text, want) in [
            ("CollectMode", "'inactive-or-failed'", "CollectMode: s \"inactive-or-failed\""),
            ("Description", r#""a \"b\" \\""#, r#"Description: s "a \"b\" \\""#),
            ("KillSignal", "15", "KillSignal: i 15"),
            ("KillSignal", " -0x10 ", "KillSignal: i -16"),
            ("TimeoutStopUSec", "uint64 5000000", "TimeoutStopUSec: t 5000000"),
            ("TimeoutStopUSec", "@t 5", "TimeoutStopUSec: t 5"),
            ("TimeoutStopSec", "90", "TimeoutStopUSec: t 90000000"),
            ("TimeoutStopSec", "0.5", "TimeoutStopUSec: t 500000"),
            ("SendSIGHUP", "true", "SendSIGHUP: b true"),
            ("After", "['a.service', \"b\",]", "After: as [\"a.service\", \"b\"]"),
            ("After", "@as []", "After: as @as []"),
            (
                "IOReadBandwidthMax",
                "[('/dev/x', uint64 7)]",
                "IOReadBandwidthMax: a(st) [(\"/dev/x\", 7)]",
            ),
            ("X", "[byte 1, 2]", "X: ay [0x01, 0x02]"),
            ("X", "@(su) ('a', 1)", "X: (su) (\"a\", 1)"),
            ("X", "1.5e1", "X: d 15."),
        ] {
            let got = one(name, text).unwrap();
            // The words for types come back, but in places of their own.
            let bare = ["uint64 ", "byte ", "uint32 ", "int32 "];
            let got = bare.iter().fold(got, |text, word| text.replace(word, ""));
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let nested = "[".repeat(20);
        for (name, text, why) in [
            ("lower", "1", "is not the name of a property"),
            ("Exec.Start", "1", "is not the name of a property"),
            ("", "1", "is not the name of a property"),
            ("PIDs", "[uint32 1]", "is set by carob"),
            ("Slice", "'a.slice'", "is set by carob"),
            ("X", "", "there is none"),
            ("X", "1 2", "\"2\" follows the value"),
            ("X", "abc", "is neither a number"),
            ("X", "5000000000", "does not fit type int32; say uint64"),
            ("X", "byte 256", "does not fit type y"),
            ("X", "@u -1", "does not fit type u"),
            ("X", "uint64 'a'", "is not of type t"),
            ("X", "@as [1]", "is not of type s"),
            ("X", "[1, 'a']", "is not of type i"),
            ("X", "[]", "an empty array needs its type"),
            ("X", "'a", "has no end"),
            ("X", r"'\u0041'", r"\u is not understood"),
            ("X", "{'a': 1}", "is neither a number"),
            ("X", "<1>", "is neither a number"),
            ("X", "[1 2]", "expected ']' or a comma"),
            ("X", "@zz 1", "is no type"),
            ("X", "--1", "is neither a number"),
            ("X", &nested, "too deeply"),
            ("XSec", "'a'", "is not a number of seconds"),
            ("XSec", "-1", "is not a number of seconds"),
        ] {
            let error = one(name, text).unwrap_err().to_string();
            let field = format!("annotations[\"org.systemd.property.{name}\"]: ");
            assert!(error.starts_with(&field) && error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn other_annotations_are_nobodys_business() {
        let (key, value) = ("org.systemd.propert".to_owned(), "1".to_owned());
        assert!(properties([(&key, &value)].into_iter()).unwrap().is_empty());
    }
}
