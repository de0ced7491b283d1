//! A cgroup below a container's, whose processes can be ended together.

use std::cell::{Cell, OnceCell};
use std::path::{Component, Path};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use super::layout::{Hierarchy, Tree};
use super::{Cgroup, Join, kill};
use crate::error::{Error, OsContext, Result};

/// How many of one name may be dying at the same time.
const MAX_DYING: u32 = 100;

/// Processes of a container that belong together, e.g. a probe and whatever it has started.
///
/// It is a directory in one hierarchy only, the unified one where there is one: limits stay the
/// container's, and a process that joins it costs nothing more than one that does not. It goes
/// with the container's cgroup.
#[derive(Debug)]
pub struct Group {
    /// The container's, with one hierarchy moved.
    cgroup: Cgroup,
    /// Which one that is.
    moved: Hierarchy,
    /// Opened for the first process, and used by all.
    joined: OnceCell<Rc<Join>>,
    is_killed: Cell<bool>,
}

impl Cgroup {
    /// Makes a cgroup below this one, with this name or one that begins with it. An empty one of
    /// the name is taken away: nobody else may be using it.
    ///
    /// Never one that has been there before: whatever is cloned into a cgroup (CLONE_INTO_CGROUP)
    /// in which `cgroup.kill` was ever written is killed at once, since Linux 6.14.
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
        for number in 1.. {
            let path = moved.dir();
            remove_if_empty(&path);
            match mkdir(&path, Mode::from_bits_truncate(0o755)) {
                Ok(()) => break,
                // With processes that are still dying.
                Err(Errno::EEXIST) if number <= MAX_DYING => {
                    moved.path.set_file_name(format!("{name}.{number}"));
                }
                Err(errno) => return Err(errno).os("mkdir cgroup", || path.display()),
            }
        }
        for hierarchy in &mut cgroup.hierarchies {
            if hierarchy.tree == moved.tree {
                *hierarchy = moved.clone();
            }
        }
        Ok(Group { cgroup, moved, joined: OnceCell::new(), is_killed: Cell::new(false) })
    }
}

impl Group {
    /// What a process needs to enter; opened once.
    ///
    /// # Errors
    /// [`Error::Os`] if one of the directories is missing.
    pub fn join(&self) -> Result<Rc<Join>> {
        if let Some(joined) = self.joined.get() {
            return Ok(Rc::clone(joined));
        }
        let joined = Rc::new(self.cgroup.join()?);
        Ok(Rc::clone(self.joined.get_or_init(|| joined)))
    }

    /// Kills all its processes. They are dead soon after this returns, and for their parents to
    /// reap. Nothing may be started in it any more.
    ///
    /// # Errors
    /// As [`Cgroup::kill_all`].
    pub fn kill(&self) -> Result<()> {
        self.is_killed.set(true);
        kill::all(std::slice::from_ref(&self.moved), &self.moved, libc::SIGKILL)?;
        remove_if_empty(&self.moved.dir());
        Ok(())
    }

    /// Whether processes can still be started in it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.is_killed.get()
    }
}

fn remove_if_empty(path: &Path) {
    // ENOENT, or EBUSY: somebody is inside. It goes with the container then.
    let _stays = unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir);
}
