//! Descriptors that the event loop waits for.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// Lets the event loop of this thread watch when a descriptor becomes readable; of a pidfd, when
/// the process exits.
///
/// # Errors
/// The descriptor and the error of epoll_ctl(2): `EPERM` for a file that cannot be waited for.
pub fn readable(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: an OwnedFd names one open descriptor for as long as it lives, and the AsyncFd owns
    // it: it is unregistered before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
}
