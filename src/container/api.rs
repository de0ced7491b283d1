//! What a front end hands to the verbs.

use std::path::PathBuf;

pub use crate::cgroup::CgroupDriver;

/// The state root and the choices that hold for every verb.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Directory that holds one directory per container.
    pub root: PathBuf,
    /// Which cgroup driver makes new containers.
    pub cgroup_driver: CgroupDriver,
    /// Whether they may be missing.
    pub rootless: Rootless,
}

/// `--rootless`: whether a container may do without the cgroups that the caller may not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// It may.
    True,
    /// It may not.
    False,
    /// It may if the caller is not root, or root of a user namespace only.
    Auto,
}

/// How the rootfs becomes `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSwitch {
    /// `pivot_root(2)`.
    Pivot,
    /// `--no-pivot`: move the mount over `/` and `chroot`, for an initramfs.
    Move,
}

/// Whether the container gets a session keyring of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Keyring {
    /// A new one.
    New,
    /// `--no-new-keyring`: the caller's.
    Inherit,
}

/// What `create` and `run` take beyond the bundle's `config.json`.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The container's id, not yet checked.
    pub id: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Socket that receives the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that receives a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// File that receives init's pid.
    pub pid_file: Option<PathBuf>,
    /// How the rootfs becomes `/`.
    pub root_switch: RootSwitch,
    /// Session keyring.
    pub keyring: Keyring,
    /// Number of file descriptors from 3 on (after `LISTEN_FDS`) that init keeps.
    pub preserve_fds: u32,
}

/// Whether `run` and `exec` wait for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// Forward signals and the terminal, wait, return the exit status.
    Foreground,
    /// `--detach`.
    Detach,
}

/// What `run` adds to `create` and `start`.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The part shared with `create`.
    pub create: CreateOptions,
    /// Whether to wait for init.
    pub attach: Attach,
    /// `--keep`: leave state and cgroup behind when init has exited.
    pub keep: bool,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
}

/// A root that is not in the bundle.
#[derive(Debug)]
pub struct GivenRoot {
    /// A detached mount.
    pub tree: std::os::fd::OwnedFd,
    /// A directory that is removed with the container.
    pub goes_with: PathBuf,
}

/// The process that `exec` starts.
#[derive(Debug, Clone)]
pub enum ExecProcess {
    /// `--process`: a file with a complete `Process`.
    File(PathBuf),
    /// Arguments; everything else comes from the container's own process and these overrides.
    Args(Box<ExecArgs>),
}

/// The overrides of an `exec` that names its command on the command line.
#[derive(Debug, Clone, Default)]
pub struct ExecArgs {
    /// Command and arguments.
    pub args: Vec<String>,
    /// `--cwd`.
    pub cwd: Option<PathBuf>,
    /// `--env KEY=VALUE`, added to the container's.
    pub env: Vec<String>,
    /// `--user uid[:gid]`, not yet parsed.
    pub user: Option<String>,
    /// `--additional-gids`.
    pub additional_gids: Vec<u32>,
    /// `--tty`.
    pub tty: bool,
    /// `--apparmor`.
    pub apparmor: Option<String>,
    /// `--process-label`.
    pub process_label: Option<String>,
    /// `--cap`, added to bounding, effective, permitted and (if ambient is set) ambient.
    pub caps: Vec<String>,
    /// `--no-new-privs`.
    pub no_new_privs: bool,
}

/// What `exec` takes.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// The container's id.
    pub id: String,
    /// What to run.
    pub process: ExecProcess,
    /// Whether to wait for it.
    pub attach: Attach,
    /// Socket that receives the master of the process's terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that receives its pid.
    pub pid_file: Option<PathBuf>,
    /// As for `create`.
    pub preserve_fds: u32,
    /// `--ignore-paused`: join a frozen container and wait for its thaw.
    pub ignore_paused: bool,
    /// `--cgroup [controllers:]path`, each relative to the container's cgroup.
    pub sub_cgroups: Vec<String>,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
}

/// Whom `kill` signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillTarget {
    /// The container's init process.
    Init,
    /// `--all`: every process of the container; a stopped container is then no error.
    All,
}

/// How `delete` treats a container that is not stopped, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Both are errors.
    No,
    /// `--force`: kill it first; nothing to delete is success.
    Yes,
}

/// What `events` reports.
#[derive(Debug, Clone)]
pub enum Event {
    /// Once per interval.
    Stats(serde_json::Value),
    /// A process of the container was killed for its memory use.
    Oom,
}
