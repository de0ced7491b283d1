//! sd_notify: a container's readiness, passed on to whoever waits for carob's.
//!
//! The service manager knows carob, not the container, and its socket is not in there. So the
//! container gets a socket of its own, and carob repeats what matters. Source: sd_notify(3).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;

use super::store::ContainerDir;
use crate::error::{OsContext, Result};

/// The directory in the container's state that is mounted into it.
pub(super) const DIRECTORY: &str = "notify";
/// Where it is mounted.
pub(super) const MOUNT_POINT: &str = "/run/notify";
/// What the container's process is told.
pub(super) const ENVIRONMENT: &str = "NOTIFY_SOCKET=/run/notify/notify.sock";
const SOCKET: &str = "notify.sock";
/// How long the service manager may take to read what a process that ends has said.
const BARRIER: Duration = Duration::from_secs(5);

/// Listens to the container on behalf of the service manager.
#[derive(Debug)]
pub(super) struct Notify {
    container: UnixDatagram,
    manager: UnixDatagram,
}

/// The socket of the service manager, if carob was given one.
pub(super) fn manager_socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Notify {
    /// Opens both ends; `None` if nobody waits or the container was made without it.
    pub(super) fn open(dir: &ContainerDir) -> Result<Option<Self>> {
        let Some(manager) = manager_socket() else { return Ok(None) };
        let directory = dir.path.join(DIRECTORY);
        if !directory.exists() {
            return Ok(None);
        }
        let path = directory.join(SOCKET);
        let container = UnixDatagram::bind(&path).os("bind", || path.display())?;
        // The container's user is nobody in particular.
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, everybody).os("chmod", || path.display())?;
        Ok(Some(Self { container, manager: connect(&manager)? }))
    }

    /// Polls readable when the container says something.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }

    /// Reads one message and passes readiness on; returns whether it was that.
    pub(super) fn forward(&self, main: Pid) -> Result<bool> {
        let context = || "a message of the container";
        let mut buffer = [0; 4096];
        let length = self.container.recv(&mut buffer).os("receive", context)?;
        let message = String::from_utf8_lossy(&buffer[..length]);
        let Some(ready) = message.lines().find(|line| line.starts_with("READY=")) else {
            return Ok(false);
        };
        let text = format!("MAINPID={main}\n{ready}\n");
        self.manager.send(text.as_bytes()).os("send", || "readiness to the service manager")?;
        self.barrier().os("send", || "a barrier to the service manager")?;
        Ok(true)
    }

    /// Blocks until the container is ready or its init has exited.
    pub(super) fn wait(&self, init: &OwnedFd, main: Pid) -> Result<()> {
        loop {
            let input = PollFlags::POLLIN;
            let mut fds = [PollFd::new(self.fd(), input), PollFd::new(init.as_fd(), input)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.os("poll", || "the notify socket")?,
            };
            let [said, exited] = fds.map(|fd| fd.any().unwrap_or(false));
            if (said && self.forward(main)?) || exited {
                return Ok(());
            }
        }
    }

    /// The manager closes the descriptor that comes with it when it has read all before it.
    fn barrier(&self) -> nix::Result<()> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let fds = [write.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let message = [IoSlice::new(b"BARRIER=1")];
        sendmsg::<()>(self.manager.as_raw_fd(), &message, &rights, MsgFlags::empty(), None)?;
        drop(write);
        let mut fds = [PollFd::new(read.as_fd(), PollFlags::empty())];
        let timeout = PollTimeout::try_from(BARRIER).unwrap_or(PollTimeout::MAX);
        // A manager that knows no barriers is not waited for any longer.
        poll(&mut fds, timeout).map(drop)
    }
}

/// A leading `@` means the abstract namespace.
fn connect(path: &Path) -> Result<UnixDatagram> {
    let here = || path.display();
    let address = match path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    let socket = UnixDatagram::unbound().os("make a socket for", here)?;
    let connected = address.and_then(|address| socket.connect_addr(&address));
    connected.os("connect to the service manager at", here)?;
    Ok(socket)
}
