//! `update`: options or a JSON document become the resources to change.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::{Context, Verb};
use crate::error::{Error, OsContext, Result};
use crate::oci::load;

/// Change resource limits of a container; what is not named stays as it is
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Update {
    /// Take the limits from a JSON file (the `linux.resources` of config.json), or stdin for `-`;
    /// the other options are then ignored
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Relative share of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Length of a CFS period
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// CPU time per period, -1 for no limit
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU time beyond the quota that idle periods may save up
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// Relative share of the CPU
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Length of a real-time period
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time per period
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1 to run only when nothing else does, 0 for normal
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// CPUs to use, 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit: bytes, or with a suffix, 512m; -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that reclaim tries to leave alone
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together, -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Largest number of processes and threads, -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Not supported yet
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Not supported yet
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    // Gone from the kernel since Linux 5.4; runc takes them and does nothing either.
    /// Ignored
    #[arg(long, value_name = "SIZE", hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,
    /// Ignored
    #[arg(long, value_name = "SIZE", hide = true, allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

const EXAMPLES: &str = "\
Examples:
  carob update --memory 512m --memory-swap 512m --pids-limit 100 web
  carob update --cpu-period 100000 --cpu-quota 20000 web
  echo '{\"pids\": {\"limit\": 100}}' | carob update --resources - web";

impl Verb for Update {
    fn run(self, context: &Context) -> Result<i32> {
        let resources = self.change()?;
        context.runtime.update(&self.id, &resources)?;
        Ok(0)
    }
}

impl Update {
    /// What is to be changed. Zeros and empty strings are gone: clients write them for "unset".
    ///
    /// # Errors
    /// A malformed number, or the document's path and reason.
    pub(super) fn change(&self) -> Result<LinuxResources> {
        if self.l3_cache_schema.is_some() || self.mem_bw_schema.is_some() {
            return Err(Error::Unsupported(
                "Intel RDT: a class is made by create, update does not change it".into(),
            ));
        }
        let mut resources = match &self.resources {
            Some(file) => load(file)?,
            None => self.flags()?,
        };
        drop_unset(&mut resources);
        Ok(resources)
    }

    fn flags(&self) -> Result<LinuxResources> {
        let mut memory = LinuxMemory::default();
        memory.set_limit(size("--memory", self.memory.as_deref())?);
        memory.set_reservation(size("--memory-reservation", self.memory_reservation.as_deref())?);
        memory.set_swap(size("--memory-swap", self.memory_swap.as_deref())?);
        let mut cpu = LinuxCpu::default();
        cpu.set_period(self.cpu_period);
        cpu.set_quota(self.cpu_quota);
        cpu.set_burst(self.cpu_burst);
        cpu.set_shares(self.cpu_share);
        cpu.set_realtime_period(self.cpu_rt_period);
        cpu.set_realtime_runtime(self.cpu_rt_runtime);
        cpu.set_idle(self.cpu_idle);
        cpu.set_cpus(self.cpuset_cpus.clone());
        cpu.set_mems(self.cpuset_mems.clone());
        let mut block_io = LinuxBlockIo::default();
        block_io.set_weight(self.blkio_weight);
        let mut pids = LinuxPids::default();
        // Said by an option, 0 is a limit, and the kernel's lowest for a container that runs is 1.
        pids.set_limit(self.pids_limit.map_or(0, |limit| if limit == 0 { 1 } else { limit }));
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(memory));
        resources.set_cpu(Some(cpu));
        resources.set_block_io(Some(block_io));
        resources.set_pids(Some(pids));
        Ok(resources)
    }
}

fn load(file: &Path) -> Result<LinuxResources> {
    if file.as_os_str() == "-" {
        return load::load_resources(std::io::stdin(), "resources on stdin");
    }
    let name = format!("resources file {}", file.display());
    load::load_resources(File::open(file).os("open", || &name)?, &name)
}

/// Engines write all fields and mean zero as "leave it"; groups without content go too.
fn drop_unset(resources: &mut LinuxResources) {
    let memory = resources.memory().map(|mut memory| {
        memory.set_limit(memory.limit().filter(|n| *n != 0));
        memory.set_reservation(memory.reservation().filter(|n| *n != 0));
        memory.set_swap(memory.swap().filter(|n| *n != 0));
        memory
    });
    resources.set_memory(memory.filter(|memory| *memory != LinuxMemory::default()));
    let cpu = resources.cpu().clone().map(|mut cpu| {
        cpu.set_shares(cpu.shares().filter(|n| *n != 0));
        cpu.set_quota(cpu.quota().filter(|n| *n != 0));
        cpu.set_period(cpu.period().filter(|n| *n != 0));
        cpu.set_realtime_runtime(cpu.realtime_runtime().filter(|n| *n != 0));
        cpu.set_realtime_period(cpu.realtime_period().filter(|n| *n != 0));
        cpu.set_cpus(cpu.cpus().clone().filter(|list| !list.is_empty()));
        cpu.set_mems(cpu.mems().clone().filter(|list| !list.is_empty()));
        cpu
    });
    resources.set_cpu(cpu.filter(|cpu| *cpu != LinuxCpu::default()));
    let block_io = resources.block_io().clone().map(|mut block_io| {
        block_io.set_weight(block_io.weight().filter(|n| *n != 0));
        block_io
    });
    resources.set_block_io(block_io.filter(|block_io| *block_io != LinuxBlockIo::default()));
    resources.set_pids(resources.pids().filter(|pids| pids.limit() != 0));
}

/// Bytes of `512`, `512k`, `1.5g`, `2GiB`: powers of 1024; `-1` means no limit.
fn size(option: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    match bytes(text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::Invalid(format!(
            "{option} {text:?}: want bytes, with an optional suffix b, k, m, g, t or p, or -1"
        ))),
    }
}

fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let shift: u32 = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // 18 digits are more than the largest unit can resolve, and keep the product in range.
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = (u128::from(fraction.parse::<u64>().ok()?) << shift) / scale;
    i64::try_from((u128::from(whole) << shift) + part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("1024", Some(1024)),
            ("1k", Some(1024)),
            ("512m", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("1 gb", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("0.5k", Some(512)),
            ("8191p", Some(8191 << 50)),
            ("8192p", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("m", None),
            ("-2", None),
            ("1x", None),
            ("1.2.3", None),
            ("1.", None),
            (".5k", None),
            ("1e3", None),
            ("0x10", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_size_or_refused(text in "[0-9]{0,22}[.]?[0-9]{0,22} ?[kmgtpKib]{0,3}") {
            proptest::prop_assert!(bytes(&text).is_none_or(|bytes| bytes >= 0));
        }

        #[test]
        fn kibibytes_are_1024_bytes(n in 0..i64::MAX / 1024) {
            proptest::prop_assert_eq!(bytes(&format!("{n}k")), Some(n * 1024));
        }
    }

    #[test]
    fn what_clients_mean_by_zero() {
        // dockerd sends everything; CRI adds its device rules and newer fields.
        let text = br#"{"devices":[{"allow":false,"access":"rwm"}],"cpu":{"shares":0,"quota":0,
            "period":0,"cpus":"","idle":0},"memory":{"limit":1048576,"reservation":0,"swap":0},
            "blockIO":{"weight":0},"pids":{"limit":0},"tomorrow":{"x":1}}"#;
        let mut resources = load::load_resources(text.as_slice(), "resources").unwrap();
        drop_unset(&mut resources);
        assert_eq!(
            serde_json::to_value(&resources).unwrap(),
            serde_json::json!({"cpu": {"idle": 0}, "memory": {"limit": 1048576}})
        );
    }
}
