//! YAML, and JSON as a part of it, from text to [`Node`]s: documents, anchors, merge keys.
//!
//! What is read is bounded in depth and in size after aliases are filled in, so that a small
//! file cannot become a large tree.
//!
//! Source: YAML 1.2.2 §3.2; <https://yaml.org/type/merge.html>.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::scalar::Scalar;
use super::tree::{Entry, Map, Node, Value};

/// Deepest nesting. A pod's own fields are 12 deep.
const MAX_DEPTH: usize = 64;
/// Most nodes of one text; 64 bytes of a scalar count as another one.
const MAX_NODES: usize = 500_000;

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// 1-based.
    pub(super) line: u32,
    /// The reason.
    pub(super) text: String,
}

/// Every document of a text that is not empty.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder::default();
    let text = if text.trim_start().starts_with('{') { surrogates(text) } else { text.into() };
    for event in Parser::new_from_str(&text) {
        let (event, span) = event.map_err(|error| Fault {
            line: line(error.marker().line()),
            text: format!("cannot be read as YAML: {}", error.info()),
        })?;
        // What is wrong with a collection as a whole is found at its end.
        let line = match (&event, builder.open.last()) {
            (Event::MappingEnd, Some(open)) => open.line,
            _ => line(span.start.line()),
        };
        builder.event(event, line).map_err(|text| Fault { line, text })?;
    }
    Ok(builder.documents)
}

/// JSON writes a character beyond U+FFFF as two escapes, YAML as one: `\U0001f600`.
fn surrogates(text: &str) -> Cow<'_, str> {
    let mut written = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = text[at..].find('\\') {
        let escape = at + offset;
        let pair = text.get(escape..escape + 12).and_then(pair);
        if let Some(character) = pair {
            written += &text[copied..escape];
            written += &format!("\\U{:08x}", u32::from(character));
            copied = escape + 12;
            at = copied;
        } else {
            // Whatever is escaped is no backslash that escapes.
            let escaped = text[escape + 1..].chars().next().map_or(0, char::len_utf8);
            at = escape + 1 + escaped;
        }
    }
    match copied {
        0 => text.into(),
        _ => (written + &text[copied..]).into(),
    }
}

/// The character of `\ud83d\ude00`.
fn pair(text: &str) -> Option<char> {
    let unit = |part: &str| {
        let digits = part.strip_prefix("\\u").filter(|digits| !digits.starts_with('+'));
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    let units = [unit(text.get(..6)?)?, unit(text.get(6..)?)?];
    let mut characters = char::decode_utf16(units);
    let first = characters.next()?.ok()?;
    characters.next().is_none().then_some(first)
}

fn line(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// A node with what bounds need to know of it.
#[derive(Debug, Clone)]
struct Built {
    node: Node,
    height: usize,
    weight: usize,
    /// A plain `<<`, or tagged so: as a key it asks for a merge.
    merge: bool,
}

/// A collection of which the end has not come.
#[derive(Debug)]
struct Open {
    line: u32,
    anchor: usize,
    is_map: bool,
    /// Keys and values alternate in a mapping.
    children: Vec<Built>,
}

#[derive(Debug, Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    weight: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(&text, style, tag.as_deref())?;
                let merge = style == ScalarStyle::Plain && &*text == "<<";
                let node = Node { line, value: Value::Scalar(scalar, text.into()) };
                let weight = 1 + node_text(&node) / 64;
                self.count(weight)?;
                self.finish(Built { node, height: 1, weight, merge }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.start(line, anchor, false, tag.as_deref()),
            Event::MappingStart(anchor, tag) => self.start(line, anchor, true, tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(built) = self.anchors.get(&anchor).cloned() else {
                    return Err("an anchor must not contain an alias of itself".into());
                };
                self.count(built.weight)?;
                self.finish(built, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start(
        &mut self,
        line: u32,
        anchor: usize,
        is_map: bool,
        tag: Option<&Tag>,
    ) -> Result<(), String> {
        let own = if is_map { "map" } else { "seq" };
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            return Err(format!("the tag {tag} is not supported"));
        }
        self.count(1)?;
        self.open.push(Open { line, anchor, is_map, children: Vec::new() });
        self.check_depth(1)
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let height = 1 + open.children.iter().map(|child| child.height).max().unwrap_or(0);
        let weight = 1 + open.children.iter().map(|child| child.weight).sum::<usize>();
        let value = match open.is_map {
            true => Value::Map(map(open.children)?),
            false => Value::List(open.children.into_iter().map(|child| child.node).collect()),
        };
        let node = Node { line: open.line, value };
        self.finish(Built { node, height, weight, merge: false }, open.anchor)
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), String> {
        self.check_depth(built.height)?;
        if anchor != 0 {
            // The copy to take further copies of is a part of what is held.
            self.count(built.weight)?;
            self.anchors.insert(anchor, built.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(built),
            None if built.node.is_null() => {}
            None => self.documents.push(built.node),
        }
        Ok(())
    }

    fn check_depth(&self, height: usize) -> Result<(), String> {
        match self.open.len() + height > MAX_DEPTH {
            true => Err(format!("is nested too deeply, at most {MAX_DEPTH} levels are allowed")),
            false => Ok(()),
        }
    }

    fn count(&mut self, weight: usize) -> Result<(), String> {
        self.weight = self.weight.saturating_add(weight);
        match self.weight > MAX_NODES {
            true => Err("has too many values once its aliases are filled in".into()),
            false => Ok(()),
        }
    }
}

fn node_text(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_, text) => text.len(),
        Value::List(_) | Value::Map(_) => 0,
    }
}

fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    let plain = Scalar::of_plain(text);
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { plain } else { Scalar::Text });
    };
    let wrong = || format!("{text:?} is not a value of type {tag}");
    match (tag.is_yaml_core_schema(), &*tag.suffix, plain) {
        (true, "str", _) => Ok(Scalar::Text),
        // `!` alone: not plain.
        (false, "!", _) if tag.handle.is_empty() => Ok(Scalar::Text),
        (true, "bool", Scalar::Bool(_))
        | (true, "int", Scalar::Int(_))
        | (true, "float", Scalar::Int(_) | Scalar::Float(_))
        | (true, "null", Scalar::Null) => Ok(plain),
        (true, "bool" | "int" | "float" | "null", _) => Err(wrong()),
        _ => Err(format!("the tag {tag} is not supported")),
    }
}

fn map(children: Vec<Built>) -> Result<Map, String> {
    let mut written = Vec::with_capacity(children.len() / 2);
    let mut merged = Vec::new();
    let mut children = children.into_iter();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        if key.merge {
            merge(value.node, &mut merged)?;
            continue;
        }
        let line = key.node.line;
        written.push(Entry { key: key_text(key.node)?, line, node: value.node });
    }
    Ok(Map::new(written, merged))
}

/// JSON has only strings as keys; those of other types are written out.
fn key_text(key: Node) -> Result<Box<str>, String> {
    let found = key.type_name();
    match key.value {
        Value::Scalar(Scalar::Text | Scalar::Float(_), text) => Ok(text),
        Value::Scalar(Scalar::Bool(value), _) => Ok(value.to_string().into()),
        Value::Scalar(Scalar::Int(value), _) => Ok(value.to_string().into()),
        Value::Scalar(Scalar::Null, _) | Value::List(_) | Value::Map(_) => {
            Err(format!("a key must be a string, not {found}"))
        }
    }
}

fn merge(value: Node, merged: &mut Vec<Entry>) -> Result<(), String> {
    let entries = match value.value {
        Value::Map(map) => map.entries,
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
            items.into_iter().try_for_each(|item| merge(item, merged))?;
            return Ok(());
        }
        Value::Scalar(..) | Value::List(_) => {
            return Err("map merge requires map or sequence of maps as the value".into());
        }
    };
    merged.extend(entries);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = documents(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn fault(text: &str) -> String {
        let fault = documents(text).unwrap_err();
        format!("{}: {}", fault.line, fault.text)
    }

    #[test]
    fn documents_are_told_apart_and_empty_ones_left_out() {
        let all = documents("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(all.iter().map(|node| node.line).collect::<Vec<_>>(), [2, 6]);
        assert_eq!(all[1].text("b"), Some("2"));
        assert!(documents("").unwrap().is_empty());
        assert!(documents("# only a comment\n").unwrap().is_empty());
    }

    #[test]
    fn json_is_read_too() {
        let node =
            one("{\n\t\"a\": {\"b\": [1, true, null, \"x\\/\\u00e9\"]},\n\t\"c\": \"yes\"\n}\n");
        assert_eq!(node.get("c").unwrap().type_name(), "string");
        assert_eq!(node.line_of("c"), 3);
        let Value::List(items) = &node.get("a").unwrap().get("b").unwrap().value else { panic!() };
        assert_eq!(items[3].value, Value::Scalar(Scalar::Text, "x/é".into()));
    }

    #[test]
    fn characters_that_json_writes_as_two_escapes_are_one() {
        for (json, read) in [
            (r#"{"a": "x\ud83d\ude00y\u00e9"}"#, "x😀yé"),
            (r#"{"a": "\\ud83d\\ude00"}"#, r"\ud83d\ude00"),
            (r#"{"a": "\\\ud83d\ude00\\"}"#, r"\😀\"),
        ] {
            assert_eq!(one(json).text("a"), Some(read), "{json}");
        }
        assert!(documents(r#"{"a": "\ud83d"}"#).is_err());
        assert!(documents("{\"a\": \"\\").is_err());
    }

    #[test]
    fn lines_are_those_of_the_deepest_part_that_was_written() {
        let node = one("a:\n  - b: 1\n  -\n    c: 2\n");
        assert_eq!(node.line_of("a[1].c"), 4);
        assert_eq!(node.line_of("a[1].missing"), 4);
        assert_eq!(node.line_of("a[7]"), 1);
        assert_eq!(node.line_of("a[0].b"), 2);
    }

    #[test]
    fn keys_given_twice_are_found_and_the_first_counts() {
        let Value::Map(map) = one("a: 1\nb: 2\na: 3\n").value else { panic!() };
        assert_eq!(map.duplicates, [("a".into(), 3)]);
        assert_eq!(map.entries.len(), 2);
    }

    #[test]
    fn aliases_and_merge_keys_are_filled_in() {
        let node = one("x: &x {a: 1, b: 2}\nw:\n  b: 3\n  <<: [*x, {a: 9, c: 4}]\nz: *x\n");
        let w = node.get("w").unwrap();
        let texts: Vec<_> = ["a", "b", "c"].map(|key| w.text(key).unwrap()).into();
        assert_eq!(texts, ["1", "3", "4"]);
        assert_eq!(node.get("z").unwrap().text("b"), Some("2"));
        assert_eq!(one("\"<<\": 1").text("<<"), Some("1"));
        assert!(fault("a: {<<: 1}").contains("map merge requires"));
        // Anchors end with their document.
        assert!(documents("a: &a 1\n---\nb: *a\n").is_err());
    }

    #[test]
    fn tags_are_those_of_json_or_refused() {
        assert_eq!(one("a: !!str 1").get("a").unwrap().type_name(), "string");
        assert_eq!(one("a: !!int \"7\"").get("a").unwrap().type_name(), "number");
        assert_eq!(one("a: ! 1").get("a").unwrap().type_name(), "string");
        assert_eq!(fault("a: !!int x"), "1: \"x\" is not a value of type tag:yaml.org,2002:!int");
        for text in ["a: !foo 1", "a: !!binary aGk=", "a: !!set {x}", "!!map [1]"] {
            assert!(fault(text).contains("is not supported"), "{text}");
        }
    }

    #[test]
    fn keys_are_strings_or_become_some() {
        let node = one("yes: 1\n0x10: 2\n1.50: 3\n");
        let all = [node.text("true"), node.text("16"), node.text("1.50")];
        assert_eq!(all, [Some("1"), Some("2"), Some("3")]);
        assert_eq!(fault("? [a]\n: 1\n"), "1: a key must be a string, not array");
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let list = vec![format!("*a{}", level - 1); 10].join(",");
            bomb += &format!("a{level}: &a{level} [{list}]\n");
        }
        assert!(fault(&bomb).contains("too many values"), "{}", fault(&bomb));
        assert!(fault("a: &a [*a]").contains("itself"));
        let brackets = fault(&"[".repeat(100_000));
        assert!(brackets.contains("recursion limit"), "{brackets}");
        assert!(fault(&"- ".repeat(100_000)).contains("nested too deeply"));
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..80 {
            chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(fault(&chain).contains("nested too deeply"));
    }

    #[test]
    fn what_is_not_yaml_is_named_with_its_line() {
        assert!(fault("a: 1\nb: [\n").starts_with("3: cannot be read as YAML: "));
        let tab = fault("a: 1\n\tb: 2\n");
        assert!(tab.starts_with("1: cannot be read as YAML: ") && tab.contains("a tab"), "{tab}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}") {
            drop(documents(&text));
        }

        #[test]
        fn no_text_made_of_yaml_is_too_strange(
            text in "([-?:,&*!|>%@#'\"{}\\[\\] \n\tab01~<]|\\PC){0,60}"
        ) {
            drop(documents(&text));
        }
    }
}
