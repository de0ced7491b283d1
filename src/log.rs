//! `--log`, `--log-format`, `--debug`: where carob's own messages go.
//!
//! Engines read the `--log` file as JSON and take its one `error` line as the cause; some discard
//! everything if there is a second line. So the file gets errors, and debug lines only if they are
//! asked for. It is opened once, before anything is done, and stays usable after the root directory
//! has been switched.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::OnceLock,
    time::SystemTime,
};

use serde::Serialize;

use crate::error::{OsContext, Result};

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=… msg="…"`; without `--log`, plain `error: …`.
    Text,
    /// One JSON object per line with the keys `level`, `msg` and `time`.
    Json,
}

/// `--debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors, and warnings where a person reads them.
    Quiet,
    /// Also what is being done.
    Debug,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warning,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Debug => "debug",
        }
    }
}

#[derive(Debug)]
struct Log {
    file: Option<File>,
    format: Format,
    verbosity: Verbosity,
}

static LOG: OnceLock<Log> = OnceLock::new();
static UNSET: Log = Log { file: None, format: Format::Text, verbosity: Verbosity::Quiet };

/// Opens the `--log` file and sets what later messages do. Only the first call counts.
///
/// # Errors
/// The errno of opening `file`, which is created with mode 0644 and appended to.
pub fn init(file: Option<&Path>, format: Format, verbosity: Verbosity) -> Result<()> {
    let file = file.map(open).transpose()?;
    LOG.get_or_init(|| Log { file, format, verbosity });
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o644).open(path).os("open log file", || path.display())
}

/// Reports why the verb failed: to the log file if there is one, and to stderr in any case.
pub fn error(message: impl fmt::Display) {
    let log = current();
    let message = message.to_string();
    if let Some(file) = &log.file {
        append(file, &line(log.format, Level::Error, &message));
        to_stderr(&format!("{message}\n"));
    } else {
        to_stderr(&log.plain(Level::Error, &message));
    }
}

/// Tells a person at the terminal about something odd; with `--log` there is none, and the file
/// is not for it.
pub fn warn(message: impl fmt::Display) {
    let log = current();
    if log.file.is_none() {
        to_stderr(&log.plain(Level::Warning, &message.to_string()));
    }
}

/// Records a step. Costs nothing without `--debug`: pass `format_args!`.
pub fn debug(message: impl fmt::Display) {
    let log = current();
    if log.verbosity == Verbosity::Quiet {
        return;
    }
    let message = message.to_string();
    match &log.file {
        Some(file) => append(file, &line(log.format, Level::Debug, &message)),
        None => to_stderr(&log.plain(Level::Debug, &message)),
    }
}

fn current() -> &'static Log {
    LOG.get().unwrap_or(&UNSET)
}

impl Log {
    fn plain(&self, level: Level, message: &str) -> String {
        match self.format {
            Format::Text => format!("{}: {message}\n", level.name()),
            Format::Json => line(Format::Json, level, message),
        }
    }
}

fn line(format: Format, level: Level, msg: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        level: Level,
        msg: &'a str,
        time: &'a str,
    }
    // Go clients parse the time as RFC 3339 and drop the message if it is anything else.
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let text = || format!("time={time:?} level={} msg={msg:?}", level.name());
    let mut line = match format {
        Format::Text => text(),
        // Three strings always serialise; the fallback spares a panic path.
        Format::Json => {
            serde_json::to_string(&Line { level, msg, time: &time }).unwrap_or_else(|_| text())
        }
    };
    line.push('\n');
    line
}

/// One `write` per line, so that lines of two carobs on one file do not mix.
fn append(mut file: &File, line: &str) {
    // There is no third place to report that the second is full; stderr follows.
    drop(file.write_all(line.as_bytes()));
}

fn to_stderr(text: &str) {
    // stderr may be a closed pipe, or `/dev/null` opened for reading: neither may end carob.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_line_has_the_keys_that_clients_decode() {
        let line = line(Format::Json, Level::Error, "exec: \"x\": bad\nthing");
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "exec: \"x\": bad\nthing");
        let time = value["time"].as_str().unwrap();
        humantime::parse_rfc3339(time).unwrap();
        assert_eq!(time.len(), "2026-11-20T10:30:08Z".len());
    }

    #[test]
    fn the_file_is_appended_to() {
        let path = std::env::temp_dir().join(format!("carob-log-{}", std::process::id()));
        append(&open(&path).unwrap(), "one\n");
        append(&open(&path).unwrap(), "two\n");
        let text = std::fs::read_to_string(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.unwrap(), "one\ntwo\n");
        let error = open(Path::new("/dev/null/log")).unwrap_err().to_string();
        assert!(error.starts_with("open log file /dev/null/log: "), "{error}");
    }

    #[test]
    fn text_line_is_logrus_shaped() {
        let line = line(Format::Text, Level::Debug, "a \"b\"");
        let (time, rest) = line.strip_prefix("time=\"").unwrap().split_once('"').unwrap();
        humantime::parse_rfc3339(time).unwrap();
        assert_eq!(rest, " level=debug msg=\"a \\\"b\\\"\"\n");
    }

    #[test]
    fn stderr_text_is_for_people() {
        let json = Log { file: None, format: Format::Json, verbosity: Verbosity::Quiet };
        assert_eq!(UNSET.plain(Level::Error, "no"), "error: no\n");
        assert_eq!(UNSET.plain(Level::Warning, "hm"), "warning: hm\n");
        assert!(json.plain(Level::Error, "no").starts_with(r#"{"level":"error","msg":"no""#));
    }
}
