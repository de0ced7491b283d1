//! The root of a member: its image below, a writable layer of its own above, mounted nowhere.

use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, OsContext, Result};
use crate::pod::store::PodDirs;
use crate::sys::fd;
use crate::sys::mount::{self, NewFileSystem};

/// Makes the root for a new instance; what the instance before has written is gone.
///
/// # Errors
/// [`Error::Os`]; [`Error::Invalid`] with the kernel's explanation if the overlay is refused.
pub(super) fn make(dirs: &PodDirs, container: &str, image: &Path) -> Result<OwnedFd> {
    clear(dirs, container)?;
    let layer = layer(dirs, container);
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for dir in [&upper, &work] {
        let mut builder = DirBuilder::new();
        builder.mode(0o755).recursive(true).create(dir).os("mkdir", || dir.display())?;
    }
    // By descriptor: an option has at most 256 bytes, and `:` and `,` mean something in it.
    let open = |path: &Path| fs::File::open(path).os("open", || path.display());
    let (image_fd, upper_fd, work_fd) = (open(image)?, open(&upper)?, open(&work)?);
    let options = [
        format!("lowerdir={}", fd::proc_path(&image_fd)),
        format!("upperdir={}", fd::proc_path(&upper_fd)),
        format!("workdir={}", fd::proc_path(&work_fd)),
        // It does not outlive the instance: nothing to sync when it ends.
        "volatile".to_owned(),
    ];
    let overlay = NewFileSystem {
        kind: "overlay",
        source: Some("overlay"),
        options: &options,
        attributes: 0,
    };
    mount::create(&overlay).map_err(|refused| {
        Error::Invalid(format!(
            "overlay of {} with its upper layer in {}: {}{}{}; --data-root chooses another place",
            image.display(),
            layer.display(),
            refused.errno.desc(),
            if refused.explanation.is_empty() { "" } else { ": " },
            refused.explanation,
        ))
    })
}

/// Removes the writable layer of an instance that has ended.
///
/// # Errors
/// [`Error::Os`].
pub(super) fn clear(dirs: &PodDirs, container: &str) -> Result<()> {
    let layer = layer(dirs, container);
    match fs::remove_dir_all(&layer) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.os("remove", || layer.display()),
    }
}

fn layer(dirs: &PodDirs, container: &str) -> PathBuf {
    dirs.data.join("containers").join(container).join("layer")
}
