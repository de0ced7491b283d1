//! Makes the cgroup of a container: at once, or in part beside its init.

use oci_spec::runtime::LinuxResources;

use super::controller::Controller;
use super::dir::Dir;
use super::layout::{Hierarchy, Tree};
use super::make::{self, Enable, Leaf, Made};
use super::plan::{self, Plan, Scope};
use super::{Cgroup, apply, freezer, walk};
use crate::error::{Error, Result};

/// A cgroup of which the unified tree has its part, and the hierarchies of v1 do not yet.
#[derive(Debug)]
pub struct Creation {
    plan: Plan,
    made: Made,
}

impl Creation {
    /// Removes what was made. What somebody else uses by now stays.
    pub fn undo(self) {
        self.made.undo();
    }
}

impl Cgroup {
    /// Makes the directories, joins those that exist, and writes limits and device rules.
    ///
    /// Without resources the device rules of every container still apply. On failure, what was
    /// made is removed; later, [`Cgroup::take_back`] does that.
    ///
    /// # Errors
    /// As [`Cgroup::check`]; [`Error::Invalid`] for a cgroup that is in use or frozen;
    /// [`Error::Os`] naming file, value and JSON path where the kernel refuses.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<Made> {
        self.begin(resources, |_| true).map(|creation| creation.made)
    }

    /// Whether there is more than the unified tree, so that what is in there can wait for the rest.
    #[must_use]
    pub fn is_hybrid(&self) -> bool {
        let unified = self.hierarchies.iter().filter(|one| one.tree == Tree::Unified).count();
        (1..self.hierarchies.len()).contains(&unified)
    }

    /// As [`Cgroup::create`], in the unified tree alone: a process that is cloned into it can make
    /// its namespaces while [`Cgroup::create_rest`] makes the rest.
    ///
    /// # Errors
    /// As there.
    pub fn create_unified(&self, resources: Option<&LinuxResources>) -> Result<Creation> {
        // The one by which `delete` would find what it ends, should the rest never be made.
        let primary = self.primary()?;
        if primary.dir().exists() {
            refuse_in_use(primary)?;
        }
        self.begin(resources, |hierarchy| hierarchy.tree == Tree::Unified)
    }

    /// What [`Cgroup::create_unified`] has left out; returns what both have made. On failure nothing
    /// is removed.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn create_rest(&self, Creation { plan, made }: &mut Creation) -> Result<Made> {
        let is_rest = |hierarchy: &Hierarchy| hierarchy.tree != Tree::Unified;
        self.fill(plan, made, is_rest, refuse_in_use)?;
        Ok(std::mem::take(made))
    }

    fn begin(
        &self,
        resources: Option<&LinuxResources>,
        which: impl Fn(&Hierarchy) -> bool,
    ) -> Result<Creation> {
        let plan = Plan::new(self, resources, Scope::Create)?;
        let mut made = Made::default();
        match self.fill(&plan, &mut made, which, refuse_in_use) {
            Ok(()) => Ok(Creation { plan, made }),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    /// For a unit, which is always new: all of its cgroup.
    #[must_use]
    pub fn all_made(&self) -> Made {
        Made::whole(&self.hierarchies)
    }

    /// Removes what was made, and what a container has made below that since; a directory that was
    /// there before stays.
    ///
    /// # Errors
    /// As [`Cgroup::delete`].
    pub fn take_back(&self, made: Made) -> Result<()> {
        let removed = self.remove_where(|dir| made.has(dir));
        // The levels above.
        made.undo();
        removed
    }

    /// Makes the directories that are missing in the hierarchies that are wanted, and writes what is
    /// planned. `joined` has its say on those that were there.
    pub(super) fn fill(
        &self,
        plan: &Plan,
        made: &mut Made,
        wanted: impl Fn(&Hierarchy) -> bool,
        joined: impl Fn(&Hierarchy) -> Result<()>,
    ) -> Result<()> {
        let pure_v2 = plan::is_pure_v2(&self.hierarchies);
        let enable = if pure_v2 { Enable::All } else { Enable::Needed };
        let mut wanted = self.hierarchies.iter().enumerate().filter(|(_, one)| wanted(one));
        wanted.try_for_each(|(index, hierarchy)| {
            let dir = hierarchy.dir();
            let leaf = made.make(&dir)?;
            if leaf == Leaf::Joined {
                joined(hierarchy)?;
            }
            make::prepare((hierarchy, leaf), plan.settings_of(index), enable)?;
            if plan.is_idle(index) {
                return Ok(());
            }
            let dir = Dir::open(dir)?;
            apply::settings(&dir, plan.settings_of(index))?;
            plan.devices_of(index).map_or(Ok(()), |form| apply::devices(&dir, form))
        })
    }
}

/// A cgroup that was there before must be nobody's: signals, the freezer and `delete` reach
/// all that is inside. In a frozen one init would not run.
pub(super) fn refuse_in_use(hierarchy: &Hierarchy) -> Result<()> {
    let dir = hierarchy.dir();
    let path = dir.display();
    let inside = walk::processes(&dir)?;
    if !inside.is_empty() {
        return Err(Error::Invalid(format!(
            "container's cgroup is not empty: processes {inside:?} in {path}"
        )));
    }
    let freezes = hierarchy.tree == Tree::Unified || hierarchy.has_v1(Controller::Freezer);
    // The others may not be there yet.
    if freezes && freezer::is_frozen(std::slice::from_ref(hierarchy))? {
        return Err(Error::Invalid(format!("container's cgroup unexpectedly frozen: {path}")));
    }
    Ok(())
}
