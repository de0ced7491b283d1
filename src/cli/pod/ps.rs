//! `pod ps`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::choice::{NamespaceChoice, bare_name};
use crate::cli::output::{self, Format, KUBECTL, Table};
use crate::cli::{Context, Verb};
use crate::error::Result;
use crate::log;
use crate::pod::clock::Stamp;
use crate::pod::follow::{SILENCE, keep_supervised};
use crate::pod::lifecycle;
use crate::pod::phase::Columns;
use crate::pod::record::PodRecord;
use crate::pod::store::{PodDirs, StoredPod};
use crate::pod::view;
use crate::pod::watch::{Change, Watch};

/// List pods
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Ps {
    /// Only these pods
    #[arg(value_name = "POD")]
    names: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceChoice,
    /// Pods of all namespaces
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_namespaces: bool,
    /// More columns: address and uid; the same as --format wide
    #[arg(long)]
    wide: bool,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "table",
          value_parser = Format::parser(&["table", "wide", "name", "json", "yaml"]))]
    format: Format,
    /// Print a line each time that a pod changes
    #[arg(short, long)]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  carob pod ps
  carob pod ps --all-namespaces -o wide
  carob pod ps --watch web
  carob pod ps --format json | jq -r '.items[].status.phase'";

impl Verb for Ps {
    fn run(mut self, context: &Context) -> Result<i32> {
        for name in &mut self.names {
            *name = bare_name(name)?.to_owned();
        }
        if self.watch {
            return self.follow(context);
        }
        let pods = self.chosen(lifecycle::list(&context.runtime)?);
        for name in &self.names {
            if !pods.iter().any(|pod| key(pod).1 == *name) {
                self.namespace.find(context, name)?;
            }
        }
        let now = Stamp::now();
        match self.format {
            Format::Json | Format::Yaml => {
                let items = pods.iter().map(|pod| view::object(pod, now));
                let items = items.collect::<Result<Vec<_>>>()?;
                let list = json!({
                    "apiVersion": "v1", "kind": "List",
                    "metadata": {"resourceVersion": ""}, "items": items,
                });
                output::print_object(self.format, &list)?;
            }
            Format::Name => {
                let names = pods.iter().map(|pod| format!("pod/{}\n", key(pod).1));
                output::print(&names.collect::<String>())?;
            }
            Format::Table | Format::Wide => {
                let mut table = PodTable::new(self.shape());
                for pod in &pods {
                    table.push(&Row::new(pod, now)?);
                }
                output::print(&table.table.take())?;
            }
        }
        Ok(0)
    }
}

impl Ps {
    fn shape(&self) -> Shape {
        Shape { namespace: self.all_namespaces, wide: self.wide || self.format == Format::Wide }
    }

    fn chosen(&self, mut pods: Vec<StoredPod>) -> Vec<StoredPod> {
        pods.retain(|pod| {
            let (namespace, name) = key(pod);
            (self.all_namespaces || namespace == self.namespace.namespace)
                && (self.names.is_empty() || self.names.contains(&name))
        });
        pods
    }

    fn follow(&self, context: &Context) -> Result<i32> {
        self.format.check_watch()?;
        let root = &context.runtime.root;
        let all = PodDirs::all(root);
        let watch = Watch::new([root])?;
        let mut given_up = Vec::new();
        let mut table = PodTable::new(self.shape());
        let mut known: BTreeMap<(String, String), Row> = BTreeMap::new();
        loop {
            watch.add(&all)?;
            // Watched before they are read, so that no change falls between.
            for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
                watch.add(&entry.path())?;
            }
            let (now, mut present) = (Stamp::now(), BTreeMap::new());
            for pod in self.chosen(StoredPod::list(root)?) {
                let (row, key) = (Row::new(&pod, now)?, key(&pod));
                let changed = known.get(&key).is_none_or(|before| !row.is_like(before));
                if changed && self.format == Format::Json {
                    output::print_json_line(&json!(view::object(&pod, now)?))?;
                } else if changed {
                    table.push(&row);
                }
                present.insert(key, row);
            }
            for (_, gone) in known.iter_mut().filter(|(key, _)| !present.contains_key(key)) {
                gone.columns.status = "Removed".into();
                table.push(gone);
            }
            known = present;
            if self.format != Format::Json {
                output::print(&table.table.take())?;
            }
            while watch.next(Some(SILENCE))? == Change::TimedOut {
                self.keep_supervised(context, &mut given_up)?;
            }
        }
    }

    /// One that cannot be supervised keeps nobody from seeing the others.
    fn keep_supervised(&self, context: &Context, given_up: &mut Vec<PathBuf>) -> Result<()> {
        for pod in self.chosen(StoredPod::list(&context.runtime.root)?) {
            let dirs = &pod.file.dirs;
            if given_up.contains(&dirs.data) {
                continue;
            }
            if let Err(error) = keep_supervised(&context.runtime, dirs) {
                log::warn(error);
                given_up.push(dirs.data.clone());
            }
        }
        Ok(())
    }
}

/// Namespace and name.
fn key(pod: &StoredPod) -> (String, String) {
    let metadata = &pod.file.manifest.pod.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// A pod in the table.
struct Row {
    namespace: String,
    uid: String,
    columns: Columns,
    restart_count: u32,
}

impl Row {
    fn new(pod: &StoredPod, now: Stamp) -> Result<Self> {
        let (namespace, _) = key(pod);
        let uid = pod.file.manifest.pod.metadata.uid.clone().unwrap_or_default();
        let containers = pod.record.iter().flat_map(PodRecord::containers);
        let restart_count = containers.map(|container| container.restart_count).sum();
        Ok(Self { namespace, uid, columns: view::columns(pod, now)?, restart_count })
    }

    /// Whether nothing has changed but the time.
    fn is_like(&self, other: &Self) -> bool {
        let facts = |row: &Self| {
            let Columns { ready, status, ip, .. } = &row.columns;
            (row.uid.clone(), ready.clone(), status.clone(), ip.clone(), row.restart_count)
        };
        facts(self) == facts(other)
    }
}

/// Which columns there are besides kubectl's five.
#[derive(Debug, Clone, Copy)]
struct Shape {
    namespace: bool,
    wide: bool,
}

impl Shape {
    /// The cells of a row, or the titles, that are shown: namespace, five, address and uid.
    fn chosen<T>(self, cells: [T; 8]) -> impl Iterator<Item = T> {
        let shown = move |index: &usize| match index {
            0 => self.namespace,
            1..=5 => true,
            _ => self.wide,
        };
        (0..).zip(cells).filter(move |(index, _)| shown(index)).map(|(_, cell)| cell)
    }
}

struct PodTable {
    shape: Shape,
    table: Table,
}

impl PodTable {
    fn new(shape: Shape) -> Self {
        let titles = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "UID"];
        Self { shape, table: Table::new(KUBECTL, shape.chosen(titles)) }
    }

    fn push(&mut self, row: &Row) {
        let Columns { name, ready, status, restarts, age, ip } = row.columns.clone();
        let (namespace, uid) = (row.namespace.clone(), row.uid.clone());
        self.table
            .push(self.shape.chosen([namespace, name, ready, status, restarts, age, ip, uid]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::timeline::tests::{pod, stamp};

    fn table(namespace: bool, wide: bool) -> String {
        let mut pod = pod();
        pod.file.manifest.pod.metadata.name = Some("demo\x1b[2J".into());
        let mut table = PodTable::new(Shape { namespace, wide });
        table.push(&Row::new(&pod, stamp(125_000)).unwrap());
        table.table.take()
    }

    #[test]
    fn columns_are_kubectls() {
        assert_eq!(
            table(false, false),
            "NAME            READY   STATUS     RESTARTS   AGE\n\
             demo\\u{1b}[2J   0/2     Init:0/2   0          2m5s\n"
        );
        let wide = table(true, true);
        assert!(wide.starts_with("NAMESPACE   NAME   "), "{wide}");
        assert!(wide.ends_with("2m5s   <none>   8f3a\n"), "{wide}");
    }

    #[test]
    fn time_alone_is_no_change() {
        let mut pod = pod();
        let before = Row::new(&pod, stamp(1_000)).unwrap();
        assert!(Row::new(&pod, stamp(99_000)).unwrap().is_like(&before));
        pod.record.as_mut().unwrap().apps[0].restart_count = 1;
        assert!(!Row::new(&pod, stamp(1_000)).unwrap().is_like(&before));
    }
}
