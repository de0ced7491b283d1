//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod, and termination messages.
//!
//! Containers may write to the three files, as under a kubelet, unless their root is read-only.
//! What they write lands on the host, in no limit of the pod (CVE-2020-8557); so the files lie on
//! a tmpfs of their own with room for little. A file that was filled up is cut off before the next
//! container of the pod starts. A termination message lies on disk beside the writable layer of
//! the container, and is read up to 4096 bytes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown, ftruncate};

use super::resolv::Resolv;
use super::{Place, StartFailure, empty_dir, hosts};
use crate::error::{OsContext, Result};
use crate::pod::member;
use crate::pod::network::{Store, names};
use crate::pod::store::PodDirs;
use crate::sys::{dir, fd};

/// Room for all three files, twice, and for what containers add. Bytes.
const TMPFS_BYTES: u64 = 256 << 10;
/// Longest file of the machine that is copied, and of ours that is compared. Bytes.
const FILE_BYTES: u64 = 64 << 10;
const RESOLV: &str = "/etc/resolv.conf";
/// The servers behind the one that systemd-resolved runs on the loopback device.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Writes `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of the pod below `<pod>/etc`; files
/// that are right already are left alone. Called by [`super::mounts()`], and for a sandbox alone.
///
/// # Errors
/// `CreateContainerConfigError`; `CreatePodSandboxError` for a host name that is too long.
pub fn write_etc(place: &Place<'_>) -> std::result::Result<(), StartFailure> {
    let spec = member::pod_spec(&place.manifest.pod);
    let name = member::hostname(&place.manifest.pod)?;
    let is_host_network = spec.host_network == Some(true);
    let aliases: &[HostAlias] = spec.host_aliases.as_deref().unwrap_or_default();
    let written = || -> Result<()> {
        let etc = open(place.dirs)?;
        let hosts = if is_host_network {
            hosts::of_machine(&read_of_machine("/etc/hosts")?, aliases)
        } else {
            hosts::of_pod(place.ips, &name.host, &name.domain, aliases)
        };
        // Who comes to the network from now on is written into the file that there is then.
        let network = place.network.map(|network| Store::of(place.dirs).network(network));
        let _lock = network.as_deref().map(names::lock).transpose()?;
        let namespace = place.manifest.pod.metadata.namespace.as_deref().unwrap_or_default();
        let others = network.map(|dir| names::part(&dir, &place.dirs.state, namespace));
        let hosts = hosts + &others.transpose()?.unwrap_or_default();
        let host = if is_host_network { &place.node.name } else { &name.host };
        // The kernel's name wins where it is a longer one.
        let host = name.kernel.as_ref().unwrap_or(host);
        replace(place, &etc, "hosts", &hosts)?;
        replace(place, &etc, "hostname", &format!("{host}\n"))?;
        replace(place, &etc, "resolv.conf", &resolv(&spec)?.cut().0.text())
    };
    written().map_err(|error| {
        member::failure("CreateContainerConfigError", format!("prepare files of /etc: {error}"))
    })
}

/// The directory of the files, on its tmpfs.
fn open(dirs: &PodDirs) -> Result<OwnedFd> {
    let path = dirs.state.join("etc");
    empty_dir::mount_once(&path, || empty_dir::tmpfs(0o755, None, Some(TMPFS_BYTES)))?;
    dir::open(&path).os("open", || path.display())
}

/// What had to be left out of `/etc/resolv.conf`: messages of `DNSConfigForming` events, for when
/// the pod is first started.
#[must_use]
pub fn dns_warnings(place: &Place<'_>) -> Vec<String> {
    let spec = member::pod_spec(&place.manifest.pod);
    resolv(&spec).map(|resolv| resolv.cut().1).unwrap_or_default()
}

fn resolv(spec: &PodSpec) -> Result<Resolv> {
    let config = spec.dns_config.as_ref();
    if spec.dns_policy.as_deref() == Some("None") {
        return Ok(Resolv::default().with(config));
    }
    let mut machine = Resolv::parse(&read_of_machine(RESOLV)?);
    if spec.host_network != Some(true) && machine.is_loopback() {
        // Nothing answers there in a network of the pod's own.
        let behind = Resolv::parse(&read_of_machine(RESOLVED)?);
        if !behind.servers.is_empty() {
            machine = behind;
        }
    }
    Ok(machine.with(config))
}

/// A file that may be missing; what comes after 64 KiB is left out.
fn read_of_machine(path: &str) -> Result<String> {
    let mut content = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES).read_to_end(&mut content).os("read", || path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).os("open", || path),
    };
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Replaces a file unless it has this content. Running containers keep the one they have.
fn replace(place: &Place<'_>, etc: &OwnedFd, name: &str, text: &str) -> Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let old = openat(etc, name, flags, Mode::empty()).ok().map(File::from);
    if let Some(old) = &old {
        let present = fd::read_bounded(old, FILE_BYTES, &name);
        if present.is_ok_and(|present| present == text.as_bytes()) {
            return Ok(());
        }
    }
    let new = format!(".{name}.new");
    write(place, etc, &new, text).or_else(|error| match &old {
        // A container has filled it up.
        Some(old) if error.errno() == Some(Errno::ENOSPC) => {
            ftruncate(old, 0).os("truncate", || name)?;
            write(place, etc, &new, text)
        }
        _ => Err(error),
    })?;
    renameat(etc, new.as_str(), etc, name).os("rename", || name)
}

fn write(place: &Place<'_>, etc: &OwnedFd, name: &str, text: &str) -> Result<()> {
    dir::remove(etc, name).os("remove", || name)?;
    let mut file = create(etc, name, place.user_namespace_base, 0o644)?;
    file.write_all(text.as_bytes()).os("write", || name)
}

/// Makes a new file that belongs to root of the pod.
fn create(dir: &OwnedFd, name: &str, owner: Option<u32>, mode: u32) -> Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let mode = Mode::from_bits_truncate(mode);
    let file = openat(dir, name, flags | OFlag::O_CLOEXEC, mode).os("create", || name)?;
    fchmod(&file, mode).os("chmod", || name)?;
    if let Some(owner) = owner {
        fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
            .os("chown", || name)?;
    }
    Ok(file.into())
}

/// The file on the host that one instance's termination message is written to.
#[must_use]
pub fn termination_log(dirs: &PodDirs, container: &str, restart_count: u32) -> PathBuf {
    dirs.data.join("containers").join(container).join(format!("{restart_count:08x}"))
}

/// Makes the file, empty; those of instances before the last one are removed.
pub(super) fn make_termination_log(
    place: &Place<'_>,
    container: &str,
    restart_count: u32,
) -> Result<PathBuf> {
    let path = termination_log(place.dirs, container, restart_count);
    let (dir, name) = empty_dir::make_parent(&path)?;
    for entry in dir::names(&dir).os("read", || path.display())? {
        let number = entry.to_str().ok().filter(|name| name.len() == 8);
        let number = number.and_then(|name| u32::from_str_radix(name, 16).ok());
        if number.is_some_and(|number| number.saturating_add(1) != restart_count) {
            dir::remove(&dir, entry.as_c_str()).os("remove", || path.display())?;
        }
    }
    // Anybody in the container may write its last words, whatever user it runs as.
    create(&dir, name, place.user_namespace_base, 0o666)?;
    Ok(path)
}
