//! `pod prune`.

use std::path::PathBuf;

use super::plugins::PluginChoice;
use crate::cli::{Context, Verb, output};
use crate::error::Result;
use crate::pod::prune::{self, Pruned};
use crate::pod::store;

/// Remove what belongs to no pod: data, logs and addresses of pods that were lost, with a reboot or
/// because carob was killed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Prune {
    /// Also pods that have ended, with their logs
    #[arg(long)]
    ended: bool,
    /// Also let CNI plugins forget whatever is of none of these pods (GC): not for networks that
    /// other engines or other data roots use
    #[arg(long)]
    networks: bool,
    /// Where volumes and writable layers are kept
    #[arg(long, value_name = "DIR", default_value = store::DATA_ROOT)]
    data_root: PathBuf,
    #[command(flatten)]
    plugins: PluginChoice,
}

const EXAMPLES: &str = "\
Examples:
  carob pod prune
  carob pod prune --ended
  carob pod prune --networks";

impl Verb for Prune {
    fn run(self, context: &Context) -> Result<i32> {
        let data = std::path::absolute(&self.data_root).unwrap_or(self.data_root);
        let mut pruned = Vec::new();
        if self.ended {
            pruned.extend(prune::ended(&context.runtime)?);
        }
        pruned.extend(prune::lost(&context.runtime, &data)?);
        if self.networks {
            pruned.extend(prune::networks(&data, &self.plugins.sources())?);
        }
        for one in &pruned {
            output::print(&line(one))?;
        }
        Ok(0)
    }
}

fn line(pruned: &Pruned) -> String {
    match pruned {
        Pruned::Pod { name } => format!("pod {name} removed\n"),
        Pruned::Data { uid } => format!("data of lost pod {uid} removed\n"),
        Pruned::Addresses { network, ips } if ips.is_empty() => {
            format!("place on network {network} released\n")
        }
        Pruned::Addresses { network, ips } => {
            format!("{} of network {network} released\n", ips.join(", "))
        }
        Pruned::Network { name } => format!("network {name} collected\n"),
        Pruned::NoCollector { name } => {
            format!("network {name} left alone: it has no GC (version 1.1), or disableGC\n")
        }
    }
}
