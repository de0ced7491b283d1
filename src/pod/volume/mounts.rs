//! What a container of the pod has mounted beyond the default ones.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use nix::fcntl::OFlag;
use oci_spec::runtime::{LinuxIdMappingBuilder, Mount};

use super::source::{self, Resolved, Source};
use super::subpath::{self, Reach};
use super::{Place, StartFailure, etc};
use crate::pod::member;
use crate::sys::{mount, path};

type Result<T> = std::result::Result<T, StartFailure>;

/// Ids of a pod with its own user namespace.
const USER_NAMESPACE_IDS: u32 = 65_536;
const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";

/// How mounts made later get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    None,
    HostToContainer,
    Bidirectional,
}

impl Propagation {
    fn new(word: Option<&str>) -> Result<Self> {
        match word {
            None | Some("" | "None") => Ok(Self::None),
            Some("HostToContainer") => Ok(Self::HostToContainer),
            Some("Bidirectional") => Ok(Self::Bidirectional),
            Some(other) => Err(refused(format!("invalid mount propagation {other:?}"))),
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::None => "rprivate",
            Self::HostToContainer => "rslave",
            Self::Bidirectional => "rshared",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::HostToContainer => "HostToContainer",
            Self::Bidirectional => "Bidirectional",
        }
    }
}

fn refused(message: String) -> StartFailure {
    member::config_error(message)
}

/// All mounts of one instance of a container beyond the default ones, parents before children.
///
/// Files of `/etc` and the termination message are written on the way, and parts of volumes
/// pinned. [`super::prepare`] has been called before.
///
/// # Errors
/// `CreateContainerConfigError` or `CreateContainerError` in the kubelet's words.
pub fn mounts(
    place: &Place<'_>,
    container: &Container,
    env: &[(String, String)],
    restart_count: u32,
) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        all.push(volume_mount(&One { place, container, wanted, index }, env)?);
    }
    etc::write_etc(place)?;
    let owned = own_files(place, container, restart_count, &all)?;
    all.extend(owned);
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok(all)
}

/// One of a container's `volumeMounts`.
struct One<'a> {
    place: &'a Place<'a>,
    container: &'a Container,
    wanted: &'a VolumeMount,
    index: usize,
}

fn volume_mount(one: &One<'_>, env: &[(String, String)]) -> Result<Mount> {
    let (name, container) = (&one.wanted.name, &one.container.name);
    let volume =
        source::volumes(one.place).find(|volume| volume.name == *name).ok_or_else(|| {
            refused(format!("cannot find volume {name:?} to mount into container {container:?}"))
        })?;
    let volume = source::resolve(one.place, volume).map_err(refused)?;
    if matches!(volume.source, Source::Device(_)) {
        return Err(refused(format!(
            "volume {name} has volumeMode Block, but is specified in volumeMounts"
        )));
    }
    let propagation = Propagation::new(one.wanted.mount_propagation.as_deref())?;
    let security = one.container.security_context.as_ref();
    let is_privileged = security.and_then(|security| security.privileged) == Some(true);
    if propagation == Propagation::Bidirectional && !is_privileged {
        return Err(refused(
            "Bidirectional mount propagation is available only to privileged containers".into(),
        ));
    }
    let source = source_path(one, &volume, env, propagation)?;
    check_propagation(&source, propagation)?;
    let is_read_only = one.wanted.read_only == Some(true) || volume.read_only;
    let access = match (is_read_only, is_recursive(one.wanted, propagation)?) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let mut mount = bind(&one.wanted.mount_path, &source, &[propagation.option(), access]);
    // Those of an image are mapped below its overlay.
    let is_image = matches!(volume.source, Source::Image);
    if let Some(base) = one.place.user_namespace_base.filter(|_| !is_image) {
        let ids = LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(base)
            .size(USER_NAMESPACE_IDS)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        mount.set_uid_mappings(Some(vec![ids])).set_gid_mappings(Some(vec![ids]));
    }
    Ok(mount)
}

fn bind(destination: &str, source: &Path, words: &[&str]) -> Mount {
    let mut mount = Mount::default();
    let options = ["rbind"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    mount
        .set_destination(Path::new("/").join(destination))
        .set_typ(Some("bind".into()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options));
    mount
}

/// The volume, or the part of it that is wanted, pinned.
fn source_path(
    one: &One<'_>,
    volume: &Resolved<'_>,
    env: &[(String, String)],
    propagation: Propagation,
) -> Result<PathBuf> {
    let root = volume.path(one.place.dirs);
    let path = match (&one.wanted.sub_path, &one.wanted.sub_path_expr) {
        (_, Some(expression)) if !expression.is_empty() => {
            subpath::expand(expression, env).map_err(refused)?
        }
        (Some(path), _) => path.clone(),
        (None, _) => String::new(),
    };
    if path.is_empty() {
        return Ok(root);
    }
    subpath::check(&path).map_err(refused)?;
    let (name, container) = (&one.wanted.name, &one.container.name);
    // The reason is left out: it could tell about files of the host.
    let wrong = |step: &str| {
        refused(format!("failed to {step} for volumeMount {name:?} of container {container:?}"))
    };
    // The volume itself is the administrator's; links that lead to it are followed.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(&root, flags, nix::sys::stat::Mode::empty())
        .map_err(|_hidden| wrong("prepare subPath"))?;
    let part = subpath::find(&root, &path).map_err(|errno| match errno {
        nix::errno::Errno::EXDEV | nix::errno::Errno::ELOOP => wrong("prepare subPath"),
        _ => wrong("create subPath directory"),
    })?;
    let pin = subpath::pin_path(&one.place.dirs.data, name, container, one.index);
    let reach = match propagation {
        Propagation::Bidirectional => Reach::BothWays,
        Propagation::HostToContainer | Propagation::None => Reach::Inward,
    };
    subpath::pin(&part, &pin, reach).map_err(|_hidden| wrong("prepare subPath"))?;
    Ok(pin)
}

/// Whether mounts below are to be read-only, too.
fn is_recursive(wanted: &VolumeMount, propagation: Propagation) -> Result<bool> {
    let is_required = match wanted.recursive_read_only.as_deref() {
        None | Some("" | "Disabled") => return Ok(false),
        Some("IfPossible") => false,
        Some("Enabled") => true,
        Some(other) => return Err(refused(format!("unknown recursive read-only mode {other:?}"))),
    };
    let name = &wanted.name;
    let wrong = |why: String| {
        Err(refused(format!("volume {name:?} requested recursive read-only mode, but it is {why}")))
    };
    if wanted.read_only != Some(true) {
        return wrong("not read-only".into());
    }
    if propagation != Propagation::None {
        return wrong(format!("not compatible with propagation {:?}", propagation.name()));
    }
    if mount::has_recursive_attributes() {
        return Ok(true);
    }
    if is_required { wrong("not supported by the runtime".into()) } else { Ok(false) }
}

/// Mounts can only get through where the mount of the host lets them.
fn check_propagation(source: &Path, propagation: Propagation) -> Result<()> {
    if propagation == Propagation::None {
        return Ok(());
    }
    let failed = |why: String| member::create_error(format!("failed to generate spec: {why}"));
    let resolved = source.canonicalize().map_err(|error| failed(error.to_string()))?;
    let table = path::mount_table().map_err(|error| failed(error.to_string()))?;
    // Of two at one place the later one covers the other.
    let row = table
        .iter()
        .filter(|row| resolved.starts_with(&row.point))
        .max_by_key(|row| row.point.components().count());
    let Some(row) = row else { return Ok(()) };
    let (is_good, what) = match propagation {
        Propagation::Bidirectional => (row.is_shared, "shared"),
        Propagation::HostToContainer | Propagation::None => {
            (row.is_shared || row.is_slave, "shared or slave")
        }
    };
    if is_good {
        return Ok(());
    }
    Err(failed(format!(
        "path {source:?} is mounted on {:?} but it is not a {what} mount",
        row.point
    )))
}

/// Files of `/etc`, `/dev/shm` and the termination message, but for those in whose place a volume
/// is mounted.
fn own_files(
    place: &Place<'_>,
    container: &Container,
    restart_count: u32,
    volumes: &[Mount],
) -> Result<Vec<Mount>> {
    let security = container.security_context.as_ref();
    let is_read_only =
        security.and_then(|security| security.read_only_root_filesystem) == Some(true);
    let access = if is_read_only { "ro" } else { "rw" };
    let is_free =
        |path: &str| !volumes.iter().any(|mount| mount.destination() == &Path::new("/").join(path));
    let mut own = Vec::new();
    for name in ["hosts", "hostname", "resolv.conf"] {
        own.push(bind(&format!("/etc/{name}"), &place.dirs.etc(name), &["rprivate", access]));
    }
    let is_host_ipc = member::pod_spec(&place.manifest.pod).host_ipc == Some(true);
    let shm = if is_host_ipc { PathBuf::from("/dev/shm") } else { place.dirs.state.join("shm") };
    own.push(bind("/dev/shm", &shm, &["rprivate", "rw"]));
    let path = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_PATH);
    if !path.is_empty() && is_free(path) {
        let file = etc::make_termination_log(place, &container.name, restart_count)
            .map_err(|error| refused(format!("termination log: {error}")))?;
        own.push(bind(path, &file, &["rprivate", "rw"]));
    }
    own.retain(|mount| is_free(&mount.destination().to_string_lossy()));
    Ok(own)
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
