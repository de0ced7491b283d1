//! A cgroup below a container's, whose processes can be ended together.

use std::path::{Component, Path};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::layout::{Hierarchy, Tree};
use super::{Cgroup, kill};
use crate::error::{Error, OsContext, Result};

/// Processes of a container that belong together, e.g. a probe and whatever it has started.
///
/// It is a directory in one hierarchy only, the unified one where there is one: limits stay the
/// container's, and a process that joins it costs nothing more than one that does not. It goes
/// with the container's cgroup.
#[derive(Debug, Clone)]
pub struct Group {
    /// The container's, with one hierarchy moved.
    cgroup: Cgroup,
    /// Which one that is.
    moved: Hierarchy,
}

impl Cgroup {
    /// Makes a cgroup below this one, or takes the one of that name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not a single component; [`Error::Os`].
    pub fn group(&self, name: &str) -> Result<Group> {
        let mut components = Path::new(name).components();
        let (Some(Component::Normal(_)), None) = (components.next(), components.next()) else {
            return Err(Error::Invalid(format!("cgroup name {name:?} is not a single component")));
        };
        let unified = |hierarchy: &&Hierarchy| hierarchy.tree == Tree::Unified;
        let chosen = match self.hierarchies.iter().find(unified) {
            Some(unified) => unified,
            None => self.primary()?,
        };
        let mut cgroup = self.clone();
        let mut moved = chosen.clone();
        moved.path.push(name);
        let path = moved.dir();
        match mkdir(&path, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).os("mkdir cgroup", || path.display()),
        }
        for hierarchy in &mut cgroup.hierarchies {
            if hierarchy.tree == moved.tree {
                *hierarchy = moved.clone();
            }
        }
        Ok(Group { cgroup, moved })
    }
}

impl Group {
    /// Where a process of the group goes.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Kills all its processes. They are dead soon after this returns, and for their parents to
    /// reap.
    ///
    /// # Errors
    /// As [`Cgroup::kill_all`].
    pub fn kill(&self) -> Result<()> {
        kill::all(std::slice::from_ref(&self.moved), &self.moved, libc::SIGKILL)
    }
}
