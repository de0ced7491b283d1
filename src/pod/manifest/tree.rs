//! A document as a tree that remembers its lines.

use std::collections::HashSet;

use super::scalar::Scalar;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// 1-based.
    pub(super) line: u32,
    /// What it is.
    pub(super) value: Value,
}

/// The three kinds of YAML nodes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// With its text, as written.
    Scalar(Scalar, Box<str>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A mapping in the order it was written, each key once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Map {
    /// What is in it.
    pub(super) entries: Vec<Entry>,
    /// Keys that were given again, and where; their values are not kept.
    pub(super) duplicates: Vec<(Box<str>, u32)>,
}

/// A key of a mapping and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: Box<str>,
    /// Its line.
    pub(super) line: u32,
    /// The value.
    pub(super) node: Node,
}

impl Map {
    /// From entries as written: keys given again go to `duplicates`; those of `merged` (`<<`)
    /// count only where nothing else has the key.
    pub(super) fn new(written: Vec<Entry>, merged: Vec<Entry>) -> Self {
        let mut map = Self::default();
        let mut seen = HashSet::new();
        for entry in written {
            if seen.insert(entry.key.clone()) {
                map.entries.push(entry);
            } else {
                map.duplicates.push((entry.key, entry.line));
            }
        }
        map.entries.extend(merged.into_iter().filter(|entry| seen.insert(entry.key.clone())));
        map
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.node)
    }
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(map) => map.get(key),
            Value::Scalar(..) | Value::List(_) => None,
        }
    }

    /// As [`Node::get`], to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Value::Map(map) = &mut self.value else { return None };
        let entry = map.entries.iter_mut().find(|entry| &*entry.key == key);
        entry.map(|entry| &mut entry.node)
    }

    /// The text of a key's scalar.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Scalar(Scalar::Null, _) | Value::List(_) | Value::Map(_) => None,
            Value::Scalar(_, text) => Some(text),
        }
    }

    /// Whether it stands for nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null, _))
    }

    /// The word for its type in errors.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar, _) => scalar.type_name(),
            Value::List(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// The line of a field path such as `spec.containers[0].env[2].name`, or of the deepest part
    /// of it that was written.
    pub(super) fn line_of(&self, path: &str) -> u32 {
        let mut node = self;
        let mut line = self.line;
        for step in steps(path) {
            let next = match &node.value {
                Value::Map(map) => map
                    .entries
                    .iter()
                    .find(|entry| *entry.key == *step)
                    .map(|entry| (&entry.node, entry.line)),
                Value::List(items) => {
                    let item = step.parse().ok().and_then(|index: usize| items.get(index));
                    item.map(|item| (item, item.line))
                }
                Value::Scalar(..) => None,
            };
            let Some((next, at)) = next else { break };
            (node, line) = (next, at);
        }
        line
    }
}

/// The parts of a field path: names between dots, indices and keys in brackets.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((key, after)) = inner.split_once(']') else { break };
            steps.push(key);
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        steps.push(&rest[..end]);
        rest = &rest[end..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(steps("spec.a[0].b"), ["spec", "a", "0", "b"]);
        assert_eq!(steps("metadata.labels[a.b/c]"), ["metadata", "labels", "a.b/c"]);
        assert_eq!(steps("x[1][2]"), ["x", "1", "2"]);
        assert_eq!(steps("x[1"), ["x"]);
        assert!(steps("").is_empty());
    }
}
