//! `image ls`.

use jiff::Timestamp;
use serde::Serialize;

use super::StoreChoice;
use crate::cli::output::{self, Format, KUBECTL, Table};
use crate::cli::{Context, Verb};
use crate::error::Result;
use crate::image::{ImageRecord, Store};
use crate::pod::phase::human_duration;

/// List images. SIZE is what the layers of an image take on the disk, UNIQUE what only it needs:
/// what would be free without it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct List {
    #[command(flatten)]
    store: StoreChoice,
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "table",
          value_parser = Format::parser(&["table", "name", "json", "yaml"]))]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  carob image ls
  carob image ls --format json | jq -r '.[].names[]'";

/// An image, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(flatten)]
    record: ImageRecord,
    /// Bytes on the disk.
    bytes: u64,
    /// Bytes on the disk that no other image needs.
    unique_bytes: u64,
}

impl Shown {
    /// All images with their sizes, in the order of their names.
    pub(super) fn all(store: &Store) -> Result<Vec<Self>> {
        let mut images = store.table()?.images;
        images.sort_by(|a, b| (a.names.first(), &a.id).cmp(&(b.names.first(), &b.id)));
        let shown = |record: &ImageRecord| {
            let (mut bytes, mut unique_bytes) = (0, 0);
            for layer in &record.layers {
                let size = store.layer(layer)?.bytes;
                bytes += size;
                let others = images.iter().filter(|other| other.id != record.id);
                if !others.into_iter().any(|other| other.layers.contains(layer)) {
                    unique_bytes += size;
                }
            }
            Ok(Self { record: record.clone(), bytes, unique_bytes })
        };
        images.iter().map(shown).collect()
    }
}

impl Verb for List {
    fn run(self, _: &Context) -> Result<i32> {
        let images = Shown::all(&self.store.store())?;
        match self.format {
            Format::Json | Format::Yaml => output::print_object(self.format, &images)?,
            Format::Name => {
                let names = images.iter().flat_map(|image| &image.record.names);
                output::print(&names.map(|name| format!("{name}\n")).collect::<String>())?;
            }
            Format::Table | Format::Wide => output::print(&table(&images))?,
        }
        Ok(0)
    }
}

fn table(images: &[Shown]) -> String {
    let mut table = Table::new(KUBECTL, ["NAME", "ID", "CREATED", "SIZE", "UNIQUE"]);
    for image in images {
        let none = ["<none>".to_owned()];
        let names = if image.record.names.is_empty() { &none[..] } else { &image.record.names };
        for name in names {
            table.push([
                name.clone(),
                image.record.id.short(),
                age(image.record.created.as_deref()),
                output::size(image.bytes),
                output::size(image.unique_bytes),
            ]);
        }
    }
    table.take()
}

/// How long ago; builds that are to be the same every time say 1970 or nothing.
fn age(created: Option<&str>) -> String {
    let created = created.and_then(|text| text.parse::<Timestamp>().ok());
    match created.filter(|created| created.as_second() > 0) {
        Some(created) => {
            let ago = Timestamp::now().duration_since(created);
            format!("{} ago", human_duration(ago.try_into().unwrap_or_default()))
        }
        None => "-".to_owned(),
    }
}
