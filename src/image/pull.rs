//! From a registry into the store.
//!
//! ```text
//! this process                            a child per layer, one after the other
//!   manifest, configuration
//!   layers: three at a time, in order ──►  verify, unpack, rename
//!   enter the image in the table
//! ```
//! The child unpacks while the next layers come in: two processors are busy, and the event loop of
//! this one never waits for a disk full of small files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use futures_util::StreamExt;
use nix::sched::CloneFlags;
use tokio::sync::mpsc;

use super::add::Announced;
use super::auth::{self, Sources};
use super::digest::Digest;
use super::download;
use super::manifest::Platform;
use super::progress::{Event, Progress};
use super::reference::Reference;
use super::registries::{self, Endpoint, Protocol};
use super::store::{ImageRecord, NewLayer, Store};
use super::transport::registry::Registry;
use super::transport::{Offer, has_tls};
use crate::error::{Error, OsContext, Result};
use crate::sys::poll;
use crate::sys::process::{self, Child, CloneTarget, Cloned};

/// Layers that are fetched at the same time.
const AT_ONCE: usize = 3;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which image of several.
    pub platform: Platform,
    /// `--authfile`.
    pub auth_file: Option<PathBuf>,
    /// Contents of such files that come before all others, as a JSON array.
    pub pull_secrets: Option<Vec<u8>>,
    /// HTTP also for a registry that is not on this machine.
    pub plain_http: bool,
}

/// Fetches what is missing of an image, and names it.
///
/// # Errors
/// [`Error::Invalid`] with the last answer of each place that was asked, or with the layer that is
/// not what its digest says.
pub fn pull(
    store: &Store,
    image: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<ImageRecord> {
    let _lock = store.lock_content()?;
    let endpoints = registries::endpoints(image, options.plain_http)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .os("epoll", || "the event loop")?
        .block_on(async {
            let mut failures = Vec::new();
            for endpoint in endpoints {
                match pull_from(store, image, (&endpoint, options), progress).await {
                    Ok(record) => return Ok(record),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            Err(Error::Invalid(failures.join("; ")))
        })
}

async fn pull_from(
    store: &Store,
    image: &Reference,
    (endpoint, options): (&Endpoint, &PullOptions),
    progress: &dyn Progress,
) -> Result<ImageRecord> {
    let (registry, offer, digests) = ask(endpoint, options).await?;
    let announced = Announced::new(&offer)?;
    warn_of_platform(image, announced.platform(), &options.platform);
    fetch_layers(store, image, (&registry, &offer, &announced), progress).await?;
    // By its digest alone an image gets no name.
    let names: Vec<Reference> = match &image.tag {
        Some(_) => vec![Reference { digest: None, ..image.clone() }],
        None => Vec::new(),
    };
    let digests = digests.iter().map(|digest| image.at(digest).to_string()).collect();
    announced.finish(store, &names, digests)
}

/// An image for one platform alone is what there is, whether or not it is the one that was meant.
fn warn_of_platform(image: &Reference, is: &Platform, wanted: &Platform) {
    if is.architecture != wanted.architecture {
        crate::log::warn(format_args!("{image} is for {is} only, not for {wanted}"));
    }
}

/// Asks with each of the credentials that there are for the image, until they are accepted.
async fn ask(endpoint: &Endpoint, options: &PullOptions) -> Result<(Registry, Offer, Vec<Digest>)> {
    let sources =
        Sources { file: options.auth_file.as_deref(), secrets: options.pull_secrets.as_deref() };
    let plain_http = match endpoint.protocol {
        Protocol::Https => false,
        Protocol::Http => true,
        Protocol::Either => !has_tls(&endpoint.reference).await?,
    };
    let mut candidates: VecDeque<_> =
        auth::find(&endpoint.reference, sources)?.into_iter().map(Some).collect();
    loop {
        let credentials = candidates.pop_front().flatten();
        let how = (plain_http, endpoint.is_here());
        let registry = Registry::new(&endpoint.reference, how, credentials)?;
        match registry.offer(&options.platform).await {
            Ok((offer, digests)) => return Ok((registry, offer, digests)),
            Err(refused) if refused.is_unauthorized && !candidates.is_empty() => {}
            Err(refused) => return Err(refused.error),
        }
    }
}

async fn fetch_layers(
    store: &Store,
    image: &Reference,
    (registry, offer, announced): (&Registry, &Offer, &Announced<'_>),
    progress: &dyn Progress,
) -> Result<()> {
    let missing: Vec<usize> =
        (0..offer.layers.len()).filter(|at| !store.has_layer(announced.layer(*at).chain)).collect();
    progress.event(Event::Found {
        image,
        layers: offer.layers.len(),
        missing: missing.len(),
        bytes: missing.iter().map(|at| offer.layers[*at].size).sum(),
    });
    let (sender, mut arrived) = mpsc::channel(offer.layers.len().max(1));
    let fetching = async move {
        let fetch = |at: usize| async move {
            let layer = announced.layer(at);
            let fetched = download::fetch(store, registry, (layer.blob, layer.chain), progress);
            fetched.await.map(|file| (at, file))
        };
        let mut layers =
            futures_util::stream::iter(missing.into_iter().map(fetch)).buffered(AT_ONCE);
        while let Some(layer) = layers.next().await {
            if sender.send(layer?).await.is_err() {
                break;
            }
        }
        Ok::<_, Error>(())
    };
    let unpacking = async {
        while let Some((at, file)) = arrived.recv().await {
            let layer = announced.layer(at);
            if let Some(file) = file {
                let unpacked = unpack_in_child(store, &layer, file).await;
                download::forget(store, layer.blob);
                unpacked?;
            }
            progress.event(Event::Unpacked(&layer.blob.digest));
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(fetching, unpacking).map(drop)
}

/// Unpacks a layer in a process of its own. It goes on if this one is killed, and what it has
/// begun is complete or nothing all the same.
async fn unpack_in_child(store: &Store, layer: &NewLayer<'_>, archive: File) -> Result<()> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
    let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
    match cloned.os("clone3", || "the unpacking process")? {
        Cloned::Child => {
            drop(ours);
            process::set_name(c"carob:unpack");
            let unpacked = store.add_layer(layer, || from_beginning(archive));
            if let Err(error) = &unpacked {
                let mut theirs = File::from(theirs);
                // Nobody is there to be told if the parent has gone.
                let _told = theirs.write_all(error.to_string().as_bytes());
            }
            process::exit_now(i32::from(unpacked.is_err()))
        }
        Cloned::Parent(child) => {
            drop(theirs);
            hear(child, ours).await
        }
    }
}

fn from_beginning(mut archive: File) -> Result<File> {
    archive.rewind().os("seek", || "the archive")?;
    Ok(archive)
}

async fn hear(child: Child, ours: OwnedFd) -> Result<()> {
    const MAX_MESSAGE: u64 = 16 << 10;
    let pidfd = Rc::new(child.pidfd);
    let ended = poll::readable(Rc::clone(&pidfd))
        .map_err(std::io::Error::from)
        .os("wait for", || "the unpacking process")?;
    let _ready = ended.readable().await.os("wait for", || "the unpacking process")?;
    let exit = process::wait(&*pidfd).os("wait for", || "the unpacking process")?;
    let mut message = String::new();
    File::from(ours)
        .take(MAX_MESSAGE)
        .read_to_string(&mut message)
        .os("hear", || "the unpacking process")?;
    match exit {
        process::Exit::Status(0) => Ok(()),
        _ if !message.is_empty() => Err(Error::Invalid(message)),
        other => Err(Error::Invalid(format!("the process that unpacks has died: {other:?}"))),
    }
}
