//! Mounts and devices, with their option words parsed and their sources resolved.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxIdMapping, Mount};

use crate::oci::mount_opts::{self, Bind, MountOptions};

/// One entry of `mounts`.
#[derive(Debug)]
pub struct MountPlan {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// Its options.
    pub options: MountOptions,
    /// Id maps of the mount itself.
    pub uid_map: Vec<LinuxIdMapping>,
    /// As `uid_map`.
    pub gid_map: Vec<LinuxIdMapping>,
}

/// A tree of the host, or a new file system.
#[derive(Debug)]
pub enum MountSource {
    /// Absolute path on the host.
    Bind(PathBuf),
    /// The container's own part of the cgroup hierarchies.
    Cgroup,
    /// Type and source words.
    FileSystem {
        /// `tmpfs`, `proc`, …
        kind: String,
        /// Shown in mountinfo; a device for disk file systems.
        source: String,
    },
}

impl MountPlan {
    /// A bind mount that is not in the configuration; both paths are absolute.
    #[must_use]
    pub fn bind(destination: &Path, source: &Path, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Self {
            destination: destination.to_owned(),
            source: MountSource::Bind(source.to_owned()),
            options: mount_opts::parse(&words),
            uid_map: Vec::new(),
            gid_map: Vec::new(),
        }
    }

    pub(super) fn new(mount: &Mount, bundle: &Path, root: &Path) -> Self {
        let options = mount_opts::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().clone().unwrap_or_default();
        let source = if kind == "bind" || options.bind != Bind::No {
            MountSource::Bind(bundle.join(source))
        } else if kind == "cgroup" || kind == "cgroup2" {
            MountSource::Cgroup
        } else {
            let kind = if kind.is_empty() { "none" } else { kind }.to_owned();
            MountSource::FileSystem { kind, source: source.to_string_lossy().into_owned() }
        };
        Self {
            // A relative destination counts from the root (runtime-spec, config.md, Mounts), and
            // one that begins with the path of the rootfs on the host is taken as in it, as with
            // runc.
            destination: Path::new("/")
                .join(mount.destination().strip_prefix(root).unwrap_or(mount.destination())),
            source,
            options,
            uid_map: mount.uid_mappings().clone().unwrap_or_default(),
            gid_map: mount.gid_mappings().clone().unwrap_or_default(),
        }
    }
}

/// A device node to make. Source: runtime-spec, config-linux.md, Devices.
#[derive(Debug, Clone)]
pub struct DevicePlan {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// S_IFCHR, S_IFBLK or S_IFIFO.
    pub kind: libc::mode_t,
    /// Device numbers; 0 for a fifo.
    pub major: u32,
    /// As `major`.
    pub minor: u32,
    /// Permission bits.
    pub mode: libc::mode_t,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

impl DevicePlan {
    pub(super) fn new(device: &LinuxDevice) -> Self {
        let kind = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A | LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        };
        let number = |number: i64| u32::try_from(number).unwrap_or(0);
        Self {
            path: device.path().clone(),
            kind,
            major: number(device.major()),
            minor: number(device.minor()),
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        }
    }

    /// The nodes that every container has, whatever its configuration says.
    ///
    /// Source: runtime-spec, config-linux.md, Default Devices.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let node = |name: &str, major, minor| Self {
            path: Path::new("/dev").join(name),
            kind: libc::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        vec![
            node("null", 1, 3),
            node("zero", 1, 5),
            node("full", 1, 7),
            node("random", 1, 8),
            node("urandom", 1, 9),
            node("tty", 5, 0),
        ]
    }
}

/// The word of `linux.rootfsPropagation`; the `r` words change the whole tree.
pub(super) fn propagation(word: &str) -> Option<MsFlags> {
    mount_opts::parse(&[word.to_owned()]).propagation.first().copied()
}
