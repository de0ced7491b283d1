//! Properties of the processor, the memory nodes and the security module.

use oci_spec::runtime::{
    LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode, Spec,
};

use super::values::{fail, no_nul, number_list};
use crate::{error::Result, oci::Warning};

pub(super) fn intel_rdt(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let Some(rdt) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else {
        return Ok(());
    };
    // The id is the name of a directory; "/" alone is the default class.
    if let Some(id) = rdt.clos_id().as_deref()
        && id != "/"
        && (matches!(id, "" | "." | "..") || id.contains(['/', '\n', '\0']))
    {
        let text = format_args!("{id:?} is no class, must be a plain directory name or \"/\"");
        return fail("linux.intelRdt.closID", text);
    }
    for (name, line) in
        [("l3CacheSchema", rdt.l3_cache_schema()), ("memBwSchema", rdt.mem_bw_schema())]
    {
        one_line(&format!("linux.intelRdt.{name}"), line.as_deref().unwrap_or_default())?;
    }
    for (i, line) in rdt.schemata().iter().flatten().enumerate() {
        one_line(&format!("linux.intelRdt.schemata[{i}]"), line)?;
    }
    match rdt.mem_bw_schema().as_deref().filter(|s| !s.is_empty() && !s.starts_with("MB:")) {
        Some(schema) => {
            fail("linux.intelRdt.memBwSchema", format_args!("{schema:?} must begin with \"MB:\""))
        }
        None => Ok(()),
    }
}

fn one_line(field: &str, line: &str) -> Result<()> {
    match line.contains('\n') {
        true => fail(field, format_args!("{line:?} must not contain a newline")),
        false => no_nul(field, line),
    }
}

/// Source: set_mempolicy(2).
pub(super) fn memory_policy(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let policy = spec.linux().as_ref().and_then(|linux| linux.memory_policy().as_ref());
    let Some(policy) = policy else { return Ok(()) };
    let nodes = policy.nodes().as_deref().filter(|nodes| !nodes.is_empty());
    let mode = policy.mode();
    match (mode, nodes) {
        (Mode::MpolDefault | Mode::MpolLocal, Some(nodes)) => {
            let text = format_args!("{nodes:?}, {mode} takes none");
            return fail("linux.memoryPolicy.nodes", text);
        }
        (
            Mode::MpolBind
            | Mode::MpolInterleave
            | Mode::MpolWeightedInterleave
            | Mode::MpolPreferredMany,
            None,
        ) => {
            return fail("linux.memoryPolicy.nodes", format_args!("must not be empty with {mode}"));
        }
        (_, Some(nodes)) => number_list("linux.memoryPolicy.nodes", nodes)?,
        (Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred, None) => {}
    }
    memory_policy_flags(policy)
}

fn memory_policy_flags(policy: &LinuxMemoryPolicy) -> Result<()> {
    let has = |flag| policy.flags().iter().flatten().any(|set| *set == flag);
    let (field, mode) = ("linux.memoryPolicy.flags", policy.mode());
    if has(Flag::MpolFStaticNodes) && has(Flag::MpolFRelativeNodes) {
        return fail(field, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    let balances = matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany);
    if has(Flag::MpolFNumaBalancing) && !balances {
        return fail(field, format_args!("MPOL_F_NUMA_BALANCING cannot be used with {mode}"));
    }
    Ok(())
}

pub(super) fn personality(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let personality = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref());
    match personality.and_then(|p| p.flags().as_ref()?.first()) {
        Some(flag) => fail(
            "linux.personality.flags",
            format_args!("{flag:?}, the specification defines no flags yet"),
        ),
        None => Ok(()),
    }
}

pub(super) fn mount_label(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    no_nul("linux.mountLabel", label.unwrap_or_default())
}
