//! Requests and limits as cgroup settings, of a member and of the pod's own cgroup.
//!
//! Source: the kubelet's `ResourceConfigForPod` and `generateLinuxContainerResources`;
//! component-helpers `PodRequests` and `PodLimits`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxResources,
};

use super::quantity::Quantity;
use super::{Node, QosClass, is_sidecar, pod_spec, qos};

/// Of CFS, microseconds.
const PERIOD: u64 = 100_000;
/// Least quota, microseconds.
const MIN_QUOTA: i64 = 1000;
/// Range of `cpu.shares`.
const MIN_SHARES: u64 = 2;
/// See [`MIN_SHARES`].
const MAX_SHARES: u64 = 262_144;

/// What is asked for, or what is not to be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `requests`.
    Requests,
    /// `limits`.
    Limits,
}

type List = Option<BTreeMap<String, Text>>;

fn list(resources: Option<&ResourceRequirements>, side: Side) -> Option<&BTreeMap<String, Text>> {
    let resources = resources?;
    let list: &List = match side {
        Side::Requests => &resources.requests,
        Side::Limits => &resources.limits,
    };
    list.as_ref()
}

/// What a container gives; a missing request is the limit.
#[must_use]
pub fn of_container(container: &Container, side: Side, name: &str) -> Option<Quantity> {
    own(container.resources.as_ref(), side, name)
}

/// What the pod as a whole gives (`spec.resources`); a missing request is not the limit there, but
/// the sum of the containers.
#[must_use]
pub fn of_pod(spec: &PodSpec, side: Side, name: &str) -> Option<Quantity> {
    Quantity::of(list(spec.resources.as_ref(), side), name)
}

fn own(resources: Option<&ResourceRequirements>, side: Side, name: &str) -> Option<Quantity> {
    let limit = || Quantity::of(list(resources, Side::Limits), name);
    let value = match side {
        Side::Requests => Quantity::of(list(resources, Side::Requests), name).or_else(limit),
        Side::Limits => limit(),
    };
    value.map(Quantity::rounded_to_milli)
}

/// Init containers, sidecars and apps.
pub(super) fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// What the machine has.
#[must_use]
pub fn allocatable(node: &Node, name: &str) -> Quantity {
    match name {
        "cpu" => Quantity::units(node.cpus.into()),
        "memory" => Quantity::units(node.memory_bytes),
        "ephemeral-storage" => Quantity::units(node.storage_bytes),
        _ => Quantity::ZERO,
    }
}

/// What the containers of a pod need together: the apps and sidecars, or, while it is more, an
/// init container and the sidecars before it.
#[must_use]
pub fn aggregated(spec: &PodSpec, side: Side, name: &str) -> Quantity {
    let of = |container: &Container| of_container(container, side, name).unwrap_or_default();
    let mut sidecars = Quantity::ZERO;
    let mut starting = Quantity::ZERO;
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars = sidecars + of(container);
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(sidecars + of(container));
        }
    }
    let running = spec.containers.iter().map(of).sum::<Quantity>() + sidecars;
    running.max(starting)
}

/// What counts for the pod as a whole, overhead included.
#[must_use]
pub fn effective(spec: &PodSpec, side: Side, name: &str) -> Quantity {
    let value = of_pod(spec, side, name).unwrap_or_else(|| aggregated(spec, side, name));
    let overhead = Quantity::of(spec.overhead.as_ref(), name).unwrap_or_default();
    match side {
        // No limit stays no limit.
        Side::Limits if value.is_zero() => value,
        Side::Limits | Side::Requests => value + overhead,
    }
}

/// Shares for thousandths of a CPU.
#[must_use]
pub fn shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// The weight of a pod, of v2: the linear one. A member's is made of its shares by the cgroup
/// layer, on another curve.
#[must_use]
pub fn weight(shares: u64) -> u64 {
    let above = shares.clamp(MIN_SHARES, MAX_SHARES) - MIN_SHARES;
    1 + above * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// Microseconds in each period for thousandths of a CPU; `None` is no limit.
#[must_use]
pub fn quota(milli: i64) -> Option<i64> {
    let period = i64::try_from(PERIOD).unwrap_or(i64::MAX);
    (milli > 0).then(|| (milli.saturating_mul(period) / 1000).max(MIN_QUOTA))
}

/// The limits of the pod's own cgroup.
#[must_use]
pub fn pod_resources(pod: &Pod, node: &Node) -> LinuxResources {
    let spec = pod_spec(pod);
    let class = qos(pod);
    let effective = |side, name: &str| effective(&spec, side, name);
    // A pod is limited only if each of its containers is, or it is as a whole.
    let limited = |name: &str| {
        let given = |value: Option<Quantity>| value.is_some_and(|value| !value.is_zero());
        let each = all_containers(&spec).all(|one| given(of_container(one, Side::Limits, name)));
        each || given(of_pod(&spec, Side::Limits, name))
    };
    let applies = |name: &str| match class {
        QosClass::Guaranteed => true,
        QosClass::Burstable => limited(name),
        QosClass::BestEffort => false,
    };
    let shares = match class {
        QosClass::BestEffort => MIN_SHARES,
        QosClass::Guaranteed | QosClass::Burstable => {
            shares(effective(Side::Requests, "cpu").milli())
        }
    };
    let quota = applies("cpu").then(|| quota(effective(Side::Limits, "cpu").milli())).flatten();
    let memory = applies("memory").then(|| effective(Side::Limits, "memory").value());

    let mut out = LinuxResources::default();
    let mut unified = HashMap::new();
    if node.cgroups.unified && node.cgroups.has("cpu") {
        unified.insert("cpu.weight".to_owned(), weight(shares).to_string());
    }
    let shares = (!node.cgroups.unified).then_some(shares);
    out.set_cpu(cpu(node, shares, quota));
    out.set_memory(memory_limit(memory));
    out.set_hugepage_limits(huge_pages(node, |name| effective(Side::Requests, name)));
    out.set_unified((!unified.is_empty()).then_some(unified));
    // The members have their own rules; in v1 none can have more than the cgroup above it.
    out.set_devices(Some(vec![all_devices()]));
    out
}

/// The limits of a member, without devices. In v2 it does not swap, and the OOM killer takes all of
/// it.
#[must_use]
pub fn member_resources(pod: &Pod, container: &Container, node: &Node) -> LinuxResources {
    let spec = pod_spec(pod);
    let nonzero = |value: Option<Quantity>| value.filter(|value| !value.is_zero());
    let limit = |name: &str| {
        let own = nonzero(of_container(container, Side::Limits, name));
        own.or_else(|| nonzero(of_pod(&spec, Side::Limits, name)))
    };
    let request = of_container(container, Side::Requests, "cpu").or_else(|| limit("cpu"));
    let shares = shares(request.unwrap_or_default().milli());
    let quota = quota(limit("cpu").unwrap_or_default().milli());
    let memory = limit("memory").map(Quantity::value);

    let mut out = LinuxResources::default();
    out.set_cpu(cpu(node, Some(shares), quota));
    out.set_memory(memory_limit(memory));
    out.set_hugepage_limits(huge_pages(node, |name| limit(name).unwrap_or_default()));
    if node.cgroups.unified && node.cgroups.has("memory") {
        let mut unified = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
        if node.cgroups.swap {
            unified.insert("memory.swap.max".to_owned(), "0".to_owned());
        }
        out.set_unified(Some(unified));
    }
    out
}

/// Shares are a matter of precedence: without the controller they are left out. A quota is a
/// promise, and a machine that cannot keep it refuses.
fn cpu(node: &Node, shares: Option<u64>, quota: Option<i64>) -> Option<LinuxCpu> {
    let shares = shares.filter(|_| node.cgroups.has("cpu"));
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(shares).set_quota(quota).set_period(quota.map(|_| PERIOD));
    (shares.is_some() || quota.is_some()).then_some(cpu)
}

fn memory_limit(bytes: Option<i64>) -> Option<LinuxMemory> {
    let bytes = bytes.filter(|bytes| *bytes > 0)?;
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(bytes));
    Some(memory)
}

/// Every size of page has a limit, 0 where none is asked for. A machine without the controller
/// gives no pages of that size to nobody in particular: only what is asked for is said then.
fn huge_pages(node: &Node, limit: impl Fn(&str) -> Quantity) -> Option<Vec<LinuxHugepageLimit>> {
    let mut limits = Vec::new();
    for size in &node.huge_pages {
        let bytes = limit(&format!("hugepages-{}", binary(*size))).value();
        if bytes == 0 && !node.cgroups.has("hugetlb") {
            continue;
        }
        let mut one = LinuxHugepageLimit::default();
        one.set_page_size(cgroup_size(*size)).set_limit(bytes);
        limits.push(one);
    }
    (!limits.is_empty()).then_some(limits)
}

/// `2Mi`: a size as resources name it.
fn binary(bytes: u64) -> String {
    scaled(bytes, "Ki", "Mi", "Gi")
}

/// `2MB`: a size as cgroup files name it.
fn cgroup_size(bytes: u64) -> String {
    scaled(bytes, "KB", "MB", "GB")
}

fn scaled(bytes: u64, kilo: &str, mega: &str, giga: &str) -> String {
    for (unit, word) in [(1 << 30, giga), (1 << 20, mega)] {
        if bytes.is_multiple_of(unit) {
            return format!("{}{word}", bytes / unit);
        }
    }
    format!("{}{kilo}", bytes >> 10)
}

/// Every device, to do anything with.
pub(super) fn all_devices() -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".to_owned()));
    rule
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
