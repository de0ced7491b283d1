//! What every process of a container has from `linux`, not from its own `process`.

use oci_spec::runtime::{Linux, LinuxPersonalityDomain};

use super::memory;

/// 32-bit names in uname(2). Source: personality(2).
const PER_LINUX32: u64 = 8;

/// Execution domain and memory policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platform {
    /// Execution domain, as personality(2) takes it.
    pub personality: Option<u64>,
    /// Mode with its flags, and a bit mask of nodes, as set_mempolicy(2) takes them.
    pub memory_policy: Option<(i32, Vec<u64>)>,
}

impl Platform {
    /// Reads what the section says; without it there is nothing to set.
    #[must_use]
    pub fn new(linux: Option<&Linux>) -> Self {
        let Some(linux) = linux else { return Self::default() };
        let domain = |domain| match domain {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
        };
        Self {
            personality: linux.personality().as_ref().map(|p| domain(p.domain())),
            memory_policy: linux.memory_policy().as_ref().map(memory::policy),
        }
    }
}
