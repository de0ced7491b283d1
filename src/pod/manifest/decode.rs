//! Strict decoding: a tree against the table of fields, to the JSON that serde takes.
//!
//! Everything that the table knows is checked here: names, types, ranges, enumerations, what is
//! required and what is refused. What depends on more than one field is checked on the types.

use serde_json::{Map, Value as Json};

use super::names;
use super::problem::Problems;
use super::scalar::Scalar;
use super::support::{Field, Kind, Limit, Object, Support};
use super::tree::{Map as TreeMap, Node, Value};
use crate::pod::member::quantity::Quantity;

/// Decodes an object of a manifest; what is wrong with it is left out and noted.
pub(super) fn decode(object: &Object, node: &Node, problems: &mut Problems) -> Json {
    let Value::Map(map) = &node.value else {
        problems.mismatch("", node.type_name(), object.name);
        return Json::Null;
    };
    let mut decoder = Decoder { problems };
    let mut json = decoder.fields(object, map, "");
    for key in ["apiVersion", "kind"] {
        if let Some(text) = node.text(key) {
            json.insert(key.into(), text.into());
        }
    }
    Json::Object(json)
}

struct Decoder<'a> {
    problems: &'a mut Problems,
}

impl Decoder<'_> {
    fn fields(&mut self, object: &Object, map: &TreeMap, path: &str) -> Map<String, Json> {
        let mut json = Map::new();
        for (key, line) in &map.duplicates {
            self.problems.duplicate_field(&join(path, key), *line);
        }
        for entry in &map.entries {
            let Some(field) = object.field(&entry.key) else {
                // The type of a whole object is looked at before it is decoded.
                if !(path.is_empty() && matches!(&*entry.key, "apiVersion" | "kind")) {
                    let suggestion = closest(&entry.key, object);
                    self.problems.unknown(&join(path, &entry.key), suggestion);
                }
                continue;
            };
            if let Some(value) = self.field(field, &entry.node, &join(path, &entry.key)) {
                json.insert(field.name.into(), value);
            }
        }
        for field in object.fields.iter().filter(|field| field.required) {
            if map.get(field.name).is_none_or(is_empty) {
                self.problems.required(&join(path, field.name), "");
            }
        }
        json
    }

    fn field(&mut self, field: &Field, node: &Node, path: &str) -> Option<Json> {
        if node.is_null() || (field.required && is_empty(node)) {
            return None;
        }
        if field.support == Support::Refused {
            if !is_empty(node) {
                self.problems.forbidden(path, field.about);
            }
            return None;
        }
        self.value(&field.kind, node, path)
    }

    fn value(&mut self, kind: &Kind, node: &Node, path: &str) -> Option<Json> {
        let wanted = || kind.type_name();
        match (kind, &node.value) {
            (Kind::Opaque(_), _) => None,
            (Kind::Object(object), Value::Map(map)) => {
                Some(Json::Object(self.fields(object, map, path)))
            }
            (Kind::List(item), Value::List(items)) => {
                let items = items.iter().enumerate();
                let items = items
                    .filter_map(|(index, node)| self.item(item, node, &format!("{path}[{index}]")));
                Some(Json::Array(items.collect()))
            }
            (Kind::Map(item), Value::Map(map)) => Some(self.map(item, map, path)),
            (_, Value::Scalar(scalar, text)) => self.scalar(kind, *scalar, text, path),
            (_, Value::List(_) | Value::Map(_)) => {
                self.problems.mismatch(path, node.type_name(), wanted());
                None
            }
        }
    }

    /// In a list or map `null` stands for the empty value of the type.
    fn item(&mut self, kind: &Kind, node: &Node, path: &str) -> Option<Json> {
        if !node.is_null() {
            return self.value(kind, node, path);
        }
        match kind {
            Kind::Object(object) => {
                Some(Json::Object(self.fields(object, &TreeMap::default(), path)))
            }
            Kind::Text | Kind::Bytes => Some("".into()),
            _ => {
                self.problems.mismatch(path, node.type_name(), kind.type_name());
                None
            }
        }
    }

    fn map(&mut self, item: &Kind, map: &TreeMap, path: &str) -> Json {
        for (key, line) in &map.duplicates {
            self.problems.duplicate_field(&join(path, key), *line);
        }
        let mut json = Map::new();
        for entry in &map.entries {
            if let Some(value) = self.item(item, &entry.node, &format!("{path}[{}]", entry.key)) {
                json.insert(entry.key.to_string(), value);
            }
        }
        Json::Object(json)
    }

    fn scalar(&mut self, kind: &Kind, scalar: Scalar, text: &str, path: &str) -> Option<Json> {
        match (kind, scalar) {
            (Kind::Bool, Scalar::Bool(value)) => Some(value.into()),
            (Kind::Int32(limit), Scalar::Int(_) | Scalar::Float(_)) => {
                let number = integer(scalar).and_then(|number| i32::try_from(number).ok());
                let number = self.fitting(number, text, path, "int32")?;
                self.check_limit(*limit, number.into(), path);
                Some(number.into())
            }
            (Kind::Int64(limit), Scalar::Int(_) | Scalar::Float(_)) => {
                let number = self.fitting(integer(scalar), text, path, "int64")?;
                self.check_limit(*limit, number, path);
                Some(number.into())
            }
            (Kind::Port, Scalar::Int(_) | Scalar::Float(_)) => {
                let number = integer(scalar).and_then(|number| i32::try_from(number).ok());
                let number = self.fitting(number, text, path, "int32")?;
                self.check_limit(Limit::Port, number.into(), path);
                Some(number.into())
            }
            (Kind::Port, Scalar::Text) => {
                if let Err(reasons) = names::port_name(text) {
                    reasons.iter().for_each(|reason| self.problems.invalid(path, text, reason));
                }
                Some(text.into())
            }
            (Kind::Quantity, Scalar::Int(_) | Scalar::Float(_) | Scalar::Text) => {
                self.quantity(scalar, text, path)
            }
            (
                Kind::Text
                | Kind::Label
                | Kind::Subdomain
                | Kind::Words(_)
                | Kind::Time
                | Kind::Bytes,
                Scalar::Text,
            ) => self.text(kind, text, path),
            _ => self.wrong_scalar(kind, scalar, text, path),
        }
    }

    fn wrong_scalar(
        &mut self,
        kind: &Kind,
        scalar: Scalar,
        text: &str,
        path: &str,
    ) -> Option<Json> {
        let wanted = kind.type_name();
        let quotes = match wanted.as_str() {
            "string" | "base64" => format!(": put it in quotes: {text:?}"),
            _ => String::new(),
        };
        self.problems.mismatch(path, scalar.type_name(), wanted + &quotes);
        None
    }

    fn fitting<T>(&mut self, number: Option<T>, text: &str, path: &str, kind: &str) -> Option<T> {
        if number.is_none() {
            self.problems.mismatch(path, &format!("number {text}"), kind);
        }
        number
    }

    fn quantity(&mut self, scalar: Scalar, text: &str, path: &str) -> Option<Json> {
        let text = match scalar {
            Scalar::Int(number) => number.to_string(),
            Scalar::Float(number) => number.to_string(),
            _ => text.to_owned(),
        };
        if Quantity::parse(&text).is_none() {
            let wanted = format!(
                "Quantity: {text:?}: quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            );
            self.problems.mismatch(path, scalar.type_name(), wanted);
            return None;
        }
        Some(text.into())
    }

    fn text(&mut self, kind: &Kind, text: &str, path: &str) -> Option<Json> {
        if text.contains('\0') {
            self.problems.invalid(path, text, "must not contain NUL");
            return None;
        }
        match kind {
            Kind::Label | Kind::Subdomain | Kind::Words(_) | Kind::Time if text.is_empty() => {
                return None;
            }
            Kind::Label => self.reasons(names::label(text), text, path),
            Kind::Subdomain => self.reasons(names::subdomain(text), text, path),
            Kind::Words(words) if !words.contains(&text) => {
                self.problems.unsupported(path, text, words);
            }
            Kind::Time if text.parse::<jiff::Timestamp>().is_err() => {
                self.problems.mismatch(
                    path,
                    "string",
                    format_args!("Time: {text:?}: not RFC 3339"),
                );
                return None;
            }
            Kind::Bytes => {
                // As YAML's `|` makes them.
                let packed = text.replace(['\n', '\r'], "");
                if let Err(error) = bytes(&packed) {
                    self.problems.mismatch(path, "string", format_args!("base64: {error}"));
                    return None;
                }
                return Some(packed.into());
            }
            _ => {}
        }
        Some(text.into())
    }

    fn reasons(&mut self, checked: Result<(), Vec<String>>, text: &str, path: &str) {
        for reason in checked.err().into_iter().flatten() {
            self.problems.invalid(path, text, reason);
        }
    }

    fn check_limit(&mut self, limit: Limit, number: i64, path: &str) {
        let (range, detail) = match limit {
            Limit::Any => return,
            Limit::NotNegative => (0..=i64::MAX, "must be greater than or equal to 0"),
            Limit::Port => (1..=65535, "must be between 1 and 65535, inclusive"),
            Limit::Id => (0..=i64::from(i32::MAX), "must be between 0 and 2147483647, inclusive"),
            Limit::Deadline => {
                (1..=i64::from(i32::MAX), "must be between 1 and 2147483647, inclusive")
            }
            Limit::Mode => {
                (0..=0o777, "must be a number between 0 and 0777 (octal), both inclusive")
            }
        };
        if !range.contains(&number) {
            self.problems.invalid(path, number, detail);
        }
    }
}

fn bytes(text: &str) -> Result<k8s_openapi::ByteString, serde_json::Error> {
    serde_json::from_value(text.into())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar, text) => *scalar == Scalar::Null || text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(_) => false,
    }
}

/// JSON knows no difference between `80` and `80.0`.
fn integer(scalar: Scalar) -> Option<i64> {
    match scalar {
        Scalar::Int(number) => Some(number),
        Scalar::Float(number) if number.fract() == 0.0 => number.to_string().parse().ok(),
        _ => None,
    }
}

/// The field that was probably meant.
fn closest(name: &str, object: &Object) -> Option<&'static str> {
    let fields = object.fields.iter().map(|field| field.name);
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    fields
        .map(|field| (distance(name, field), field))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, field)| field)
}

/// How many letters must be added, removed, changed or swapped with their neighbours; case does
/// not count.
fn distance(written: &str, field: &str) -> usize {
    let a: Vec<char> = written.chars().take(64).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = field.chars().flat_map(char::to_lowercase).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
