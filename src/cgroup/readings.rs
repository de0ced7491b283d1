//! Reads the statistics, through `cgroups-rs` where it reads them whole and cannot panic on what
//! a kernel answers. Block I/O (it takes minors for 16-bit numbers), v2 memory and pressure are
//! read here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::hugetlb::HugeTlbController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use super::controller::{Controller, Version};
use super::dir::Dir;
use super::layout::{Hierarchy, Tree};
use super::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, CpusetStats, HugetlbStats, MemoryEntry,
    MemoryStats, PidsStats, Pressure, PressureLine, Stats, Throttling,
};
use crate::error::Result;

/// `cpuacct.stat` counts in USER_HZ, which is 100 on every architecture carob runs on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Everything the hierarchies count.
///
/// # Errors
/// [`crate::error::Error::Os`] if a directory of the cgroup cannot be opened; single files that
/// this kernel does not have are zeros.
pub(super) fn read(hierarchies: &[Hierarchy]) -> Result<Stats> {
    let mut stats = Stats::default();
    for hierarchy in hierarchies {
        let dir = Dir::open(hierarchy.dir())?;
        let (path, v2) = (hierarchy.dir(), hierarchy.version() == Version::V2);
        let place = Place { dir, path, v2 };
        // A controller that is attached to a v1 hierarchy is not counted in the unified tree.
        let has = |controller: Controller| match hierarchy.tree {
            Tree::V1(_) => hierarchy.has_v1(controller),
            Tree::Unified => !hierarchies.iter().any(|other| other.has_v1(controller)),
        };
        if has(Controller::Cpuacct) {
            stats.cpu.usage = place.cpu_usage();
        }
        if has(Controller::Cpu) {
            stats.cpu = CpuStats { usage: std::mem::take(&mut stats.cpu.usage), ..place.cpu() };
        }
        if has(Controller::Cpuset) && !v2 {
            stats.cpuset = place.cpuset();
        }
        if has(Controller::Memory) {
            stats.memory = if v2 { place.memory_v2() } else { place.memory_v1() };
        }
        if has(Controller::Pids) {
            stats.pids = place.pids();
        }
        if has(Controller::BlockIo) {
            stats.blkio = if v2 { place.io() } else { place.blkio() };
        }
        if has(Controller::Hugetlb) {
            stats.hugetlb = place.hugetlb();
        }
    }
    Ok(stats)
}

/// One directory, in the two forms that its readers want.
struct Place {
    dir: Dir,
    path: PathBuf,
    v2: bool,
}

impl Place {
    fn text(&self, file: &str) -> String {
        self.dir.read_raw(file).unwrap_or_default()
    }

    /// A number; `max` is 2^64-1, what is not there 0.
    fn number(&self, file: &str) -> u64 {
        match self.text(file).trim() {
            "max" => u64::MAX,
            number => number.parse().unwrap_or(0),
        }
    }

    fn cpu_usage(&self) -> CpuUsage {
        if self.v2 {
            let stat = flat(&self.text("cpu.stat"));
            let nanoseconds = |key| get(&stat, key).saturating_mul(NANOSECONDS_PER_MICROSECOND);
            return CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
                ..CpuUsage::default()
            };
        }
        let read = CpuAcctController::new(self.path.clone(), PathBuf::new()).cpuacct();
        let stat = flat(&read.stat);
        let nanoseconds = |key| get(&stat, key).saturating_mul(NANOSECONDS_PER_TICK);
        CpuUsage {
            total: read.usage,
            percpu: numbers(&read.usage_percpu),
            percpu_kernel: column(&read.usage_all, 2),
            percpu_user: column(&read.usage_all, 1),
            kernel: nanoseconds("system"),
            user: nanoseconds("user"),
        }
    }

    fn cpu(&self) -> CpuStats {
        let read = CpuController::new(self.path.clone(), PathBuf::new(), self.v2).cpu();
        let stat = flat(&read.stat);
        let throttled_time = if self.v2 {
            get(&stat, "throttled_usec").saturating_mul(NANOSECONDS_PER_MICROSECOND)
        } else {
            get(&stat, "throttled_time")
        };
        CpuStats {
            usage: CpuUsage::default(),
            throttling: Throttling {
                periods: get(&stat, "nr_periods"),
                throttled_periods: get(&stat, "nr_throttled"),
                throttled_time,
            },
            psi: self.pressure("cpu.pressure"),
        }
    }

    fn cpuset(&self) -> CpusetStats {
        let read = CpuSetController::new(self.path.clone(), PathBuf::new(), false).cpuset();
        let all = |ranges: &[(u64, u64)]| ranges.iter().flat_map(|(a, b)| *a..=*b).collect();
        CpusetStats {
            cpus: all(&read.cpus),
            cpu_exclusive: read.cpu_exclusive.into(),
            mems: all(&read.mems),
            mem_hardwall: read.mem_hardwall.into(),
            mem_exclusive: read.mem_exclusive.into(),
            memory_migrate: read.memory_migrate.into(),
            memory_spread_page: read.memory_spread_page.into(),
            memory_spread_slab: read.memory_spread_slab.into(),
            memory_pressure: read.memory_pressure,
            sched_load_balance: read.sched_load_balance.into(),
            // Can be -1, which the crate's unsigned reading does not take.
            sched_relax_domain_level: self
                .text("cpuset.sched_relax_domain_level")
                .trim()
                .parse()
                .unwrap_or(0),
        }
    }

    fn memory_v1(&self) -> MemoryStats {
        let read = MemController::new(self.path.clone(), PathBuf::new(), false);
        let (memory, swap) = (read.memory_stat(), read.memswap());
        let (kernel, tcp) = (read.kmem_stat(), read.kmem_tcp_stat());
        let entry = |limit: i64, usage, max, failcnt| MemoryEntry {
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            usage,
            max,
            failcnt,
        };
        MemoryStats {
            cache: memory.stat.cache,
            usage: entry(
                memory.limit_in_bytes,
                memory.usage_in_bytes,
                memory.max_usage_in_bytes,
                memory.fail_cnt,
            ),
            swap: entry(
                swap.limit_in_bytes,
                swap.usage_in_bytes,
                swap.max_usage_in_bytes,
                swap.fail_cnt,
            ),
            kernel: entry(
                kernel.limit_in_bytes,
                kernel.usage_in_bytes,
                kernel.max_usage_in_bytes,
                kernel.fail_cnt,
            ),
            kernel_tcp: entry(
                tcp.limit_in_bytes,
                tcp.usage_in_bytes,
                tcp.max_usage_in_bytes,
                tcp.fail_cnt,
            ),
            raw: memory.stat.raw.into_iter().collect(),
            psi: None,
        }
    }

    fn memory_v2(&self) -> MemoryStats {
        let raw = flat(&self.text("memory.stat"));
        let usage = MemoryEntry {
            limit: self.number("memory.max"),
            usage: self.number("memory.current"),
            max: self.number("memory.peak"),
            failcnt: 0,
        };
        let swap = MemoryEntry {
            limit: self.number("memory.swap.max").saturating_add(usage.limit),
            usage: self.number("memory.swap.current").saturating_add(usage.usage),
            max: 0,
            failcnt: 0,
        };
        MemoryStats {
            cache: get(&raw, "file"),
            usage,
            swap,
            raw,
            psi: self.pressure("memory.pressure"),
            ..MemoryStats::default()
        }
    }

    fn pids(&self) -> PidsStats {
        let read = PidController::new(self.path.clone(), PathBuf::new(), self.v2);
        let limit = match read.get_pid_max() {
            Ok(MaxValue::Value(limit)) => u64::try_from(limit).unwrap_or(0),
            Ok(MaxValue::Max) | Err(_) => 0,
        };
        PidsStats { current: read.get_pid_current().unwrap_or(0), limit }
    }

    fn hugetlb(&self) -> BTreeMap<String, HugetlbStats> {
        let read = HugeTlbController::new(self.path.clone(), PathBuf::new(), self.v2);
        let size = |size: String| {
            let stats = HugetlbStats {
                usage: read.usage_in_bytes(&size).ok()?,
                max: if self.v2 { 0 } else { read.max_usage_in_bytes(&size).unwrap_or(0) },
                failcnt: read.failcnt(&size).unwrap_or(0),
            };
            Some((size, stats))
        };
        read.get_sizes().into_iter().filter_map(size).collect()
    }

    /// v1: each counter from the first file that has any, of CFQ, BFQ and the throttler.
    fn blkio(&self) -> BlkioStats {
        let first = |files: &[&str]| {
            let lists = files.iter().map(|file| blkio_entries(&self.text(file)));
            lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
        };
        BlkioStats {
            io_service_bytes_recursive: first(&[
                "blkio.io_service_bytes_recursive",
                "blkio.bfq.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            ]),
            io_serviced_recursive: first(&[
                "blkio.io_serviced_recursive",
                "blkio.bfq.io_serviced_recursive",
                "blkio.throttle.io_serviced_recursive",
                "blkio.throttle.io_serviced",
            ]),
            io_queue_recursive: first(&[
                "blkio.io_queued_recursive",
                "blkio.bfq.io_queued_recursive",
            ]),
            io_service_time_recursive: first(&[
                "blkio.io_service_time_recursive",
                "blkio.bfq.io_service_time_recursive",
            ]),
            io_wait_time_recursive: first(&[
                "blkio.io_wait_time_recursive",
                "blkio.bfq.io_wait_time_recursive",
            ]),
            io_merged_recursive: first(&[
                "blkio.io_merged_recursive",
                "blkio.bfq.io_merged_recursive",
            ]),
            io_time_recursive: first(&["blkio.time_recursive", "blkio.bfq.time_recursive"]),
            sectors_recursive: first(&["blkio.sectors_recursive", "blkio.bfq.sectors_recursive"]),
            psi: None,
        }
    }

    fn io(&self) -> BlkioStats {
        let (bytes, operations) = io_entries(&self.text("io.stat"));
        BlkioStats {
            io_service_bytes_recursive: bytes,
            io_serviced_recursive: operations,
            psi: self.pressure("io.pressure"),
            ..BlkioStats::default()
        }
    }

    /// On v2 hosts only, and where the kernel has not been told `psi=0`.
    fn pressure(&self, file: &str) -> Option<Pressure> {
        if !self.v2 {
            return None;
        }
        let text = self.dir.read_raw(file).ok()?;
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(pressure_line);
        Some(Pressure {
            some: line("some ").unwrap_or_default(),
            full: line("full ").unwrap_or_default(),
        })
    }
}

fn pressure_line(line: &str) -> PressureLine {
    let value = |key| {
        let mut pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    };
    let average = |key| value(key).parse().unwrap_or(0.0);
    PressureLine {
        avg10: average("avg10"),
        avg60: average("avg60"),
        avg300: average("avg300"),
        total: value("total").parse().unwrap_or(0),
    }
}

/// A flat keyed file: one `name number` per line.
pub(super) fn flat(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

pub(super) fn get(map: &BTreeMap<String, u64>, key: &str) -> u64 {
    map.get(key).copied().unwrap_or(0)
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A column of a table with a heading.
fn column(text: &str, index: usize) -> Vec<u64> {
    let cell = |line: &str| line.split_whitespace().nth(index)?.parse().ok();
    text.lines().skip(1).filter_map(cell).collect()
}

/// `major:minor Operation number` or `major:minor number`; totals are left out.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (device, op, value) = match words.as_slice() {
            [device, op, value] => (device, *op, value),
            [device, value] => (device, "", value),
            _ => return None,
        };
        let (major, minor) = device.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// `io.stat` in v1's terms: bytes, and operations.
fn io_entries(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(major: u64, minor: u64, op: &str, value: u64) -> BlkioEntry {
        BlkioEntry { major, minor, op: op.to_owned(), value }
    }

    #[test]
    fn io_stat_becomes_reads_and_writes() {
        let (bytes, operations) = io_entries(concat!(
            "259:1048575 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0 cost.usage=5\n",
            "8:0 \n",
            "garbage\n"
        ));
        assert_eq!(bytes, [entry(259, 1_048_575, "Read", 4096), entry(259, 1_048_575, "Write", 0)]);
        assert_eq!(operations.len(), 2);
    }

    #[test]
    fn blkio_files_of_both_forms() {
        let text = "8:0 Read 12\n8:0 Total 12\nTotal 12\n";
        assert_eq!(blkio_entries(text), [entry(8, 0, "Read", 12), entry(8, 0, "Total", 12)]);
        assert_eq!(blkio_entries("8:16 77\n"), [entry(8, 16, "", 77)]);
    }

    #[test]
    fn tables_and_pressure() {
        assert_eq!(column("cpu user system\n0 5 6\n1 7 8\n", 1), [5, 7]);
        assert_eq!(numbers("225060916 3291530 \n"), [225_060_916, 3_291_530]);
        let line = pressure_line("avg10=1.50 avg60=0.25 avg300=0.00 total=4321");
        assert_eq!(line, PressureLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 4321 });
    }
}
