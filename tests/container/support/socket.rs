//! Unix sockets on which a runtime hands over descriptors: console socket, seccomp listener.

use super::wait_until;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens where a runtime will connect.
pub fn listen(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Accepts one connection and receives one message: its bytes and its descriptors.
pub fn receive(listener: &UnixListener) -> (Vec<u8>, Vec<OwnedFd>) {
    let stream = accept(listener);
    let mut space = cmsg_space!([RawFd; 8]);
    let mut bytes = vec![0; 1 << 16];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())
            .unwrap();
    let mut fds = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(raw) = control {
            fds.extend(raw.into_iter().map(own));
        }
    }
    let len = message.bytes;
    bytes.truncate(len);
    (bytes, fds)
}

fn accept(listener: &UnixListener) -> UnixStream {
    let stream = wait_until("a connection", || match listener.accept() {
        Ok((stream, _)) => Ok(stream),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err("none".to_owned()),
        Err(e) => panic!("accept: {e}"),
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

#[expect(unsafe_code, reason = "SCM_RIGHTS carries bare numbers")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: recvmsg has just installed `fd` in this process; nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
