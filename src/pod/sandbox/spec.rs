//! The configuration of a pause container.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use serde_json::{Value, json};

use super::user_namespace::IDS;
use crate::error::Result;
use crate::oci::load;

/// Where the pause program is in its root.
pub const PAUSE_PATH: &str = "/pause";

/// Who runs as pause: an id that is nobody's.
const USER: u32 = 65_535;

/// All that the pause program and its execve need, and what tells the parent of a failure.
const SYSTEM_CALLS: [&str; 9] = [
    "execve",
    "exit",
    "exit_group",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "wait4",
    "write",
];

/// Who has which pid namespace in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidScope {
    /// Each container its own, pause too.
    Container,
    /// All that of pause.
    Pod,
    /// The host's.
    Node,
}

/// What a sandbox is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Whether the network is the host's; the host name is the host's, too, then.
    pub host_network: bool,
    /// Whether System V IPC and POSIX message queues are the host's.
    pub host_ipc: bool,
    /// Pid namespaces.
    pub pid: PidScope,
    /// The first of the host ids of a user namespace.
    pub user_namespace_base: Option<u32>,
    /// Host name.
    pub hostname: Option<&'a str>,
    /// Kernel parameters of the namespaces.
    pub sysctls: &'a [(String, String)],
    /// `oom_score_adj` of the pause process; `None` leaves the caller's.
    pub oom_score_adj: Option<i32>,
}

/// A container that can do nothing but wait: no capability, a root that is read-only, its few
/// system calls.
///
/// # Errors
/// None in practice: only if the configuration is not one.
pub fn pause_spec(shape: &Shape) -> Result<Spec> {
    let mut namespaces = vec![json!({"type": "mount"})];
    for (kind, is_hosts) in [
        ("ipc", shape.host_ipc),
        ("uts", shape.host_network),
        ("network", shape.host_network),
        ("pid", shape.pid == PidScope::Node),
        ("user", shape.user_namespace_base.is_none()),
    ] {
        if !is_hosts {
            namespaces.push(json!({"type": kind}));
        }
    }
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": USER, "gid": USER},
            "args": [PAUSE_PATH],
            // A HOME is not looked up then.
            "env": ["PATH=/", "HOME=/"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "linux": {
            "namespaces": namespaces,
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": SYSTEM_CALLS, "action": "SCMP_ACT_ALLOW"}],
            },
        },
    });
    if let (Some(name), false) = (shape.hostname, shape.host_network) {
        spec["hostname"] = json!(name);
    }
    if let Some(score) = shape.oom_score_adj {
        spec["process"]["oomScoreAdj"] = json!(score);
    }
    if !shape.sysctls.is_empty() {
        let map = shape.sysctls.iter().map(|(key, value)| (key.clone(), json!(value)));
        spec["linux"]["sysctl"] = Value::Object(map.collect());
    }
    if let Some(base) = shape.user_namespace_base {
        let map = json!([{"containerID": 0, "hostID": base, "size": IDS}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    }
    load::parse_spec(spec.to_string().into_bytes()).map(|loaded| loaded.spec)
}

/// With what does not depend on the pod: the root beside it, and the cgroup. Its only mount is an
/// empty directory on `/dev`, which would be filled with devices else.
pub(super) fn completed(mut spec: Spec, bundle: &Path, cgroup: &Path) -> Spec {
    let mut dev = Mount::default();
    dev.set_destination("/dev".into()).set_typ(Some("bind".into()));
    dev.set_source(Some(bundle.join("dev")));
    let words = ["bind", "ro", "nosuid", "nodev", "noexec"];
    dev.set_options(Some(words.map(str::to_owned).to_vec()));
    spec.set_mounts(Some(vec![dev]));
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_path("rootfs".into());
    root.set_readonly(Some(true));
    spec.set_root(Some(root));
    if let Some(mut linux) = spec.linux().clone() {
        linux.set_cgroups_path(Some(cgroup.to_owned()));
        spec.set_linux(Some(linux));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        host_network: false,
        host_ipc: false,
        pid: PidScope::Container,
        user_namespace_base: None,
        hostname: Some("web"),
        sysctls: &[],
        oom_score_adj: None,
    };

    fn kinds(shape: &Shape) -> Vec<String> {
        let spec = serde_json::to_value(pause_spec(shape).unwrap()).unwrap();
        let list = spec["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_the_hosts_gets_no_namespace() {
        assert_eq!(kinds(&SHAPE), ["mount", "ipc", "uts", "network", "pid"]);
        let host = Shape { host_network: true, host_ipc: true, pid: PidScope::Node, ..SHAPE };
        assert_eq!(kinds(&host), ["mount"]);
        assert_eq!(*pause_spec(&host).unwrap().hostname(), None);
        let user = Shape { user_namespace_base: Some(131_072), ..SHAPE };
        assert_eq!(kinds(&user), ["mount", "ipc", "uts", "network", "pid", "user"]);
        let spec = pause_spec(&user).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let maps = linux.uid_mappings().as_ref().unwrap();
        assert_eq!((maps.len(), maps[0].host_id(), maps[0].size()), (1, 131_072, 65_536));
    }

    #[test]
    fn it_is_a_valid_configuration() {
        let sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())];
        for pid in [PidScope::Container, PidScope::Pod, PidScope::Node] {
            let spec = pause_spec(&Shape { pid, sysctls: &sysctls, ..SHAPE }).unwrap();
            let spec = completed(spec, Path::new("/b"), Path::new("/carob/pod1/POD"));
            crate::oci::validate::validate(&spec).unwrap();
        }
    }
}
