//! The one error type of carob, and how it is given its context.
//!
//! An error names the operation, the object and the errno, once: whoever returns it does not
//! log it, and `main` prints it. The texts of the container states are the ones that clients
//! of runc match (containerd, Podman, CRI-O, buildkit).

use std::{fmt, io};

use nix::errno::Errno;

/// `Result` with carob's [`Error`], where no other is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, split by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container with this id under the state root.
    #[error("container does not exist")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The id is taken: its directory under the state root exists.
    #[error("container with given ID already exists")]
    AlreadyExists {
        /// The id that was asked for.
        id: String,
    },
    /// The operation is not allowed in the current state; `reason` is runc's wording.
    #[error("{reason}")]
    WrongState {
        /// What clients match, e.g. `container not running`.
        reason: String,
    },
    /// The bundle's configuration is invalid; `field` is its JSON path.
    #[error("{field}: {reason}")]
    Config {
        /// JSON path, `linux.namespaces[2].path`.
        field: String,
        /// The value, and what is allowed.
        reason: String,
    },
    /// A kernel interface refused.
    #[error("{op} {target}: {}{}", cause(source), way_out(source))]
    Os {
        /// The call.
        op: &'static str,
        /// The path, pid or fd it acted on.
        target: String,
        /// The errno.
        source: io::Error,
    },
    /// The container's process failed before `execve`.
    #[error("{step}: {cause}")]
    Init {
        /// The row of `init::STEPS` that failed.
        step: String,
        /// The child's own error text.
        cause: String,
    },
    /// Asked for something that this host or this version of carob does not have.
    #[error("{0}")]
    Unsupported(String),
    /// A malformed argument or input; the text names the value and what is allowed.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// An error about one property of `config.json` (or of a process or resources file).
    pub fn config(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Config { field: field.into(), reason: reason.to_string() }
    }

    /// The errno behind the error, where a kernel interface refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// An errno in the words that people and clients know, whatever C library carob is linked with.
fn cause(source: &io::Error) -> String {
    match source.raw_os_error().map(|raw| (raw, Errno::from_raw(raw))) {
        None | Some((_, Errno::UnknownErrno)) => source.to_string(),
        Some((raw, errno)) => format!("{} (os error {raw})", errno.desc()),
    }
}

/// What to do about a system call that is not there.
fn way_out(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => {
            "; carob needs Linux 5.10, and all its calls from a seccomp filter around it"
        }
        _ => "",
    }
}

/// Attaches the operation and its object; `target` is built only on failure.
pub trait OsContext<T> {
    /// Turns an errno into [`Error::Os`].
    ///
    /// # Errors
    /// The failure it was called on, with its context.
    fn os<D: fmt::Display>(self, op: &'static str, target: impl FnOnce() -> D) -> Result<T>;

    /// Turns an errno into [`Error::Config`], where the kernel refused what one property asks
    /// for: its JSON path, and what was tried with which value.
    ///
    /// # Errors
    /// The failure it was called on, with its context.
    fn property<F, D>(self, context: impl FnOnce() -> (F, D)) -> Result<T>
    where
        F: Into<String>,
        D: fmt::Display;
}

impl<T, E: Into<io::Error>> OsContext<T> for std::result::Result<T, E> {
    fn os<D: fmt::Display>(self, op: &'static str, target: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::Os { op, target: target().to_string(), source: e.into() })
    }

    fn property<F, D>(self, context: impl FnOnce() -> (F, D)) -> Result<T>
    where
        F: Into<String>,
        D: fmt::Display,
    {
        self.map_err(|errno| {
            let (field, tried) = context();
            Error::config(field, format!("{tried}: {}", cause(&errno.into())))
        })
    }
}
