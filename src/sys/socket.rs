//! Unix sockets: message pairs, passed descriptors, and sockets named below a directory handle.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, setsockopt, socket, socketpair,
    sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::{TimeVal, TimeValLike};

use super::fd::proc_path;

/// A connected pair of sockets that keep message boundaries and tell the death of the peer.
///
/// # Errors
/// `EMFILE`, `ENFILE`. Source: unix(7), SOCK_SEQPACKET.
pub fn message_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Listens for messages on a socket named `name` in the directory `dir`, however long its path is.
/// Nobody but its owner may connect.
///
/// # Errors
/// `EADDRINUSE` if the name exists; errors of bind(2).
pub fn listen_in(dir: impl AsFd + Copy, name: &str) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    // The name gets the mode of the socket.
    fchmod(&fd, Mode::from_bits_truncate(0o600))?;
    bind(fd.as_raw_fd(), &address_in(dir, name)?)?;
    listen(&fd, Backlog::new(1)?)?;
    Ok(fd)
}

/// Connects to a socket made by [`listen_in`].
///
/// # Errors
/// `ECONNREFUSED` if nobody listens any more, `ENOENT` if the name is gone.
pub fn connect_in(dir: impl AsFd + Copy, name: &str) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &address_in(dir, name)?)?;
    Ok(fd)
}

/// Connects to a stream socket of somebody else by its path, e.g. `--console-socket`.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED`, `ENAMETOOLONG` over 107 bytes.
pub fn connect_stream(path: &Path) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Waits for a peer.
///
/// # Errors
/// Errors of accept(2) but `EINTR`, which is tried again.
pub fn accept(listener: impl AsFd) -> nix::Result<OwnedFd> {
    let listener = listener.as_fd().as_raw_fd();
    loop {
        match accept4(listener, SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(fd) => return super::fd::owned(fd.into()),
        }
    }
}

/// Tells the service manager something, `READY=1`. Source: sd_notify(3).
///
/// # Errors
/// Errors of sendto(2), `ENOENT` and `ECONNREFUSED` among them.
pub fn notify(address: &str, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let socket = UnixDatagram::unbound()?;
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

fn address_in(dir: impl AsFd + Copy, name: &str) -> nix::Result<UnixAddr> {
    UnixAddr::new(format!("{}/{name}", proc_path(dir)).as_str())
}

/// Sends one message, with a descriptor if there is one. A dead peer is `EPIPE`, never a signal.
///
/// # Errors
/// Errors of sendmsg(2) but `EINTR`, which is tried again.
pub fn send(socket: impl AsFd, message: &[u8], passed: Option<BorrowedFd>) -> nix::Result<()> {
    let fds: Vec<RawFd> = passed.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let socket = socket.as_fd().as_raw_fd();
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(socket, &[IoSlice::new(message)], control, flags, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Makes [`receive`] give up with `EAGAIN` after some time.
///
/// # Errors
/// Errors of setsockopt(2).
pub fn limit_waits(socket: impl AsFd, limit: Duration) -> nix::Result<()> {
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &limit)
}

/// Receives one message of at most `buffer.len()` bytes and the descriptor that came with it.
///
/// Zero bytes mean that the peer has gone.
///
/// # Errors
/// Errors of recvmsg(2) but `EINTR`, which is tried again; `EMSGSIZE` if it was cut off.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 1]);
    let socket = socket.as_fd().as_raw_fd();
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket, &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut passed = None;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                for fd in fds {
                    // SAFETY: the kernel has just installed `fd` in this process for us alone.
                    passed = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        return Ok((message.bytes, passed));
    }
}

/// Sends one message with any number of descriptors, without waiting for room.
///
/// # Errors
/// `EAGAIN` if the queue is full, `ETOOMANYREFS`, `EPIPE`. Source: sendmsg(2), unix(7).
pub fn send_many(socket: impl AsFd, message: &[u8], passed: &[BorrowedFd]) -> nix::Result<()> {
    let fds: Vec<RawFd> = passed.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let parts = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, control, flags, None).map(drop)
}

/// Takes a message and its descriptors, at most 8, if there is one; does not wait.
///
/// # Errors
/// Errors of recvmsg(2) but `EAGAIN`; `EMSGSIZE` if it was cut off.
pub fn receive_many(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> nix::Result<Option<(usize, Vec<OwnedFd>)>> {
    take_many(socket, buffer, MsgFlags::empty())
}

fn take_many(
    socket: impl AsFd,
    buffer: &mut [u8],
    how: MsgFlags,
) -> nix::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = cmsg_space!([RawFd; 8]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT | how;
    let raw = socket.as_fd().as_raw_fd();
    let message = match recvmsg::<()>(raw, &mut parts, Some(&mut space), flags) {
        Err(Errno::EAGAIN) => return Ok(None),
        other => other?,
    };
    let mut passed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just installed `fd` in this process for us alone.
                passed.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
    if message.flags.intersects(cut) {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Some((message.bytes, passed)))
}

/// As [`receive_many`], but the message stays, and those before it that have `skipped` bytes
/// together are passed over.
///
/// # Errors
/// As [`receive_many`]. Source: socket(7), SO_PEEK_OFF.
pub fn peek_many(
    socket: impl AsFd,
    buffer: &mut [u8],
    skipped: usize,
) -> nix::Result<Option<(usize, Vec<OwnedFd>)>> {
    let offset = i32::try_from(skipped).or(Err(Errno::EOVERFLOW))?;
    let (raw, length) = (socket.as_fd().as_raw_fd(), libc::socklen_t::from(4_u8));
    let value = (&raw const offset).cast();
    // SAFETY: the kernel reads the four bytes of `offset`, which lives until then.
    let set = unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_PEEK_OFF, value, length) };
    Errno::result(set)?;
    take_many(socket, buffer, MsgFlags::MSG_PEEK)
}

/// Waits for a message and returns its length without taking it; 0 if the peer has gone.
///
/// # Errors
/// Errors of recv(2) but `EINTR`, which is tried again.
pub fn next_length(socket: impl AsFd) -> nix::Result<usize> {
    use nix::sys::socket::recv;
    let socket = socket.as_fd().as_raw_fd();
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    loop {
        match recv(socket, &mut [], flags) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Reads one message; 0 if the peer has gone.
///
/// # Errors
/// Errors of read(2) but `EINTR`, which is tried again.
pub fn read(socket: impl AsFd, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        match nix::unistd::read(&socket, buffer) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Sends one message with write(2), in a stream as much of it as goes: a dead peer is `EPIPE`, and
/// SIGPIPE where it is not ignored.
///
/// # Errors
/// Errors of write(2) but `EINTR`, which is tried again.
pub fn write(socket: impl AsFd, message: &[u8]) -> nix::Result<usize> {
    loop {
        match nix::unistd::write(&socket, message) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
