//! `ps`.

use std::process::{Command, Stdio};

use super::{Context, Verb, list::Format, output};
use crate::error::{Error, OsContext, Result};

/// Show the processes of a container, as rows of the host's ps
#[derive(Debug, clap::Args)]
#[command(override_usage = "carob ps [OPTIONS] ID [PS-OPTION]...", after_help = EXAMPLES)]
pub(super) struct Ps {
    /// Output format; json is the list of pids
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = Format::parser())]
    format: Format,
    // One positional: after its first value, the id, clap takes everything as it is.
    /// The container's id, then options for ps instead of -ef
    #[arg(value_name = "ID [OPTION...]", required = true, num_args = 1.., trailing_var_arg = true)]
    id_and_options: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  carob ps web
  carob ps web -o pid,rss,args
  carob ps --format json web";

impl Ps {
    /// What the command line asks for: the id, the format and the arguments of `ps`.
    pub(super) fn options(self) -> (String, Format, Vec<String>) {
        let mut words = self.id_and_options.into_iter();
        let id = words.next().unwrap_or_default();
        let mut options: Vec<String> = words.collect();
        if options.is_empty() {
            options.push("-ef".into());
        }
        (id, self.format, options)
    }
}

impl Verb for Ps {
    fn run(self, context: &Context) -> Result<i32> {
        let (id, format, options) = self.options();
        let pids = context.runtime.processes(&id)?;
        match format {
            Format::Json => output::print_json_line(&pids)?,
            Format::Table => output::print(&rows(&host_ps(&options)?, &pids)?)?,
        }
        Ok(0)
    }
}

fn host_ps(options: &[String]) -> Result<String> {
    let ps = Command::new("ps")
        .args(options)
        .stdin(Stdio::null())
        .output()
        .os("run", || "ps of the host")?;
    if !ps.status.success() {
        let reason = String::from_utf8_lossy(&ps.stderr);
        return Err(Error::Invalid(format!("ps {}: {}", options.join(" "), reason.trim())));
    }
    Ok(String::from_utf8_lossy(&ps.stdout).into_owned())
}

/// The header and the rows whose `PID` column is one of `pids`.
fn rows(table: &str, pids: &[i32]) -> Result<String> {
    let header = table.lines().next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|title| title == "PID") else {
        return Err(Error::Invalid(
            "the output of ps has no PID column: add one to its options".into(),
        ));
    };
    let wanted = |row: &&str| {
        let pid = row.split_whitespace().nth(column).and_then(|cell| cell.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let mut text = format!("{header}\n");
    for row in table.lines().skip(1).filter(wanted) {
        text += row;
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_pid_column() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sh 7\nroot 7 12 x\n";
        assert_eq!(rows(table, &[7]).unwrap(), "UID   PID  PPID CMD\nroot 7 12 x\n");
        assert_eq!(rows(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert_eq!(rows("PID\n  7\n", &[7]).unwrap(), "PID\n  7\n");
    }

    #[test]
    fn a_table_without_pids_is_an_error() {
        assert!(rows("CMD\nsh\n", &[1]).unwrap_err().to_string().contains("no PID column"));
        assert!(rows("", &[1]).is_err());
    }
}
