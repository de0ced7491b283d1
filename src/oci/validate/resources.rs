//! `linux.resources` and `linux.cgroupsPath`.
//!
//! For cpu, memory and block I/O, clients write 0 where they mean "not set" (Docker's update,
//! CRI-O's create), so 0 is no mistake there. What the kernel would refuse or clamp is one.

use std::{collections::HashSet, ops::RangeInclusive, path::Component};

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceType, LinuxMemory, LinuxResources, Spec,
};

use super::values::{fail, interface_name, no_nul, number_list};
use crate::{error::Result, oci::Warning};

type Rule = fn(&LinuxResources, &mut Vec<Warning>) -> Result<()>;

const RULES: &[Rule] = &[
    cpu_time,
    cpu_shares,
    cpu_realtime,
    cpu_sets,
    memory,
    pids,
    block_io,
    huge_pages,
    network,
    rdma,
    unified,
    device_rules,
];

/// Microseconds. Source: the kernel's `min_cfs_quota_period` and `max_cfs_quota_period`.
const CPU_PERIOD: RangeInclusive<u64> = 1000..=1_000_000;
/// Microseconds. Source: as [`CPU_PERIOD`].
const MIN_CPU_QUOTA: i64 = 1000;
/// Source: the kernel's `MIN_SHARES` and `MAX_SHARES`; it clamps silently.
const CPU_SHARES: RangeInclusive<u64> = 2..=262_144;
/// Source: the kernel's `blkio.bfq.weight`, cgroup v1 documentation.
const IO_WEIGHT: RangeInclusive<u16> = 10..=1000;

pub(super) fn check(resources: &LinuxResources, warnings: &mut Vec<Warning>) -> Result<()> {
    RULES.iter().try_for_each(|rule| rule(resources, warnings))
}

pub(super) fn in_spec(spec: &Spec, warnings: &mut Vec<Warning>) -> Result<()> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(resources) = resources else { return Ok(()) };
    check(resources, warnings)?;
    // Not a rule of `check`: an update may set one of the two and keep the other.
    match resources.memory().as_ref().map(swap_and_limit) {
        Some((Some(swap), None)) => {
            let text = format_args!("{swap} bytes of memory and swap, needs a limit of memory too");
            fail("linux.resources.memory.swap", text)
        }
        _ => Ok(()),
    }
}

/// The cgroup is made on the host: no way out of the hierarchy.
pub(super) fn cgroups_path(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let Some(path) = path else { return Ok(()) };
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        let text = format_args!("{path:?} must not contain \"..\"");
        return fail("linux.cgroupsPath", text);
    }
    no_nul("linux.cgroupsPath", path)
}

fn cpu_time(resources: &LinuxResources, warnings: &mut Vec<Warning>) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    match cpu.quota() {
        None | Some(-1 | MIN_CPU_QUOTA..) => {}
        Some(0) => {
            warnings.push(Warning::new("linux.resources.cpu.quota", "0 sets no limit"));
        }
        Some(quota) => {
            let text = format_args!(
                "{quota} µs, the kernel takes -1 (no limit) or at least {MIN_CPU_QUOTA}"
            );
            return fail("linux.resources.cpu.quota", text);
        }
    }
    match cpu.period() {
        Some(period) if period != 0 && !CPU_PERIOD.contains(&period) => {
            let (min, max) = CPU_PERIOD.into_inner();
            let text = format_args!("{period} µs, allowed are {min} to {max}");
            return fail("linux.resources.cpu.period", text);
        }
        _ => {}
    }
    burst(cpu)
}

fn burst(cpu: &LinuxCpu) -> Result<()> {
    let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).unwrap_or(0);
    match cpu.burst() {
        Some(burst) if quota != 0 && burst > quota => {
            let text = format_args!("{burst} µs, must be at most the quota {quota}");
            fail("linux.resources.cpu.burst", text)
        }
        _ => Ok(()),
    }
}

fn cpu_shares(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    match cpu.shares() {
        Some(shares) if shares != 0 && !CPU_SHARES.contains(&shares) => {
            let (min, max) = CPU_SHARES.into_inner();
            let text = format_args!("{shares}, allowed are {min} to {max}");
            return fail("linux.resources.cpu.shares", text);
        }
        _ => {}
    }
    match cpu.idle() {
        None | Some(0 | 1) => Ok(()),
        Some(idle) => fail("linux.resources.cpu.idle", format_args!("{idle}, allowed are 0 and 1")),
    }
}

fn cpu_realtime(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let period = cpu.realtime_period().unwrap_or(0);
    match cpu.realtime_runtime() {
        Some(runtime @ ..=-2) => {
            let text = format_args!("{runtime} µs, the kernel takes -1 (no limit) or more");
            fail("linux.resources.cpu.realtimeRuntime", text)
        }
        Some(runtime) if period != 0 && u64::try_from(runtime).is_ok_and(|r| r > period) => {
            let text = format_args!("{runtime} µs, must be at most realtimePeriod {period}");
            fail("linux.resources.cpu.realtimeRuntime", text)
        }
        _ => Ok(()),
    }
}

fn cpu_sets(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            number_list(format_args!("linux.resources.cpu.{name}"), list)?;
        }
    }
    Ok(())
}

fn memory(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    #[allow(deprecated, reason = "a client may still set it, and then it has to make sense")]
    let kernel = memory.kernel();
    for (name, bytes) in [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernel", kernel),
        ("kernelTCP", memory.kernel_tcp()),
    ] {
        if let Some(bytes @ ..=-2) = bytes {
            let text = format_args!("{bytes} bytes, allowed are -1 (no limit) and more");
            return fail(format_args!("linux.resources.memory.{name}"), text);
        }
    }
    match swap_and_limit(memory) {
        (Some(swap), Some(limit)) if swap < limit => {
            let text = format_args!("{swap} bytes of memory and swap, below the limit {limit}");
            return fail("linux.resources.memory.swap", text);
        }
        _ => {}
    }
    match memory.swappiness() {
        Some(swappiness @ 101..) => {
            let text = format_args!("{swappiness}, allowed are 0 to 100");
            fail("linux.resources.memory.swappiness", text)
        }
        _ => Ok(()),
    }
}

/// Both in bytes, `None` where there is no limit.
fn swap_and_limit(memory: &LinuxMemory) -> (Option<i64>, Option<i64>) {
    (memory.swap().filter(|n| *n > 0), memory.limit().filter(|n| *n > 0))
}

fn pids(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    match resources.pids().map(|pids| pids.limit()) {
        Some(limit @ ..=-2) => {
            let text = format_args!("{limit}, allowed are -1 (no limit) and more");
            fail("linux.resources.pids.limit", text)
        }
        _ => Ok(()),
    }
}

fn block_io(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let Some(io) = resources.block_io() else { return Ok(()) };
    weight("weight", io.weight())?;
    weight("leafWeight", io.leaf_weight())?;
    for (i, device) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("weightDevice[{i}]");
        weight(&format!("{field}.weight"), device.weight())?;
        weight(&format!("{field}.leafWeight"), device.leaf_weight())?;
        if device.weight().is_none() && device.leaf_weight().is_none() {
            let field = format_args!("linux.resources.blockIO.{field}.weight");
            return fail(field, "is missing, one of weight and leafWeight is required");
        }
        device_number(&field, device.major(), device.minor())?;
    }
    throttles(io)
}

fn throttles(io: &LinuxBlockIo) -> Result<()> {
    for (name, devices) in [
        ("throttleReadBpsDevice", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device()),
    ] {
        for (i, device) in devices.iter().flatten().enumerate() {
            device_number(&format!("{name}[{i}]"), device.major(), device.minor())?;
        }
    }
    Ok(())
}

fn weight(name: &str, weight: Option<u16>) -> Result<()> {
    match weight {
        Some(weight) if weight != 0 && !IO_WEIGHT.contains(&weight) => {
            let (min, max) = IO_WEIGHT.into_inner();
            let text = format_args!("{weight}, allowed are {min} to {max}");
            fail(format_args!("linux.resources.blockIO.{name}"), text)
        }
        _ => Ok(()),
    }
}

fn device_number(field: &str, major: i64, minor: i64) -> Result<()> {
    for (name, number) in [("major", major), ("minor", minor)] {
        if number < 0 {
            let field = format_args!("linux.resources.blockIO.{field}.{name}");
            return fail(field, format_args!("{number}, must not be negative"));
        }
    }
    Ok(())
}

fn huge_pages(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let mut seen = HashSet::new();
    for (i, entry) in resources.hugepage_limits().iter().flatten().enumerate() {
        let field = format_args!("linux.resources.hugepageLimits[{i}]");
        let size = entry.page_size();
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
        let is_size = |n: &str| {
            n.bytes().all(|b| b.is_ascii_digit()) && n.parse::<u32>().is_ok() && !n.starts_with('0')
        };
        if !number.is_some_and(is_size) {
            let text = format_args!("{size:?} is no page size, must be like 64KB, 2MB or 1GB");
            return fail(format_args!("{field}.pageSize"), text);
        }
        if !seen.insert(size) {
            return fail(format_args!("{field}.pageSize"), format_args!("{size:?} is there twice"));
        }
        if entry.limit() < 0 {
            let text = format_args!("{} bytes, must not be negative", entry.limit());
            return fail(format_args!("{field}.limit"), text);
        }
    }
    Ok(())
}

fn network(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    let priorities = resources.network().as_ref().and_then(|n| n.priorities().as_deref());
    for (i, priority) in priorities.unwrap_or_default().iter().enumerate() {
        let field = format_args!("linux.resources.network.priorities[{i}].name");
        interface_name(field, priority.name())?;
    }
    Ok(())
}

fn rdma(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    for (name, limit) in resources.rdma().iter().flatten() {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return fail("linux.resources.rdma", format_args!("{name:?} is no device name"));
        }
        if limit.hca_handles().is_none() && limit.hca_objects().is_none() {
            let field = format_args!("linux.resources.rdma.{name}");
            return fail(field, "is empty, one of hcaHandles and hcaObjects is required");
        }
    }
    Ok(())
}

/// The keys are opened as files of the cgroup.
fn unified(resources: &LinuxResources, _: &mut Vec<Warning>) -> Result<()> {
    for (key, value) in resources.unified().iter().flatten() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let named = key.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !named || !key.bytes().all(plain) {
            let text = format_args!("{key:?} is no file of a cgroup, must be like memory.high");
            return fail("linux.resources.unified", text);
        }
        no_nul(format_args!("linux.resources.unified.{key}"), value)?;
    }
    Ok(())
}

fn device_rules(resources: &LinuxResources, warnings: &mut Vec<Warning>) -> Result<()> {
    for (i, rule) in resources.devices().iter().flatten().enumerate() {
        let field = format_args!("linux.resources.devices[{i}]");
        if let Some(kind @ (LinuxDeviceType::U | LinuxDeviceType::P)) = rule.typ() {
            let text = format_args!("{:?}, allowed are a, b and c", kind.as_str());
            return fail(format_args!("{field}.type"), text);
        }
        let access = rule.access().as_deref().unwrap_or_default();
        if access.trim_matches('a').is_empty() || !access.bytes().all(|b| b"rwma".contains(&b)) {
            let text = format_args!("{access:?}, must be made of the letters r, w and m");
            return fail(format_args!("{field}.access"), text);
        }
        // Some take it for an access beside the others; runc passes over it.
        if access.contains('a') {
            let text = format!("{access:?}: \"a\" is no access, it is left out");
            warnings.push(Warning::new(format!("{field}.access"), text));
        }
        for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
            if let Some(number @ ..=-2) = number {
                let text = format_args!("{number}, allowed are -1 (any) and more");
                return fail(format_args!("{field}.{name}"), text);
            }
        }
    }
    Ok(())
}
