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
    /// Either queue may hold what another supervisor has left.
    inherited: bool,
}

/// An instance and its descriptors.
pub(super) type Instance<'a> = (&'a str, Vec<(Role, BorrowedFd<'a>)>);

impl Parking {
    /// The ends for a pause process that is to be made.
    pub(super) fn new() -> Result<Self> {
        let (one, other) = socket::message_pair().os("socketpair", || "for parked descriptors")?;
        Ok(Self { ends: [one, other], next: 0, inherited: false })
    }

    /// The ends of a pause process that lives.
    pub(super) fn of_pause(pause: impl AsFd) -> Result<Self> {
        let copy = |number| {
            process::pidfd_getfd(pause.as_fd(), number)
                .os("pidfd_getfd", || format!("descriptor {number} of the pause process"))
        };
        Ok(Self { ends: [copy(ENDS[0])?, copy(ENDS[1])?], next: 0, inherited: true })
    }

    /// Copies of the ends, for the standard output and error of pause.
    pub(super) fn for_pause(&self) -> Result<[OwnedFd; 2]> {
        let copy = |end: &OwnedFd| end.try_clone().os("duplicate", || "a parking socket");
        Ok([copy(&self.ends[0])?, copy(&self.ends[1])?])
    }

    /// Replaces what is parked.
    pub(super) fn park<'a>(&mut self, instances: impl Iterator<Item = Instance<'a>>) -> Result<()> {
        let instances: Vec<Instance> = instances.collect();
        if self.inherited {
            // Behind what is in one queue; after the other one has been emptied that goes too.
            self.replace(&instances)?;
            self.inherited = false;
        }
        self.replace(&instances)
    }

    fn replace(&mut self, instances: &[Instance]) -> Result<()> {
        let sent = instances.iter().try_for_each(|(id, fds)| self.send(id, fds));
        if sent.is_err() {
            // Half a set would be in the way of the next one.
            self.empty(1 - self.next)?;
            return sent;
        }
        // What was sent from the other end arrives at this one.
        self.empty(self.next)?;
        self.next = 1 - self.next;
        Ok(())
    }

    fn send(&self, id: &str, fds: &[(Role, BorrowedFd)]) -> Result<()> {
        let (roles, fds): (Vec<Role>, Vec<BorrowedFd>) = fds.iter().copied().unzip();
        let label = serde_json::to_vec(&Label { id: id.to_owned(), roles })
            .map_err(|error| Error::Invalid(format!("label of {id}: {error}")))?;
        socket::send_many(&self.ends[self.next], &label, &fds).os("park descriptors of", || id)
    }

    fn empty(&self, end: usize) -> Result<()> {
        let mut buffer = [0; MESSAGE_BYTES];
        loop {
            let message = socket::receive_many(&self.ends[end], &mut buffer);
            if message.os("take parked descriptors", || "")?.is_none() {
                return Ok(());
            }
        }
    }

    /// Copies of everything that is parked, which stays: who looks may be killed as well. What a
    /// supervisor that was killed while parking left twice is found once.
    pub(super) fn look(&self) -> Result<Vec<Parked>> {
        let mut found: Vec<Parked> = Vec::new();
        for end in &self.ends {
            let mut skipped = 0;
            while let Some((length, parked)) = peek(end, skipped)? {
                skipped += length;
                if found.iter().all(|other| other.id != parked.id) {
                    found.push(parked);
                }
            }
        }
        Ok(found)
    }
}

fn peek(end: &OwnedFd, skipped: usize) -> Result<Option<(usize, Parked)>> {
    let mut buffer = [0; MESSAGE_BYTES];
    let message = socket::peek_many(end, &mut buffer, skipped);
    let message = message.os("copy parked descriptors", || "")?;
    let Some((length, fds)) = message else { return Ok(None) };
    if length == 0 {
        // Both ends are ours: it cannot be the end of the stream.
        return Err(Errno::EIO).os("copy parked descriptors", || "an empty message");
    }
    let label: Label = serde_json::from_slice(&buffer[..length])
        .map_err(|error| Error::Invalid(format!("parked descriptors: {error}")))?;
    let fds = label.roles.into_iter().zip(fds).collect();
    Ok(Some((length, Parked { id: label.id, fds })))
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

        let found = parking.look().unwrap();

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
        let found = parking.look().unwrap();
        assert_eq!(found.len(), 50);
        assert!(found.iter().all(|parked| parked.fds.len() == 4));
    }

    /// What the next supervisor gets: the same queues, about which it knows nothing.
    fn inherit(parking: &Parking) -> Parking {
        let ends = parking.for_pause().unwrap();
        Parking { ends, next: 0, inherited: true }
    }

    fn ids(parking: &Parking) -> Vec<String> {
        parking.look().unwrap().into_iter().map(|parked| parked.id).collect()
    }

    #[test]
    fn looking_leaves_everything_for_whoever_comes_next() {
        let (fd, _w) = pipe();
        for rounds in 1..4 {
            let mut parking = Parking::new().unwrap();
            let set = |ids: &[&'static str]| -> Vec<Instance> {
                ids.iter().map(|id| (*id, vec![(Role::Stdout, fd.as_fd())])).collect()
            };
            for _ in 0..rounds {
                parking.park(set(&["a", "b"]).into_iter()).unwrap();
            }
            let mut next = inherit(&parking);
            assert_eq!(ids(&next), ["a", "b"]);
            assert_eq!(ids(&next), ["a", "b"], "as often as one likes");
            next.park(set(&["b", "c"]).into_iter()).unwrap();
            assert_eq!(ids(&next), ["b", "c"], "nothing is left of the old set");
            let last = inherit(&next);
            // Killed in the middle of parking: both queues hold something.
            last.send("d", &[(Role::Stdout, fd.as_fd())]).unwrap();
            let mut last = inherit(&last);
            assert_eq!(last.look().unwrap().len(), 3);
            last.park(set(&["d"]).into_iter()).unwrap();
            assert_eq!(ids(&last), ["d"]);
        }
    }
}
