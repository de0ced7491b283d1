//! Who makes cgroups.

/// `--systemd-cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Directories under `/sys/fs/cgroup`.
    Cgroupfs,
    /// Transient units over D-Bus.
    Systemd,
}
