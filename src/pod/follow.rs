//! What whoever follows a pod owes it.

use std::time::Duration;

use super::lifecycle;
use super::store::{PodDirs, StoredPod};
use crate::container::Runtime;
use crate::error::{Error, Result};

/// How long a pod may be silent until who follows it calls [`keep_supervised`].
pub const SILENCE: Duration = Duration::from_secs(1);

/// Brings a supervisor back that was killed: nothing changes while nobody supervises a pod, and
/// who follows it would wait for ever. Nothing to do for one that has ended or was removed.
///
/// # Errors
/// [`Error::Invalid`] with what keeps a supervisor from being there, if the pod still is.
pub fn keep_supervised(runtime: &Runtime, dirs: &PodDirs) -> Result<()> {
    let Some(pod) = still_there(dirs)? else { return Ok(()) };
    let Err(error) = lifecycle::revive(runtime, &pod) else { return Ok(()) };
    if still_there(dirs)?.is_none() {
        return Ok(());
    }
    Err(Error::Invalid(format!("pod {:?}: no supervisor: {error}", pod.file.name())))
}

/// The pod as it is now; another one of its name is not it, and one without a record is being
/// removed.
fn still_there(dirs: &PodDirs) -> Result<Option<StoredPod>> {
    let now = StoredPod::read(&dirs.state)?;
    Ok(now.filter(|now| now.file.dirs == *dirs && now.record.is_some()))
}
