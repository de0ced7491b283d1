//! The loopback interface of a new network namespace, and sockets made in one.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Error, OsContext};

/// Why work was not done in another network namespace.
#[derive(Debug)]
pub enum Abroad {
    /// It could not be entered.
    Refused(Error),
    /// The way back was refused: this thread is in the wrong network namespace.
    Stranded(Error),
}

impl From<Abroad> for Error {
    fn from(abroad: Abroad) -> Self {
        match abroad {
            Abroad::Refused(error) | Abroad::Stranded(error) => error,
        }
    }
}

/// Calls `work` in a network namespace, for the sockets it makes: they stay there for good.
///
/// # Errors
/// [`Abroad`] with [`Error::Os`]; `EPERM` without CAP_SYS_ADMIN there. Source: setns(2).
pub fn within<T>(netns: BorrowedFd, work: impl FnOnce() -> T) -> Result<T, Abroad> {
    const OWN: &str = "/proc/thread-self/ns/net";
    let own = File::open(OWN).os("open", || OWN).map_err(Abroad::Refused)?;
    setns(netns, CloneFlags::CLONE_NEWNET)
        .os("setns", || "another network namespace")
        .map_err(Abroad::Refused)?;
    let made = work();
    // Only for want of memory; a second try costs nothing.
    setns(&own, CloneFlags::CLONE_NEWNET)
        .or_else(|_| setns(&own, CloneFlags::CLONE_NEWNET))
        .os("setns", || "back to the own network namespace")
        .map_err(Abroad::Stranded)?;
    Ok(made)
}

/// Brings `lo` up in this process's network namespace.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN there. Source: netdevice(7), SIOCSIFFLAGS.
pub fn loopback_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).or(Err(Errno::EINVAL))?;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }.map(drop)
}

nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);
