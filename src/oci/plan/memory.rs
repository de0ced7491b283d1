//! NUMA memory policy in the kernel's terms.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::process::number_list;

/// Every mode.
pub const MODES: [MemoryPolicyModeType; 7] = [
    MemoryPolicyModeType::MpolDefault,
    MemoryPolicyModeType::MpolPreferred,
    MemoryPolicyModeType::MpolBind,
    MemoryPolicyModeType::MpolInterleave,
    MemoryPolicyModeType::MpolLocal,
    MemoryPolicyModeType::MpolPreferredMany,
    MemoryPolicyModeType::MpolWeightedInterleave,
];

/// Every flag.
pub const FLAGS: [MemoryPolicyFlagType; 3] = [
    MemoryPolicyFlagType::MpolFNumaBalancing,
    MemoryPolicyFlagType::MpolFRelativeNodes,
    MemoryPolicyFlagType::MpolFStaticNodes,
];

/// Mode with its flags, and the nodes as a bit mask. Source: set_mempolicy(2).
pub(super) fn policy(policy: &LinuxMemoryPolicy) -> (i32, Vec<u64>) {
    use MemoryPolicyModeType as Mode;
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    };
    let flags = policy.flags().iter().flatten().map(flag).fold(0, |all, one| all | one);
    let nodes = policy.nodes().as_deref().map(number_list).unwrap_or_default();
    (mode | flags, mask(&nodes))
}

fn mask(nodes: &[usize]) -> Vec<u64> {
    let words = nodes.iter().max().map_or(0, |largest| largest / 64 + 1);
    let mut mask = vec![0; words];
    for node in nodes {
        mask[node / 64] |= 1 << (node % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_flags_become_bits() {
        let parse = |text| serde_json::from_str::<LinuxMemoryPolicy>(text).unwrap();
        let bind =
            parse(r#"{"mode":"MPOL_BIND","nodes":"0-1,64","flags":["MPOL_F_STATIC_NODES"]}"#);
        assert_eq!(policy(&bind), (2 | 1 << 15, vec![3, 1]));
        assert_eq!(policy(&parse(r#"{"mode":"MPOL_DEFAULT"}"#)), (0, vec![]));
    }
}
