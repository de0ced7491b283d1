//! Cgroups below a container's, which the container has made.

use std::borrow::Cow;
use std::path::{Component, Path};

use super::layout::{Hierarchy, Tree};
use super::{Cgroup, layout};
use crate::error::{Error, Result};

impl Cgroup {
    /// A cgroup below the container's, for `exec --cgroup [controller,…:]path`.
    ///
    /// Each element moves the named v1 hierarchies, or all of them. Hierarchies not named stay
    /// at the container's own cgroup.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that leaves the container's cgroup, does not exist, or names
    /// a controller that this host does not have.
    pub fn sub(&self, sub_cgroups: &[String]) -> Result<Cow<'_, Self>> {
        let mut below = Cow::Borrowed(self);
        for argument in sub_cgroups {
            below.to_mut().descend(self, argument)?;
        }
        Ok(below)
    }

    fn descend(&mut self, container: &Self, argument: &str) -> Result<()> {
        let bad = |why: &str| Error::Invalid(format!("--cgroup {argument:?}: {why}"));
        let (names, path) = match argument.split_once(':') {
            Some((names, path)) => (Some(names), path),
            None => (None, argument),
        };
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            return Err(bad("bad sub cgroup path, .. would leave the container's cgroup"));
        }
        let path = layout::clean(Path::new(path));
        let chosen = |hierarchy: &Hierarchy, name: &str| match &hierarchy.tree {
            Tree::V1(list) => list.split(',').any(|one| one == name),
            Tree::Unified => false,
        };
        for name in names.iter().flat_map(|names| names.split(',')) {
            if !container.hierarchies.iter().any(|hierarchy| chosen(hierarchy, name)) {
                return Err(bad(&format!("no v1 hierarchy has the controller {name:?}")));
            }
        }
        for (mine, own) in self.hierarchies.iter_mut().zip(&container.hierarchies) {
            if names.is_none_or(|names| names.split(',').any(|name| chosen(own, name))) {
                mine.path = own.path.join(&path);
                if !mine.dir().is_dir() {
                    return Err(bad(&format!("{} does not exist", mine.dir().display())));
                }
            }
        }
        Ok(())
    }
}
