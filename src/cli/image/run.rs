//! `run --image`: from a name to a running container.

use super::StoreChoice;
use super::bundle::{self, Network, Wanted};
use super::pull::{RegistryChoice, fetch};
use crate::cli::{Context, output};
use crate::container::{
    Attach, CreateOptions, Entered, GivenRoot, MappedTo, RunOptions, enter_to_run, own_ids,
};
use crate::error::{Error, Result};
use crate::image::{Location, Owner, Store, Use};
use crate::pod::member::Root;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(in crate::cli) enum When {
    /// If it is not in the store.
    #[default]
    Missing,
    /// Also to see whether there is a newer one.
    Always,
    /// Not at all.
    Never,
}

/// Options of `run` that concern images.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct ImageRun {
    /// Run an image instead of a bundle: a name, oci:DIR, docker-archive:FILE, rootfs:DIR …
    #[arg(long, value_name = "IMAGE", conflicts_with = "bundle")]
    image: Option<Location>,
    /// Give the process a terminal
    #[arg(short, long, requires = "image")]
    tty: bool,
    /// For the fingers: input is always passed on
    #[arg(short, long, requires = "image")]
    interactive: bool,
    /// For the fingers: what is run from an image is removed at its end
    #[arg(long, requires = "image", hide = true)]
    rm: bool,
    /// Name of the container [default: a new one]
    #[arg(long, value_name = "ID", requires = "image")]
    name: Option<String>,
    /// Add or replace an environment variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE", requires = "image")]
    env: Vec<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", requires = "image")]
    workdir: Option<String>,
    /// Network of the container: none of others, or the host's
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "none", requires = "image")]
    network: Network,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing", requires = "image")]
    pull: When,
    #[command(flatten)]
    registry: RegistryChoice,
    #[command(flatten)]
    store: StoreChoice,
}

impl ImageRun {
    /// Whether an image is to be run.
    pub(in crate::cli) fn is_wanted(&self) -> bool {
        self.image.is_some()
    }

    /// Makes a bundle and runs it. `shared` has no id and no bundle yet.
    pub(in crate::cli) fn run(
        self,
        context: &Context,
        command: Vec<String>,
        mut options: RunOptions,
    ) -> Result<i32> {
        let Some(location) = &self.image else {
            return Err(Error::Invalid("no image is given".into()));
        };
        let entered = enter_to_run(options.create.preserve_fds)?;
        let store = self.store.store();
        let lock = store.lock_content()?;
        let image = bundle::image(
            &store,
            location,
            find(&store, location, self.pull, &self.registry)?.as_deref(),
        )?;
        let id = self.name.clone().unwrap_or_else(new_name);
        let (digest, layers) = match &image.root {
            Root::Layers { image, layers, .. } => (image.clone(), layers.clone()),
            Root::Directory(path) => {
                (crate::image::Digest::of(path.as_os_str().as_encoded_bytes()), vec![])
            }
        };
        let state = context.runtime.root.join(&id);
        let owner = Owner::container(state.clone())?;
        let name = format!("container-{}", uuid::Uuid::new_v4());
        let place = store.begin_use(&name, &Use { image: digest, layers, owner })?;
        let wanted = Wanted {
            command,
            env: self.env,
            working_dir: self.workdir,
            terminal: self.tty,
            hostname: id.clone(),
            network: self.network,
            // Below ours: there the verbs of the user reach it also from outside.
            ids: (entered == Entered::Yes).then(|| own_ids(MappedTo::Themselves)).transpose()?,
        };
        let detached = options.attach == Attach::Detach;
        options.create = CreateOptions { id: id.clone(), bundle: place.clone(), ..options.create };
        let outcome = bundle::make(&place, &image, &wanted).and_then(|tree| {
            drop(lock);
            context.runtime.run_in(&options, Some(GivenRoot { tree, goes_with: place }))
        });
        // Otherwise it goes with the container.
        if outcome.is_err() && !state.exists() {
            store.end_use(&name)?;
        }
        if outcome.is_ok() && detached {
            output::print(&format!("{id}\n"))?;
        }
        outcome
    }
}

/// The id of an image; none for a directory. Pulls it if it should.
pub(in crate::cli) fn find(
    store: &Store,
    location: &Location,
    when: When,
    registry: &RegistryChoice,
) -> Result<Option<String>> {
    let name = match location {
        Location::Rootfs(_) => return Ok(None),
        Location::Name(name) => Some(name),
        _ => None,
    };
    let table = store.table()?;
    let found = name.and_then(|name| table.by_reference(name)).map(|image| image.id.to_string());
    match (when, found) {
        (When::Missing | When::Never, Some(found)) => Ok(Some(found)),
        (When::Never, None) => {
            Err(Error::Invalid("the image is not in the store, and --pull is never".into()))
        }
        (When::Missing | When::Always, _) => {
            let options = registry.options(None);
            fetch(store, location, &options, false).map(|image| Some(image.id.to_string()))
        }
    }
}

fn new_name() -> String {
    let name = uuid::Uuid::new_v4().simple().to_string();
    name[..12].to_owned()
}
