//! YAML of JSON values, that readers of YAML 1.1 and 1.2 read back as the same values.
//!
//! A string is written plain only if no version of YAML takes it for anything else, as a literal
//! block if it has several lines, and in double quotes otherwise. Lists stand at the indentation of
//! their key, as kubectl writes them.

use std::fmt::Write;

use serde_json::Value;

use super::plain::is_obeyed;

/// The document, with a newline at its end.
pub(in crate::cli) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut text, map, 0, Position::Line),
        Value::Array(list) if !list.is_empty() => sequence(&mut text, list, 0),
        Value::String(string) => text += &(quoted(string) + "\n"),
        other => text += &(flow(other) + "\n"),
    }
    text
}

/// Where a mapping begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// On a line of its own.
    Line,
    /// Behind the dash of a list.
    Dash,
}

type Map = serde_json::Map<String, Value>;

fn mapping(text: &mut String, map: &Map, indent: usize, position: Position) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || position == Position::Line {
            push_indent(text, indent);
        }
        *text += &if is_plain(key) { key.clone() } else { quoted(key) };
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                mapping(text, map, indent + 2, Position::Line);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                sequence(text, list, indent);
            }
            other => {
                text.push(' ');
                scalar(text, other, indent + 2);
            }
        }
    }
}

fn sequence(text: &mut String, list: &[Value], indent: usize) {
    for value in list {
        push_indent(text, indent);
        match value {
            Value::Object(map) if !map.is_empty() => {
                *text += "- ";
                mapping(text, map, indent + 2, Position::Dash);
            }
            Value::Array(list) if !list.is_empty() => {
                *text += "-\n";
                sequence(text, list, indent + 2);
            }
            other => {
                *text += "- ";
                scalar(text, other, indent + 2);
            }
        }
    }
}

/// A value that fits behind its key, or a block whose lines are indented.
fn scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(string) if is_plain(string) => *text += string,
        Value::String(string) if is_block(string) => return block(text, string, indent),
        Value::String(string) => *text += &quoted(string),
        other => *text += &flow(other),
    }
    text.push('\n');
}

/// What is no string and has nothing inside is the same in JSON.
fn flow(value: &Value) -> String {
    value.to_string()
}

fn push_indent(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn block(text: &mut String, string: &str, indent: usize) {
    let body = string.trim_end_matches('\n');
    *text += match string.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    };
    let lines = string.strip_suffix('\n').unwrap_or(string).split('\n');
    for line in lines {
        if !line.is_empty() {
            push_indent(text, indent);
            *text += line;
        }
        text.push('\n');
    }
}

/// Whether the string can be a literal block whose indentation its first line shows.
fn is_block(string: &str) -> bool {
    string.contains('\n')
        && !string.starts_with(['\n', ' ', '\t'])
        && !string.chars().any(|character| !matches!(character, '\n' | '\t') && is_special(character))
        // An editor would strip them.
        && !string.split('\n').any(|line| line.ends_with([' ', '\t']))
}

/// Words that some version of YAML reads as something else than a string, in lower case.
const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// Whether the string means itself without quotes.
fn is_plain(string: &str) -> bool {
    let Some(first) = string.chars().next() else { return false };
    let begins_well = first.is_ascii_alphanumeric()
        || matches!(first, '/' | '_' | '.' | '$' | '(' | '^')
        || (!first.is_ascii() && !is_special(first));
    begins_well
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && !string.contains(" #")
        && !string.chars().any(is_special)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str())
        && !is_like_a_number(string)
}

/// Numbers of all bases, also with underscores and colons, infinity, dates, versions.
fn is_like_a_number(string: &str) -> bool {
    let lower = string.to_ascii_lowercase();
    if lower.starts_with("0x") || matches!(lower.as_str(), ".inf" | ".nan") {
        return true;
    }
    let begins = string.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let digit = |c: char| c.is_ascii_digit() || "_.:+-, etzbo".contains(c);
    begins && lower.chars().all(digit)
}

/// Characters that YAML does not allow, that end a line in one of its versions, or that a
/// terminal obeys.
fn is_special(character: char) -> bool {
    is_obeyed(character) || matches!(character, '\u{fffe}' | '\u{ffff}')
}

fn quoted(string: &str) -> String {
    let mut text = String::from("\"");
    for character in string.chars() {
        let code = u32::from(character);
        match character {
            '"' => text += "\\\"",
            '\\' => text += "\\\\",
            '\n' => text += "\\n",
            '\t' => text += "\\t",
            '\r' => text += "\\r",
            _ if !is_special(character) => text.push(character),
            _ if code <= 0xff => drop(write!(text, "\\x{code:02x}")),
            _ if code <= 0xffff => drop(write!(text, "\\u{code:04x}")),
            _ => drop(write!(text, "\\U{code:08x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use saphyr_parser::{Event, Parser, ScalarStyle};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_looks_like_kubectls() {
        let pod = json!({
            "apiVersion": "v1",
            "metadata": {"labels": {}, "name": "web", "uid": "8f3a"},
            "spec": {
                "containers": [
                    {"args": ["sh", "-c", "set -e\nrun\n"], "image": "rootfs:/srv/web",
                     "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}},
                    {"command": [], "env": [{"name": "ON", "value": "yes"}]},
                ],
                "nested": [[1, 2], [], [[true]]],
                "nothing": null,
                "number": 1.5,
            },
        });
        let expected = "\
apiVersion: v1
metadata:
  labels: {}
  name: web
  uid: 8f3a
spec:
  containers:
  - args:
    - sh
    - \"-c\"
    - |
      set -e
      run
    image: rootfs:/srv/web
    resources:
      limits:
        cpu: 500m
        memory: 64Mi
  - command: []
    env:
    - name: \"ON\"
      value: \"yes\"
  nested:
  -
    - 1
    - 2
  - []
  -
    -
      - true
  nothing: null
  number: 1.5
";
        assert_eq!(to_yaml(&pod), expected);
    }

    const QUOTED: &str = r#"
yes|No|ON|y|true|NULL|~|0644|0o17|0b11|0xff|1e3|1_000|1:20|.5|-1|+1|.inf|.NaN|2026-11-20
2026-11-20T10:00:00Z|1.2.3|10.0.0.1|-|- a|?|a: b|a #b|a:|#a|&a|*a|!a|>|%a|@a|`a`|{a}|[a]|"a"|'a'
=|<<|---|...| a
"#;
    const PLAIN: &str = "web|64Mi|500m|/etc/x|a:b|a#b|ü|$(A)|8080/tcp|x=y|10Gi";

    #[test]
    fn strings_that_are_like_something_else_are_quoted() {
        let special = ["", "|", "a ", "a\tb", "a\u{85}b", "a\u{2028}b", "\u{feff}", "\u{1b}[31m"];
        let quoted = QUOTED.trim_matches('\n').split(['|', '\n']);
        for string in quoted.chain(special) {
            assert!(!is_plain(string), "{string:?}");
        }
        for string in PLAIN.split('|') {
            assert!(is_plain(string), "{string:?}");
        }
    }

    #[test]
    fn blocks_end_as_the_string_does() {
        for (string, yaml) in [
            ("a\nb", "|-\n  a\n  b\n"),
            ("a\n", "|\n  a\n"),
            ("a\n\n b\n\n", "|+\n  a\n\n   b\n\n"),
            ("\na", "\"\\na\"\n"),
            (" a\nb", "\" a\\nb\"\n"),
            ("a \nb", "\"a \\nb\"\n"),
            ("a\r\nb", "\"a\\r\\nb\"\n"),
        ] {
            assert_eq!(to_yaml(&json!({"k": string})), format!("k: {yaml}"));
            assert_eq!(read(&to_yaml(&json!([string, "x"]))), json!([string, "x"]));
        }
    }

    /// Reads a document back: plain scalars are JSON's or strings, all others strings.
    fn read(text: &str) -> Value {
        let mut events = Parser::new_from_str(text).map(|event| event.unwrap().0);
        loop {
            match events.next().unwrap() {
                Event::StreamStart | Event::DocumentStart(..) => {}
                first => return value(first, &mut events),
            }
        }
    }

    fn value<'a>(first: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) -> Value {
        match first {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
            }
            Event::Scalar(text, ..) => json!(text),
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match events.next().unwrap() {
                        Event::SequenceEnd => return Value::Array(list),
                        next => list.push(value(next, events)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                loop {
                    match events.next().unwrap() {
                        Event::MappingEnd => return Value::Object(map),
                        Event::Scalar(key, ..) => {
                            let next = events.next().unwrap();
                            map.insert(key.into_owned(), value(next, events));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let string = prop_oneof!["[ab:#\n\t '\"{}|>-]{0,8}", "[0-9a-fx_.:eE+-]{0,6}", ".{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            string.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab: \n-]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let text = to_yaml(&value);
            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
