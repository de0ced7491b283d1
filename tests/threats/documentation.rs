//! docs/security.md and the tests say the same.

use std::fs;
use std::path::Path;

use crate::support::named_tests;

/// Words in backquotes that are names of tests.
fn named(text: &str) -> Vec<&str> {
    let is_name = |word: &&str| word.matches('_').count() > 2 && !word.contains(['/', '.']);
    named_tests::quoted(text).filter(is_name).collect()
}

#[test]
fn every_test_that_the_table_of_escapes_names_exists_and_every_test_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named = named(&text);
    let all = named_tests::all();
    for name in &named {
        assert!(all.contains(*name), "docs/security.md: no test {name}");
    }
    assert!(named.len() > 30, "{named:?}");
    let mut files: Vec<_> = fs::read_dir(root.join("tests/threats"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(root.join("tests/pod/threats.rs"));
    files.retain(|path| !path.ends_with("documentation.rs"));
    for path in files {
        for name in named_tests::of_source(&fs::read_to_string(path).unwrap()) {
            assert!(named.contains(&name.as_str()), "docs/security.md does not name {name}");
        }
    }
}
