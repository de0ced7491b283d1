//! `exec`: one more process in a running container.

use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use oci_spec::runtime::{Process, Spec};

use super::create::connect_console;
use super::enter::{Entry, end_process};
use super::foreground::Foreground;
use super::oom_score::OomScore;
use super::place::Place;
use super::prepare::{Streams, kept_fds, leave_out_ungrantable, warn_of_left_out};
use super::run::check_console;
use super::state::{Container, State};
use super::{Attach, ExecArgs, ExecOptions, ExecProcess, Runtime, labels, pid_file};
use crate::error::{Error, OsContext, Result};
use crate::init::{Gate, StandardStreams};
use crate::log;
use crate::oci::plan::{Capabilities, ProcessPlan};
use crate::oci::{capabilities, load, user, validate};
use crate::seccomp::{self, Filter};
use crate::sys::credentials;
use crate::sys::process::{self, Child, Prctl};
use crate::sys::self_exe;

/// What is known before the process is cloned.
struct Prepared<'a> {
    options: &'a ExecOptions,
    container: Container,
    init: OwnedFd,
    plan: ProcessPlan,
    seccomp: Option<Filter>,
    streams: Streams,
}

impl Runtime {
    /// Runs a process in a container. In the foreground waits for it and returns its exit status,
    /// 128+n for signal n; detached returns 0 once it has executed the program.
    ///
    /// # Errors
    /// [`Error::WrongState`] if the container is stopped or paused; what is wrong with the
    /// process; [`Error::Init`] with the step that failed.
    pub fn exec(&self, options: &ExecOptions) -> Result<i32> {
        let protected = self_exe::protect(3 + kept_fds(options.preserve_fds))?;
        // Not dropped: this process is about to end, and to free what it shares with its child copies
        // a page for each piece.
        let prepared = ManuallyDrop::new(self.prepare_exec(options)?);
        let foreground = match options.attach {
            Attach::Detach => None,
            Attach::Foreground => Some(Foreground::new(!options.no_subreaper)?),
        };
        let (child, console) = start(&prepared)?;
        drop(protected);
        match foreground {
            None => Ok(0),
            Some(foreground) => Ok(foreground.wait(&child, console, None)?.code()),
        }
    }

    fn prepare_exec<'a>(&self, options: &'a ExecOptions) -> Result<Prepared<'a>> {
        let refuse = |reason: &str| Err(Error::WrongState { reason: reason.into() });
        let container = self.container(&options.id)?;
        let Some(init) = container.init()? else {
            return refuse("cannot exec in a stopped container");
        };
        if !options.ignore_paused && container.state.is_paused() {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        // The copy in the state directory: the bundle may be gone.
        // Not dropped, it goes with the process: taking it to pieces is work for nothing.
        let spec = ManuallyDrop::new(load::load_spec_for_exec(&container.dir.config())?);
        let process = match &options.process {
            ExecProcess::File(path) => {
                let loaded = load::load_process(path)?;
                loaded.warnings.into_iter().for_each(log::warn);
                with_defaults(loaded.process, &spec)
            }
            ExecProcess::Args(args) => with_overrides(args, &spec)?,
        };
        validate::validate_process(&process)?.into_iter().for_each(log::warn);
        let mut plan = ProcessPlan::new(&process, &spec)?;
        if container.state.namespaces & libc::CLONE_NEWUSER == 0 {
            let missing = leave_out_ungrantable(&mut plan)?;
            if missing != 0 {
                warn_of_left_out(missing & !left_out_by_create(&spec, container.state.pid));
            }
        }
        labels::check_process(&plan)?;
        check_console(options.attach, plan.terminal.is_some(), options.console_socket.is_some())?;
        let seccomp = filter_of(&spec)?;
        let streams = Streams {
            console_socket: options.console_socket.clone(),
            pidfd_socket: options.pidfd_socket.clone(),
            pid_file: options.pid_file.clone(),
            kept_fds: kept_fds(options.preserve_fds),
        }
        .checked()?;
        Ok(Prepared { options, container, init, plan, seccomp, streams })
    }
}

/// Clones the process, lets it join, and waits until it has executed the program.
fn start(prepared: &Prepared) -> Result<(Child, Option<OwnedFd>)> {
    let oom_score = OomScore::new(prepared.plan.oom_score_adj)?;
    process::prctl(Prctl::Dumpable(false)).os("prctl", || "PR_SET_DUMPABLE")?;
    let state = &prepared.container.state;
    let console = prepared.streams.console_socket.as_deref().map(connect_console).transpose()?;
    let asked_cgroup = match prepared.options.sub_cgroups.as_slice() {
        [] => None,
        asked => Some(state.cgroup.sub(asked)?),
    };
    let entry = Entry {
        state,
        init: &prepared.init,
        plan: &prepared.plan,
        args: &prepared.plan.args,
        seccomp: prepared.seccomp.as_ref(),
        asked_cgroup: asked_cgroup.as_deref(),
        group: None,
        gate: gate(state),
        console,
        streams: StandardStreams::Callers,
        kept_fds: prepared.streams.kept_fds,
        oom_score: &oom_score,
    };
    let (child, console) = entry.enter()?;
    publish(prepared, &child).inspect_err(|_| {
        end_process(&child);
    })?;
    Ok((child, console))
}

/// A process in a user namespace may not set its limits itself.
fn gate(state: &State) -> Gate {
    match Place::of_process_in(state) {
        Place::Host => Gate::Told,
        Place::UserNamespace => Gate::Parent,
    }
}

/// Only now: a client takes a pid file as the sign that the program runs.
fn publish(prepared: &Prepared, child: &Child) -> Result<()> {
    if let Some(path) = &prepared.streams.pidfd_socket {
        pid_file::send_pidfd(path, child)?;
    }
    match &prepared.streams.pid_file {
        Some(path) => pid_file::write(path, child.pid),
        None => Ok(()),
    }
}

/// The container's filter, compiled.
pub(super) fn filter_of(spec: &Spec) -> Result<Option<Filter>> {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
        .map(|profile| seccomp::compile(profile, seccomp::cache_dir().as_deref()))
        .transpose()
}

/// What a process file leaves out is as for the container's own process.
fn with_defaults(mut process: Process, spec: &Spec) -> Process {
    let Some(own) = spec.process() else { return process };
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().is_none() {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    process
}

/// Capabilities of the configuration that the container has not: `create` has said so. Once more
/// would be among what each process of an engine's `exec` writes itself.
fn left_out_by_create(spec: &Spec, init: i32) -> u64 {
    let Some(named) = spec.process().as_ref().and_then(|process| process.capabilities().as_ref())
    else {
        return 0;
    };
    let granted = credentials::bounding(Pid::from_raw(init)).unwrap_or(u64::MAX);
    Capabilities::new(named).within(granted).1
}

/// The container's process with another command, and what else the command line says.
fn with_overrides(args: &ExecArgs, spec: &Spec) -> Result<Process> {
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::config("process", "missing; give a complete one with --process"))?;
    process.set_args(Some(args.args.clone())).set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    override_user(&mut process, args)?;
    override_capabilities(&mut process, &args.caps)?;
    Ok(process)
}

fn override_user(process: &mut Process, args: &ExecArgs) -> Result<()> {
    let mut who = process.user().clone();
    if let Some(text) = &args.user {
        let ids = user::parse(text)?;
        who.set_uid(ids.uid);
        if let Some(gid) = ids.gid {
            who.set_gid(gid);
        }
    }
    let mut gids = who.additional_gids().clone().unwrap_or_default();
    gids.extend(&args.additional_gids);
    who.set_additional_gids(Some(gids));
    process.set_user(who);
    Ok(())
}

/// `--cap`: never inheritable (CVE-2022-29162), and ambient only if the container uses it.
fn override_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        capabilities::parse(name)?;
    }
    let added: oci_spec::runtime::Capabilities = names
        .iter()
        .map(|name| serde_json::from_value(serde_json::json!(name)))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::Invalid(format!("--cap {names:?}: {e}")))?;
    let with = |set: &Option<oci_spec::runtime::Capabilities>| {
        Some(set.iter().flatten().chain(&added).copied().collect())
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    if sets.ambient().as_ref().is_some_and(|ambient| !ambient.is_empty()) {
        let ambient = with(sets.ambient());
        sets.set_ambient(ambient);
    }
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}
