//! Who may make pods.

use crate::error::{Error, Result};
use crate::sys::credentials;

/// Refuses a caller who is not root of the machine, before anything is made: a pod has limits of
/// its own, ids of its own for its volumes, and places for logs that others read.
pub(super) fn check() -> Result<()> {
    if credentials::is_host_root() {
        return Ok(());
    }
    Err(Error::Unsupported(
        "pods need root on this machine, not only in a user namespace; single containers do not: \
         see `carob spec --rootless`"
            .to_owned(),
    ))
}
