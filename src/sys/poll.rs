//! Descriptors that the event loop waits for.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::signalfd::SignalFd;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// A value that keeps one descriptor open, always the same, for as long as it lives.
pub trait Held: AsRawFd {}

impl Held for OwnedFd {}
impl Held for Rc<OwnedFd> {}
impl Held for SignalFd {}

/// Lets the event loop of this thread watch when a descriptor becomes readable; of a pidfd, when
/// the process exits.
///
/// # Errors
/// The descriptor and the error of epoll_ctl(2): `EPERM` for a file that cannot be waited for,
/// `EEXIST` for one that is being waited for already.
pub fn readable<F: Held>(fd: F) -> Result<AsyncFd<F>, AsyncFdRegisterError<F>> {
    watch(fd, Interest::READABLE)
}

/// As [`readable`], for writing.
///
/// # Errors
/// As [`readable`].
pub fn writable<F: Held>(fd: F) -> Result<AsyncFd<F>, AsyncFdRegisterError<F>> {
    watch(fd, Interest::WRITABLE)
}

fn watch<F: Held>(fd: F, interest: Interest) -> Result<AsyncFd<F>, AsyncFdRegisterError<F>> {
    // SAFETY: what is `Held` names one open descriptor for as long as it lives, and the AsyncFd
    // owns it: it is unregistered before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, interest) }
}
