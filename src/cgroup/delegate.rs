//! Gives a container's part of the unified tree to the user it runs as.

use std::fs;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};

use super::Cgroup;
use super::dir::Dir;
use super::layout::{Hierarchy, Tree};
use crate::error::{OsContext, Result};

/// What may be given away according to the kernel, one name per line.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// The same for kernels that do not tell (before 4.15). Source: cgroup-v2, Model of Delegation.
const NAMES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes `owner` the owner of the directory, and of the files in it by which processes are
    /// moved and controllers passed down. Limits stay whose they are.
    ///
    /// Does nothing where there are v1 hierarchies, which cannot be given away safely.
    ///
    /// # Errors
    /// [`Error::Os`](crate::error::Error::Os) if the owner may not be changed.
    ///
    /// Source: runtime-spec, config-linux.md, Cgroup ownership.
    pub fn give_to(&self, owner: Uid) -> Result<()> {
        let [Hierarchy { tree: Tree::Unified, .. }] = self.hierarchies.as_slice() else {
            return Ok(());
        };
        let dir = Dir::open(self.hierarchies[0].dir())?;
        let names = fs::read_to_string(LIST).unwrap_or_else(|_| NAMES.to_owned());
        // The directory, under no name, last: what its owner makes in it is not touched.
        for name in names.lines().chain([""]) {
            let flags = match name {
                "" => AtFlags::AT_EMPTY_PATH,
                _ => AtFlags::AT_SYMLINK_NOFOLLOW,
            };
            match fchownat(dir.fd(), name, Some(owner), None, flags) {
                // ENOENT: the list has all that this kernel knows, not what is turned on here.
                // EPERM: who is not root has nothing to give; the container can do without.
                Ok(()) | Err(Errno::ENOENT | Errno::EPERM) => {}
                Err(errno) => {
                    return Err(errno).os("chown", || format!("{}/{name}", dir.path().display()));
                }
            }
        }
        Ok(())
    }
}
