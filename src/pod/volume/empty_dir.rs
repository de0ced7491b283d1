//! emptyDir: an empty directory on disk, in memory, or of huge pages.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, fchown};

use super::source::{Medium, Resolved, Source};
use super::{Place, fsgroup};
use crate::error::{Error, OsContext, Result};
use crate::pod::member;
use crate::pod::member::quantity::Quantity;
use crate::pod::store::PodDirs;
use crate::sys::dir;
use crate::sys::mount::{self, NewFileSystem};

/// Everybody may write to it, whatever the umask.
const MODE: u32 = 0o777;
/// Directories of the pod that only carob walks through.
const PARENT_MODE: u32 = 0o750;

/// Where the volumes of a pod lie that are in memory.
pub(super) fn memory(dirs: &PodDirs) -> PathBuf {
    dirs.state.join("memory")
}

/// The size limit of a volume, if it has one above zero. Bytes.
pub(super) fn size_limit(source: &Source<'_>) -> Option<u64> {
    let Source::EmptyDir(Some(source)) = source else { return None };
    let limit = Quantity::parse(&source.size_limit.as_ref()?.0)?.value();
    u64::try_from(limit).ok().filter(|bytes| *bytes > 0)
}

/// Makes the volume; one that is there is left alone.
pub(super) fn make(place: &Place<'_>, volume: &Resolved<'_>, group: Option<u32>) -> Result<()> {
    match volume.source.medium().map_err(Error::Invalid)? {
        Medium::Disk => make_directory(&volume.path(place.dirs), group),
        Medium::Memory => {
            let size = memory_bytes(place, &volume.source);
            mount_once(&volume.path(place.dirs), || tmpfs(MODE, group, Some(size)))
        }
        Medium::HugePages(size) => {
            let size = page_bytes(place, size)?;
            mount_once(&volume.path(place.dirs), || {
                let mut options = vec![format!("pagesize={size}")];
                options.extend(ownership(MODE, group));
                file_system("hugetlbfs", &options)
            })
        }
    }
}

/// Mounts what all secrets and the like of the pod share.
pub(super) fn mount_shared_memory(dirs: &PodDirs) -> Result<()> {
    mount_once(&memory(dirs), || tmpfs(0o750, None, None))
}

/// Makes and opens a directory of the pod with those above it.
pub(super) fn make_parents(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(PARENT_MODE).create(path).os("create", || path.display())?;
    dir::open(path).os("open", || path.display())
}

/// Opens the directory that a path is in, made if missing, and tells the last component.
pub(super) fn make_parent(path: &Path) -> Result<(OwnedFd, &str)> {
    let (parent, name) = (path.parent(), path.file_name().and_then(|name| name.to_str()));
    let (Some(parent), Some(name)) = (parent, name) else {
        return Err(Error::Invalid(format!("{} names no directory", path.display())));
    };
    Ok((make_parents(parent)?, name))
}

/// The name appears when the directory is as it has to be: a crash leaves none half-made.
fn make_directory(path: &Path, group: Option<u32>) -> Result<()> {
    let (parent, name) = make_parent(path)?;
    match dir::child(&parent, name) {
        Err(Errno::ENOENT) => {}
        other => return other.map(drop).os("open", || path.display()),
    }
    let made = || -> nix::Result<()> {
        let unfinished = format!(".{name}.new");
        dir::remove(&parent, unfinished.as_str())?;
        let made = dir::make_new(&parent, unfinished.as_str(), MODE)?;
        if let Some(group) = group {
            fchown(&made, None, Some(Gid::from_raw(group)))?;
            fchmod(&made, Mode::from_bits_truncate(MODE | fsgroup::DIRECTORY_BITS))?;
        }
        renameat(&parent, unfinished.as_str(), &parent, name)
    };
    made().os("create", || path.display())
}

/// Mounts a new file system on a directory below one that only we write to, unless that has been
/// done.
pub(super) fn mount_once(path: &Path, make: impl FnOnce() -> Result<OwnedFd>) -> Result<()> {
    match mount::is_mount_root(path) {
        Ok(true) => return Ok(()),
        Ok(false) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).os("statx", || path.display()),
    }
    let (parent, name) = make_parent(path)?;
    dir::make(&parent, name, PARENT_MODE).os("create", || path.display())?;
    mount::attach_at(make()?, parent.as_fd(), name).os("mount", || path.display())
}

/// A tmpfs that is never swapped out, where the kernel can do that (6.4).
pub(super) fn tmpfs(mode: u32, group: Option<u32>, size: Option<u64>) -> Result<OwnedFd> {
    let mut options: Vec<String> = ownership(mode, group).collect();
    options.extend(size.map(|bytes| format!("size={bytes}")));
    options.push("noswap".into());
    match file_system("tmpfs", &options) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            options.pop();
            file_system("tmpfs", &options)
        }
        other => other,
    }
}

fn ownership(mode: u32, group: Option<u32>) -> impl Iterator<Item = String> {
    let bits = if group.is_some() { fsgroup::DIRECTORY_BITS } else { 0 };
    let group = group.map(|group| format!("gid={group}"));
    [format!("mode={:o}", mode | bits)].into_iter().chain(group)
}

fn file_system(kind: &str, options: &[String]) -> Result<OwnedFd> {
    let fs = NewFileSystem { kind, source: Some("carob"), options, attributes: 0 };
    mount::create(&fs).map_err(|refused| Error::Os {
        op: "make",
        target: match refused.explanation.as_str() {
            "" => format!("{kind} with options {options:?}"),
            why => format!("{kind} with options {options:?} ({why})"),
        },
        source: refused.errno.into(),
    })
}

/// The least of what the machine has, the pod may have, and the volume shall hold.
fn memory_bytes(place: &Place<'_>, source: &Source<'_>) -> u64 {
    let pod = member::pod_resources(&place.manifest.pod, place.node);
    let pod = pod.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit);
    let pod = pod.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let limits = [pod, size_limit(source)];
    limits.into_iter().flatten().fold(place.node.memory_bytes, u64::min)
}

/// Size of the pages of a hugetlbfs, bytes.
fn page_bytes(place: &Place<'_>, size: Option<&str>) -> Result<i64> {
    let spec = place.manifest.pod.spec.as_ref();
    let asked: std::collections::BTreeSet<&str> = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
        .flat_map(huge_page_sizes)
        .collect();
    let size = match size {
        Some(size) => size,
        None if asked.len() == 1 => asked.first().copied().unwrap_or_default(),
        None => {
            return Err(Error::Invalid(
                "medium \"HugePages\" needs containers that request huge pages of one size".into(),
            ));
        }
    };
    if !asked.contains(size) {
        return Err(Error::Invalid(format!("no container requests hugepages-{size}")));
    }
    Quantity::parse(size)
        .map(Quantity::value)
        .ok_or_else(|| Error::Invalid(format!("{size:?} is no size of huge pages")))
}

fn huge_page_sizes(container: &Container) -> impl Iterator<Item = &str> {
    container
        .resources
        .iter()
        .flat_map(|resources| [&resources.requests, &resources.limits])
        .flatten()
        .flat_map(|amounts| amounts.keys())
        .filter_map(|name| name.strip_prefix("hugepages-"))
}
