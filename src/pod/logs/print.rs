//! Lines of logs as they are shown. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::line::{Line, Stream, Tag};

/// Longest text of one JSON object, bytes; a longer line becomes several, all but the last of
/// them marked.
const JSON_TEXT_BYTES: usize = 1 << 20;

/// How lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the container has printed them.
    Text,
    /// `--timestamps`.
    Timestamps,
    /// One object a line.
    Json,
}

/// Shows the lines of one container.
#[derive(Debug)]
pub struct Printer {
    style: Style,
    container: String,
    prefix: String,
    since: Option<Timestamp>,
    /// `--limit-bytes`: what is left of it. The prefix does not count.
    left_bytes: Option<u64>,
    /// The last piece that was shown had no newline.
    is_within_line: bool,
    joined_out: Option<Joined>,
    joined_err: Option<Joined>,
}

/// The pieces of a line that is not complete yet, for JSON.
#[derive(Debug)]
struct Joined {
    /// Of the first piece.
    time: String,
    stream: Stream,
    text: Vec<u8>,
}

impl Joined {
    fn new(line: &Line) -> Self {
        Self { time: line.time.to_owned(), stream: line.stream, text: Vec::new() }
    }
}

/// A line for a program.
#[derive(Debug, Serialize)]
struct Object<'a> {
    time: &'a str,
    stream: &'static str,
    container: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl Printer {
    /// For the lines of `container`, from `since` on.
    #[must_use]
    pub fn new(container: &str, style: Style, since: Option<Timestamp>) -> Self {
        Self {
            style,
            container: container.to_owned(),
            prefix: String::new(),
            since,
            left_bytes: None,
            is_within_line: false,
            joined_out: None,
            joined_err: None,
        }
    }

    /// Begins each line with `prefix`.
    #[must_use]
    pub fn with_prefix(self, prefix: String) -> Self {
        Self { prefix, ..self }
    }

    /// Shows so many bytes, and then nothing more.
    #[must_use]
    pub fn with_limit(self, bytes: Option<u64>) -> Self {
        Self { left_bytes: bytes, ..self }
    }

    /// Whether `--limit-bytes` has been reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left_bytes == Some(0)
    }

    /// Appends to `out` how a line is shown.
    pub fn show(&mut self, line: &Line, out: &mut Vec<u8>) {
        let is_too_early = |since| line.when().is_none_or(|when| when < since);
        if self.is_done() || self.since.is_some_and(is_too_early) {
            return;
        }
        match self.style {
            Style::Json => self.show_json(line, out),
            Style::Text | Style::Timestamps => self.show_text(line, out),
        }
    }

    fn show_text(&mut self, line: &Line, out: &mut Vec<u8>) {
        if !self.is_within_line {
            out.extend_from_slice(self.prefix.as_bytes());
        }
        let from = out.len();
        if !self.is_within_line && self.style == Style::Timestamps {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        self.is_within_line = line.tag == Tag::Partial;
        if !self.is_within_line {
            out.push(b'\n');
        }
        self.cut(from, out);
    }

    fn show_json(&mut self, line: &Line, out: &mut Vec<u8>) {
        let joined = match line.stream {
            Stream::Stdout => &mut self.joined_out,
            Stream::Stderr => &mut self.joined_err,
        };
        let mut joined = joined.take().unwrap_or_else(|| Joined::new(line));
        joined.text.extend_from_slice(line.text);
        if line.tag == Tag::Full || joined.text.len() >= JSON_TEXT_BYTES {
            self.show_object(&joined, line.tag, out);
        } else {
            match line.stream {
                Stream::Stdout => self.joined_out = Some(joined),
                Stream::Stderr => self.joined_err = Some(joined),
            }
        }
    }

    /// Shows what is left of lines that have no end; nothing more is to come.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        for joined in [self.joined_out.take(), self.joined_err.take()].into_iter().flatten() {
            self.show_object(&joined, Tag::Partial, out);
        }
    }

    fn show_object(&mut self, joined: &Joined, tag: Tag, out: &mut Vec<u8>) {
        let object = Object {
            time: &joined.time,
            stream: joined.stream.name(),
            container: &self.container,
            text: &String::from_utf8_lossy(&joined.text),
            partial: tag == Tag::Partial,
        };
        // Strings always serialise.
        let mut text = serde_json::to_vec(&object).unwrap_or_default();
        text.push(b'\n');
        // Half an object is of no use to a program.
        match &mut self.left_bytes {
            Some(left) if *left < text.len() as u64 => *left = 0,
            Some(left) => {
                *left -= text.len() as u64;
                out.append(&mut text);
            }
            None => out.append(&mut text),
        }
    }

    /// Takes away from what was appended since `from` what is beyond the limit.
    fn cut(&mut self, from: usize, out: &mut Vec<u8>) {
        if let Some(left) = &mut self.left_bytes {
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
            out.truncate(from.saturating_add(allowed));
            *left -= (out.len() - from) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, stream: Stream, tag: Tag, text: &str) -> (String, Stream, Tag, String) {
        (format!("2026-11-20T15:33:{second:02}Z"), stream, tag, text.to_owned())
    }

    fn show(printer: &mut Printer, lines: &[(String, Stream, Tag, String)]) -> String {
        let mut out = Vec::new();
        for (time, stream, tag, text) in lines {
            let line = Line { time, stream: *stream, tag: *tag, text: text.as_bytes() };
            printer.show(&line, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn three() -> [(String, Stream, Tag, String); 3] {
        [
            line(1, Stream::Stdout, Tag::Partial, "a"),
            line(2, Stream::Stdout, Tag::Full, "b"),
            line(3, Stream::Stderr, Tag::Full, "c"),
        ]
    }

    #[test]
    fn pieces_are_joined_under_one_time_and_prefix() {
        for (style, text) in [
            (Style::Text, "> ab\n> c\n"),
            (Style::Timestamps, "> 2026-11-20T15:33:01Z ab\n> 2026-11-20T15:33:03Z c\n"),
        ] {
            let mut printer = Printer::new("main", style, None).with_prefix("> ".into());
            assert_eq!(show(&mut printer, &three()), text);
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut printer = Printer::new("main", Style::Json, None);
        assert_eq!(
            show(&mut printer, &three()),
            concat!(
                r#"{"time":"2026-11-20T15:33:01Z","stream":"stdout","container":"main","text":"ab"}"#,
                "\n",
                r#"{"time":"2026-11-20T15:33:03Z","stream":"stderr","container":"main","text":"c"}"#,
                "\n",
            )
        );
        let long = line(1, Stream::Stdout, Tag::Partial, &"x".repeat(JSON_TEXT_BYTES));
        assert!(show(&mut printer, &[long]).ends_with("\"partial\":true}\n"));
        let endless = line(4, Stream::Stderr, Tag::Partial, "d");
        assert_eq!(show(&mut printer, &[endless]), "");
        let mut out = Vec::new();
        printer.finish(&mut out);
        assert!(out.ends_with(b"\"text\":\"d\",\"partial\":true}\n"));
    }

    #[test]
    fn what_is_before_since_is_left_out() {
        let since = "2026-11-20T15:33:02.5Z".parse().ok();
        assert_eq!(show(&mut Printer::new("main", Style::Text, since), &three()), "c\n");
    }

    #[test]
    fn no_more_than_the_limit_is_shown() {
        for (limit, style, text) in [
            (0, Style::Text, ""),
            (1, Style::Text, "> a"),
            (4, Style::Text, "> ab\n> c"),
            (9, Style::Text, "> ab\n> c\n"),
            (10, Style::Json, ""),
        ] {
            let printer = Printer::new("main", style, None).with_prefix("> ".into());
            let mut printer = printer.with_limit(Some(limit));
            assert_eq!(show(&mut printer, &three()), text, "{limit}");
            assert_eq!(printer.is_done(), limit != 9, "{limit}");
        }
    }
}
