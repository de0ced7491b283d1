//! Descriptors that must survive a supervisor that is killed: log pipes, terminals, pidfds.
//!
//! They wait as messages in the queues of a socket pair whose two ends are the standard output
//! and error of the pause process, which never touches them. As long as the sandbox lives, no
//! writer of a log gets SIGPIPE, no terminal hangs up, and the exit status of who ends meanwhile
//! can be asked for. The next supervisor copies the ends out of pause and finds all of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, OsContext, Result};
use crate::sys::{process, socket};

/// Longest message, bytes.
const MESSAGE_BYTES: usize = 4096;
/// Where pause has the two ends.
const ENDS: [i32; 2] = [1, 2];

/// What a parked descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// A pidfd of init.
    Init,
    /// The supervisor's end of standard input.
    Stdin,
    /// The supervisor's end of standard output.
    Stdout,
    /// The supervisor's end of standard error.
    Stderr,
    /// The master of the terminal.
    Terminal,
}

/// The descriptors of one instance.
#[derive(Debug)]
pub(super) struct Parked {
    /// Id of the OCI container.
    pub(super) id: String,
    /// What there is.
    pub(super) fds: Vec<(Role, OwnedFd)>,
}

#[derive(Serialize, Deserialize)]
struct Label {
    id: String,
    roles: Vec<Role>,
}

/// The two queues. One holds the complete current set; a new set goes into the other one before
/// the old one is emptied, so that there is no moment at which a descriptor is in neither.
#[derive(Debug)]
pub(super) struct Parking {
    ends: [OwnedFd; 2],
    /// The end into which the next set is sent.
    next: usize,
}

impl Parking {
    /// The ends for a pause process that is to be made.
    pub(super) fn new() -> Result<Self> {
        let (one, other) = socket::message_pair().os("socketpair", || "for parked descriptors")?;
        Ok(Self { ends: [one, other], next: 0 })
    }

    /// The ends of a pause process that lives.
    pub(super) fn of_pause(pause: impl AsFd) -> Result<Self> {
        let copy = |number| {
            process::pidfd_getfd(pause.as_fd(), number)
                .os("pidfd_getfd", || format!("descriptor {number} of the pause process"))
        };
        Ok(Self { ends: [copy(ENDS[0])?, copy(ENDS[1])?], next: 0 })
    }

    /// Copies of the ends, for the standard output and error of pause.
    pub(super) fn for_pause(&self) -> Result<[OwnedFd; 2]> {
        let copy = |end: &OwnedFd| end.try_clone().os("duplicate", || "a parking socket");
        Ok([copy(&self.ends[0])?, copy(&self.ends[1])?])
    }

    /// Replaces what is parked.
    pub(super) fn park<'a>(
        &mut self,
        instances: impl Iterator<Item = (&'a str, Vec<(Role, BorrowedFd<'a>)>)>,
    ) -> Result<()> {
        for (id, fds) in instances {
            let (roles, fds): (Vec<Role>, Vec<BorrowedFd>) = fds.into_iter().unzip();
            let label = serde_json::to_vec(&Label { id: id.to_owned(), roles })
                .map_err(|error| Error::Invalid(format!("label of {id}: {error}")))?;
            socket::send_many(&self.ends[self.next], &label, &fds)
                .os("park descriptors of", || id)?;
        }
        // What was sent from the other end arrives at this one.
        while receive(&self.ends[self.next])?.is_some() {}
        self.next = 1 - self.next;
        Ok(())
    }

    /// Takes everything out, also what a supervisor that was killed while parking left twice.
    pub(super) fn take(&mut self) -> Result<Vec<Parked>> {
        let mut found: Vec<Parked> = Vec::new();
        for end in &self.ends {
            while let Some(parked) = receive(end)? {
                if found.iter().all(|other| other.id != parked.id) {
                    found.push(parked);
                }
            }
        }
        Ok(found)
    }
}

fn receive(end: &OwnedFd) -> Result<Option<Parked>> {
    let mut buffer = [0; MESSAGE_BYTES];
    let message = socket::receive_many(end, &mut buffer).os("take parked descriptors", || "")?;
    let Some((length, fds)) = message else { return Ok(None) };
    if length == 0 {
        // Both ends are ours: it cannot be the end of the stream.
        return Err(Errno::EIO).os("take parked descriptors", || "an empty message");
    }
    let label: Label = serde_json::from_slice(&buffer[..length])
        .map_err(|error| Error::Invalid(format!("parked descriptors: {error}")))?;
    Ok(Some(Parked { id: label.id, fds: label.roles.into_iter().zip(fds).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        nix::unistd::pipe().unwrap()
    }

    #[test]
    fn what_is_parked_last_is_what_is_found() {
        let mut parking = Parking::new().unwrap();
        let (first, _w1) = pipe();
        let (second, w2) = pipe();
        parking.park([("a", vec![(Role::Stdout, first.as_fd())])].into_iter()).unwrap();
        parking.park([("b", vec![(Role::Stdout, second.as_fd())])].into_iter()).unwrap();
        drop((first, second));

        let found = parking.take().unwrap();

        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, "b");
        nix::unistd::write(&w2, b"x").unwrap();
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&found[0].fds[0].1, &mut byte).unwrap(), 1);
    }

    #[test]
    fn fifty_containers_fit() {
        let mut parking = Parking::new().unwrap();
        let (fd, _w) = pipe();
        let names: Vec<String> = (0..50).map(|n| format!("default_pod_container-{n}_0")).collect();
        for _ in 0..3 {
            parking
                .park(names.iter().map(|name| {
                    let roles = [Role::Init, Role::Stdin, Role::Stdout, Role::Stderr];
                    (name.as_str(), roles.map(|role| (role, fd.as_fd())).to_vec())
                }))
                .unwrap();
        }
        let found = parking.take().unwrap();
        assert_eq!(found.len(), 50);
        assert!(found.iter().all(|parked| parked.fds.len() == 4));
    }
}
