//! What a program of this kind owes to itself before anything else.
//!
//! Rust's own start does the same and more, in twenty system calls: it reads `/proc/self/maps` for
//! the message about an overflowing stack. Without it the kernel ends the process all the same.

use std::os::fd::{BorrowedFd, IntoRawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

/// Call it first, once.
///
/// Standard streams that the caller has closed are the null device from here on: the next file that
/// is opened would take their numbers, and what is printed would go into it. A reader who has left
/// is an error of write(2), not a death by SIGPIPE.
///
/// # Errors
/// Errors of poll(2) and of open(2) for `/dev/null`.
pub fn prepare() -> nix::Result<()> {
    // SAFETY: poll(2) takes numbers; it tells of those that are not open.
    let standard = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let mut streams = standard.map(|stream| PollFd::new(stream, PollFlags::empty()));
    while let Err(errno) = poll(&mut streams, PollTimeout::ZERO) {
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
    let is_closed = |stream: &PollFd| {
        stream.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL))
    };
    for _closed in streams.iter().filter(|stream| is_closed(stream)) {
        // The lowest number that is free is that of the first of them.
        let _stays = open("/dev/null", OFlag::O_RDWR, Mode::empty())?.into_raw_fd();
    }
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    Ok(())
}
