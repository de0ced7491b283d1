//! Reading `config.json`, a process file and a resources document into oci-spec's types.
//!
//! The good case is one pass of serde_json. Only when that fails is the text read again: to
//! name the JSON path, and for what the specification allows and oci-spec 0.10 refuses
//! (`oci::mend`).
//!
//! Source: runtime-spec 1.3 `config.md`, *Specification version*, *Extensibility*.

use std::{fmt, fs::File, io::Read, path::Path};

use nix::fcntl::OFlag;
use oci_spec::runtime::{LinuxPids, LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

use super::{
    Warning, capabilities, mend,
    parse::{ExecText, ProcessText, SpecText},
};
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// Largest document that is read, in bytes.
pub const MAX_SIZE: u64 = 16 << 20;
/// Newest minor version of runtime-spec 1 that a bundle may ask for.
const NEWEST_MINOR: u64 = 3;
/// Longest part of a parser's message that is repeated, in bytes: it quotes values of any size.
const MAX_QUOTE: usize = 400;

/// A parsed configuration.
#[derive(Debug)]
pub struct LoadedSpec {
    /// The configuration.
    pub spec: Spec,
    /// The text that it was read from, as found.
    pub raw: Vec<u8>,
    /// What was left out, because the specification says to go on without it.
    pub warnings: Vec<Warning>,
}

/// A parsed process file.
#[derive(Debug)]
pub struct LoadedProcess {
    /// The process.
    pub process: Process,
    /// What was left out, because the specification says to go on without it.
    pub warnings: Vec<Warning>,
}

/// The kinds of document, and where in them the parts are that two kinds share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    /// `config.json`.
    Spec,
    /// `exec --process`.
    Process,
    /// `update --resources`.
    Resources,
}

impl Document {
    /// JSON pointer to the process.
    pub(super) fn process(self) -> Option<&'static str> {
        match self {
            Self::Spec => Some("/process"),
            Self::Process => Some(""),
            Self::Resources => None,
        }
    }

    /// JSON pointer to the resources.
    pub(super) fn resources(self) -> Option<&'static str> {
        match self {
            Self::Spec => Some("/linux/resources"),
            Self::Process => None,
            Self::Resources => Some(""),
        }
    }

    /// What the document as a whole is called in errors.
    fn name(self) -> &'static str {
        match self {
            Self::Spec => "config.json",
            Self::Process => "process",
            Self::Resources => "linux.resources",
        }
    }

    /// The path in `config.json` of a property of this document; all errors name that one.
    fn field(self, path: &str) -> String {
        // `?` stands for a key that was not read to its end.
        match (self, path.trim_end_matches(".?")) {
            (_, "." | "?" | "") => self.name().to_owned(),
            (Self::Spec, path) => path.to_owned(),
            (Self::Process | Self::Resources, path) => format!("{}.{path}", self.name()),
        }
    }
}

/// Reads and parses the `config.json` at `path`, and checks its `ociVersion`.
///
/// # Errors
/// [`Error::Invalid`] if the file is missing, not a regular file, empty or larger than
/// [`MAX_SIZE`]; [`Error::Config`] with the JSON path if its content cannot be parsed or is
/// for another version; [`Error::Os`] if it cannot be read.
pub fn load_spec(path: &Path) -> Result<LoadedSpec> {
    parse_spec(read_spec(path)?)
}

/// Reads of a container's `config.json` only what one more process goes by; the rest was checked when
/// the container was made.
///
/// # Errors
/// As [`load_spec`].
pub fn load_spec_for_exec(path: &Path) -> Result<Spec> {
    let raw = read_spec(path)?;
    let text = decode::<ExecText>(&raw, Document::Spec, "config.json", &mut Vec::new())?;
    let spec = Spec::from(text);
    check_version(spec.version())?;
    Ok(spec)
}

fn read_spec(path: &Path) -> Result<Vec<u8>> {
    read_file(path).map_err(|error| match error.errno() {
        Some(nix::errno::Errno::ENOENT) => Error::Invalid(format!(
            "JSON specification file config.json not found: a bundle directory needs one, \
             looked for {}",
            path.display()
        )),
        _ => error,
    })
}

/// Parses the text of a `config.json`, and checks its `ociVersion`.
///
/// # Errors
/// As [`load_spec`], for the content.
pub fn parse_spec(raw: Vec<u8>) -> Result<LoadedSpec> {
    let mut warnings = Vec::new();
    let mut spec =
        Spec::from(decode::<SpecText>(&raw, Document::Spec, "config.json", &mut warnings)?);
    check_version(spec.version())?;
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|l| l.resources_mut().as_mut()) {
        mend_pids(resources, &raw, Document::Spec);
    }
    Ok(LoadedSpec { spec, raw, warnings })
}

/// Reads and parses a file with a bare `Process`, as `exec --process` takes it: also a pipe, such
/// as a shell's `<(...)`.
///
/// # Errors
/// As [`load_spec`]; a missing file is [`Error::Os`].
pub fn load_process(path: &Path) -> Result<LoadedProcess> {
    let name = format!("process file {}", path.display());
    let file = File::open(path).os("open", || &name)?;
    let metadata = file.metadata().os("fstat", || &name)?;
    let raw = match metadata.is_file() {
        true => read_sized(file, &name, metadata.len())?,
        false => read_stream(file, &name)?,
    };
    parse_process(&raw, &name)
}

/// Parses the text of a process file; `name` is what errors call it.
///
/// # Errors
/// As [`load_process`], for the content.
pub fn parse_process(raw: &[u8], name: &str) -> Result<LoadedProcess> {
    let mut warnings = Vec::new();
    let process = decode::<ProcessText>(raw, Document::Process, name, &mut warnings)?;
    Ok(LoadedProcess { process: process.into(), warnings })
}

/// Parses a bare `LinuxResources`, as `update --resources` takes it; `devices` is dropped,
/// because the device rules of a running container are its creator's: CRI repeats "deny all"
/// here. `name` is what errors call the document.
///
/// # Errors
/// [`Error::Invalid`] if there is nothing or more than [`MAX_SIZE`]; [`Error::Config`] with the
/// JSON path if it cannot be parsed; [`Error::Os`] if it cannot be read.
pub fn load_resources(reader: impl Read, name: &str) -> Result<LinuxResources> {
    let raw = read_stream(reader, name)?;
    let mut resources: LinuxResources = decode(&raw, Document::Resources, name, &mut Vec::new())?;
    resources.set_devices(None);
    mend_pids(&mut resources, &raw, Document::Resources);
    Ok(resources)
}

/// A regular file's content, bounded.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    // O_NONBLOCK: the open of a FIFO would otherwise wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(fd::open(path, flags).os("open", || path.display())?);
    let metadata = file.metadata().os("fstat", || path.display())?;
    if !metadata.is_file() {
        return Err(Error::Invalid(format!("{}: must be a regular file", path.display())));
    }
    read_sized(file, path.display(), metadata.len())
}

fn read_sized(file: File, what: impl fmt::Display, size: u64) -> Result<Vec<u8>> {
    check_size(&what, size)?;
    let mut raw = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // Exactly `size`, so that no further read is needed to see the end.
    file.take(size).read_to_end(&mut raw).os("read", || what)?;
    Ok(raw)
}

fn read_stream(reader: impl Read, what: impl fmt::Display) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    reader.take(MAX_SIZE + 1).read_to_end(&mut raw).os("read", || &what)?;
    check_size(what, raw.len() as u64)?;
    Ok(raw)
}

fn check_size(what: impl fmt::Display, size: u64) -> Result<()> {
    match size {
        0 => Err(Error::Invalid(format!("{what}: is empty, must be a JSON object"))),
        1..=MAX_SIZE => Ok(()),
        _ => {
            Err(Error::Invalid(format!("{what}: has {size} bytes, allowed are at most {MAX_SIZE}")))
        }
    }
}

fn decode<T: DeserializeOwned>(
    raw: &[u8],
    document: Document,
    name: &str,
    warnings: &mut Vec<Warning>,
) -> Result<T> {
    // serde would take an array for an object without keys.
    if raw.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Error::config(document.name(), "is an array, must be a JSON object"));
    }
    match serde_json::from_slice(raw) {
        Ok(decoded) if capabilities::all_known(raw, document) => Ok(decoded),
        _ => decode_slowly(raw, document, name, warnings),
    }
}

/// With the JSON path in the error, and with what can be mended.
#[cold]
fn decode_slowly<T: DeserializeOwned>(
    raw: &[u8],
    document: Document,
    name: &str,
    warnings: &mut Vec<Warning>,
) -> Result<T> {
    let mut value: Value =
        serde_json::from_slice(raw).map_err(|e| Error::config(name, reason(&e)))?;
    let mended = mend::mend(&mut value, document, warnings)?;
    match decode_with_path::<T>(raw) {
        Ok(decoded) if !mended => Ok(decoded),
        Err(error) if !mended => Err(explain(&error, document, reason)),
        // As text again: reading `value` itself would take one more parser of everything.
        _ => decode_with_path(value.to_string().as_bytes())
            .map_err(|e| explain(&e, document, reason_without_position)),
    }
}

type ErrorWithPath = serde_path_to_error::Error<serde_json::Error>;

fn decode_with_path<T: DeserializeOwned>(raw: &[u8]) -> std::result::Result<T, ErrorWithPath> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(raw))
}

fn explain(
    error: &ErrorWithPath,
    document: Document,
    reason: fn(&serde_json::Error) -> String,
) -> Error {
    let field = document.field(&error.path().to_string());
    let mut reason = reason(error.inner());
    // oci-spec has one enumeration for both.
    if field.ends_with("].type") {
        for (list, allowed) in
            [("linux.devices[", NODE_TYPES), ("linux.resources.devices[", RULE_TYPES)]
        {
            if field.starts_with(list) {
                reason = reason.replace(DEVICE_TYPES, allowed);
            }
        }
    }
    Error::config(field, reason)
}

/// serde's list of oci-spec's device types, and the ones that can be meant.
const DEVICE_TYPES: &str = "`a`, `b`, `c`, `u`, `p`";
const NODE_TYPES: &str = "`b`, `c`, `u`, `p`";
const RULE_TYPES: &str = "`a`, `b`, `c`, `u`";

/// serde's words, and the ones that somebody who wrote JSON knows.
const PLAIN_WORDS: &[(&str, &str)] = &[
    ("invalid type: map", "invalid type: object"),
    ("invalid type: sequence", "invalid type: array"),
    ("expected a sequence", "expected an array"),
    ("expected a map", "expected an object"),
    ("expected path string", "expected a string"),
    ("expected u8", "expected an integer from 0 to 255"),
    ("expected u16", "expected an integer from 0 to 65535"),
    ("expected u32", "expected an integer from 0 to 4294967295"),
    ("expected u64", "expected an integer from 0 to 18446744073709551615"),
    ("expected usize", "expected an integer, 0 or more"),
    ("expected i32", "expected an integer from -2147483648 to 2147483647"),
    ("expected i64", "expected an integer of 64 bits"),
    ("unknown variant", "unknown value"),
];

fn reason(error: &serde_json::Error) -> String {
    let reason = reason_without_position(error);
    match error.line() {
        0 => reason,
        line => format!("{reason} at line {line} column {}", error.column()),
    }
}

fn reason_without_position(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let mut text = full.strip_suffix(&position).unwrap_or(&full).to_owned();
    if text.len() > MAX_QUOTE {
        let end = (0..=MAX_QUOTE).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    for (from, to) in PLAIN_WORDS {
        text = text.replace(from, to);
    }
    // The names of Rust types say nothing to the reader.
    if let Some((before, after)) = text.split_once("expected struct ") {
        let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        text = format!("{before}expected an object{rest}");
    }
    match error.classify() {
        Category::Eof => format!("not JSON: it ends too early, {text}"),
        Category::Syntax => format!("not JSON: {text}"),
        Category::Data | Category::Io => text,
    }
}

/// `ociVersion`: 1.0.0 up to and including every 1.3, with any pre-release or build suffix.
fn check_version(version: &str) -> Result<()> {
    let refuse = |why: &str| {
        let allowed = format!("1.0.0 to 1.{NEWEST_MINOR}.x");
        Err(Error::config("ociVersion", format!("{version:?} {why}, allowed is {allowed}")))
    };
    if version.is_empty() {
        return refuse("is missing or empty");
    }
    let end = version.find(['-', '+']).unwrap_or(version.len());
    let numbers: Vec<Option<u64>> = version[..end]
        .split('.')
        .map(|n| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse().ok())?)
        .collect();
    match numbers[..] {
        [Some(1), Some(0..=NEWEST_MINOR), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => refuse("is not supported"),
        _ => refuse("is not a version"),
    }
}

/// oci-spec reads `"pids": {}` as a limit of 0, which would forbid every fork.
///
/// A limit of 0 that is really there means 1 for a new container, as with runc: the kernel takes
/// none lower for one that has a process. What changes limits says 0 where nothing is to change.
fn mend_pids(resources: &mut LinuxResources, raw: &[u8], document: Document) {
    if resources.pids().is_none_or(|pids| pids.limit() != 0) {
        return;
    }
    let limit = serde_json::from_slice::<Value>(raw).ok().and_then(|value| {
        let resources = value.pointer(document.resources()?)?;
        resources.pointer("/pids/limit").cloned()
    });
    let mended = (limit.is_some() && document == Document::Spec).then(|| {
        let mut one = LinuxPids::default();
        one.set_limit(1);
        one
    });
    if limit.is_none() || mended.is_some() {
        resources.set_pids(mended);
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
