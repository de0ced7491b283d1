//! How the outer two levels of a configuration are read from JSON: into carob's own types, and
//! from those into oci-spec's.
//!
//! oci-spec's `Spec` and `Process` read themselves just as well, but reach a regular expression
//! engine for `execCPUAffinity` (`oci::validate` checks that one anyway) and parsers for every
//! platform there is: together more than half a megabyte of program. Here other
//! platforms' sections are unknown properties like any other, and `user` and empty lists of
//! CPUs may be left out as the specification has it.

use std::{collections::HashMap, iter, path::PathBuf};

use oci_spec::runtime::{
    Box as WindowSize, ExecCPUAffinity, Hooks, Linux, LinuxCapabilities, LinuxIOPriority,
    LinuxMemoryPolicy, LinuxPersonality, LinuxSeccomp, Mount, PosixRlimit, Process, Root,
    Scheduler, Spec, User,
};
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer};

/// `config.json`.
#[derive(Deserialize)]
pub(super) struct SpecText {
    #[serde(default, rename = "ociVersion")]
    version: String,
    root: Option<Root>,
    mounts: Option<Vec<Mount>>,
    process: Option<ProcessText>,
    hostname: Option<String>,
    domainname: Option<String>,
    hooks: Option<Hooks>,
    annotations: Option<HashMap<String, String>>,
    linux: Option<Linux>,
}

/// What one more process of a container goes by; the rest of `config.json` is skipped.
#[derive(Deserialize)]
pub(super) struct ExecText {
    #[serde(default, rename = "ociVersion")]
    version: String,
    process: Option<ProcessText>,
    annotations: Option<HashMap<String, String>>,
    linux: Option<ExecLinuxText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecLinuxText {
    seccomp: Option<LinuxSeccomp>,
    personality: Option<LinuxPersonality>,
    memory_policy: Option<LinuxMemoryPolicy>,
}

/// `process`, also as a document of its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessText {
    terminal: Option<bool>,
    console_size: Option<WindowSize>,
    /// Optional in the specification's schema; 0:0 without it.
    user: Option<User>,
    args: Option<Vec<String>>,
    command_line: Option<String>,
    env: Option<Vec<String>>,
    cwd: PathBuf,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Option<Vec<PosixRlimit>>,
    no_new_privileges: Option<bool>,
    apparmor_profile: Option<String>,
    oom_score_adj: Option<i32>,
    selinux_label: Option<String>,
    io_priority: Option<LinuxIOPriority>,
    scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<AffinityText>,
}

/// `process.execCPUAffinity`. An empty list of CPUs is the same as none.
#[derive(Deserialize)]
struct AffinityText {
    initial: Option<String>,
    r#final: Option<String>,
}

impl From<SpecText> for Spec {
    fn from(text: SpecText) -> Self {
        let mut spec: Self = blank();
        spec.set_version(text.version)
            .set_root(text.root)
            .set_mounts(text.mounts)
            .set_process(text.process.map(Process::from))
            .set_hostname(text.hostname)
            .set_domainname(text.domainname)
            .set_hooks(text.hooks)
            .set_annotations(text.annotations)
            .set_linux(text.linux);
        spec
    }
}

impl From<ExecText> for Spec {
    fn from(text: ExecText) -> Self {
        let mut spec: Self = blank();
        spec.set_version(text.version)
            .set_process(text.process.map(Process::from))
            .set_annotations(text.annotations)
            .set_linux(text.linux.map(Linux::from));
        spec
    }
}

impl From<ExecLinuxText> for Linux {
    fn from(text: ExecLinuxText) -> Self {
        let mut linux: Self = blank();
        linux
            .set_seccomp(text.seccomp)
            .set_personality(text.personality)
            .set_memory_policy(text.memory_policy);
        linux
    }
}

/// Without any property. oci-spec's default is a whole container, with mounts and limits, which
/// would be made only to be thrown away.
fn blank<T: for<'de> Deserialize<'de> + Default>() -> T {
    let nothing = MapDeserializer::<_, Error>::new(iter::empty::<(&str, ())>());
    T::deserialize(nothing).unwrap_or_default()
}

impl From<ProcessText> for Process {
    fn from(text: ProcessText) -> Self {
        let mut process = Self::default();
        process
            .set_terminal(text.terminal)
            .set_console_size(text.console_size)
            .set_user(text.user.unwrap_or_default())
            .set_args(text.args)
            .set_command_line(text.command_line)
            .set_env(text.env)
            .set_cwd(text.cwd)
            .set_capabilities(text.capabilities)
            .set_rlimits(text.rlimits)
            .set_no_new_privileges(text.no_new_privileges)
            .set_apparmor_profile(text.apparmor_profile)
            .set_oom_score_adj(text.oom_score_adj)
            .set_selinux_label(text.selinux_label)
            .set_io_priority(text.io_priority)
            .set_scheduler(text.scheduler)
            .set_exec_cpu_affinity(text.exec_cpu_affinity.map(ExecCPUAffinity::from));
        process
    }
}

impl From<AffinityText> for ExecCPUAffinity {
    fn from(text: AffinityText) -> Self {
        let mut affinity = Self::default();
        affinity
            .set_initial(text.initial.filter(|cpus| !cpus.is_empty()))
            .set_cpu_affinity_final(text.r#final.filter(|cpus| !cpus.is_empty()));
        affinity
    }
}

#[cfg(test)]
mod tests {
    use serde::de::{DeserializeOwned, Visitor, value::Error};
    use serde::{Deserializer, forward_to_deserialize_any};
    use serde_json::json;

    use super::*;

    /// Fails with the names of the properties that a type reads.
    struct Names<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not an object"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    fn names<T: DeserializeOwned>() -> Vec<&'static str> {
        let mut names = Vec::new();
        assert!(T::deserialize(Names(&mut names)).is_err());
        names.sort_unstable();
        names
    }

    /// Fails when oci-spec learns a property that is not read here.
    #[test]
    fn the_same_properties_are_read_as_by_oci_spec() {
        assert_eq!(names::<ProcessText>(), names::<Process>());
        assert_eq!(names::<AffinityText>(), names::<ExecCPUAffinity>());
        // The last two are oci-spec's invention.
        let left_out = ["solaris", "windows", "vm", "zos", "uidMappings", "gidMappings"];
        let mut spec = names::<Spec>();
        spec.retain(|name| !left_out.contains(name));
        assert_eq!(names::<SpecText>(), spec);
    }

    #[test]
    fn every_property_arrives_where_oci_spec_puts_it() {
        let documents = [
            json!({}),
            json!({"process": {"user": {}, "cwd": ""}}),
            json!({
                "ociVersion": "1.2.0", "root": {"path": "r"}, "mounts": [{"destination": "/m"}],
                "process": {
                    "terminal": true, "consoleSize": {"height": 1, "width": 2},
                    "user": {"uid": 3, "umask": 4}, "args": ["a"], "commandLine": "c",
                    "env": ["E=1"], "cwd": "/w", "capabilities": {"bounding": ["CAP_KILL"]},
                    "rlimits": [{"type": "RLIMIT_CORE", "soft": 5, "hard": 6}],
                    "noNewPrivileges": true, "apparmorProfile": "p", "oomScoreAdj": 7,
                    "selinuxLabel": "l", "scheduler": {"policy": "SCHED_FIFO", "priority": 8},
                    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                    "execCPUAffinity": {"initial": "0-1", "final": "2"}
                },
                "hostname": "h", "domainname": "d", "hooks": {"prestart": [{"path": "/p"}]},
                "annotations": {"k": "v"}, "linux": {"cgroupsPath": "/c"}
            }),
        ];
        for document in documents {
            let ours: SpecText = serde_json::from_value(document.clone()).unwrap();
            let theirs: Spec = serde_json::from_value(document).unwrap();
            assert_eq!(Spec::from(ours), theirs);
        }
        assert_eq!(blank::<Spec>(), serde_json::from_str("{}").unwrap());
        assert_eq!(blank::<Linux>(), serde_json::from_str("{}").unwrap());
    }
}

#[cfg(test)]
#[path = "conformance_tests.rs"]
mod conformance;
