//! What a caller without all rights may make.
//!
//! Such a caller has cgroups where somebody has delegated a part of the tree to it, as systemd
//! does for a user's session on cgroup v2, and otherwise none. A container can do without, as long
//! as nothing is asked of them.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use serde::{Deserialize, Serialize};

use super::layout::{self, Hierarchy, Tree};
use super::{Cgroup, plan};
use crate::error::{Error, Result};
use crate::sys::credentials;

/// Of a container made by a caller without all rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limited {
    /// Hierarchies in which the caller may not make the container's cgroup.
    pub(super) denied: Vec<Hierarchy>,
    /// Whether device rules can be set. Where they cannot, no device node can be made either: the
    /// container has those of the host that the caller can open.
    pub(super) devices: bool,
}

/// Who has chosen the place of the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// `linux.cgroupsPath`: a container that cannot be there is not made.
    ByConfiguration,
    /// carob.
    ByDefault,
}

impl Cgroup {
    /// Leaves out the hierarchies in which this process may not make the cgroup. Looks only.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration asks for the place.
    pub fn within_rights(mut self, chosen: Chosen) -> Result<Self> {
        if chosen == Chosen::ByDefault {
            self.prefer_own_tree();
        }
        let all = std::mem::take(&mut self.hierarchies);
        let mut denied = Vec::new();
        for hierarchy in all {
            match may_use(&hierarchy) {
                Ok(()) => self.hierarchies.push(hierarchy),
                Err((errno, place)) if chosen == Chosen::ByConfiguration => {
                    let dir = hierarchy.dir();
                    return Err(Error::config(
                        "linux.cgroupsPath",
                        format!(
                            "{} cannot be used: {place}: {}; {WAY_OUT}",
                            dir.display(),
                            std::io::Error::from(errno)
                        ),
                    ));
                }
                Err(_) => denied.push(hierarchy),
            }
        }
        let devices = !credentials::in_user_namespace() && nix::unistd::geteuid().is_root();
        self.limited = Some(Limited { denied, devices });
        Ok(self)
    }

    /// Whether the container has no cgroup of its own.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// On a pure v2 host a cgroup beside carob's own is better, since that one has processes; but
    /// it may be the only one that is delegated.
    fn prefer_own_tree(&mut self) {
        if !plan::is_pure_v2(&self.hierarchies) {
            return;
        }
        let [unified] = self.hierarchies.as_mut_slice() else { return };
        if may_use(unified).is_ok() {
            return;
        }
        let (Some(own), Some(name)) = (layout::own_unified(), unified.path.file_name()) else {
            return;
        };
        let inside = Hierarchy { path: own.join(name), ..unified.clone() };
        if may_use(&inside).is_ok() {
            *unified = inside;
        }
    }
}

/// What a user can do about it.
pub(super) const WAY_OUT: &str = "leave it out, have a cgroup delegated to you \
    (with systemd: systemd-run --user --scope -p Delegate=yes), or run carob as root";

/// Whether the cgroup can be made, or taken as it is, and entered; else what is in the way.
fn may_use(hierarchy: &Hierarchy) -> std::result::Result<(), (Errno, String)> {
    let may_write = |path: &Path| {
        faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS)
            .map_err(|errno| (errno, path.display().to_string()))
    };
    let dir = hierarchy.dir();
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&hierarchy.mount);
    may_write(existing)?;
    if existing == dir {
        may_write(&dir.join("cgroup.procs"))?;
    }
    if hierarchy.tree == Tree::Unified {
        // Source: cgroup-v2, "Delegation Containment".
        let own = layout::own_unified().unwrap_or_default();
        let common = own.iter().zip(&hierarchy.path).take_while(|(a, b)| a == b).map(|(a, _)| a);
        let common = common.fold(hierarchy.mount.clone(), |path, part| path.join(part));
        may_write(&common.join("cgroup.procs"))?;
    }
    Ok(())
}

/// Why something cannot be done with a container that has no cgroup.
pub(super) fn missing(what: &str) -> Error {
    Error::Unsupported(format!(
        "cannot {what}: the container has no cgroup, since whoever made it may not make any here"
    ))
}
