//! The files of the v1 controllers.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxThrottleDevice};

use super::controller::Controller::{BlockIo, Cpu, Memory, NetCls, NetPrio};
use super::settings::{Setting, bytes, device_number, io_weight};
use crate::error::{Error, Result};

/// `memory.kernel` (no kernel since 5.4 has it) and `useHierarchy` (always so since 5.11) are
/// accepted and not used.
pub(super) fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    // No limit on memory with a limit on memory and swap together would be refused.
    let swap = match memory.swap().unwrap_or(0) {
        0 if limit == -1 => -1,
        swap => swap,
    };
    let amounts = [
        ("linux.resources.memory.limit", "memory.limit_in_bytes", limit),
        ("linux.resources.memory.swap", "memory.memsw.limit_in_bytes", swap),
        (
            "linux.resources.memory.reservation",
            "memory.soft_limit_in_bytes",
            memory.reservation().unwrap_or(0),
        ),
        (
            "linux.resources.memory.kernelTCP",
            "memory.kmem.tcp.limit_in_bytes",
            memory.kernel_tcp().unwrap_or(0),
        ),
    ];
    check_swap(limit, swap)?;
    for (field, file, value) in amounts {
        if value != 0 {
            let setting = Setting::new(Memory, field, file, bytes(field, value, "-1")?);
            // Without swap accounting nothing limits swap, which is what -1 asks for.
            out.push(setting.fine_if_missing(value == -1));
        }
    }
    if let Some(swappiness) = memory.swappiness() {
        let field = "linux.resources.memory.swappiness";
        if swappiness > 100 {
            return Err(Error::config(field, format!("{swappiness} must be between 0 and 100")));
        }
        out.push(Setting::new(Memory, field, "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        out.push(Setting::new(Memory, field, "memory.oom_control", 1));
    }
    Ok(())
}

/// `memory.swap` is memory and swap together, on either version.
pub(super) fn check_swap(limit: i64, swap: i64) -> Result<()> {
    if swap > 0 && (limit == -1 || swap < limit) {
        return Err(Error::config(
            "linux.resources.memory.swap",
            format!("{swap} is memory plus swap and must not be below memory.limit ({limit})"),
        ));
    }
    Ok(())
}

pub(super) fn cpu(cpu: &LinuxCpu, out: &mut Vec<Setting>) -> Result<()> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let field = "linux.resources.cpu.shares";
        // The kernel would silently take the nearest value.
        if !(2..=262_144).contains(&shares) {
            return Err(Error::config(
                field,
                format!(
                    "the {} allowed cpu-shares is {}, not {shares}",
                    if shares < 2 { "minimum" } else { "maximum" },
                    if shares < 2 { 2 } else { 262_144 },
                ),
            ));
        }
        out.push(Setting::new(Cpu, field, "cpu.shares", shares));
    }
    let micros = [
        ("linux.resources.cpu.period", "cpu.cfs_period_us", cpu.period()),
        ("linux.resources.cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period()),
    ];
    for (field, file, value) in micros {
        if let Some(value) = value.filter(|value| *value != 0) {
            out.push(Setting::new(Cpu, field, file, value));
        }
    }
    let signed = [
        ("linux.resources.cpu.quota", "cpu.cfs_quota_us", cpu.quota()),
        ("linux.resources.cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime()),
    ];
    for (field, file, value) in signed {
        if let Some(value) = value.filter(|value| *value != 0) {
            out.push(Setting::new(Cpu, field, file, value.max(-1)));
        }
    }
    burst_and_idle(cpu, "cpu.cfs_burst_us", out)
}

/// Zero is the state of a kernel that does not have these files.
pub(super) fn burst_and_idle(
    cpu: &LinuxCpu,
    burst_file: &'static str,
    out: &mut Vec<Setting>,
) -> Result<()> {
    if let Some(burst) = cpu.burst() {
        let setting = Setting::new(Cpu, "linux.resources.cpu.burst", burst_file, burst);
        out.push(setting.fine_if_missing(burst == 0));
    }
    if let Some(idle) = cpu.idle() {
        let field = "linux.resources.cpu.idle";
        if !(0..=1).contains(&idle) {
            return Err(Error::config(field, format!("{idle} must be 0 or 1")));
        }
        out.push(Setting::new(Cpu, field, "cpu.idle", idle).fine_if_missing(idle == 0));
    }
    Ok(())
}

pub(super) fn block_io(io: &LinuxBlockIo, out: &mut Vec<Setting>) -> Result<()> {
    let field = "linux.resources.blockIO.weight";
    if let Some(weight) = io_weight(field, io.weight())? {
        // CFQ's file until Linux 4.20, BFQ's after that.
        let setting = Setting::new(BlockIo, field, "blkio.weight", weight);
        out.push(setting.or("blkio.bfq.weight", weight));
    }
    let field = "linux.resources.blockIO.leafWeight";
    if let Some(weight) = io_weight(field, io.leaf_weight())? {
        out.push(Setting::new(BlockIo, field, "blkio.leaf_weight", weight));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let base = format!("linux.resources.blockIO.weightDevice[{index}]");
        let number = device_number(&base, device.major(), device.minor())?;
        let field = format!("{base}.weight");
        if let Some(weight) = io_weight(&field, device.weight())? {
            let value = format!("{number} {weight}");
            let setting = Setting::new(BlockIo, field, "blkio.weight_device", &value);
            out.push(setting.or("blkio.bfq.weight_device", value));
        }
        let field = format!("{base}.leafWeight");
        if let Some(weight) = io_weight(&field, device.leaf_weight())? {
            let value = format!("{number} {weight}");
            out.push(Setting::new(BlockIo, field, "blkio.leaf_weight_device", value));
        }
    }
    for throttle in throttles(io) {
        for (index, device) in throttle.devices.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{}[{index}]", throttle.name);
            let number = device_number(&field, device.major(), device.minor())?;
            let value = format!("{number} {}", device.rate());
            out.push(Setting::new(BlockIo, field, throttle.v1_file, value));
        }
    }
    Ok(())
}

/// One of the four kinds of rate limit.
pub(super) struct Throttle<'a> {
    pub(super) name: &'static str,
    pub(super) v1_file: &'static str,
    /// Its key in `io.max`.
    pub(super) v2_key: &'static str,
    pub(super) devices: &'a Option<Vec<LinuxThrottleDevice>>,
}

pub(super) fn throttles(io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    let row = |name, v1_file, v2_key, devices| Throttle { name, v1_file, v2_key, devices };
    [
        row(
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            io.throttle_read_bps_device(),
        ),
        row(
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            io.throttle_write_bps_device(),
        ),
        row(
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            io.throttle_read_iops_device(),
        ),
        row(
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            io.throttle_write_iops_device(),
        ),
    ]
}

/// net_cls and net_prio exist on v1 only.
pub(super) fn network(network: &LinuxNetwork, out: &mut Vec<Setting>) -> Result<()> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        let field = "linux.resources.network.classID";
        out.push(Setting::new(NetCls, field, "net_cls.classid", class));
    }
    for (index, priority) in network.priorities().iter().flatten().enumerate() {
        let field = format!("linux.resources.network.priorities[{index}]");
        let name = priority.name();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::config(field, format!("{name:?} is not an interface name")));
        }
        let value = format!("{name} {}", priority.priority());
        out.push(Setting::new(NetPrio, field, "net_prio.ifpriomap", value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::controller::Version;
    use super::super::settings::tests::plan;

    #[test]
    fn values_and_files() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"cpu":{"shares":0,"quota":0,"period":0}}"#, &[]),
            (r#"{"cpu":{"shares":512}}"#, &["cpu.shares=512"]),
            (
                r#"{"cpu":{"quota":20000,"period":100000,"burst":1000,"idle":0}}"#,
                &[
                    "cpu.cfs_period_us=100000",
                    "cpu.cfs_quota_us=20000",
                    "cpu.cfs_burst_us=1000",
                    "cpu.idle=0",
                ],
            ),
            (r#"{"cpu":{"quota":-5}}"#, &["cpu.cfs_quota_us=-1"]),
            (r#"{"memory":{"limit":0,"swap":0}}"#, &[]),
            (
                r#"{"memory":{"limit":1000,"swap":2000,"swappiness":0,"kernel":5}}"#,
                &[
                    "memory.limit_in_bytes=1000",
                    "memory.memsw.limit_in_bytes=2000",
                    "memory.swappiness=0",
                ],
            ),
            (
                r#"{"memory":{"limit":-1,"disableOOMKiller":true}}"#,
                &[
                    "memory.limit_in_bytes=-1",
                    "memory.memsw.limit_in_bytes=-1",
                    "memory.oom_control=1",
                ],
            ),
            (r#"{"blockIO":{"weight":0}}"#, &[]),
            (r#"{"blockIO":{"weight":10}}"#, &["blkio.weight=10 or blkio.bfq.weight=10"]),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}]}}"#,
                &["blkio.throttle.read_bps_device=8:0 600"],
            ),
            (
                r#"{"network":{"classID":0,"priorities":[{"name":"eth0","priority":5}]}}"#,
                &["net_prio.ifpriomap=eth0 5"],
            ),
        ];
        for (json, want) in cases {
            assert_eq!(plan(json, Version::V1).unwrap(), *want, "{json}");
        }
    }

    #[test]
    fn bad_values_name_the_field() {
        let cases = [
            (r#"{"cpu":{"shares":1}}"#, "cpu.shares: the minimum allowed cpu-shares is 2, not 1"),
            (r#"{"cpu":{"idle":2}}"#, "cpu.idle: 2 must be 0 or 1"),
            (r#"{"memory":{"limit":2000,"swap":1000}}"#, "memory.swap: 1000 "),
            (r#"{"memory":{"limit":-7}}"#, "memory.limit: -7 "),
            (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: 101 "),
            (r#"{"blockIO":{"weight":9}}"#, "blockIO.weight: 9 "),
        ];
        for (json, want) in cases {
            let error = plan(json, Version::V1).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.{want}")), "{error}");
        }
    }
}
