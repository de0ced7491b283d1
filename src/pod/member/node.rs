//! Facts of the machine, read once; and what of it only a privileged container needs.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::cgroup::{Cgroup, CgroupDriver};
use crate::error::{OsContext, Result};
use crate::sys::{fd, lsm};

/// The machine. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// Addresses that others reach it by, the first is `status.hostIP`; never empty.
    pub ips: Vec<String>,
    /// MemTotal.
    pub memory_bytes: u64,
    /// CPUs that are online.
    pub cpus: u32,
    /// The size of the root file system: `ephemeral-storage`.
    pub storage_bytes: u64,
    /// Sizes of huge pages, bytes, ascending.
    pub huge_pages: Vec<u64>,
    /// Whether AppArmor confines processes here.
    pub apparmor: bool,
    /// Whether SELinux does.
    pub selinux: bool,
    /// Which cgroups there are.
    pub cgroups: Cgroups,
    /// `uname -r`.
    pub kernel: String,
    /// Capabilities that can be granted, as the kernel's mask.
    pub capabilities: u64,
    /// Lowest `oom_score_adj` that can be set: without CAP_SYS_RESOURCE no lower than our own.
    pub oom_score_floor: i32,
    /// Whether the CPUs show their thermal throttling in sysfs.
    pub thermal_throttle: bool,
}

/// The cgroup controllers of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Whether there is nothing but the unified tree.
    pub unified: bool,
    /// Names of v1 or v2: `cpu`, `memory`, `hugetlb`, ….
    pub controllers: Vec<String>,
    /// Whether cgroups of v2 have a limit on swap.
    pub swap: bool,
}

impl Cgroups {
    /// Whether there is this controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u64 = 1 << 24;

impl Node {
    /// Reads them.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if procfs cannot be read.
    pub fn read() -> Result<Self> {
        let names = uname().os("uname", || "this machine")?;
        let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
        let status = read("/proc/self/status")?;
        let mask = |name: &str| {
            let text = field(&status, name).unwrap_or_default();
            u64::from_str_radix(text, 16).unwrap_or(0)
        };
        let floor = match mask("CapEff:") & SYS_RESOURCE {
            0 => read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0),
            _ => -1000,
        };
        Ok(Self {
            name: text(names.nodename()).to_lowercase(),
            ips: addresses(),
            memory_bytes: memory(&read("/proc/meminfo")?),
            cpus: cpus(),
            storage_bytes: statvfs("/")
                .map(|fs| fs.blocks().saturating_mul(fs.fragment_size()))
                .os("statvfs", || "/")?,
            huge_pages: huge_pages(),
            apparmor: lsm::has_apparmor(),
            selinux: lsm::has_selinux(),
            cgroups: cgroups()?,
            kernel: text(names.release()),
            capabilities: mask("CapPrm:") & mask("CapBnd:"),
            oom_score_floor: floor,
            thermal_throttle: Path::new("/sys/devices/system/cpu/cpu0/thermal_throttle").exists(),
        })
    }
}

fn read(path: &str) -> Result<String> {
    fd::read_page(path).os("read", || path)
}

/// What stands behind a word at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn memory(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal:").and_then(|text| text.strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

fn cpus() -> u32 {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
    u32::try_from(online).unwrap_or(1).max(1)
}

/// The addresses that packets to far away would have as their source; nothing is sent.
///
/// Source: RFC 5737 and RFC 3849, addresses for documentation.
pub fn addresses() -> Vec<String> {
    let source = |own: &str, far: &str| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    let found = [source("0.0.0.0", "192.0.2.1"), source("::", "2001:db8::1")];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if found.is_empty() { vec!["127.0.0.1".to_owned()] } else { found }
}

/// Source: Documentation/admin-guide/mm/hugetlbpage.rst: `hugepages-<size>kB`.
fn huge_pages() -> Vec<u64> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        kib.parse::<u64>().ok()?.checked_mul(1024)
    };
    let mut sizes: Vec<u64> = entries.filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

fn cgroups() -> Result<Cgroups> {
    // Any cgroup below the roots: it is not made.
    let below = Cgroup::resolve(Some(Path::new("/any")), "any", CgroupDriver::Cgroupfs)?;
    let mut controllers = Vec::new();
    let mut unified = true;
    let mut swap = false;
    for (names, path) in below.paths() {
        if names.is_empty() {
            let offered = path.with_file_name("cgroup.controllers");
            let text = fs::read_to_string(offered).unwrap_or_default();
            controllers.extend(text.split_whitespace().map(str::to_owned));
            swap = path.parent().is_some_and(limits_swap);
        } else {
            unified = false;
            controllers.extend(names.split(',').map(str::to_owned));
        }
    }
    Ok(Cgroups { unified, controllers, swap })
}

/// The root of the tree has no limits, but what is below it shows which ones there are.
fn limits_swap(root: &Path) -> bool {
    let children = fs::read_dir(root).into_iter().flatten().flatten();
    children.into_iter().any(|child| child.path().join("memory.swap.max").exists())
}

/// Whether the kernel has an AppArmor profile of this name.
#[must_use]
pub fn has_apparmor_profile(name: &str) -> bool {
    let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    // A line is `name (mode)`; names may have spaces.
    let is_it = |line: &str| line.rsplit_once(" (").is_some_and(|(profile, _)| profile == name);
    profiles.is_ok_and(|profiles| profiles.lines().any(is_it))
}

/// Directories of `/dev` that are made anew for each container, or hold no devices.
const NOT_DEVICES: &[&str] = &["pts", "shm", "fd", "mqueue", "hugepages"];
/// Deepest directory that is looked into.
const DEPTH: u32 = 4;

/// The devices of the machine, by path.
///
/// # Errors
/// [`crate::error::Error::Os`] if `/dev` cannot be read.
pub fn devices() -> Result<Vec<LinuxDevice>> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), DEPTH, &mut found)?;
    found.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

fn collect(dir: &Path, depth: u32, found: &mut Vec<LinuxDevice>) -> Result<()> {
    let entries = fs::read_dir(dir).os("read", || dir.display())?;
    for entry in entries.flatten() {
        let path = entry.path();
        // Devices come and go; links are not devices.
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            let name = entry.file_name();
            if depth > 0 && !NOT_DEVICES.iter().any(|skip| name == *skip) {
                collect(&path, depth - 1, found)?;
            }
            continue;
        }
        let typ = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => LinuxDeviceType::C,
            (_, true) => LinuxDeviceType::B,
            _ => continue,
        };
        // A container has its own, or a link to it.
        if path == Path::new("/dev/console") || path == Path::new("/dev/ptmx") {
            continue;
        }
        let mut device = LinuxDevice::default();
        let number = metadata.rdev();
        device
            .set_path(path)
            .set_typ(typ)
            .set_major(i64::try_from(major(number)).unwrap_or(0))
            .set_minor(i64::try_from(minor(number)).unwrap_or(0))
            .set_file_mode(Some(metadata.mode() & 0o7777))
            .set_uid(Some(metadata.uid()))
            .set_gid(Some(metadata.gid()));
        found.push(device);
    }
    Ok(())
}

#[cfg(test)]
impl Node {
    /// A machine for tests: 4 CPUs, 8 GiB, cgroup v1 with everything.
    pub(crate) fn example() -> Self {
        let controllers = ["cpu", "memory", "hugetlb", "pids", "devices"];
        Self {
            name: "node1".into(),
            ips: vec!["192.0.2.7".into(), "2001:db8::7".into()],
            memory_bytes: 8 << 30,
            cpus: 4,
            storage_bytes: 100 << 30,
            huge_pages: vec![2 << 20, 1 << 30],
            apparmor: false,
            selinux: false,
            cgroups: Cgroups {
                unified: false,
                controllers: controllers.map(str::to_owned).to_vec(),
                swap: true,
            },
            kernel: "6.18.0".into(),
            capabilities: (1 << 41) - 1,
            oom_score_floor: -1000,
            thermal_throttle: false,
        }
    }

    /// The same with cgroup v2.
    pub(crate) fn example_v2() -> Self {
        let mut node = Self::example();
        node.cgroups.unified = true;
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let node = Node::read().unwrap();
        assert!(!node.name.is_empty());
        assert!(!node.ips.is_empty());
        assert!(node.memory_bytes > 1 << 20, "{}", node.memory_bytes);
        assert!(node.cpus > 0 && node.storage_bytes > 0);
        assert!(node.cgroups.has("memory"), "{:?}", node.cgroups);
        assert!(node.huge_pages.is_sorted());
        assert!(!node.kernel.is_empty());
        assert!(node.capabilities != 0);
    }

    #[test]
    fn devices_are_devices() {
        let all = devices().unwrap();
        assert!(all.iter().any(|device| device.path() == Path::new("/dev/null")));
        assert!(all.iter().all(|device| !device.path().starts_with("/dev/pts")));
    }

    #[test]
    fn words_of_proc() {
        let text = "MemTotal:       32768 kB\nMemFree:  1 kB\n";
        assert_eq!(memory(text), 32768 * 1024);
        assert_eq!(memory("nothing"), 0);
        assert_eq!(field("CapEff:\t00ff\n", "CapEff:"), Some("00ff"));
    }
}
