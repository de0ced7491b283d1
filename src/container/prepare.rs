//! What is read, checked and compiled before anything is made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::stat;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use super::cgroup::CgroupMade;
use super::id_map::MapWriter;
use super::rdt::Class;
use super::rights::Rights;
use super::state::State;
use super::{
    ContainerId, CreateOptions, Keyring, RootSwitch, Rootless, Runtime, host_root, labels, notify,
};
use crate::cgroup::{Cgroup, CgroupDriver, Chosen};
use crate::error::{Error, OsContext, Result};
use crate::init::Hook;
use crate::oci::plan::{MountPlan, Plan, ProcessPlan};
use crate::oci::{capabilities, load, namespaces, sysctl, validate};
use crate::seccomp::{self, Filter};
use crate::sys::{credentials, fd, path};
use crate::{init, log};

/// How long a process that has other things to do waits for a word of init. Who shares a pid
/// namespace with it can stop it at any moment (SIGSTOP).
const PATIENCE: Duration = Duration::from_secs(10);

/// Who makes the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A verb: what its own environment offers (socket activation, a service manager that waits
    /// for readiness) is meant for the container.
    Verb,
    /// A process that goes on: all of that is its own.
    Supervisor,
}

/// A container that could be made: all that is known to be wrong has been refused.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: ContainerId,
    pub(super) bundle: PathBuf,
    pub(super) spec: Spec,
    /// The configuration as read, for the container's directory.
    pub(super) raw: Vec<u8>,
    pub(super) plan: Plan,
    pub(super) seccomp: Option<Filter>,
    pub(super) cgroup: Cgroup,
    pub(super) cgroup_made: RefCell<CgroupMade>,
    /// `linux.intelRdt`.
    pub(super) class: Option<Class>,
    /// The directories of that that are made.
    pub(super) class_made: RefCell<Vec<PathBuf>>,
    /// For a new user namespace.
    pub(super) map_writer: Option<MapWriter>,
    /// Whether init will be, or is, in a user namespace other than the machine's.
    pub(super) is_confined: bool,
    pub(super) move_root: bool,
    pub(super) keyring: Keyring,
    pub(super) streams: Streams,
    /// Whether the container is to say when it is ready.
    pub(super) notifies: bool,
    /// Longest silence of init; a verb waits for as long as it takes.
    pub(super) patience: Option<Duration>,
}

/// Descriptors of the caller that concern the container.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    /// From 3 on: those of socket activation, then those of `--preserve-fds`.
    pub(super) kept_fds: u32,
}

impl Prepared {
    /// Reads and checks the bundle.
    pub(super) fn new(runtime: &Runtime, options: &CreateOptions, caller: Caller) -> Result<Self> {
        let id = ContainerId::new(&options.id)?;
        let streams = Streams::new(options, caller)?;
        let bundle = fd::open(&options.bundle, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .and_then(|dir| path::kernel_path(&dir))
            .os("open bundle", || options.bundle.display())?;
        let loaded = load::load_spec(&bundle.join("config.json"))?;
        let spec = loaded.spec;
        for warning in loaded.warnings.into_iter().chain(validate::validate(&spec)?) {
            log::warn(warning);
        }
        let mut plan = Plan::new(&spec, &bundle)?;
        let limited = Rights::unless_host_root()?;
        plan.namespaces.is_return_barred = limited.is_some();
        let map_writer = map_writer(&plan, limited)?;
        if !plan.namespaces.has(LinuxNamespaceType::User) {
            warn_of_left_out(leave_out_ungrantable(&mut plan.process)?);
        }
        labels::check(&mut plan)?;
        refuse_sysctls_of_the_host(&plan)?;
        check_rootfs(&plan.root.path)?;
        host_root::check(&plan)?;
        pass_socket_activation(&mut plan, streams.kept_fds.saturating_sub(options.preserve_fds))?;
        let notifies = caller == Caller::Verb && notify::manager_socket().is_some();
        if notifies {
            offer_notify(&mut plan, &runtime.root.join(id.as_str()).join(notify::DIRECTORY))?;
        }
        let linux = spec.linux().as_ref();
        let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let cgroup = find_cgroup(runtime, cgroups_path, id.as_str(), limited)?
            .with_annotations(spec.annotations().iter().flatten());
        cgroup.check(linux.and_then(|linux| linux.resources().as_ref()))?;
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let class = rdt.map(|rdt| Class::find(rdt, id.as_str())).transpose()?;
        let seccomp = linux
            .and_then(|linux| linux.seccomp().as_ref())
            .map(|profile| seccomp::compile(profile, seccomp::cache_dir().as_deref()))
            .transpose()?;
        if let Some(listener) = seccomp.as_ref().and_then(|filter| filter.listener.as_ref()) {
            check_agent(&listener.path)?;
        }
        Ok(Self {
            id,
            bundle,
            raw: loaded.raw,
            seccomp,
            cgroup,
            cgroup_made: RefCell::default(),
            class,
            class_made: RefCell::default(),
            is_confined: plan.namespaces.has(LinuxNamespaceType::User)
                || limited.is_some() && credentials::in_user_namespace(),
            map_writer,
            plan,
            move_root: options.root_switch == RootSwitch::Move,
            keyring: options.keyring,
            streams,
            notifies,
            patience: (caller == Caller::Supervisor).then_some(PATIENCE),
            spec,
        })
    }

    /// `linux.resources`.
    pub(super) fn resources(&self) -> Option<&LinuxResources> {
        self.spec.linux().as_ref()?.resources().as_ref()
    }

    /// The state of the container before there is a process.
    pub(super) fn first_state(&self, goes_with: Option<PathBuf>) -> State {
        let namespaces =
            self.plan.namespaces.join.iter().fold(self.plan.namespaces.new, |flags, joined| {
                flags | crate::oci::plan::clone_flag(joined.kind)
            });
        let late = [Hook::Poststart, Hook::Poststop];
        State {
            id: self.id.clone(),
            oci_version: self.spec.version().clone(),
            pid: 0,
            start_time: 0,
            created: humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string(),
            bundle: self.bundle.clone(),
            rootfs: self.plan.root.path.clone(),
            annotations: self
                .spec
                .annotations()
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            owner_uid: nix::unistd::getuid().as_raw(),
            cgroup: self.cgroup.clone(),
            class: self.class.as_ref().map(Class::membership),
            namespaces: namespaces.bits(),
            shares_pids: !self.plan.namespaces.is_new(CloneFlags::CLONE_NEWPID),
            joins_mounts: !self.plan.namespaces.is_new(CloneFlags::CLONE_NEWNS),
            host_mounts: None,
            keyring: self.keyring,
            start_hooks: !Hook::StartContainer.of(&self.plan.hooks).is_empty(),
            late_hooks: late.iter().any(|hook| !hook.of(&self.plan.hooks).is_empty()),
            goes_with,
        }
    }

    /// Whether the user namespace's maps are written by somebody whom init must not be hidden from
    /// meanwhile: `/proc/<pid>` of a process that is not dumpable belongs to root.
    pub(super) fn maps_are_written_by_user(&self) -> bool {
        self.map_writer.is_some() && !crate::sys::credentials::is_host_root()
    }

    /// Whether a user who makes it may look at init before its program runs: root may anyway, and
    /// others must be alone with it.
    pub(super) fn shows_init(&self) -> bool {
        let namespaces = &self.plan.namespaces;
        self.maps_are_written_by_user()
            && namespaces.is_new(CloneFlags::CLONE_NEWUSER)
            && namespaces.is_new(CloneFlags::CLONE_NEWPID)
    }

    /// Whether init is cloned directly, in one step.
    pub(super) fn is_direct(&self) -> bool {
        !init::needs_stage1(&self.plan.namespaces)
    }
}

/// The name of the container's session keyring.
pub(super) fn keyring_name(id: &ContainerId, keyring: Keyring) -> Option<std::ffi::CString> {
    match keyring {
        Keyring::Inherit => None,
        Keyring::New => std::ffi::CString::new(format!("_ses.{id}")).ok(),
    }
}

impl Streams {
    fn new(options: &CreateOptions, caller: Caller) -> Result<Self> {
        let kept_fds = match caller {
            Caller::Verb => kept_fds(options.preserve_fds),
            Caller::Supervisor => options.preserve_fds,
        };
        Self {
            console_socket: options.console_socket.clone(),
            pidfd_socket: options.pidfd_socket.clone(),
            pid_file: options.pid_file.clone(),
            kept_fds,
        }
        .checked()
    }

    /// Refuses kept descriptors that are not open, and makes all others invisible to a container.
    pub(super) fn checked(self) -> Result<Self> {
        for number in 3..3 + self.kept_fds {
            i32::try_from(number)
                .map_err(|_range| nix::errno::Errno::EBADF)
                .and_then(fd::from_caller)
                .os("keep for the container", || format!("descriptor {number}"))?;
        }
        Ok(self)
    }
}

/// How many descriptors from 3 on a process is given: those of socket activation and so many more.
/// The numbers end where the kernel's do.
pub(super) fn kept_fds(preserve_fds: u32) -> u32 {
    activation_fds().saturating_add(preserve_fds).min(i32::MAX.unsigned_abs() - 3)
}

/// How many descriptors socket activation has passed to this very process.
/// Source: sd_listen_fds(3).
fn activation_fds() -> u32 {
    let number = |key| std::env::var(key).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// The container's first process is who the descriptors are for now.
fn pass_socket_activation(plan: &mut Plan, count: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    add_to_environment(plan, format!("LISTEN_FDS={count}"))?;
    add_to_environment(plan, "LISTEN_PID=1".to_owned())
}

fn add_to_environment(plan: &mut Plan, entry: String) -> Result<()> {
    let entry =
        std::ffi::CString::new(entry).map_err(|e| Error::Invalid(format!("environment: {e}")))?;
    plan.process.env.push(entry);
    Ok(())
}

/// A directory for the socket on which the container says that it is ready.
fn offer_notify(plan: &mut Plan, directory: &Path) -> Result<()> {
    let words = ["bind", "ro", "nosuid", "noexec", "nodev"];
    plan.mounts.push(MountPlan::bind(Path::new(notify::MOUNT_POINT), directory, &words));
    add_to_environment(plan, notify::ENVIRONMENT.to_owned())
}

/// Who writes the maps, if there are any to be written; whoever is not root is asked for the rest
/// too.
fn map_writer(plan: &Plan, limited: Option<Rights>) -> Result<Option<MapWriter>> {
    if let Some(rights) = limited {
        rights.check(plan)?;
    }
    if !plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
        return Ok(None);
    }
    let rights = limited.map_or_else(Rights::of_carob, Ok)?;
    MapWriter::choose(rights, &plan.id_maps).map(Some)
}

/// Where the container's cgroup is to be, as far as the caller may make it.
fn find_cgroup(
    runtime: &Runtime,
    path: Option<&Path>,
    id: &str,
    limited: Option<Rights>,
) -> Result<Cgroup> {
    let cgroup = Cgroup::resolve(path, id, runtime.cgroup_driver)?;
    let tolerates = match runtime.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => limited.is_some(),
    };
    if runtime.cgroup_driver == CgroupDriver::Systemd || !tolerates {
        return Ok(cgroup);
    }
    let is_given = path.is_some_and(|path| !path.as_os_str().is_empty());
    cgroup.within_rights(if is_given { Chosen::ByConfiguration } else { Chosen::ByDefault })
}

/// Capabilities that carob does not have itself are a warning and not an error: those that it has
/// left out. In a user namespace of the container's own every one can be granted: do not call this
/// then.
///
/// Source: runtime-spec, config.md, Linux Process, *capabilities*.
pub(super) fn leave_out_ungrantable(process: &mut ProcessPlan) -> Result<u64> {
    let Some(wanted) = process.capabilities else { return Ok(0) };
    let own = credentials::permitted().os("capget", || "carob itself")?;
    let (sets, missing) = wanted.within(own);
    process.capabilities = Some(sets);
    Ok(missing)
}

/// The warning of what [`leave_out_ungrantable`] has left out.
pub(super) fn warn_of_left_out(missing: u64) {
    if missing != 0 {
        let names = capabilities::list(missing);
        log::warn(format_args!("process.capabilities: left out, carob itself lacks them: {names}"));
    }
}

/// A namespace that is joined may be the host's own; its parameters are the host's then.
fn refuse_sysctls_of_the_host(plan: &Plan) -> Result<()> {
    for (key, _) in &plan.sysctls {
        let Some(kind) = sysctl::namespace(key) else { continue };
        let Some(joined) = plan.namespaces.joined(kind) else { continue };
        let path = &joined.path;
        let own = format!("/proc/self/ns/{}", namespaces::of(kind).proc_name);
        let theirs = stat(path).property(|| (joined.field(), format!("stat {path:?}")))?;
        if theirs.st_ino == stat(own.as_str()).os("stat", || own)?.st_ino {
            let reason =
                format!("{} is carob's own namespace, the host would change", path.display());
            return Err(Error::config(format!("linux.sysctl.{}", sysctl::key(key)), reason));
        }
    }
    Ok(())
}

/// The agent is needed only at the start; that it is missing is better told now.
fn check_agent(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let field = "linux.seccomp.listenerPath";
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(Error::config(field, format!("{} is not a socket", path.display()))),
        Err(error) => {
            let reason =
                format!("failed to connect with seccomp agent {}: {error}", path.display());
            Err(Error::config(field, reason))
        }
    }
}

fn check_rootfs(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::config("root.path", format!("{} must be a directory", path.display()))),
        Err(error) => Err(Error::config("root.path", format!("{}: {error}", path.display()))),
    }
}
