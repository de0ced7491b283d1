//! What there is: `state` and `list`.

use std::fs;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::quick::Words;
use super::{
    Context, RootChoice, Verb,
    output::{self, Table},
};
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
    fn quick(mut words: Words) -> Option<Self> {
        Some(Self { id: words.last()? })
    }

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
    let mut table = Table::new(output::RUNC, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for report in containers {
        table.push([
            report.id.clone(),
            report.pid.to_string(),
            report.status.to_string(),
            report.bundle.display().to_string(),
            report.created.to_string(),
            report.owner.clone(),
        ]);
    }
    table.take()
}
