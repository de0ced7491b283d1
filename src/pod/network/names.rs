//! Pods find each other by name: `/etc/hosts` of each has a line for each other pod of its network.
//!
//! A file is enough for the pods of one machine: there is no server that could be down, and nothing
//! to wait for. A pod that comes or goes is written into the files of the others, in place, since
//! their containers have them mounted; the part between two marks is ours.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::attachment::{self, Attachment};
use crate::error::{OsContext, Result};
use crate::sys::fd;

const BEGIN: &str = "# Pods of the same network.\n";
const END: &str = "# End of pods.\n";
/// More are not named: each that comes is written into the files of all others.
pub const MOST: usize = 256;
/// Longest file that is changed, bytes.
const FILE_BYTES: u64 = 64 << 10;

/// What a pod is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Its host name.
    pub host: String,
    /// Its namespace: who is in the same needs no more than the host name.
    pub namespace: String,
    /// Its domain, or empty.
    pub domain: String,
}

/// Held while files of a network's pods are written: else one that is just being written could miss
/// one that comes.
///
/// # Errors
/// [`crate::error::Error::Os`].
pub fn lock(network: &Path) -> Result<Option<Flock<File>>> {
    let here = || network.display();
    let dir = match File::open(network) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.os("open", here)?,
    };
    let lock = Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_dir, errno)| errno);
    lock.os("lock", here).map(Some)
}

/// The part of the file of the pod with this state directory. The caller holds [`lock`].
///
/// # Errors
/// [`crate::error::Error::Os`] if the network's directory cannot be read.
pub fn part(network: &Path, state: &Path, namespace: &str) -> Result<String> {
    Ok(text(&named(network)?, state, namespace))
}

/// Brings the files of all pods of a network up to date; what fails is a warning.
pub(super) fn announce(network: &Path) {
    let written = lock(network).and_then(|_lock| {
        let all = named(network)?;
        for one in &all {
            if let Err(error) = write(one, &text(&all, &one.state, &one.names.namespace)) {
                crate::log::warn(error);
            }
        }
        Ok(())
    });
    if let Err(error) = written {
        crate::log::warn(error);
    }
}

fn named(network: &Path) -> Result<Vec<Attachment>> {
    let mut all = attachment::of_network(network)?;
    all.retain(|one| one.result.is_some());
    all.truncate(MOST);
    Ok(all)
}

fn text(all: &[Attachment], state: &Path, namespace: &str) -> String {
    let mut text = BEGIN.to_owned();
    for one in all.iter().filter(|one| one.state != state) {
        let Names { host, namespace: own, domain } = &one.names;
        let mut names = String::new();
        if !domain.is_empty() {
            names += &format!("\t{host}.{domain}");
        }
        if own == namespace {
            names += &format!("\t{host}");
        }
        names += &format!("\t{host}.{own}");
        for ip in one.ips() {
            text += &format!("{ip}{names}\n");
        }
    }
    text + END
}

/// Writes the part into the pod's file, if it has one already and another part in it.
fn write(one: &Attachment, part: &str) -> Result<()> {
    let path = one.state.join("etc/hosts");
    let here = || path.display();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let file = match options.open(&path) {
        // None of its containers has been started.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.os("open", here)?,
    };
    // Containers may have written anything.
    let before = fd::read_bounded(&file, FILE_BYTES, &here())?;
    let before = String::from_utf8_lossy(&before);
    let after = with_part(&before, part);
    if after == before {
        return Ok(());
    }
    // Who reads meanwhile sees old and new lines, but not none.
    file.write_all_at(after.as_bytes(), 0).os("write", here)?;
    file.set_len(after.len() as u64).os("truncate", here)
}

fn with_part(text: &str, part: &str) -> String {
    let marks = text.find(BEGIN).and_then(|begin| {
        let end = text[begin..].find(END)?;
        Some((begin, begin + end + END.len()))
    });
    match marks {
        Some((begin, end)) => format!("{}{part}{}", &text[..begin], &text[end..]),
        None => format!("{text}{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_between_the_marks_is_replaced() {
        let part = format!("{BEGIN}10.0.0.2\tdb\n{END}");
        let empty = format!("{BEGIN}{END}");
        assert_eq!(with_part("a\n", &part), format!("a\n{part}"));
        let full = format!("a\n{part}by hand\n");
        assert_eq!(with_part(&full, &empty), format!("a\n{empty}by hand\n"));
        assert_eq!(with_part(&full, &part), full);
        // A container has cut it off.
        let cut = format!("a\n{BEGIN}10.0");
        assert_eq!(with_part(&cut, &part), format!("{cut}{part}"));
    }

    #[test]
    fn a_pod_of_another_namespace_needs_its_namespace() {
        let attachment = |name: &str, namespace: &str, domain: &str| {
            serde_json::from_value::<Attachment>(serde_json::json!({
                "list": {"name": "n", "version": "1.0.0", "disable_check": false,
                    "disable_gc": false, "plugins": []},
                "place": {"id": name, "interface": "eth0", "args": "", "capabilities": {}},
                "plugins": [], "timeout": {"secs": 1, "nanos": 0}, "state": format!("/{name}"),
                "names": {"host": name, "namespace": namespace, "domain": domain},
                "result": {"ips": [{"address": "10.0.0.2/16"}, {"address": "fd00::2/64"}]},
            }))
            .unwrap()
        };
        let all = [
            attachment("web", "a", ""),
            attachment("db", "a", "s.a.svc.cluster.local"),
            attachment("far", "b", ""),
        ];
        assert_eq!(
            text(&all, Path::new("/web"), "a"),
            format!(
                "{BEGIN}10.0.0.2\tdb.s.a.svc.cluster.local\tdb\tdb.a\n\
                 fd00::2\tdb.s.a.svc.cluster.local\tdb\tdb.a\n\
                 10.0.0.2\tfar.b\nfd00::2\tfar.b\n{END}"
            )
        );
    }
}
