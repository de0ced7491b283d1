//! `/dev/shm` of a pod: one tmpfs that all its containers bind.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use crate::error::{Error, OsContext, Result};
use crate::sys::mount::{self, NewFileSystem};

/// The kubelet's size.
const OPTIONS: [&str; 2] = ["size=64m", "mode=1777"];

pub(super) fn path(state: &Path) -> PathBuf {
    state.join("shm")
}

/// Mounts it, with a label of SELinux if there is one.
pub(super) fn mount(state: &Path, label: Option<&str>) -> Result<()> {
    let path = path(state);
    let here = || path.display();
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.os("mkdir", here)?,
    }
    let mut options = OPTIONS.map(str::to_owned).to_vec();
    options.extend(label.map(|label| format!("context={label}")));
    let tree = mount::create(&NewFileSystem {
        kind: "tmpfs",
        source: Some("shm"),
        options: &options,
        attributes: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
    })
    .map_err(|refused| Error::Os {
        op: "make",
        target: format!("tmpfs for {} ({})", here(), refused.explanation),
        source: refused.errno.into(),
    })?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let point = nix::fcntl::open(&path, flags, Mode::empty()).os("open", here)?;
    mount::attach(&tree, &point).os("mount", here)
}

/// Unmounts whatever is mounted there.
pub(super) fn unmount(state: &Path) -> Result<()> {
    let path = path(state);
    loop {
        // Containers that still run keep theirs.
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // No mount, or no directory.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno).os("umount", || path.display()),
        }
    }
}
