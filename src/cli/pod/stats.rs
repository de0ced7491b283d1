//! `pod stats`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::choice::NamespaceChoice;
use crate::cgroup::Cgroup;
use crate::cli::output::{self, Format, KUBECTL, Table, size};
use crate::cli::{Context, Verb};
use crate::error::{Error, Result};
use crate::pod::clock::Moment;
use crate::pod::lifecycle;
use crate::pod::record::PodRecord;
use crate::pod::store::StoredPod;

/// Show what pods and their containers use
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Stats {
    /// The pod's name; default is all pods of the namespace
    #[arg(value_name = "POD")]
    name: Option<String>,
    #[command(flatten)]
    namespace: NamespaceChoice,
    /// All pods of all namespaces
    #[arg(short = 'A', long, visible_alias = "all-namespaces", conflicts_with = "name")]
    all: bool,
    /// Go on, again and again
    #[arg(short, long)]
    watch: bool,
    /// Time over which CPU use is measured: 1s, 500ms
    #[arg(long, value_name = "DURATION", default_value = "1s",
          value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "table",
          value_parser = Format::parser(&["table", "json", "yaml"]))]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob pod stats
  carob pod stats web --watch
  carob pod stats --all-namespaces
  carob pod stats web --format json | jq '.[].total.memoryBytes'";

/// CPU use cannot be told from less.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

impl Verb for Stats {
    fn run(self, context: &Context) -> Result<i32> {
        if self.watch {
            self.format.check_watch()?;
        }
        let mut before = self.readings(context)?;
        loop {
            std::thread::sleep(self.interval.max(LEAST_INTERVAL));
            let now = match self.readings(context) {
                // What it was about has been removed.
                Err(Error::Invalid(_)) if self.watch => return Ok(0),
                readings => readings?,
            };
            let usage: Vec<PodUsage> =
                now.iter().map(|pod| PodUsage::new(before.iter(), pod)).collect();
            self.print(&usage)?;
            if !self.watch {
                return Ok(0);
            }
            before = now;
        }
    }
}

impl Stats {
    fn readings(&self, context: &Context) -> Result<Vec<PodReading>> {
        let pods = match &self.name {
            Some(name) => vec![self.namespace.find(context, name)?],
            None => {
                let mut pods = lifecycle::list(&context.runtime)?;
                pods.retain(|pod| {
                    let namespace = pod.file.manifest.pod.metadata.namespace.as_deref();
                    self.all || namespace == Some(self.namespace.namespace.as_str())
                });
                pods
            }
        };
        Ok(pods.iter().map(|pod| PodReading::new(context, pod)).collect())
    }

    fn print(&self, usage: &[PodUsage]) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide | Format::Name => {}
            Format::Json if self.watch => return output::print_json_line(&usage),
            format => return output::print_object(format, &usage),
        }
        let text = table(usage, self.all);
        // A table in the place of the last one, for whoever looks; one after another for a file.
        let clear =
            if self.watch && output::terminal_width().is_some() { "\x1b[H\x1b[J" } else { "" };
        output::print(&format!("{clear}{text}"))
    }
}

/// Counters of a cgroup at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    at: Moment,
    cpu_nanos: u64,
    memory_bytes: u64,
    limit_bytes: Option<u64>,
    processes: u64,
}

/// Above it, what the kernel calls a limit is none: v1 has its own number for infinity.
const NO_LIMIT: u64 = 1 << 60;

impl Reading {
    /// Of statistics in the shape of `events --stats`. Memory is the working set: what could be
    /// dropped at once does not count, as in `kubectl top`.
    fn new(at: Moment, stats: &Value) -> Self {
        let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let limit = number("/memory/usage/limit");
        let inactive = number("/memory/raw/total_inactive_file");
        let inactive = if inactive == 0 { number("/memory/raw/inactive_file") } else { inactive };
        Self {
            at,
            cpu_nanos: number("/cpu/usage/total"),
            memory_bytes: number("/memory/usage/usage").saturating_sub(inactive),
            limit_bytes: (1..NO_LIMIT).contains(&limit).then_some(limit),
            processes: number("/pids/current"),
        }
    }
}

/// Counters of a pod and its running containers.
struct PodReading {
    namespace: String,
    name: String,
    total: Option<Reading>,
    containers: Vec<ContainerReading>,
}

struct ContainerReading {
    name: String,
    id: String,
    reading: Reading,
}

impl PodReading {
    /// What does not run any more by the time it is read is left out.
    fn new(context: &Context, pod: &StoredPod) -> Self {
        let mut containers = Vec::new();
        for container in pod.record.iter().flat_map(PodRecord::containers) {
            let Some(running) = container.running() else { continue };
            let Ok(stats) = context.runtime.stats(&running.id) else { continue };
            containers.push(ContainerReading {
                name: container.name.clone(),
                id: running.id.clone(),
                reading: Reading::new(Moment::now(), &stats),
            });
        }
        let metadata = &pod.file.manifest.pod.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            total: of_cgroup(&pod.file.dirs.cgroup),
            containers,
        }
    }
}

fn of_cgroup(path: &Path) -> Option<Reading> {
    let cgroup = Cgroup::resolve_parent(path).ok()?;
    let stats = serde_json::to_value(cgroup.stats().ok()?).ok()?;
    Some(Reading::new(Moment::now(), &stats))
}

/// What a pod uses.
#[derive(Debug, PartialEq, Serialize)]
struct PodUsage {
    namespace: String,
    name: String,
    /// All of it, the sandbox too; absent without a cgroup.
    total: Option<Usage>,
    containers: Vec<ContainerUsage>,
}

#[derive(Debug, PartialEq, Serialize)]
struct ContainerUsage {
    name: String,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    /// 100 is one CPU.
    cpu_percent: f64,
    cpu_nanos: u64,
    memory_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit_bytes: Option<u64>,
    processes: u64,
}

impl PodUsage {
    fn new<'a>(mut before: impl Iterator<Item = &'a PodReading>, now: &PodReading) -> Self {
        let before = before.find(|pod| (&pod.namespace, &pod.name) == (&now.namespace, &now.name));
        let usage = |container: &ContainerReading| {
            let old = before
                .and_then(|pod| pod.containers.iter().find(|other| other.id == container.id))
                .map(|other| other.reading);
            let usage = Usage::new(old, container.reading);
            ContainerUsage { name: container.name.clone(), usage }
        };
        Self {
            namespace: now.namespace.clone(),
            name: now.name.clone(),
            total: now.total.map(|total| Usage::new(before.and_then(|pod| pod.total), total)),
            containers: now.containers.iter().map(usage).collect(),
        }
    }
}

impl Usage {
    fn new(before: Option<Reading>, now: Reading) -> Self {
        let percent = before.map_or(0.0, |before| {
            let used = Duration::from_nanos(now.cpu_nanos.saturating_sub(before.cpu_nanos));
            let time = now.at.since(before.at);
            if time.is_zero() { 0.0 } else { 100.0 * used.as_secs_f64() / time.as_secs_f64() }
        });
        Self {
            cpu_percent: (percent * 100.0).round() / 100.0,
            cpu_nanos: now.cpu_nanos,
            memory_bytes: now.memory_bytes,
            memory_limit_bytes: now.limit_bytes,
            processes: now.processes,
        }
    }
}

/// The pod as a whole stands last, with `-` for a container.
fn table(pods: &[PodUsage], namespaced: bool) -> String {
    let titles = ["NAMESPACE", "POD", "CONTAINER", "CPU %", "MEMORY", "LIMIT", "PIDS"];
    let hidden = usize::from(!namespaced);
    let mut table = Table::new(KUBECTL, titles.into_iter().skip(hidden));
    for pod in pods {
        let containers =
            pod.containers.iter().map(|container| (container.name.as_str(), container.usage));
        for (name, usage) in containers.chain(pod.total.map(|total| ("-", total))) {
            let cells = [
                pod.namespace.clone(),
                pod.name.clone(),
                name.to_owned(),
                format!("{:.1}", usage.cpu_percent),
                size(usage.memory_bytes),
                usage.memory_limit_bytes.map_or_else(|| "-".to_owned(), size),
                usage.processes.to_string(),
            ];
            table.push(cells.into_iter().skip(hidden));
        }
    }
    table.take()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(millis: u64, cpu_millis: u64) -> Reading {
        let stats = json!({
            "cpu": {"usage": {"total": cpu_millis * 1_000_000}},
            "memory": {
                "usage": {"limit": 64 << 20, "usage": 13 << 20},
                "raw": {"inactive_file": 512 << 10},
            },
            "pids": {"current": 3},
        });
        Reading::new(Moment::from_nanos(millis * 1_000_000), &stats)
    }

    fn pod(millis: u64, cpu_millis: u64) -> PodReading {
        let reading = reading(millis, cpu_millis);
        PodReading {
            namespace: "default".into(),
            name: "demo".into(),
            total: Some(Reading { limit_bytes: None, ..reading }),
            containers: vec![ContainerReading { name: "w\x1beb".into(), id: "i".into(), reading }],
        }
    }

    #[test]
    fn usage_is_measured_between_two_readings() {
        let usage = PodUsage::new([pod(1_000, 100)].iter(), &pod(3_000, 1_100));
        assert_eq!(
            table(&[usage], false),
            "POD    CONTAINER   CPU %   MEMORY    LIMIT   PIDS\n\
             demo   w\\u{1b}eb   50.0    12.5MiB   64MiB   3\n\
             demo   -           50.0    12.5MiB   -       3\n"
        );
        let first = PodUsage::new([].iter(), &pod(3_000, 1_100));
        assert_eq!(first.containers[0].usage.cpu_percent, 0.0);
        let json = serde_json::to_value(&first).unwrap();
        assert_eq!(json["containers"][0]["memoryLimitBytes"], 64 << 20);
        assert!(json["total"].get("memoryLimitBytes").is_none());
        assert!(table(&[first], true).starts_with("NAMESPACE   POD "));
    }

    #[test]
    fn no_limit_is_none() {
        let limit = |limit: u64| {
            let stats = json!({"memory": {"usage": {"limit": limit}}});
            Reading::new(Moment::from_nanos(0), &stats).limit_bytes
        };
        assert_eq!(limit(u64::MAX), None);
        assert_eq!(limit(9_223_372_036_854_771_712), None);
        assert_eq!(limit(0), None);
        assert_eq!(limit(4096), Some(4096));
    }
}
