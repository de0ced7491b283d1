//! docs/conformance.md has a row for every property that is read, and for no other.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::de::value::{Error, StringDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::SpecText;

#[path = "../../tests/container/support/named_tests.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "of the tests' harness, which is a library of its own"
)]
mod named_tests;

/// What a walk through a type has met.
#[derive(Default)]
struct Met {
    properties: BTreeSet<String>,
    /// Paths below which a made-up value is refused: left out when walked again.
    refused: BTreeSet<String>,
    /// The first path of this walk whose value was refused.
    stopped: Option<String>,
}

/// A document that has every property of whatever type reads it.
#[derive(Clone)]
struct Walk<'a> {
    path: String,
    met: &'a RefCell<Met>,
}

impl Walk<'_> {
    fn below(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() || name == "[]" { "" } else { "." };
        Self { path: format!("{}{dot}{name}", self.path), met: self.met }
    }

    fn value<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let (path, met) = (self.path.clone(), self.met);
        seed.deserialize(self).inspect_err(|_| {
            met.borrow_mut().stopped.get_or_insert(path);
        })
    }
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("no value is made up for this type"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut names = Vec::new();
        for field in fields {
            let path = self.below(field).path;
            let mut met = self.met.borrow_mut();
            if !met.refused.contains(&path) {
                names.push((*field).to_owned());
            }
            met.properties.insert(path);
        }
        visitor.visit_map(Entries { walk: self, names, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let names = match self.met.borrow().refused.contains(&self.below("*").path) {
            true => Vec::new(),
            false => vec!["*".to_owned()],
        };
        visitor.visit_map(Entries { walk: self, names, next: 0 })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let element = self.below("[]");
        let is_refused = self.met.borrow().refused.contains(&element.path);
        visitor.visit_seq(Elements((!is_refused).then_some(element)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(1)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(1)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u32(1)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string("/x".to_owned())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char str bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

struct Entries<'a> {
    walk: Walk<'a>,
    names: Vec<String>,
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.get(self.next) else { return Ok(None) };
        let name: StringDeserializer<Error> = name.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let below = self.walk.below(&self.names[self.next]);
        self.next += 1;
        below.value(seed)
    }
}

struct Elements<'a>(Option<Walk<'a>>);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|element| element.value(seed)).transpose()
    }
}

/// The JSON paths of all properties that are read; `[]` stands for an element, `*` for a key.
fn properties() -> BTreeSet<String> {
    let met = RefCell::default();
    // Each walk ends at the first value that is refused, and the next one passes it by.
    while SpecText::deserialize(Walk { path: String::new(), met: &met }).is_err() {
        let mut met = met.borrow_mut();
        let Some(stopped) = met.stopped.take() else { break };
        assert!(met.refused.insert(stopped), "walked twice: {:?}", met.refused);
    }
    met.into_inner().properties
}

/// The names between backquotes in one cell of each row of the table.
fn documented(cell: usize) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(cell).map(str::to_owned));
    cells
        .flat_map(|cell| named_tests::quoted(&cell).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_property_has_its_place_in_the_table() {
    let documented = documented(1);
    let rows: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(rows.len(), documented.len(), "a property is there twice");
    let read = properties();
    assert!(read.len() > 150, "{read:?}");
    let missing: Vec<_> = read.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&read).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:#?}, unknown {unknown:#?}");
}

#[test]
fn the_tests_in_the_table_exist() {
    let tests = named_tests::all();
    for name in documented(3) {
        assert!(tests.contains(&name), "there is no test {name}");
    }
}
