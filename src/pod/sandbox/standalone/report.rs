//! What there is to tell of a sandbox.

use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType as Kind;
use serde::Serialize;

use super::stored::Stored;
use super::{Pid, is_running};
use crate::container::Runtime;
use crate::error::Result;
use crate::pod::sandbox::{namespace_path, shm_path};

/// What is to be known of a sandbox by those who join it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub status: &'static str,
    /// Id of the pause container.
    pub id: String,
    /// Pid of pause; 0 when stopped.
    pub pid: i32,
    /// Since when it runs, RFC 3339.
    pub started: Option<String>,
    /// The namespaces that containers are to join, by the kinds of config.json. What is missing is
    /// the host's, or each container's own.
    pub namespaces: std::collections::BTreeMap<&'static str, PathBuf>,
    /// The network it is on.
    pub network: Option<String>,
    /// Its addresses there.
    pub ips: Vec<String>,
    /// First host id of its user namespace, of 65536.
    pub user_namespace_base: Option<u32>,
    /// The pod's cgroup, for `linux.cgroupsPath` of containers below it.
    pub cgroup: PathBuf,
    /// The tmpfs to mount at `/dev/shm`.
    pub shm: PathBuf,
    /// The file to mount at `/etc/hosts`.
    pub hosts: PathBuf,
    /// The file to mount at `/etc/hostname`.
    pub hostname: PathBuf,
    /// The file to mount at `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

pub(super) fn report(runtime: &Runtime, stored: &Stored) -> Result<Report> {
    let running = is_running(runtime, stored)?;
    let record = stored.record.as_ref().filter(|_| running);
    let options = &stored.options;
    let namespaces = [
        ("network", Kind::Network, !options.host_network),
        ("uts", Kind::Uts, !options.host_network),
        ("ipc", Kind::Ipc, !options.host_ipc),
        ("pid", Kind::Pid, options.pid == Pid::Pod),
        ("user", Kind::User, options.user_namespace),
    ];
    let dirs = &stored.dirs;
    Ok(Report {
        name: stored.name.clone(),
        status: if running { "running" } else { "stopped" },
        id: stored.id(),
        pid: record.map_or(0, |record| record.pid),
        started: record.map(|record| record.started.wall.to_string()),
        namespaces: record
            .iter()
            .flat_map(|record| {
                let own = namespaces.into_iter().filter(|(_, _, is_own)| *is_own);
                own.map(|(name, kind, _)| (name, namespace_path(record, kind)))
            })
            .collect(),
        network: record.and_then(|record| record.network.clone()),
        ips: record.map(|record| record.ips.clone()).unwrap_or_default(),
        user_namespace_base: stored.user_namespace_base,
        cgroup: dirs.cgroup.clone(),
        shm: if options.host_ipc { "/dev/shm".into() } else { shm_path(dirs) },
        hosts: dirs.etc("hosts"),
        hostname: dirs.etc("hostname"),
        resolv_conf: dirs.etc("resolv.conf"),
    })
}
