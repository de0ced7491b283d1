//! `linux.resources` as a list of values for cgroup files. Pure: no file is touched here.
//!
//! Zero and unset mean the same, "not given", as clients send zeros for what they do not set.
//! `v1.rs` and `v2.rs` have the files of each version; here is what they share.

use std::borrow::Cow;

use oci_spec::runtime::LinuxResources;

use super::controller::{Controller, Version};
use super::{v1, v2};
use crate::error::{Error, Result};

/// A value that a file is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// `cpu.max` has quota and period in one file: keep the quota that is there.
    CpuPeriod(u64),
}

/// What it means that the kernel does not have the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The limit cannot be had here.
    Error,
    /// The value says what is the case anyway without the file.
    Fine,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    /// JSON path, for errors.
    pub(super) field: Cow<'static, str>,
    /// File and value; where a kernel has one of several files, in the order to try them.
    pub(super) files: Vec<(Cow<'static, str>, Value)>,
    pub(super) missing: Missing,
}

impl Setting {
    pub(super) fn new(
        controller: Controller,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Self {
            controller,
            field: field.into(),
            files: vec![(file.into(), Value::Text(value.to_string()))],
            missing: Missing::Error,
        }
    }

    /// Another file and value to use where the kernel does not have the ones before.
    pub(super) fn or(mut self, file: &'static str, value: impl ToString) -> Self {
        self.files.push((file.into(), Value::Text(value.to_string())));
        self
    }

    pub(super) fn fine_if_missing(mut self, fine: bool) -> Self {
        if fine {
            self.missing = Missing::Fine;
        }
        self
    }
}

/// Every limit the resources ask for, except devices, which have a form of their own.
///
/// `version_of` says in which version's form a controller wants its values; a controller that
/// is nowhere gets v1's, and its absence is reported by the caller.
///
/// # Errors
/// [`Error::Config`] with the JSON path of a value that no kernel would take.
pub(super) fn settings(
    resources: &LinuxResources,
    version_of: impl Fn(Controller) -> Version,
) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(memory) = resources.memory() {
        match version_of(Controller::Memory) {
            Version::V1 => v1::memory(memory, &mut out)?,
            Version::V2 => v2::memory(memory, &mut out)?,
        }
    }
    if let Some(cpu) = resources.cpu() {
        match version_of(Controller::Cpu) {
            Version::V1 => v1::cpu(cpu, &mut out)?,
            Version::V2 => v2::cpu(cpu, &mut out)?,
        }
        cpuset(cpu, &mut out);
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        if limit != 0 {
            let text = if limit < 0 { "max".to_owned() } else { limit.to_string() };
            out.push(Setting::new(
                Controller::Pids,
                "linux.resources.pids.limit",
                "pids.max",
                text,
            ));
        }
    }
    if let Some(block_io) = resources.block_io() {
        match version_of(Controller::BlockIo) {
            Version::V1 => v1::block_io(block_io, &mut out)?,
            Version::V2 => v2::block_io(block_io, &mut out)?,
        }
    }
    if resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty()) {
        hugetlb(resources, version_of(Controller::Hugetlb), &mut out)?;
    }
    if let Some(network) = resources.network() {
        v1::network(network, &mut out)?;
    }
    rdma(resources, &mut out)?;
    Ok(out)
}

fn cpuset(cpu: &oci_spec::runtime::LinuxCpu, out: &mut Vec<Setting>) {
    let given = [
        ("linux.resources.cpu.cpus", "cpuset.cpus", cpu.cpus()),
        ("linux.resources.cpu.mems", "cpuset.mems", cpu.mems()),
    ];
    for (field, file, list) in given {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            out.push(Setting::new(Controller::Cpuset, field, file, list));
        }
    }
}

fn hugetlb(resources: &LinuxResources, version: Version, out: &mut Vec<Setting>) -> Result<()> {
    for (index, page) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = page.page_size();
        let digits = size.trim_end_matches(|c: char| "KMGB".contains(c));
        let unit = &size[digits.len()..];
        if !matches!(unit, "KB" | "MB" | "GB") || digits.parse::<u32>().is_err() {
            return Err(Error::config(
                format!("linux.resources.hugepageLimits[{index}].pageSize"),
                format!("{size:?} is not a size such as 64KB, 2MB, 1GB"),
            ));
        }
        let field = format!("linux.resources.hugepageLimits[{index}].limit");
        // Reserved pages are counted apart since Linux 5.7: without that limit a process could
        // take a fault (SIGBUS) at first use instead of a refused mmap.
        let (plain, reserved) = match version {
            Version::V1 => ("limit_in_bytes", "rsvd.limit_in_bytes"),
            Version::V2 => ("max", "rsvd.max"),
        };
        for (file, optional) in [(plain, false), (reserved, true)] {
            let file = format!("hugetlb.{size}.{file}");
            let setting = Setting::new(Controller::Hugetlb, field.clone(), file, page.limit());
            out.push(setting.fine_if_missing(optional));
        }
    }
    Ok(())
}

fn rdma(resources: &LinuxResources, out: &mut Vec<Setting>) -> Result<()> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        let field = format!("linux.resources.rdma.{name}");
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::config(field, format!("{name:?} is not a device name")));
        }
        let mut value = name.clone();
        if let Some(handles) = limits.hca_handles() {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects() {
            value += &format!(" hca_object={objects}");
        }
        if value.len() > name.len() {
            out.push(Setting::new(Controller::Rdma, field, "rdma.max", value));
        }
    }
    Ok(())
}

/// Bytes, where -1 is the word (or the number) for "no limit"; below -1 is an error.
pub(super) fn bytes(field: &str, value: i64, unlimited: &str) -> Result<String> {
    match value {
        -1 => Ok(unlimited.to_owned()),
        0.. => Ok(value.to_string()),
        _ => Err(Error::config(field, format!("{value} must be -1 (no limit) or positive"))),
    }
}

/// `major:minor` of a block device's limit.
pub(super) fn device_number(field: &str, major: i64, minor: i64) -> Result<String> {
    if major < 0 || minor < 0 {
        return Err(Error::config(
            field,
            format!("{major}:{minor} is not a device; major and minor must not be negative"),
        ));
    }
    Ok(format!("{major}:{minor}"))
}

/// Block I/O weights are 10 to 1000 in the specification; 0 is "not given".
pub(super) fn io_weight(field: &str, weight: Option<u16>) -> Result<Option<u16>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(10..=1000) => Ok(weight),
        Some(other) => Err(Error::config(field, format!("{other} must be between 10 and 1000"))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `controller file=value` of every setting.
    pub(in crate::cgroup) fn plan(json: &str, version: Version) -> Result<Vec<String>> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let settings = settings(&resources, |_| version)?;
        let line = |s: &Setting| {
            let files = s.files.iter().map(|(file, value)| match value {
                Value::Text(text) => format!("{file}={text}"),
                Value::CpuPeriod(period) => format!("{file}=keep {period}"),
            });
            files.collect::<Vec<_>>().join(" or ")
        };
        Ok(settings.iter().map(line).collect())
    }

    #[test]
    fn shared_limits() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"pids":{"limit":0}}"#, &[]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
            (r#"{"pids":{"limit":7}}"#, &["pids.max=7"]),
            (r#"{"cpu":{"cpus":"0-1","mems":""}}"#, &["cpuset.cpus=0-1"]),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"a":{}}}"#,
                &["rdma.max=mlx5_1 hca_handle=3 hca_object=10000"],
            ),
        ];
        for version in [Version::V1, Version::V2] {
            for (json, want) in cases {
                assert_eq!(plan(json, version).unwrap(), *want, "{json}");
            }
        }
    }

    #[test]
    fn huge_pages_limit_use_and_reservation() {
        let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
        let v2 = ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"];
        assert_eq!(plan(json, Version::V2).unwrap(), v2);
        for size in ["2M", "../x", "MB", "2 MB", ""] {
            let json = format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#);
            let error = plan(&json, Version::V1).unwrap_err().to_string();
            assert!(error.contains("hugepageLimits[0].pageSize"), "{error}");
        }
    }
}
