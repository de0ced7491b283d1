//! `features`: what this build can do, in the words of the specification.
//!
//! Engines decide by it (CRI: `rro`, idmap mounts, user namespaces), so it claims only what works.
//! Source: OCI runtime-spec, features.md.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Context, Verb, output};
use crate::error::Result;

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
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: Enabled,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
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
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

fn document() -> Document {
    Document {
        oci_version_min: "1.0.0",
        oci_version_max: crate::oci::SPEC_VERSION,
        hooks: HOOKS,
        mount_options: mount_options(),
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: capabilities(),
            cgroup: Cgroup { v1: true, v2: true, systemd: false, systemd_user: false, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: ACTIONS,
                operators: OPERATORS,
                archs: ARCHS,
                known_flags: KNOWN_FLAGS,
                supported_flags: SUPPORTED_FLAGS,
            },
            apparmor: Enabled { enabled: false },
            selinux: Enabled { enabled: false },
            intel_rdt: Enabled { enabled: false },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: false },
        },
        annotations: annotations(),
        potentially_unsafe_config_annotations: &["bundle", "org.systemd.property."],
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

/// In the kernel's order.
fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

fn mount_options() -> Vec<&'static str> {
    MOUNT_OPTIONS.split_whitespace().collect()
}

const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const MOUNT_OPTIONS: &str = "\
async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime \
nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow \
private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime \
rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared \
rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid \
symfollow sync tmpcopyup unbindable";

const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

const ARCHS: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const KNOWN_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const SUPPORTED_FLAGS: &[&str] =
    &["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];

#[cfg(test)]
mod tests {
    use libseccomp::{ScmpAction, ScmpArch, ScmpCompareOp};

    use super::*;

    #[test]
    fn libseccomp_knows_every_word() {
        for word in ACTIONS {
            assert!(ScmpAction::from_str(word, Some(1)).is_ok(), "{word}");
        }
        for word in OPERATORS {
            assert!(word.parse::<ScmpCompareOp>().is_ok(), "{word}");
        }
        for word in ARCHS {
            assert!(word.parse::<ScmpArch>().is_ok(), "{word}");
        }
    }

    #[test]
    fn the_document_is_one_that_clients_decode() {
        let text = serde_json::to_string(&document()).unwrap();
        let decoded: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        assert!(decoded.hooks().as_ref().is_some_and(|hooks| hooks.len() == 6));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ociVersionMin"], "1.0.0");
        assert!(value["mountOptions"].as_array().unwrap().contains(&"rro".into()));
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}
