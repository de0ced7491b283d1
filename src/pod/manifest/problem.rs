//! What is wrong with an object, in the words of the API.
//!
//! Source: apimachinery `pkg/util/validation/field/errors.go`; `pkg/runtime/error.go`.

use std::fmt::{self, Write};

use super::tree::Node;

/// Most problems of an object that are reported; nobody reads more.
const MAX_PROBLEMS: usize = 100;

/// All that is wrong with one object; nothing stops at the first.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    /// How many there are beyond those.
    more: usize,
}

#[derive(Debug)]
struct Problem {
    stage: Stage,
    /// Of the field; its line is looked up by it.
    path: String,
    /// Where the path does not lead to the line.
    line: Option<u32>,
    text: String,
}

/// Where a problem is found: what cannot be decoded is not yet invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Decoding,
    Type,
    Validation,
}

impl Problems {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether a value had to be left out because it is of another type: what depends on it
    /// cannot be judged.
    pub(super) fn has_type_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.stage == Stage::Type)
    }

    fn push(&mut self, stage: Stage, path: &str, line: Option<u32>, text: String) {
        // A problem of type decides over what can be said of the rest.
        if self.found.len() >= MAX_PROBLEMS && (stage != Stage::Type || self.has_type_errors()) {
            self.more += 1;
            return;
        }
        self.found.push(Problem { stage, path: path.to_owned(), line, text });
    }

    /// `unknown field "a.b"`.
    pub(super) fn unknown(&mut self, path: &str, suggestion: Option<&str>) {
        let hint = suggestion.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default();
        let text = format!("strict decoding error: unknown field {path:?}{hint}");
        self.push(Stage::Decoding, path, None, text);
    }

    /// `duplicate field "a.b"`.
    pub(super) fn duplicate_field(&mut self, path: &str, line: u32) {
        let text = format!("strict decoding error: duplicate field {path:?}");
        self.push(Stage::Decoding, path, Some(line), text);
    }

    /// `cannot unmarshal number into a.b of type string`.
    pub(super) fn mismatch(&mut self, path: &str, found: &str, wanted: impl fmt::Display) {
        let at = if path.is_empty() { "the object" } else { path };
        let text = format!("cannot unmarshal {found} into {at} of type {wanted}");
        self.push(Stage::Type, path, None, text);
    }

    fn invalid_field(&mut self, path: &str, text: impl fmt::Display) {
        self.push(Stage::Validation, path, None, format!("{path}: {text}"));
    }

    /// `a.b: Required value`, with a detail if it is not empty.
    pub(super) fn required(&mut self, path: &str, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.invalid_field(path, format_args!("Required value{colon}{detail}"));
    }

    /// `a.b: Invalid value: "x": detail`.
    pub(super) fn invalid(
        &mut self,
        path: &str,
        value: impl fmt::Debug,
        detail: impl fmt::Display,
    ) {
        self.invalid_field(path, format_args!("Invalid value: {value:?}: {detail}"));
    }

    /// `a.b: Duplicate value: "x"`.
    pub(super) fn duplicate(&mut self, path: &str, value: impl fmt::Debug) {
        self.invalid_field(path, format_args!("Duplicate value: {value:?}"));
    }

    /// `a.b: Unsupported value: "x": supported values: "A", "B"`.
    pub(super) fn unsupported(&mut self, path: &str, value: &str, supported: &[&str]) {
        let supported: Vec<_> =
            supported.iter().filter(|s| !s.is_empty()).map(|s| format!("{s:?}")).collect();
        let supported = supported.join(", ");
        self.invalid_field(
            path,
            format_args!("Unsupported value: {value:?}: supported values: {supported}"),
        );
    }

    /// `a.b: Forbidden: detail`.
    pub(super) fn forbidden(&mut self, path: &str, detail: impl fmt::Display) {
        self.invalid_field(path, format_args!("Forbidden: {detail}"));
    }

    /// `a.b: Not found: "x"`, with a detail if it is not empty.
    pub(super) fn not_found(&mut self, path: &str, value: &str, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.invalid_field(path, format_args!("Not found: {value:?}{colon}{detail}"));
    }

    /// `a.b: Too long: may not be more than 3 bytes`.
    pub(super) fn too_long(&mut self, path: &str, most: usize) {
        self.invalid_field(path, format_args!("Too long: may not be more than {most} bytes"));
    }

    /// `a.b: Too many: 4: must have at most 3 items`.
    pub(super) fn too_many(&mut self, path: &str, count: usize, most: usize) {
        self.invalid_field(path, format_args!("Too many: {count}: must have at most {most} items"));
    }

    /// All of them, each with file and line: first what cannot be decoded, then what is invalid
    /// as `Pod "x" is invalid: …`. Each once, and in the order of the lines.
    pub(super) fn report(self, file: &str, node: &Node, kind: &str, name: &str) -> Vec<String> {
        let mut decoding = Vec::new();
        let mut validation = Vec::new();
        for problem in self.found {
            let line = problem.line.unwrap_or_else(|| node.line_of(&problem.path));
            let list = match problem.stage {
                Stage::Decoding | Stage::Type => &mut decoding,
                Stage::Validation => &mut validation,
            };
            let item = (line, problem.text);
            if !list.contains(&item) {
                list.push(item);
            }
        }
        decoding.sort_by_key(|(line, _)| *line);
        validation.sort_by_key(|(line, _)| *line);
        let mut lines: Vec<String> =
            decoding.iter().map(|(line, text)| format!("{file}:{line}: {text}")).collect();
        match &validation[..] {
            [] => {}
            [(line, text)] => {
                lines.push(format!("{kind} {name:?} is invalid: {file}:{line}: {text}"));
            }
            many => {
                let mut text = format!("{kind} {name:?} is invalid: [");
                for (index, (line, problem)) in many.iter().enumerate() {
                    let comma = if index + 1 < many.len() { "," } else { "" };
                    // Writing to a string cannot fail.
                    let _infallible = write!(text, "\n  {file}:{line}: {problem}{comma}");
                }
                lines.push(text + "\n]");
            }
        }
        if self.more > 0 {
            lines.push(format!("{file}:{}: and {} more problems", node.line, self.more));
        }
        lines
    }
}
