//! The sandbox of a pod: a pause container that holds the shared namespaces, the pod's cgroup and
//! its `/dev/shm`.
//!
//! ```text
//! <state>/sandbox/config.json    the pause container's configuration
//! <state>/sandbox/rootfs/pause   all that is in its root, but for an empty /dev
//! <state>/shm                    a tmpfs, mounted on the host while the sandbox is there
//! <pod cgroup>/POD               the pause container's cgroup
//! ```

mod shm;
mod spec;
pub mod standalone;
mod user_namespace;

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use super::clock::Stamp;
use super::record::SandboxRecord;
use super::store::PodDirs;
use crate::cgroup::Cgroup;
use crate::container::{
    CreateOptions, Force, Keyring, Launch, RootSwitch, Runtime, Stdio, null_streams,
};
use crate::error::{Error, OsContext, Result};
use crate::oci::namespaces;
use crate::sys::mount::{self, Subtree};
use crate::sys::process::{self, Child};

pub use spec::{PAUSE_PATH, PidScope, Shape, pause_spec};
pub use user_namespace::{IDS as USER_NAMESPACE_IDS, lock_bases, lowest_free_base};

/// `carob-pause`, as build.rs has made it.
pub const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/carob-pause"));

/// Name of the pause container's cgroup below the pod's.
pub const CGROUP_NAME: &str = "POD";

/// A sandbox to be started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The pod's directories: `state` exists, and `cgroup` is absolute.
    pub dirs: &'a PodDirs,
    /// Id of the pause container.
    pub id: &'a str,
    /// Configuration of the pause container, whose command is [`PAUSE_PATH`]; root, mounts and cgroup
    /// are filled in here.
    pub spec: Spec,
    /// Limits of the pod as a whole.
    pub resources: Option<&'a LinuxResources>,
    /// Whether the pod has a `/dev/shm` of its own.
    pub shm: Shm,
    /// The first host id, for a pod with its own user namespace.
    pub user_namespace_base: Option<u32>,
    /// Addresses of the pod, if they are known.
    pub ips: Vec<String>,
    /// The network that it is to be put on by plugins.
    pub network: Option<String>,
    /// What pause holds as its standard output and error without touching it.
    pub held: Option<[OwnedFd; 2]>,
}

/// What a pod has as `/dev/shm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shm {
    /// A tmpfs at `<state>/shm`.
    Own,
    /// The host's.
    Host,
}

/// Makes and starts a sandbox. The pause process is the caller's child.
///
/// What a sandbox before it, whose maker was killed, has left under the same id or in the same
/// directories is taken away first.
///
/// # Errors
/// What is wrong with the configuration, or the step that the kernel refused. Nothing is left then.
pub fn start(runtime: &Runtime, mut start: Start) -> Result<(SandboxRecord, Child)> {
    stop(runtime, start.id, start.dirs)?;
    let held = start.held.take();
    match make(runtime, &start, held) {
        Ok(child) => Ok((
            SandboxRecord {
                id: start.id.to_owned(),
                pid: child.pid.as_raw(),
                started: Stamp::now(),
                ips: start.ips,
                network: start.network,
                user_namespace_base: start.user_namespace_base,
            },
            child,
        )),
        Err(error) => {
            if let Err(left) = stop(runtime, start.id, start.dirs) {
                crate::log::warn(left);
            }
            Err(error)
        }
    }
}

/// Takes a sandbox away: pause process, its container, `/dev/shm`, and the pod's cgroup with
/// whatever is still inside. What is not there is fine, so it can be called again, and by anybody.
///
/// Where members share the pause container's pid namespace, they must have been reaped before: the
/// kernel keeps the first process of a namespace until the last one is gone.
///
/// # Errors
/// The first failure; the rest is done all the same.
pub fn stop(runtime: &Runtime, id: &str, dirs: &PodDirs) -> Result<()> {
    let results = [bury(runtime, id, dirs), remove_cgroup(dirs)];
    results.into_iter().collect()
}

/// Takes away what is left of a sandbox that has died, but not the pod's cgroup: members that
/// outlive it are ended with their grace.
///
/// # Errors
/// As [`stop`].
pub fn bury(runtime: &Runtime, id: &str, dirs: &PodDirs) -> Result<()> {
    let results =
        [runtime.delete(id, Force::Yes), shm::unmount(&dirs.state), remove_bundle(&dirs.state)];
    results.into_iter().collect()
}

/// The file that stands for a namespace of the sandbox, for containers to join.
#[must_use]
pub fn namespace_path(record: &SandboxRecord, kind: LinuxNamespaceType) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/{}", record.pid, namespaces::of(kind).proc_name))
}

/// A sandbox that lives, as others than its supervisor hold it: its pause process, and its network
/// namespace; `None` if it is gone.
///
/// # Errors
/// [`Error::Os`] if its state cannot be read.
pub fn hold(runtime: &Runtime, record: &SandboxRecord) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let pause = match runtime.init_of(&record.id) {
        Err(Error::NotFound { .. }) => None,
        other => other?,
    };
    let Some((_pid, pause)) = pause else { return Ok(None) };
    let path = namespace_path(record, LinuxNamespaceType::Network);
    let Ok(network) = fs::File::open(path) else { return Ok(None) };
    // Its number could have come to mean another process before it was opened.
    let lives = process::pidfd_send_signal(&pause, 0).is_ok();
    Ok(lives.then(|| (pause, network.into())))
}

/// Where the pod's `/dev/shm` is mounted on the host.
#[must_use]
pub fn shm_path(dirs: &PodDirs) -> PathBuf {
    shm::path(&dirs.state)
}

fn make(runtime: &Runtime, start: &Start, held: Option<[OwnedFd; 2]>) -> Result<Child> {
    let [input, output, errors] = null_streams()?;
    let [output, errors] = held.unwrap_or([output, errors]);
    cgroup(start.dirs)?.create_parent(start.resources)?;
    if start.shm == Shm::Own {
        let linux = start.spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        shm::mount(&start.dirs.state, label)?;
    }
    let bundle = write_bundle(start)?;
    let rootfs = bundle.join("rootfs");
    // A mount of its own: init, in a user namespace, may not walk to the directory.
    let tree =
        mount::clone_tree(&rootfs, Subtree::Alone).os("clone the mount of", || rootfs.display())?;
    let options = CreateOptions {
        id: start.id.to_owned(),
        bundle,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        root_switch: RootSwitch::Pivot,
        keyring: Keyring::New,
        preserve_fds: 0,
    };
    let stdio = Stdio::Fds([input, output, errors]);
    let launch = Launch { options: &options, stdio, rootfs: Some(tree) };
    Ok(start.dirs.runtime(runtime).launch(launch)?.start()?.0)
}

fn write_bundle(start: &Start) -> Result<PathBuf> {
    let bundle = bundle(&start.dirs.state);
    let rootfs = bundle.join("rootfs");
    let directory = |path: &Path, mode| {
        DirBuilder::new().mode(mode).create(path).os("mkdir", || path.display())
    };
    directory(&bundle, 0o700)?;
    directory(&rootfs, 0o755)?;
    directory(&rootfs.join("dev"), 0o755)?;
    directory(&bundle.join("dev"), 0o755)?;
    // Who cannot read a program cannot ptrace its process: containers that share its pid namespace
    // can take its user id, and would get what is parked with it (pidfd_getfd).
    write(&rootfs.join("pause"), 0o111, PAUSE)?;
    let cgroup = start.dirs.container_cgroup(CGROUP_NAME);
    let spec = spec::completed(start.spec.clone(), &bundle, &cgroup);
    let text = serde_json::to_vec(&spec)
        .map_err(|error| Error::Invalid(format!("configuration of the sandbox: {error}")))?;
    write(&bundle.join("config.json"), 0o600, &text)?;
    Ok(bundle)
}

fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(content)?;
        // Whatever the caller's umask is.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
    })
    .os("write", || path.display())
}

fn bundle(state: &Path) -> PathBuf {
    state.join("sandbox")
}

/// Ours alone: nothing in it came from a container.
fn remove_bundle(state: &Path) -> Result<()> {
    let bundle = bundle(state);
    match fs::remove_dir_all(&bundle) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.os("remove", || bundle.display()),
    }
}

fn cgroup(dirs: &PodDirs) -> Result<Cgroup> {
    Cgroup::resolve_parent(&dirs.cgroup)
}

/// How many processes of the pod the OOM killer has taken, as far as its cgroup knows: on v1, of the pod's
/// own cgroup only.
///
/// # Errors
/// As [`Cgroup::oom_kills`].
pub fn oom_kills(dirs: &PodDirs) -> Result<u64> {
    Ok(cgroup(dirs)?.oom_kills()?.unwrap_or(0))
}

fn remove_cgroup(dirs: &PodDirs) -> Result<()> {
    let cgroup = cgroup(dirs)?;
    cgroup.kill_all(libc::SIGKILL)?;
    cgroup.delete()
}
