//! `pod explain`: the table of all fields, for people, programs and docs/pods.md.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use crate::cli::output::{self, KUBECTL, Table};
use crate::cli::{Context, Verb};
use crate::error::{Error, Result};
use crate::pod::manifest::support::{self, Field, Kind, Object, Row, Support};

/// Show what becomes of each field of a manifest
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// A field such as spec.containers.livenessProbe; default is all of a pod's spec
    #[arg(value_name = "FIELD.PATH", default_value = "", hide_default_value = true)]
    path: String,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = Format::parser())]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob pod explain
  carob pod explain spec.containers.livenessProbe
  carob pod explain configmap
  carob pod explain --format json | jq -r '.[] | select(.support == \"refused\") | .field'";

#[derive(Debug, Clone, Copy)]
enum Format {
    Table,
    Json,
    Markdown,
}

impl Format {
    fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(["table", "json", "markdown"]).map(|format| {
            match format.as_str() {
                "json" => Self::Json,
                "markdown" => Self::Markdown,
                _ => Self::Table,
            }
        })
    }
}

impl Verb for Explain {
    fn run(self, _: &Context) -> Result<i32> {
        let rows = support::rows(&self.path)
            .ok_or_else(|| Error::Invalid(format!("field {:?} does not exist", self.path)))?;
        match self.format {
            Format::Table => output::print(&table(&rows))?,
            Format::Json => output::print_json(&rows.iter().map(Entry::from).collect::<Vec<_>>())?,
            Format::Markdown if self.path.is_empty() => output::print(&document())?,
            Format::Markdown => output::print(&markdown_rows(&rows))?,
        }
        Ok(0)
    }
}

/// A row in JSON.
#[derive(Serialize)]
struct Entry<'a> {
    field: &'a str,
    r#type: String,
    required: bool,
    support: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<&'static str>,
}

impl<'a> From<&'a Row> for Entry<'a> {
    fn from(row: &'a Row) -> Self {
        Self {
            field: &row.path,
            r#type: row.field.kind.type_name(),
            required: row.field.required,
            support: row.field.support.name(),
            description: row.field.about,
            values: row.field.kind.words(),
        }
    }
}

/// What the field does, and which words it takes.
fn description(field: &Field) -> String {
    let words = field.kind.words();
    match (field.support, &words[..]) {
        (Support::Honoured, [_, _, ..]) => {
            format!("{} ({}).", field.about.trim_end_matches('.'), words.join(", "))
        }
        _ => field.about.into(),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(KUBECTL, ["FIELD", "TYPE", "SUPPORT", "DESCRIPTION"]);
    for row in rows {
        let required = if row.field.required { " -required-" } else { "" };
        table.push([
            row.path.clone(),
            row.field.kind.type_name() + required,
            row.field.support.name().into(),
            description(row.field),
        ]);
    }
    table.take()
}

const TABLE_HEAD: &str = "| Field | Type | Support | |\n|---|---|---|---|\n";

fn markdown_row(name: &str, field: &Field, kind: &str) -> String {
    let name = if field.required { format!("**`{name}`**") } else { format!("`{name}`") };
    let support = match field.support {
        Support::Honoured => "honoured",
        Support::Refused => "**refused**",
        Support::Ignored => "*ignored*",
    };
    format!("| {name} | {kind} | {support} | {} |\n", description(field))
}

fn markdown_rows(rows: &[Row]) -> String {
    let rows = rows.iter().map(|row| {
        markdown_row(&row.path, row.field, &format!("`{}`", row.field.kind.type_name()))
    });
    TABLE_HEAD.to_owned() + &rows.collect::<String>()
}

const INTRODUCTION: &str = "\
# Pod manifests

<!-- Made by `carob pod explain --format markdown`; a test compares. -->

What carob makes of every field of a Kubernetes manifest. A manifest is YAML or JSON, in any
number of documents, files and directories. It has exactly one Pod, and the ConfigMaps, Secrets,
PersistentVolumeClaims and PersistentVolumes that the pod refers to. Fields and values are those
of the API `v1` of Kubernetes 1.36, and so are defaults and validation.

- **honoured**: it does what it does in a cluster.
- **refused**: a manifest with it is invalid. All that decides over security and cannot be done
  is refused.
- **ignored**: it is checked and has no effect, nor has what is below it. `carob pod validate`
  names those that a manifest has.

Fields in bold are required. An unknown field, a field given twice or a value of another type is
an error; all errors are reported at once, with file and line. `carob pod explain FIELD.PATH`
shows a part of this on the terminal.

The volume `kube-api-access-…` that a cluster adds to each pod, and so to each exported manifest, is left
out with its mounts at `/var/run/secrets/kubernetes.io/serviceaccount`, and that is told: there is no API
server. The same by another name or at another place is refused.

## Annotations

| Annotation | Value | |
|---|---|---|
| `carob/backoff-initial` | duration: `500ms`, `10s`, `5m` | Delay of the second restart; default 10s. |
| `carob/backoff-max` | duration | The longest delay; default 5m. |
| `carob/backoff-reset` | duration | Who ran longer than this starts anew; default 10m. |
| `carob/probe-periods` | `web/liveness=200ms web/readiness=100ms` | Periods of probes, also below a second. |
| `carob/network` | `db`, `none` | The pod's network; see [networks](networks.md). |
| `carob/ips` | `10.0.0.7/16,fd00::7/64` | Addresses that it is to have there. |
| `carob/mac` | `02:00:00:00:00:07` | Its hardware address there. |
| `carob/network-timeout` | duration | How long CNI plugins may take; default 60s. |
| `kubernetes.io/ingress-bandwidth`, `…/egress-bandwidth` | `10M` | Bits per second into the pod, and out of it. |
";

/// docs/pods.md.
fn document() -> String {
    let mut kinds = support::kinds();
    // The pod first.
    kinds.sort_by_key(|kind| kind.name != support::pod().name);
    let mut sections: Vec<&Object> = Vec::new();
    for object in kinds.into_iter().flat_map(support::types) {
        if !sections.iter().any(|known| known.name == object.name) {
            sections.push(object);
        }
    }
    let mut text = INTRODUCTION.to_owned();
    for object in &sections {
        text += &format!("\n## {}\n\n{TABLE_HEAD}", object.name);
        for field in object.fields {
            text += &markdown_row(field.name, field, &linked(&field.kind, &sections));
        }
    }
    text
}

/// The type of a field, with a link to its section.
fn linked(kind: &Kind, sections: &[&Object]) -> String {
    let name = kind.type_name();
    match kind.object() {
        Some(object) if sections.iter().any(|known| known.name == object.name) => {
            format!("[`{name}`](#{})", object.name.to_lowercase())
        }
        _ => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_that_of_this_build() {
        let written = include_str!("../../../docs/pods.md");
        assert!(
            written == document(),
            "docs/pods.md is out of date: carob pod explain --format markdown > docs/pods.md"
        );
    }

    #[test]
    fn a_subtree_is_shown_in_columns() {
        let rows = support::rows("spec.os").unwrap();
        assert_eq!(
            table(&rows),
            "FIELD          TYPE                SUPPORT    DESCRIPTION\n\
             spec.os        PodOS               honoured   Must be linux.\n\
             spec.os.name   string -required-   honoured   Must be linux.\n"
        );
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let rows = support::rows("containers.imagePullPolicy").unwrap();
        let json = serde_json::to_value(rows.iter().map(Entry::from).collect::<Vec<_>>()).unwrap();
        assert_eq!(json[0]["field"], "spec.containers.imagePullPolicy");
        assert_eq!(json[0]["support"], "honoured");
        assert_eq!(json[0]["values"][2], "Never");
    }
}
