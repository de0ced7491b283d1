//! Labels of AppArmor and SELinux, as far as the host can be asked before anything is made.

use crate::error::{Error, Result};
use crate::oci::plan::{Plan, ProcessPlan};
use crate::sys::lsm;

/// Refuses labels that no process can have here. Whether a profile of AppArmor is loaded only root
/// may see: init is told.
pub(super) fn check_process(process: &ProcessPlan) -> Result<()> {
    if let Some(profile) = process.apparmor_profile.as_ref().filter(|_| !lsm::has_apparmor()) {
        let reason = format!("{profile:?}: AppArmor is not enabled on this host");
        return Err(Error::config("process.apparmorProfile", reason));
    }
    let Some(label) = &process.selinux_label else { return Ok(()) };
    if !lsm::has_selinux() {
        let reason = format!("{label:?}: SELinux is not enabled on this host");
        return Err(Error::config("process.selinuxLabel", reason));
    }
    check_known("process.selinuxLabel", label)
}

/// As [`check_process`], for a new container. Its mounts have labels only where SELinux is.
pub(super) fn check(plan: &mut Plan) -> Result<()> {
    check_process(&plan.process)?;
    plan.mount_label = plan.mount_label.take().filter(|_| lsm::has_selinux());
    plan.mount_label.as_ref().map_or(Ok(()), |label| check_known("linux.mountLabel", label))
}

fn check_known(field: &str, label: &str) -> Result<()> {
    if lsm::knows_selinux_label(label) {
        return Ok(());
    }
    Err(Error::config(field, format!("{label:?} is not a label of this host's SELinux policy")))
}
