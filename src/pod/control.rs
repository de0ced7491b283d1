//! What the command line and the supervisor say to each other: one message a request, one a
//! reply, over a socket that only root can reach.
//!
//! After `Attach` the connection is a stream of frames, [`Frame`], until either side closes it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::store::PodDirs;
use crate::error::{Error, OsContext, Result};
use crate::sys::socket;

/// Name of the socket in the pod's directory.
pub const SOCKET: &str = "control";
/// Longest message, bytes.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// What a verb asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// End the pod; the reply comes at once, the end shows in the record.
    Stop {
        /// Instead of the manifest's.
        grace_seconds: Option<u32>,
    },
    /// `pod.json` has changed: bring the volumes up to date.
    Apply,
    /// Another process wants to be the supervisor: leave everything to it.
    Yield,
    /// Join the standard streams of a container.
    Attach {
        /// Which one.
        container: String,
        /// Whether frames of standard input will be sent.
        stdin: bool,
    },
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is being done.
    Done,
    /// Frames follow.
    Attached {
        /// Whether the container has a terminal.
        terminal: bool,
    },
    /// Why not.
    Refused(String),
}

/// A message of an attached connection: a kind, then the content.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// For standard input; empty is its end.
    Stdin(&'a [u8]),
    /// From standard output.
    Stdout(&'a [u8]),
    /// From standard error.
    Stderr(&'a [u8]),
    /// The size of the caller's terminal: rows, columns.
    Size(u16, u16),
}

impl<'a> Frame<'a> {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let with = |kind: u8, content: &[u8]| [&[kind], content].concat();
        match self {
            Self::Stdin(content) => with(0, content),
            Self::Stdout(content) => with(1, content),
            Self::Stderr(content) => with(2, content),
            Self::Size(rows, columns) => {
                with(3, &[rows.to_be_bytes(), columns.to_be_bytes()].concat())
            }
        }
    }

    /// Reads a message; `None` if it is none.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (kind, content) = message.split_first()?;
        match (kind, content) {
            (0, content) => Some(Self::Stdin(content)),
            (1, content) => Some(Self::Stdout(content)),
            (2, content) => Some(Self::Stderr(content)),
            (3, &[r1, r2, c1, c2]) => {
                Some(Self::Size(u16::from_be_bytes([r1, r2]), u16::from_be_bytes([c1, c2])))
            }
            _ => None,
        }
    }
}

/// A verb's connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects; `None` if there is no supervisor.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn open(dirs: &PodDirs) -> Result<Option<Self>> {
        let dir = open_dir(&dirs.state)?;
        match socket::connect_in(&dir, SOCKET) {
            Ok(socket) => Ok(Some(Self { socket })),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
            Err(errno) => {
                Err(errno).os("connect to", || dirs.state.join(SOCKET).display().to_string())
            }
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the supervisor's reason if it refuses; [`Error::Os`].
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let text = encode(request)?;
        socket::send(&self.socket, &text, None).os("send to", || "the supervisor")?;
        let mut buffer = vec![0; MESSAGE_BYTES];
        let length = socket::read(&self.socket, &mut buffer).os("hear", || "the supervisor")?;
        if length == 0 {
            return Err(Error::Invalid("the supervisor has died; try again".into()));
        }
        match serde_json::from_slice(&buffer[..length]) {
            Ok(Reply::Refused(why)) => Err(Error::Invalid(why)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::Invalid(format!("answer of the supervisor: {error}"))),
        }
    }

    /// For frames, after [`Reply::Attached`].
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// Listens on the pod's socket; one that a killed supervisor left is replaced.
///
/// # Errors
/// [`Error::Os`].
pub(super) fn listen(dirs: &PodDirs) -> Result<OwnedFd> {
    let path = dirs.state.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).os("remove", || path.display());
        }
        _ => {}
    }
    let dir = open_dir(&dirs.state)?;
    socket::listen_in(&dir, SOCKET).os("listen on", || path.display())
}

/// A request or reply as it travels.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(|error| Error::Invalid(format!("message: {error}")))
}

fn open_dir(path: &Path) -> Result<File> {
    File::open(path).os("open", || path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_travel() {
        for frame in [
            Frame::Stdin(b""),
            Frame::Stdin(b"x"),
            Frame::Stdout(b"\xff\x00"),
            Frame::Stderr(b"e"),
            Frame::Size(24, 80),
        ] {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        assert_eq!(Frame::decode(b""), None);
        assert_eq!(Frame::decode(&[9, 1]), None);
        assert_eq!(Frame::decode(&[3, 1]), None);
    }
}
