//! Tests that documents name: documents say nothing of tests that do not exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions below `src` and `tests` that are tests: what carries `#[test]`, and no
/// other function of that name.
pub fn all() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut left = vec![root.join("src"), root.join("tests")];
    let mut names = BTreeSet::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(of_source(&fs::read_to_string(&path).unwrap()));
        }
    }
    names
}

/// Those of one source: the first line after the attribute that is no other one begins a function,
/// which has arguments if it tests a property.
pub fn of_source(text: &str) -> BTreeSet<String> {
    let mut lines = text.lines().map(str::trim);
    let mut names = BTreeSet::new();
    while lines.any(|line| line == "#[test]") {
        let rest =
            lines.by_ref().skip_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let head = rest.take(1).next().unwrap_or_default();
        let name = head.strip_prefix("fn ").and_then(|head| head.split_once('('));
        names.extend(name.map(|(name, _)| name.to_owned()));
    }
    names
}

/// Words between backquotes.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn only_functions_with_the_attribute_are_tests() {
    let text = "
        fn neither() {}
        #[test]
        #[ignore = \"needs root\"]
        // Why.
        fn one() { fn inner() {} }
        // #[test]
        fn another() {}
        #[cfg(test)]
        fn with_another_attribute() {}
        #[test]
        fn two(
            value in any(),
        ) {}
    ";
    assert_eq!(of_source(text), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
}
