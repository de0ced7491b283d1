//! `fsGroup`: a group that may use all of a volume.
//!
//! Only directories and files that belong to the pod are changed, never a hostPath, and nothing
//! that a link leads to. Volumes that carob fills are written with the right group at once; here
//! are those that had a content before.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat};
use nix::unistd::{Gid, fchownat};

use crate::sys::dir::{Found, Walk};
use crate::sys::fd::proc_path;

/// Added to the mode of directories.
pub(super) const DIRECTORY_BITS: u32 = 0o2770;
/// Added to the mode of files.
const FILE_BITS: u32 = 0o660;
/// As the two above, for volumes that are read-only.
const READ_ONLY_DIRECTORY_BITS: u32 = 0o2550;
const READ_ONLY_FILE_BITS: u32 = 0o440;

/// Whether the group may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

/// `fsGroupChangePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    /// Nothing is done if the directory itself is right.
    OnRootMismatch,
}

impl Policy {
    pub(super) fn new(word: Option<&str>) -> Self {
        if word == Some("OnRootMismatch") { Self::OnRootMismatch } else { Self::Always }
    }
}

impl Access {
    fn directory_bits(self) -> u32 {
        if self == Self::ReadOnly { READ_ONLY_DIRECTORY_BITS } else { DIRECTORY_BITS }
    }

    fn file_bits(self) -> u32 {
        if self == Self::ReadOnly { READ_ONLY_FILE_BITS } else { FILE_BITS }
    }
}

/// Gives a tree to a group. What is mounted in it is left out.
///
/// # Errors
/// `EPERM`, `EROFS`; `ESTALE` if directories are moved meanwhile.
pub(super) fn apply(root: OwnedFd, group: u32, access: Access, policy: Policy) -> nix::Result<()> {
    let is_right = is_right(&fstat(&root)?, group, access.directory_bits());
    if policy == Policy::OnRootMismatch && is_right {
        return Ok(());
    }
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.advance()? {
        match found {
            // A directory is given away last: it being right says that all in it is.
            Found::Entry(name) => give_entry(walk.here(), &name, group, access)?,
            Found::Left(name) => give_entry(walk.here(), &name, group, access)?,
            Found::Entered | Found::Closed(..) => {}
        }
    }
    give(walk.here(), group, access.directory_bits())
}

fn is_right(stat: &FileStat, group: u32, bits: u32) -> bool {
    stat.st_gid == group && stat.st_mode & bits == bits
}

fn give_entry(dir: BorrowedFd, name: &CStr, group: u32, access: Access) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let entry = match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    match fstat(&entry)?.st_mode & libc::S_IFMT {
        // It has no mode of its own.
        libc::S_IFLNK => change_group(&entry, group),
        libc::S_IFDIR => give(entry.as_fd(), group, access.directory_bits()),
        _ => give(entry.as_fd(), group, access.file_bits()),
    }
}

fn give(entry: BorrowedFd, group: u32, bits: u32) -> nix::Result<()> {
    let stat = fstat(entry)?;
    if is_right(&stat, group, bits) {
        return Ok(());
    }
    change_group(entry, group)?;
    // A change of the group takes setuid and setgid away; they are given back with the rest.
    let mode = Mode::from_bits_truncate(stat.st_mode | bits);
    fchmodat(entry, proc_path(entry).as_str(), mode, FchmodatFlags::FollowSymlink)
}

fn change_group(entry: impl AsFd, group: u32) -> nix::Result<()> {
    fchownat(entry, c"", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::sys::dir;

    struct Tree(PathBuf);

    impl Tree {
        fn new() -> Self {
            let root = std::env::temp_dir().join(format!("carob-group-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir_all(root.join("v/d/e")).unwrap();
            std::fs::write(root.join("outside"), "").unwrap();
            std::fs::write(root.join("v/d/e/f"), "").unwrap();
            symlink("../outside", root.join("v/out")).unwrap();
            symlink("../..", root.join("v/d/up")).unwrap();
            let set = |path: &str, mode| {
                let mode = PermissionsExt::from_mode(mode);
                std::fs::set_permissions(root.join(path), mode).unwrap();
            };
            set("outside", 0o600);
            set("v/d/e/f", 0o4700);
            set("v", 0o755);
            Self(root)
        }

        fn apply(&self, access: Access, policy: Policy) {
            apply(dir::open(&self.0.join("v")).unwrap(), 4321, access, policy).unwrap();
        }

        fn state(&self, path: impl AsRef<Path>) -> (u32, u32) {
            let meta = self.0.join(path).symlink_metadata().unwrap();
            (meta.mode() & 0o7777, meta.gid())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_tree_is_given_to_the_group_and_nothing_outside() {
        let tree = Tree::new();
        tree.apply(Access::ReadWrite, Policy::Always);
        assert_eq!(tree.state("v"), (0o2775, 4321));
        assert_eq!(tree.state("v/d/e"), (0o2775, 4321));
        assert_eq!(tree.state("v/d/e/f"), (0o4760, 4321));
        assert_eq!(tree.state("v/out").1, 4321, "the link itself");
        assert_eq!(tree.state("outside"), (0o600, 0));
        assert_eq!(tree.state(""), (0o755, 0));
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_read_only_volume_can_be_read_by_the_group() {
        let tree = Tree::new();
        tree.apply(Access::ReadOnly, Policy::Always);
        assert_eq!(tree.state("v/d"), (0o2755, 4321));
        assert_eq!(tree.state("v/d/e/f"), (0o4740, 4321));
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_root_that_is_right_ends_it_if_the_policy_says_so() {
        let tree = Tree::new();
        tree.apply(Access::ReadWrite, Policy::OnRootMismatch);
        assert_eq!(tree.state("v/d/e/f"), (0o4760, 4321));
        std::fs::write(tree.0.join("v/new"), "").unwrap();
        std::os::unix::fs::chown(tree.0.join("v/new"), None, Some(0)).unwrap();
        tree.apply(Access::ReadWrite, Policy::OnRootMismatch);
        assert_eq!(tree.state("v/new").1, 0);
        tree.apply(Access::ReadWrite, Policy::Always);
        assert_eq!(tree.state("v/new").1, 4321);
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn depth_costs_no_descriptors_and_no_stack() {
        let tree = Tree::new();
        let mut at = dir::open(&tree.0.join("v")).unwrap();
        for _ in 0..3000 {
            at = dir::make_new(&at, "n", 0o700).unwrap();
        }
        tree.apply(Access::ReadWrite, Policy::Always);
        let stat = fstat(&at).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_gid), (0o2770, 4321));
        dir::remove(dir::open(&tree.0).unwrap(), "v").unwrap();
        assert!(!tree.0.join("v").exists());
    }
}
