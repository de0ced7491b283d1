//! What there is: `state` and `list`.

use std::fs;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Context, RootChoice, Verb, output};
use crate::{
    container::StateReport,
    error::{OsContext, Result},
    log,
};

/// Print the state of a container as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = STATE_EXAMPLES)]
pub(super) struct State {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const STATE_EXAMPLES: &str = "\
Examples:
  carob state web
  carob state web | jq -r .status";

impl Verb for State {
    fn run(self, context: &Context) -> Result<i32> {
        output::print_json(&context.runtime.state(&self.id)?)?;
        Ok(0)
    }
}

/// `--format` of `list` and `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Columns for people.
    Table,
    /// One line of JSON.
    Json,
}

impl Format {
    /// Parses `table` and `json`.
    pub(super) fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(["table", "json"]).map(|format| match format.as_str() {
            "json" => Self::Json,
            _ => Self::Table,
        })
    }
}

/// List the containers under the state root
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct List {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = Format::parser())]
    format: Format,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

const LIST_EXAMPLES: &str = "\
Examples:
  carob list
  carob list --quiet
  carob list --format json | jq -r '.[] | select(.status == \"stopped\") | .id'";

impl Verb for List {
    fn run(self, context: &Context) -> Result<i32> {
        let root = &context.runtime.root;
        if context.root == RootChoice::Explicit {
            fs::metadata(root).os("open state root", || root.display())?;
        }
        let mut containers = Vec::new();
        for entry in context.runtime.list()? {
            match entry {
                Ok(report) => containers.push(report),
                Err(error) => log::warn(format_args!("skipped: {error}")),
            }
        }
        match (self.quiet, self.format) {
            (true, _) => output::print(&ids(&containers))?,
            (false, Format::Json) => output::print_json_line(&containers)?,
            (false, Format::Table) => output::print(&table(&containers))?,
        }
        Ok(0)
    }
}

fn ids(containers: &[StateReport]) -> String {
    containers.iter().fold(String::new(), |text, report| text + &report.id + "\n")
}

fn table(containers: &[StateReport]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|report| {
        [
            report.id.clone(),
            report.pid.to_string(),
            report.status.to_string(),
            report.bundle.display().to_string(),
            report.created.to_string(),
            report.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    align(&rows)
}

/// Columns at least 12 wide with at least 3 spaces between them, as runc prints them.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    });
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let width = if column + 1 == N { 0 } else { width };
            text += &format!("{cell:width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_like_runc() {
        let row = |id: &str, pid: &str| [id.to_owned(), pid.to_owned(), "x".to_owned()];
        assert_eq!(align(&[row("ID", "PID")]), "ID          PID         x\n");
        assert_eq!(
            align(&[row("ID", "PID"), row("a-rather-long-id", "1")]),
            "ID                 PID         x\na-rather-long-id   1           x\n"
        );
    }
}
