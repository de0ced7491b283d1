//! The table as people read it: by path, or by type.

use super::super::document;
use super::{Field, Kind, Object, Support, pod_spec};

/// A field and where it is.
#[derive(Debug, Clone)]
pub struct Row {
    /// Such as `spec.containers.image`.
    pub path: String,
    /// What is known of it.
    pub field: &'static Field,
}

/// The rows of a field and of all below it; of a type that occurs more than once, only the first
/// time. What is below an ignored or refused field is as that is, and left out unless asked for.
///
/// A path begins with a kind of object (`configmap.data`), with a field of a pod
/// (`spec.volumes`) or with a field of its spec (`containers.image`). An empty one is a pod's
/// spec.
#[must_use]
pub fn rows(path: &str) -> Option<Vec<Row>> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    if path.is_empty() {
        below("spec", pod_spec(), &mut seen, &mut found);
        return Some(found);
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let (prefix, object, rest) = match document::kind(first) {
        Some((_, object)) => (String::new(), object, rest),
        None if super::POD.field(first).is_some() => (String::new(), &super::POD, Some(path)),
        None => ("spec.".to_owned(), pod_spec(), Some(path)),
    };
    let Some(rest) = rest else {
        below("", object, &mut seen, &mut found);
        return Some(found);
    };
    let field = object.find(rest)?;
    let path = format!("{prefix}{rest}");
    found.push(Row { path: path.clone(), field });
    if let Some(object) = field.kind.object() {
        below(&path, object, &mut seen, &mut found);
    }
    Some(found)
}

fn below(path: &str, object: &'static Object, seen: &mut Vec<&'static str>, found: &mut Vec<Row>) {
    if seen.contains(&object.name) {
        return;
    }
    seen.push(object.name);
    for field in object.fields {
        let path =
            if path.is_empty() { field.name.into() } else { format!("{path}.{}", field.name) };
        found.push(Row { path: path.clone(), field });
        if let (Support::Honoured, Some(object)) = (field.support, field.kind.object()) {
            below(&path, object, seen, found);
        }
    }
}

/// The types that honoured fields of an object lead to, itself first, in the order in which they
/// are met.
#[must_use]
pub fn types(object: &'static Object) -> Vec<&'static Object> {
    let mut found = vec![object];
    let mut next = 0;
    while let Some(object) = found.get(next).copied() {
        next += 1;
        let honoured = object.fields.iter().filter(|field| field.support == Support::Honoured);
        for inner in honoured.filter_map(|field| field.kind.object()) {
            if !found.iter().any(|known| known.name == inner.name) {
                found.push(inner);
            }
        }
    }
    found
}

/// The kinds of objects that a manifest can have.
#[must_use]
pub fn kinds() -> Vec<&'static Object> {
    document::KINDS.iter().map(|(_, object)| *object).collect()
}

impl Kind {
    /// The words that are allowed, if it is an enumeration.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        match self {
            Self::Words(words) => words.iter().copied().filter(|word| !word.is_empty()).collect(),
            Self::List(item) | Self::Map(item) => item.words(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_subtree() {
        for (path, first, least) in [
            ("", "spec.activeDeadlineSeconds", 200),
            ("spec", "spec", 200),
            ("pod", "metadata", 200),
            ("Pod.spec.containers", "spec.containers", 100),
            ("containers.ports", "spec.containers.ports", 6),
            ("spec.affinity", "spec.affinity", 4),
            ("configmap.data", "data", 1),
            ("Secret", "data", 5),
        ] {
            let rows = rows(path).unwrap();
            assert_eq!(rows[0].path, first, "{path}");
            assert!(rows.len() >= least, "{path}: {}", rows.len());
        }
        for path in ["x", "spec.x", "spec.hostname.x", "deployment", ".", "spec."] {
            assert!(rows(path).is_none(), "{path}");
        }
    }
}
