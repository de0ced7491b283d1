//! The controllers carob knows, and their names on either version.

/// A resource controller of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    BlockIo,
    Hugetlb,
    Rdma,
    NetCls,
    NetPrio,
    Devices,
    Freezer,
    /// What `unified` names without a controller of ours: `cgroup.*`, `misc.*`.
    Core,
}

/// Which interface files a controller has in the hierarchy it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Controller {
    /// The name in `/proc/self/cgroup` and in the options of a v1 mount.
    pub(super) fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::BlockIo => "blkio",
            Self::Hugetlb => "hugetlb",
            Self::Rdma => "rdma",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Core => "cgroup",
        }
    }

    /// Whether it is one of those that `/proc/self/cgroup` names for a v1 hierarchy.
    pub(super) fn is_in(self, names: &str) -> bool {
        names.split(',').any(|name| name == self.v1_name())
    }

    /// The name in `cgroup.controllers`, if it has to be listed there to work in the unified tree.
    pub(super) fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::BlockIo => Some("io"),
            Self::Cpu | Self::Cpuset | Self::Memory | Self::Pids | Self::Hugetlb | Self::Rdma => {
                Some(self.v1_name())
            }
            Self::Cpuacct
            | Self::NetCls
            | Self::NetPrio
            | Self::Devices
            | Self::Freezer
            | Self::Core => None,
        }
    }
}
