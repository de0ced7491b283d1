//! The configuration that docs/clients.md tells people to write.

use std::fs;
use std::path::Path;

/// The first block of `language` below the heading `section`, as it is.
pub fn snippet(section: &str, language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let text = fs::read_to_string(path).unwrap();
    let heading = format!("\n## {section}\n");
    let (_, below) = text.split_once(&heading).unwrap_or_else(|| panic!("no section {section}"));
    let below = below.split("\n## ").next().unwrap();
    let (_, block) = below
        .split_once(&format!("\n```{language}\n"))
        .unwrap_or_else(|| panic!("no {language} in section {section}"));
    block.split_once("\n```").unwrap().0.to_owned() + "\n"
}
