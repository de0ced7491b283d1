//! The seam to images: where a container's files and defaults come from.

use std::path::PathBuf;

use crate::pod::record::StartFailure;

/// What a container starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its files, an absolute path; never written to.
    pub rootfs: PathBuf,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, `KEY=value`.
    pub env: Vec<String>,
    /// WORKDIR, or empty.
    pub working_dir: String,
    /// USER, `user[:group]`, each a name or a number, or empty.
    pub user: String,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
}

/// Finds an image. `policy` is `imagePullPolicy`.
///
/// # Errors
/// `InvalidImageName`, `ErrImagePull`, `ErrImageNeverPull`.
pub fn find(_reference: &str, _policy: Option<&str>) -> Result<Image, StartFailure> {
    Err(super::failure("ErrImagePull", ""))
}
