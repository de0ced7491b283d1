//! Starting a supervisor: another `carob`, in a session of its own, that outlives its maker.

use std::ffi::{CString, OsStr};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::sched::CloneFlags;

use crate::container::Runtime;
use crate::error::{Error, OsContext, Result};
use crate::pod::store::PodDirs;
use crate::sys::process::{self, CloneTarget, Cloned};

/// The hidden verb.
pub const VERB: &str = "supervise";
/// Its messages; one run replaces those of the one before.
const LOG: &str = "supervisor.log";
/// What of the caller's environment a supervisor gets: not its secrets. Most of it is for pulls.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "XDG_RUNTIME_DIR",
    "TZ",
    "RUST_BACKTRACE",
    "HOME",
    "XDG_CONFIG_HOME",
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "CONTAINERS_REGISTRIES_CONF",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Starts a supervisor for a pod and waits until it has taken the pod over.
///
/// One that is there already is fine.
///
/// # Errors
/// [`Error::Invalid`] with what the supervisor said if it could not start.
pub fn spawn(runtime: &Runtime, dirs: &PodDirs) -> Result<()> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).os("pipe", || "")?;
    let log = dirs.state.join(LOG);
    let log = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_APPEND)
        .open(&log)
        .os("create", || log.display())?;
    let null = std::fs::File::open("/dev/null").os("open", || "/dev/null")?;
    let arguments = arguments(runtime, dirs)?;
    let environment = environment()?;
    let cloned = process::clone3(CloneFlags::empty(), &CloneTarget::default());
    match cloned.os("clone3", || "the supervisor")? {
        Cloned::Parent(_child) => {
            drop(theirs);
            hear(ours)
        }
        Cloned::Child => {
            drop(ours);
            let cause = become_supervisor(&Streams { null, log, theirs }, &arguments, &environment);
            process::exit_now(i32::from(cause.is_err()))
        }
    }
}

struct Streams {
    null: std::fs::File,
    log: std::fs::File,
    theirs: OwnedFd,
}

/// The last steps in the child; its standard input is where it reports that it is ready.
fn become_supervisor(
    streams: &Streams,
    arguments: &[CString],
    environment: &[CString],
) -> nix::Result<()> {
    nix::unistd::setsid()?;
    nix::unistd::dup2_stdin(&streams.theirs)?;
    nix::unistd::dup2_stdout(&streams.null)?;
    nix::unistd::dup2_stderr(&streams.log)?;
    nix::unistd::chdir("/")?;
    process::reset_signals();
    Err(process::execve(c"/proc/self/exe", arguments, environment))
}

fn arguments(runtime: &Runtime, dirs: &PodDirs) -> Result<Vec<CString>> {
    let words: [&OsStr; 6] = [
        "carob".as_ref(),
        "--root".as_ref(),
        runtime.root.as_ref(),
        "pod".as_ref(),
        VERB.as_ref(),
        dirs.state.as_ref(),
    ];
    words.into_iter().map(c_string).collect()
}

pub(super) fn environment() -> Result<Vec<CString>> {
    let mut kept = Vec::new();
    for key in ENVIRONMENT {
        if let Some(value) = std::env::var_os(key) {
            let mut entry = std::ffi::OsString::from(format!("{key}="));
            entry.push(value);
            kept.push(c_string(&entry)?);
        }
    }
    Ok(kept)
}

pub(super) fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|error| Error::Invalid(format!("{text:?}: {error}")))
}

/// Nothing is good news; anything else is why it gave up.
fn hear(ours: OwnedFd) -> Result<()> {
    let mut text = String::new();
    std::fs::File::from(ours)
        .take(16 << 10)
        .read_to_string(&mut text)
        .os("hear", || "the supervisor")?;
    match text.trim() {
        super::READY => Ok(()),
        "" => Err(Error::Invalid(format!("the supervisor died at once; see its {LOG}"))),
        why => Err(Error::Invalid(why.to_owned())),
    }
}

/// In the supervisor: where it says that it has taken over, or why not. Who started it waits for the
/// end of that, which must not be in the hands of a process that is started meanwhile.
pub(super) struct Report(Option<OwnedFd>);

impl Report {
    /// To the verb that has started it, in place of standard input.
    pub(super) fn to_verb() -> Result<Self> {
        let end = process::STDIN.try_clone_to_owned().os("dup", || "stdin")?;
        let null = std::fs::File::open("/dev/null").os("open", || "/dev/null")?;
        nix::unistd::dup2_stdin(null).os("dup2", || "/dev/null")?;
        Ok(Self(Some(end)))
    }

    /// To nobody.
    pub(super) fn to_nobody() -> Self {
        Self(None)
    }

    /// Says it, the first time.
    pub(super) fn say(&mut self, text: &str) {
        if let Some(end) = self.0.take() {
            // Who started us may be gone.
            let _reader_left = nix::unistd::write(&end, text.as_bytes());
        }
    }
}
