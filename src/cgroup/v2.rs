//! The files of the v2 controllers, and v1's units in v2's terms.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::controller::Controller::{self, BlockIo, Core, Cpu, Memory};
use super::settings::{Setting, Value, bytes, device_number, io_weight};
use super::v1;
use crate::error::{Error, Result};

/// Kernel memory, that of TCP too, is part of the whole in cgroup v2; swappiness and the OOM
/// switch have no counterpart and are refused when they ask for something.
pub(super) fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    let combined = memory.swap().unwrap_or(0);
    // Before the limit: whoever lowers both must not push pages into swap that is to go.
    if let Some(swap) = swap_only(limit, combined)? {
        let field = "linux.resources.memory.swap";
        let setting = Setting::new(Memory, field, "memory.swap.max", bytes(field, swap, "max")?);
        // Without swap (or its accounting) there is none to limit.
        out.push(setting.fine_if_missing(swap <= 0));
    }
    let amounts = [
        ("linux.resources.memory.limit", "memory.max", limit),
        ("linux.resources.memory.reservation", "memory.low", memory.reservation().unwrap_or(0)),
    ];
    for (field, file, value) in amounts {
        if value != 0 {
            out.push(Setting::new(Memory, field, file, bytes(field, value, "max")?));
        }
    }
    if let Some(swappiness) = memory.swappiness() {
        return Err(Error::config(
            "linux.resources.memory.swappiness",
            format!("{swappiness} is not possible with cgroup v2, which has none per cgroup"),
        ));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(Error::config(
            "linux.resources.memory.disableOOMKiller",
            "true is not possible with cgroup v2, which cannot switch the OOM killer off",
        ));
    }
    Ok(())
}

/// v1's "memory plus swap" as v2's "swap"; -1 is no limit, `None` is not given.
fn swap_only(limit: i64, combined: i64) -> Result<Option<i64>> {
    v1::check_swap(limit, combined)?;
    match combined {
        0 if limit == -1 => Ok(Some(-1)),
        0 => Ok(None),
        ..=-1 => Ok(Some(combined)),
        1.. if limit == 0 => Err(Error::config(
            "linux.resources.memory.swap",
            format!("{combined} is memory plus swap and needs memory.limit to be given too"),
        )),
        1.. => Ok(Some(combined - limit)),
    }
}

pub(super) fn cpu(cpu: &LinuxCpu, out: &mut Vec<Setting>) -> Result<()> {
    if let Some(weight) = cpu.shares().and_then(weight_from_shares) {
        out.push(Setting::new(Cpu, "linux.resources.cpu.shares", "cpu.weight", weight));
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let quota = quota.map(|quota| if quota < 0 { "max".to_owned() } else { quota.to_string() });
    let field =
        if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
    match (quota, period) {
        (Some(quota), Some(period)) => {
            out.push(Setting::new(Cpu, field, "cpu.max", format!("{quota} {period}")));
        }
        (Some(quota), None) => out.push(Setting::new(Cpu, field, "cpu.max", quota)),
        (None, Some(period)) => {
            let mut setting = Setting::new(Cpu, field, "cpu.max", "");
            setting.files = vec![("cpu.max".into(), Value::CpuPeriod(period))];
            out.push(setting);
        }
        (None, None) => {}
    }
    let realtime = [
        ("realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0)),
        ("realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0)),
    ];
    for (name, given) in realtime {
        if given {
            return Err(Error::config(
                format!("linux.resources.cpu.{name}"),
                "cgroup v2 has no limits for real-time processes; it must be unset or 0",
            ));
        }
    }
    v1::burst_and_idle(cpu, "cpu.max.burst", out)
}

/// `cpu.shares` (2 to 262144, default 1024) as `cpu.weight` (1 to 10000, default 100).
///
/// The curve goes through all three pairs: with l = log2(shares), the weight is 10 to the power of
/// (l² + 125 l)/612 − 7/34, rounded up. The linear formula used before 2025 turned the default
/// of 1024 into 39, so a container with default shares lost against every process beside it.
/// Values outside v1's range count as its ends.
///
/// Source: Kubernetes issue 131216; runc since 1.3.2 and crun since 1.23 convert like this.
fn weight_from_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let bits = u32::try_from(shares).map_or(18.0, |shares| f64::from(shares).log2());
            let exponent = (bits * bits + 125.0 * bits) / 612.0 - 7.0 / 34.0;
            // The least weight that is not below the curve: exact, without a float-to-int cast.
            (1..=10_000_u32)
                .find(|weight| f64::from(*weight) >= 10_f64.powf(exponent) - 1e-9)
                .map(u64::from)
        }
    }
}

pub(super) fn block_io(io: &LinuxBlockIo, out: &mut Vec<Setting>) -> Result<()> {
    let field = "linux.resources.blockIO.weight";
    if let Some(weight) = io_weight(field, io.weight())? {
        let setting = Setting::new(BlockIo, field, "io.bfq.weight", weight);
        out.push(setting.or("io.weight", full_range(weight)));
    }
    let leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
    let leaves = io.weight_device().iter().flatten().any(|device| leaf(device.leaf_weight()));
    if leaf(io.leaf_weight()) || leaves {
        return Err(Error::config(
            "linux.resources.blockIO.leafWeight",
            "cgroup v2 has no leaf weights; it must be unset or 0",
        ));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{index}]");
        let number = device_number(&field, device.major(), device.minor())?;
        if let Some(weight) = io_weight(&field, device.weight())? {
            let bfq = format!("{number} {weight}");
            let setting = Setting::new(BlockIo, field, "io.bfq.weight", bfq);
            out.push(setting.or("io.weight", format!("{number} {}", full_range(weight))));
        }
    }
    for throttle in v1::throttles(io) {
        for (index, device) in throttle.devices.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{}[{index}]", throttle.name);
            let number = device_number(&field, device.major(), device.minor())?;
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let value = format!("{number} {}={rate}", throttle.v2_key);
            out.push(Setting::new(BlockIo, field, "io.max", value));
        }
    }
    Ok(())
}

/// 10..1000, the range of the specification and of BFQ, stretched to 1..10000, that of `io.weight`.
fn full_range(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// `linux.resources.unified`: files of the container's cgroup and their values, verbatim.
///
/// # Errors
/// [`Error::Config`] for a key that is not a plain file name of a controller.
pub(super) fn unified(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut pairs: Vec<_> = resources.unified().iter().flatten().collect();
    pairs.sort();
    let mut settings = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let field = format!("linux.resources.unified[{key:?}]");
        let owner = key.split_once('.').map(|(owner, _)| owner);
        let Some(owner) = owner.filter(|owner| !owner.is_empty() && !key.contains(['/', '\0']))
        else {
            return Err(Error::config(
                field,
                "must be the name of a cgroup v2 file such as memory.high, without a slash",
            ));
        };
        if PLACEMENT.contains(&key.as_str()) {
            return Err(Error::config(field, "would change what carob itself keeps in that file"));
        }
        // Several lines are several settings to the kernel: it takes one per write.
        for line in value.lines() {
            settings.push(Setting::new(controller(owner), field.clone(), key.clone(), line));
        }
    }
    Ok(settings)
}

/// Files that place, stop or end processes: no limits, and ours to write.
const PLACEMENT: &[&str] =
    &["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type"];

fn controller(name: &str) -> Controller {
    let known = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Pids,
        Controller::BlockIo,
        Controller::Hugetlb,
        Controller::Rdma,
    ];
    known.into_iter().find(|known| known.v2_name() == Some(name)).unwrap_or(Core)
}

#[cfg(test)]
mod tests {
    use super::super::controller::Version;
    use super::super::settings::tests::plan;
    use super::*;

    #[test]
    fn shares_meet_the_ends_and_the_default() {
        for (shares, weight) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (102, Some(17)),
            (1024, Some(100)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ] {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
        let weights: Vec<_> = (1..=18).map(|l| weight_from_shares(1 << l)).collect();
        assert!(weights.is_sorted(), "{weights:?}");
    }

    #[test]
    fn values_and_files() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"cpu":{"shares":1024}}"#, &["cpu.weight=100"]),
            (r#"{"cpu":{"quota":20000}}"#, &["cpu.max=20000"]),
            (r#"{"cpu":{"quota":-1,"period":50000}}"#, &["cpu.max=max 50000"]),
            (r#"{"cpu":{"period":50000}}"#, &["cpu.max=keep 50000"]),
            (r#"{"memory":{"limit":-1}}"#, &["memory.swap.max=max", "memory.max=max"]),
            (
                r#"{"memory":{"limit":1000,"swap":1500,"reservation":10}}"#,
                &["memory.swap.max=500", "memory.max=1000", "memory.low=10"],
            ),
            (r#"{"memory":{"limit":1000,"swap":1000}}"#, &["memory.swap.max=0", "memory.max=1000"]),
            (r#"{"blockIO":{"weight":10}}"#, &["io.bfq.weight=10 or io.weight=1"]),
            (r#"{"blockIO":{"weight":1000}}"#, &["io.bfq.weight=1000 or io.weight=10000"]),
            (
                r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":7}]}}"#,
                &["io.max=8:16 wiops=7"],
            ),
        ];
        for (json, want) in cases {
            assert_eq!(plan(json, Version::V2).unwrap(), *want, "{json}");
        }
    }

    #[test]
    fn what_v2_cannot_do_is_refused() {
        let cases = [
            (r#"{"memory":{"swap":5}}"#, "memory.swap"),
            (r#"{"memory":{"limit":-1,"swap":5}}"#, "memory.swap"),
            (r#"{"memory":{"limit":9,"swap":5}}"#, "memory.swap"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
            (r#"{"cpu":{"realtimeRuntime":5}}"#, "cpu.realtimeRuntime"),
            (r#"{"blockIO":{"leafWeight":50}}"#, "blockIO.leafWeight"),
        ];
        for (json, field) in cases {
            let error = plan(json, Version::V2).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.{field}: ")), "{error}");
        }
    }

    #[test]
    fn unified_keys_are_file_names() {
        let plan = |key: &str, value: &str| {
            let json = serde_json::json!({"unified": {key: value}});
            unified(&serde_json::from_value(json).unwrap())
        };
        for key in ["../memory.max", "a/b.c", "memory", ".max", "cgroup.procs", ""] {
            let error = plan(key, "1").unwrap_err().to_string();
            assert!(error.starts_with("linux.resources.unified["), "{error}");
        }
        let settings = plan("io.max", "8:0 rbps=1\n8:16 rbps=2\n").unwrap();
        assert_eq!(settings.len(), 2);
        assert_eq!(settings[0].controller, Controller::BlockIo);
        assert_eq!(plan("misc.max", "x 1").unwrap()[0].controller, Controller::Core);
    }
}
