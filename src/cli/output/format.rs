//! `--format` of the verbs that show objects.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::{print, print_json, to_yaml, unserialisable};
use crate::error::{Error, Result};

/// How an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    /// Columns for people.
    Table,
    /// The same with more of them.
    Wide,
    /// Names only, a line each.
    Name,
    /// JSON for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

const NAMES: &[(&str, Format)] = &[
    ("table", Format::Table),
    ("wide", Format::Wide),
    ("name", Format::Name),
    ("json", Format::Json),
    ("yaml", Format::Yaml),
];

impl Format {
    /// Parses those of the formats that a verb has.
    pub(in crate::cli) fn parser(
        names: &'static [&'static str],
    ) -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(names).map(|name| {
            let row = NAMES.iter().find(|(known, _)| *known == name);
            row.map_or(Self::Table, |(_, format)| *format)
        })
    }
}

impl Format {
    /// Refuses what cannot be gone on with line by line.
    ///
    /// # Errors
    /// [`Error::Invalid`] for names and YAML.
    pub(in crate::cli) fn check_watch(self) -> Result<()> {
        match self {
            Self::Table | Self::Wide | Self::Json => Ok(()),
            Self::Name | Self::Yaml => Err(Error::Invalid(
                "--watch: the format must be one for lines, as table or json".into(),
            )),
        }
    }
}

/// Prints a value in one of the formats for programs.
pub(in crate::cli) fn print_object(format: Format, value: &impl Serialize) -> Result<()> {
    // By way of a value: the types of Kubernetes are large enough to be written in one way only.
    let value = serde_json::to_value(value).map_err(unserialisable)?;
    if format == Format::Yaml { print(&to_yaml(&value)) } else { print_json(&value) }
}
