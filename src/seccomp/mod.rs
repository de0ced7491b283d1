//! Seccomp profiles: compiled here or by libseccomp, cached by content.
//!
//! Turns `linux.seccomp` into what seccomp(2) takes, and loads nothing itself: the parent
//! compiles, and the container's process calls [`crate::sys::seccomp::load`] last of all.

mod cache;
mod conditions;
mod enosys;
mod names;
mod numbers;
#[cfg(test)]
mod overlap_tests;
mod rules;
#[cfg(test)]
mod tests;
mod tree;
#[cfg(test)]
mod tree_tests;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    ContainerProcessState, ContainerProcessStateBuilder, LinuxSeccomp, LinuxSeccompAction,
    SECCOMP_FD_NAME, State,
};

pub use names::{actions, archs, known_flags, operators, supported_flags};

use crate::{
    error::{Error, OsContext, Result},
    sys::seccomp as kernel,
};

/// A compiled profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// An array of `struct sock_filter`.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`, all known to the running kernel.
    pub flags: u32,
    /// Who answers the system calls with `SCMP_ACT_NOTIFY`; `None` if there are none.
    pub listener: Option<Listener>,
}

/// Where the notify fd of a filter goes.
///
/// After loading such a filter, the container's process must tell its parent the fd's number by
/// write(2) and nothing else, and the parent take the fd by pidfd_getfd(2): `write` is the one
/// call that a profile cannot redirect to the agent, which does not have the fd yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `listenerPath`: the agent's stream socket.
    pub path: PathBuf,
    /// `listenerMetadata`: opaque, for the agent.
    pub metadata: Option<String>,
}

impl Listener {
    /// What [`kernel::send_listener`] sends, as JSON. `pid` is the process that loaded the filter,
    /// in the runtime's pid namespace.
    ///
    /// Source: runtime-spec config-linux.md, "The Container Process State".
    ///
    /// # Errors
    /// None in practice: only if the state cannot be JSON.
    pub fn process_state(&self, pid: i32, state: State) -> Result<Vec<u8>> {
        let mut message: ContainerProcessState = ContainerProcessStateBuilder::default()
            .version(state.version().clone())
            .fds([SECCOMP_FD_NAME.to_owned()])
            .pid(pid)
            .state(state)
            .build()
            .map_err(|e| Error::Invalid(format!("container process state: {e}")))?;
        message.set_metadata(self.metadata.clone());
        serde_json::to_vec(&message)
            .map_err(|e| Error::Invalid(format!("container process state: {e}")))
    }
}

/// Compiles a profile, or takes its program from the directory `cache`, which is made if need
/// be and belongs to the caller alone.
///
/// # Errors
/// [`Error::Config`] with the JSON path of what is wrong or what this host does not have.
pub fn compile(profile: &LinuxSeccomp, cache: Option<&Path>) -> Result<Filter> {
    let key = cache.and_then(|_| serde_json::to_vec(profile).ok());
    compile_keyed(profile, key.as_deref().unwrap_or_default(), cache.filter(|_| key.is_some()))
}

/// As [`compile`], with the key in the cache: the JSON text that `profile` was parsed from.
/// Saves writing the profile as JSON again.
///
/// # Errors
/// As [`compile`].
pub fn compile_keyed(profile: &LinuxSeccomp, key: &[u8], cache: Option<&Path>) -> Result<Filter> {
    let listener = listener(profile)?;
    let flags = flags(profile, listener.is_some())?;
    let slot = cache.and_then(|dir| cache::Slot::new(dir, key));
    let program = match slot.as_ref().and_then(cache::Slot::load) {
        Some(program) => program,
        None => {
            let program = rules::compile(profile)?;
            if let Some(slot) = slot {
                slot.store(&program);
            }
            program
        }
    };
    Ok(Filter { program, flags, listener })
}

/// Where compiled filters are kept for all state roots of a user: their content is the same.
///
/// `/run/carob.cache` for root, `$XDG_RUNTIME_DIR/carob.cache` for others, else nowhere.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    const NAME: &str = "carob.cache";
    if nix::unistd::geteuid().is_root() {
        return Some(Path::new("/run").join(NAME));
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(Path::new(&own).join(NAME))
}

/// The listener that the profile needs, which must be possible at all.
fn listener(profile: &LinuxSeccomp) -> Result<Option<Listener>> {
    const NOTIFY: LinuxSeccompAction = LinuxSeccompAction::ScmpActNotify;
    // Both would stop the container's process before its parent has the fd, for ever.
    if profile.default_action() == NOTIFY {
        let reason = "SCMP_ACT_NOTIFY cannot be used as default action";
        return Err(Error::config("linux.seccomp.defaultAction", reason));
    }
    let mut needed = false;
    for (index, rule) in profile.syscalls().iter().flatten().enumerate() {
        if rule.action() != NOTIFY {
            continue;
        }
        needed = true;
        if rule.names().iter().any(|name| name == "write") {
            let field = format!("linux.seccomp.syscalls[{index}].action");
            let reason = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
            return Err(Error::config(field, reason));
        }
    }
    if !needed {
        return Ok(None);
    }
    match profile.listener_path() {
        Some(path) if !path.as_os_str().is_empty() => {
            let metadata = profile.listener_metadata().clone();
            Ok(Some(Listener { path: path.clone(), metadata }))
        }
        _ => Err(Error::config(
            "linux.seccomp.listenerPath",
            "not set, and SCMP_ACT_NOTIFY needs the socket of an agent",
        )),
    }
}

/// The flags to load the filter with. A profile that says nothing about flags (an empty list
/// says: none) gets SPEC_ALLOW where the kernel has it, or each container would pay for a
/// mitigation that its engine did not ask for.
fn flags(profile: &LinuxSeccomp, notify: bool) -> Result<u32> {
    let listener = if notify { kernel::FLAG_NEW_LISTENER } else { 0 };
    let Some(flags) = profile.flags() else {
        let known = names::flags_known(kernel::FLAG_SPEC_ALLOW).os("seccomp", || "probe flags")?;
        return Ok(listener | if known { kernel::FLAG_SPEC_ALLOW } else { 0 });
    };
    let mut all = listener;
    for (index, flag) in flags.iter().enumerate() {
        let reject = |reason: &str| {
            let field = format!("linux.seccomp.flags[{index}]");
            Err(Error::config(field, format!("{flag} {reason}")))
        };
        let Some((_, bits)) = names::FLAGS.iter().find(|(known, _)| known == flag) else {
            return reject("is not supported");
        };
        if !names::flags_known(*bits).os("seccomp", || "probe flags")? {
            return reject("is not supported by this kernel");
        }
        if bits & kernel::FLAG_WAIT_KILLABLE_RECV != 0 && !notify {
            return reject("needs a system call with SCMP_ACT_NOTIFY");
        }
        all |= bits;
    }
    Ok(all)
}
