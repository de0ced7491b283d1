//! `features`: what this build can do, in the words of the specification.
//!
//! Engines decide by it (CRI: `rro`, idmap mounts, user namespaces), so it claims only what works.
//! Source: OCI runtime-spec, features.md.

use std::collections::BTreeMap;

use oci_spec::runtime::{MemoryPolicyFlagType, MemoryPolicyModeType};
use serde::Serialize;

use super::{Context, Verb, output};
use crate::error::Result;
use crate::init::Hook;
use crate::oci::plan::{KEEP_GROUPS, MEMORY_FLAGS, MEMORY_MODES};
use crate::oci::{capabilities, mount_opts, namespaces};
use crate::seccomp;

/// Print what this build of carob supports as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Features {}

const EXAMPLES: &str = "\
Examples:
  carob features | jq .linux.namespaces";

impl Verb for Features {
    fn run(self, _: &Context) -> Result<i32> {
        output::print_json(&document())?;
        Ok(0)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; Hook::ALL.len()],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<String>,
    operators: Vec<String>,
    archs: Vec<String>,
    known_flags: Vec<String>,
    supported_flags: Vec<String>,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: &'static [MemoryPolicyModeType],
    flags: &'static [MemoryPolicyFlagType],
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

fn document() -> Document {
    Document {
        oci_version_min: "1.0.0",
        oci_version_max: crate::oci::SPEC_VERSION,
        hooks: Hook::ALL.map(Hook::name),
        mount_options: mount_opts::words().collect(),
        linux: Linux {
            namespaces: namespaces::words().collect(),
            capabilities: capabilities::names().collect(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: seccomp::actions(),
                operators: seccomp::operators(),
                archs: seccomp::archs(),
                known_flags: seccomp::known_flags(),
                supported_flags: seccomp::supported_flags(),
            },
            // As with the rest of the document: what carob does where the host can.
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy { modes: &MEMORY_MODES, flags: &MEMORY_FLAGS },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: true },
        },
        annotations: annotations(),
        potentially_unsafe_config_annotations: &["bundle", KEEP_GROUPS, "org.systemd.property."],
    }
}

fn annotations() -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([("carob.version", env!("CARGO_PKG_VERSION").to_owned())]);
    if let Ok(version) = libseccomp::ScmpVersion::current() {
        let text = format!("{}.{}.{}", version.major, version.minor, version.micro);
        annotations.insert("io.github.seccomp.libseccomp.version", text);
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_one_that_clients_decode() {
        let text = serde_json::to_string(&document()).unwrap();
        let decoded: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        assert!(decoded.hooks().as_ref().is_some_and(|hooks| hooks.len() == 6));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ociVersionMin"], "1.0.0");
        assert!(value["mountOptions"].as_array().unwrap().contains(&"rro".into()));
        assert_eq!(value["linux"]["namespaces"].as_array().unwrap().len(), 8);
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["memoryPolicy"]["modes"][2], "MPOL_BIND");
        assert_eq!(value["linux"]["memoryPolicy"]["flags"][2], "MPOL_F_STATIC_NODES");
        assert_eq!(value["linux"]["seccomp"]["knownFlags"].as_array().unwrap().len(), 4);
        for (feature, works) in
            [("apparmor", true), ("selinux", true), ("intelRdt", true), ("netDevices", true)]
        {
            assert_eq!(value["linux"][feature]["enabled"], works, "{feature}");
        }
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}
