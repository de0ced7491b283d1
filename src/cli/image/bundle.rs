//! A bundle made from an image: what `run --image` and `spec --image` run.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceBuilder, LinuxNamespaceType, Spec};

use crate::error::{Error, OsContext, Result};
use crate::image::{Location, Store, Writable};
use crate::oci::plan::IdMaps;
use crate::pod::member::image::{bare, by_id};
use crate::pod::member::{Image, Node, Root, security, users};
use crate::pod::record::StartFailure;
use crate::sys::path::{Missing, Rootfs};

/// The same as `carob spec` writes.
const DEFAULT: &str = include_str!("../spec.json");
/// Whether processes here may have more groups than one: not with one id alone.
const SETGROUPS: &str = "/proc/self/setgroups";
/// The group of terminals.
const TERMINALS: u32 = 5;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Source: image-spec, conversion.md.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(in crate::cli) enum Network {
    /// One of its own, with a loopback device.
    #[default]
    None,
    /// The host's.
    Host,
}

/// How the process differs from what the image says.
#[derive(Debug)]
pub(in crate::cli) struct Wanted {
    /// Instead of CMD, if not empty.
    pub(in crate::cli) command: Vec<String>,
    /// `NAME=value`, added to ENV.
    pub(in crate::cli) env: Vec<String>,
    pub(in crate::cli) working_dir: Option<String>,
    pub(in crate::cli) terminal: bool,
    pub(in crate::cli) hostname: String,
    pub(in crate::cli) network: Network,
    /// Of a user namespace of its own: for a caller who is not root.
    pub(in crate::cli) ids: Option<IdMaps>,
}

/// The image that a location leads to, in the store or as a directory.
pub(in crate::cli) fn image(store: &Store, location: &Location, id: Option<&str>) -> Result<Image> {
    match (location, id) {
        (Location::Rootfs(path), _) => {
            let path = path.canonicalize().os("open", || path.display())?;
            Ok(bare(Root::Directory(path)))
        }
        (_, Some(id)) => by_id(id, id, store).map_err(failed),
        (_, None) => Err(Error::Invalid("the image is not in the store".into())),
    }
}

fn failed(failure: StartFailure) -> Error {
    Error::Invalid(failure.message)
}

/// The configuration. `root.path` is `rootfs`.
pub(in crate::cli) fn spec(image: &Image, wanted: &Wanted) -> Result<Spec> {
    let mut spec: Spec = serde_json::from_str(DEFAULT)
        .map_err(|error| Error::Invalid(format!("the default configuration: {error}")))?;
    let node = Node::read()?;
    let container = Container::default();
    let mask = security::capability_mask(&container, &node).map_err(failed)?;
    if let Some(process) = spec.process_mut() {
        process
            .set_args(Some(command(image, &wanted.command)?))
            .set_env(Some(environment(image, wanted)))
            .set_cwd(Path::new("/").join(wanted.working_dir.as_ref().unwrap_or(&image.working_dir)))
            .set_user(users::user(&Pod::default(), &container, image).map_err(failed)?)
            .set_terminal(Some(wanted.terminal))
            .set_capabilities(Some(security::capability_sets(mask)))
            .set_no_new_privileges(Some(false))
            .set_rlimits(None);
    }
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(false));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(Some(crate::pod::member::seccomp_default::profile(mask)));
        if wanted.network == Network::Host {
            let mut namespaces = linux.namespaces().clone().unwrap_or_default();
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
            linux.set_namespaces(Some(namespaces));
        }
    }
    if let Some(ids) = &wanted.ids {
        add_user_namespace(&mut spec, ids)?;
    }
    spec.set_hostname(Some(wanted.hostname.chars().take(63).collect()));
    if let Some(signal) = &image.stop_signal {
        let annotations = [(STOP_SIGNAL.to_owned(), signal.clone())];
        spec.set_annotations(Some(annotations.into_iter().collect()));
    }
    Ok(spec)
}

/// What is different for a caller who is not root.
fn add_user_namespace(spec: &mut Spec, ids: &IdMaps) -> Result<()> {
    let user = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build();
    let user = user.map_err(|error| Error::Invalid(error.to_string()))?;
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.push(user);
        linux.set_namespaces(Some(namespaces));
        linux.set_uid_mappings(Some(ids.uids.clone()));
        linux.set_gid_mappings(Some(ids.gids.clone()));
        linux.set_resources(None);
    }
    let groups = std::fs::read_to_string(SETGROUPS).os("read", || SETGROUPS)?;
    if groups.trim() == "deny"
        && let Some(process) = spec.process_mut()
    {
        let mut user = process.user().clone();
        user.set_additional_gids(None);
        process.set_user(user);
    }
    let has_group = |gid: u32| {
        let below = |line: &LinuxIdMapping| gid.checked_sub(line.container_id());
        ids.gids.iter().any(|line| below(line).is_some_and(|at| at < line.size()))
    };
    if !has_group(TERMINALS) {
        let option = format!("gid={TERMINALS}");
        for mount in spec.mounts_mut().iter_mut().flatten() {
            let options = mount.options().as_ref().map(|options| {
                options.iter().filter(|one| **one != option).cloned().collect::<Vec<_>>()
            });
            mount.set_options(options);
        }
    }
    Ok(())
}

fn command(image: &Image, given: &[String]) -> Result<Vec<String>> {
    let rest = if given.is_empty() { &image.cmd } else { given };
    let line: Vec<String> = image.entrypoint.iter().chain(rest).cloned().collect();
    if line.is_empty() {
        return Err(Error::Invalid(
            "the image has neither ENTRYPOINT nor CMD; give a command after its name".into(),
        ));
    }
    Ok(line)
}

/// A later variable of the same name wins.
fn environment(image: &Image, wanted: &Wanted) -> Vec<String> {
    let mut all = vec![PATH.to_owned(), format!("HOSTNAME={}", wanted.hostname)];
    if wanted.terminal {
        all.push("TERM=xterm".to_owned());
    }
    for entry in image.env.iter().chain(&wanted.env).filter(|entry| entry.contains('=')) {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        match all.iter_mut().find(|known| name(known) == name(entry)) {
            Some(known) => known.clone_from(entry),
            None => all.push(entry.clone()),
        }
    }
    all
}

/// Writes a bundle's configuration.
pub(in crate::cli) fn write_config(bundle: &Path, spec: &Spec) -> Result<()> {
    let path = bundle.join("config.json");
    let text = serde_json::to_vec_pretty(spec)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    let mut file = File::create_new(&path).os("create", || path.display())?;
    file.write_all(&text).os("write", || path.display())
}

/// Makes a bundle in an empty directory; its root is mounted nowhere yet.
pub(in crate::cli) fn make(place: &Path, image: &Image, wanted: &Wanted) -> Result<OwnedFd> {
    let [upper, work, _rootfs] = ["upper", "work", "rootfs"].map(|name| place.join(name));
    for path in [&upper, &work, &place.join("rootfs")] {
        DirBuilder::new().mode(0o755).create(path).os("mkdir", || path.display())?;
    }
    write_config(place, &spec(image, wanted)?)?;
    let open = |path: &PathBuf| File::open(path).os("open", || path.display());
    let writable = Writable { upper: open(&upper)?, work: open(&work)? };
    let trees = match &image.root {
        Root::Directory(path) => vec![open(path)?.into()],
        Root::Layers { store, layers, .. } => store.open_layers(layers)?,
    };
    if let Some(tree) = trees.first() {
        look_alike(&writable.upper, tree).os("set the owner and mode of", || upper.display())?;
    }
    let root = crate::image::overlay(&trees, Some(&writable), crate::image::style(), None)?;
    make_volumes(&root, image)?;
    Ok(root)
}

/// The root of an overlay has the owner and the mode of its upper layer.
fn look_alike(upper: &File, root: &OwnedFd) -> std::io::Result<()> {
    let root = File::from(root.try_clone()?).metadata()?;
    fchown(upper, Some(root.uid()), Some(root.gid()))?;
    upper.set_permissions(std::fs::Permissions::from_mode(root.mode() & 0o7777))
}

/// The directories of VOLUME: what is written there goes with the container, as all of it.
fn make_volumes(root: &OwnedFd, image: &Image) -> Result<()> {
    if image.volumes.is_empty() {
        return Ok(());
    }
    let rootfs = Rootfs::new(root.try_clone().os("duplicate", || "the root")?);
    for volume in &image.volumes {
        rootfs.ensure(&Path::new("/").join(volume), Missing::Directory)?;
    }
    Ok(())
}
