//! emptyDir.
use crate::pod::store::PodDirs;
use std::path::PathBuf;
pub(super) fn memory(dirs: &PodDirs) -> PathBuf {
    dirs.state.join("memory")
}
