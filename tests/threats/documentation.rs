//! docs/security.md and the tests say the same.

use std::fs;
use std::path::Path;

/// Texts of all tests.
fn sources(dir: &Path, all: &mut String) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, all);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(entry).unwrap());
        }
    }
}

/// Words in backquotes that are names of tests.
fn named(text: &str) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words.filter(|word| word.matches('_').count() > 2 && !word.contains(['/', '.'])).collect()
}

#[test]
fn every_test_that_the_table_of_escapes_names_exists_and_every_test_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named = named(&text);
    let (mut all, mut here) = (String::new(), String::new());
    sources(&root.join("tests"), &mut all);
    sources(&root.join("tests/threats"), &mut here);
    for name in &named {
        assert!(all.contains(&format!("fn {name}()")), "docs/security.md: no test {name}");
    }
    assert!(named.len() > 30, "{named:?}");
    let here = here.split("#[ignore").skip(1).filter_map(|test| {
        test.split_once("\nfn ").and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name)
    });
    for name in here {
        assert!(named.contains(&name), "docs/security.md does not name {name}");
    }
}
