//! What carob itself may do here, and what of a configuration needs more.
//!
//! Everything is refused before anything is made, with the property of the configuration and a way
//! out, instead of by an errno of some step.

use caps::Capability;
use nix::unistd::{getegid, geteuid};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::id_map::MapWriter;
use crate::error::{Error, OsContext, Result};
use crate::oci::mount_opts::IdMap;
use crate::oci::plan::{MountPlan, Plan, RlimitPlan};
use crate::sys::{credentials, fd, process};

/// What this process may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// One bit per capability number, in the user namespace that it is in.
    capabilities: u64,
}

impl Rights {
    pub(super) fn of_carob() -> Result<Self> {
        let capabilities = credentials::permitted().os("capget", || "carob itself")?;
        Ok(Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), capabilities })
    }

    /// Those of a caller who is not root of the whole machine.
    pub(super) fn unless_host_root() -> Result<Option<Self>> {
        if credentials::is_host_root() { Ok(None) } else { Self::of_carob().map(Some) }
    }

    pub(super) fn has(self, capability: Capability) -> bool {
        self.capabilities & capability.bitmask() != 0
    }

    /// The kernel asks for this capability in the machine's first user namespace.
    fn may_raise_limits(self) -> bool {
        self.has(Capability::CAP_SYS_RESOURCE) && !credentials::in_user_namespace()
    }

    /// Refuses what needs more. Not to be asked by the host's root: it has what it has.
    pub(super) fn check(self, plan: &Plan) -> Result<()> {
        self.check_namespaces(plan)?;
        self.check_groups(plan)?;
        plan.process.rlimits.iter().try_for_each(|limit| self.check_rlimit(limit))?;
        plan.mounts.iter().enumerate().try_for_each(|(index, mount)| self.check_mount(index, mount))
    }

    fn check_namespaces(self, plan: &Plan) -> Result<()> {
        let namespaces = &plan.namespaces;
        if self.has(Capability::CAP_SYS_ADMIN) || namespaces.joined(Kind::User).is_some() {
            return Ok(());
        }
        if !namespaces.has(Kind::User) {
            let reason = "has no \"user\" namespace, without which only root can make a container; \
                `carob spec --rootless` writes a configuration that has one";
            return Err(Error::config("linux.namespaces", reason));
        }
        let Some(joined) = namespaces.join.first() else { return Ok(()) };
        let reason = format!(
            "only root can join the {} namespace {} from a new user namespace; join the user \
             namespace that it belongs to as well",
            joined.kind,
            joined.path.display()
        );
        Err(Error::config(joined.field(), reason))
    }

    fn check_groups(self, plan: &Plan) -> Result<()> {
        let Some(groups) = plan.process.groups.as_ref().filter(|groups| !groups.is_empty()) else {
            return Ok(());
        };
        let denied = match &plan.id_maps {
            maps if plan.namespaces.is_new(nix::sched::CloneFlags::CLONE_NEWUSER) => {
                MapWriter::choose(self, maps)?.denies_groups()
            }
            _ => fd::read_page("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny"),
        };
        if !denied {
            return Ok(());
        }
        let reason = format!(
            "{groups:?} cannot be set: a user namespace in which only your own group is mapped \
             does not allow setgroups(2); leave them out, or map more with linux.gidMappings"
        );
        Err(Error::config("process.user.additionalGids", reason))
    }

    fn check_rlimit(self, limit: &RlimitPlan) -> Result<()> {
        let own = process::hard_limit(limit.resource).os("prlimit", || limit.name())?;
        if limit.hard <= own || self.may_raise_limits() {
            return Ok(());
        }
        let reason = format!(
            "{}: the hard limit {} is above yours, {own}, and only the host's root can raise it",
            limit.name(),
            limit.hard
        );
        Err(Error::config("process.rlimits", reason))
    }

    fn check_mount(self, index: usize, mount: &MountPlan) -> Result<()> {
        let maps = mount.options.idmap != IdMap::No || !mount.uid_map.is_empty();
        if !maps || self.has(Capability::CAP_SYS_ADMIN) {
            return Ok(());
        }
        let reason = "only root can map the ids of a mount; leave the maps out";
        Err(Error::config(format!("mounts[{index}].uidMappings"), reason))
    }
}
