//! The directories and files of logs.
//!
//! A container that is given the directory of all logs, as shippers of logs are, can plant in it
//! what it likes. So below the log root no link is followed, directories must be ours, and a log
//! is a regular file. A planted pipe blocks nobody.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::super::store::PodDirs;
use crate::error::{OsContext, Result};

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);
const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);

/// What to do about a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make it.
    Make,
    /// `ENOENT`.
    Refuse,
}

/// Opens the directory of `<root>/<pod>/<container>/<restart count>.log`, and returns the name
/// of the file beside it. The root may be a link.
///
/// # Errors
/// `EINVAL` if the path has another shape; `EPERM` if a directory is not ours; as openat(2).
pub(super) fn directory(path: &Path, missing: Missing) -> nix::Result<(OwnedFd, &str)> {
    let mut parts = path.components();
    let mut name = || match parts.next_back() {
        Some(Component::Normal(name)) => name.to_str().ok_or(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    };
    let (file, container, pod) = (name()?, name()?, name()?);
    restart_count(file).ok_or(Errno::EINVAL)?;
    let root = parts.as_path();
    let root = match open(root, DIRECTORY | OFlag::O_PATH, Mode::empty()) {
        Err(Errno::ENOENT) if missing == Missing::Make => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(root);
            made.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            open(root, DIRECTORY | OFlag::O_PATH, Mode::empty())?
        }
        other => other?,
    };
    let pod = subdirectory(&root, pod, missing)?;
    Ok((subdirectory(&pod, container, missing)?, file))
}

fn subdirectory(parent: &OwnedFd, name: &str, missing: Missing) -> nix::Result<OwnedFd> {
    let flags = DIRECTORY | OFlag::O_NOFOLLOW;
    let found = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) if missing == Missing::Make => {
            mkdirat(parent, name, DIRECTORY_MODE)?;
            let made = openat(parent, name, flags, Mode::empty())?;
            // Whatever the umask.
            fchmod(&made, DIRECTORY_MODE)?;
            made
        }
        other => other?,
    };
    let stat = fstat(&found)?;
    let writable_by_all = stat.st_mode & 0o002 != 0;
    if stat.st_uid != geteuid().as_raw() || writable_by_all {
        return Err(Errno::EPERM);
    }
    Ok(found)
}

/// The restart count in the name of a log that is being written.
pub(super) fn restart_count(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Opens a log to go on with it, and tells how long it is.
///
/// # Errors
/// `ELOOP` for a link, `EPERM` for what is no regular file; as openat(2).
pub(super) fn open_to_append(dir: &OwnedFd, name: &str) -> nix::Result<(File, u64)> {
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
    let (file, stat) = open_regular(dir, name, flags)?;
    if stat.st_mode & 0o7777 != FILE_MODE.bits() {
        fchmod(&file, FILE_MODE)?;
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Opens a log to read it.
///
/// # Errors
/// As [`open_to_append`].
pub(super) fn open_to_read(dir: impl AsFd, name: &str) -> nix::Result<File> {
    open_regular(dir, name, OFlag::O_RDONLY).map(|(file, _)| file)
}

/// Makes a file that must not be there yet.
///
/// # Errors
/// `EEXIST`; as openat(2).
pub(super) fn create(dir: &OwnedFd, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    open_regular(dir, name, flags).map(|(file, _)| file)
}

fn open_regular(dir: impl AsFd, name: &str, flags: OFlag) -> nix::Result<(File, FileStat)> {
    let never = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = File::from(openat(dir, name, flags | never, FILE_MODE)?);
    let stat = fstat(&file)?;
    let is_regular = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    if is_regular { Ok((file, stat)) } else { Err(Errno::EPERM) }
}

/// The names in a directory that are UTF-8, as all of ours are.
///
/// # Errors
/// As getdents(2).
pub(super) fn names(dir: &OwnedFd) -> nix::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", DIRECTORY, Mode::empty())?.iter() {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// Removes a file; that it is gone already is as good.
///
/// # Errors
/// As unlinkat(2).
pub(super) fn remove(dir: &OwnedFd, name: &str) -> nix::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Removes the logs, rotated ones too, of the instances of a container before `oldest_kept`.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the directory; it is none if there are no logs.
pub fn prune(dirs: &PodDirs, container: &str, oldest_kept: u32) -> Result<()> {
    let log = dirs.log(container, oldest_kept);
    let removed = match directory(&log, Missing::Refuse) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.and_then(|(dir, _)| {
            let old = |name: &&String| {
                let live = name.split_inclusive(".log").next().and_then(restart_count);
                live.is_some_and(|count| count < oldest_kept)
            };
            names(&dir)?.iter().filter(old).try_for_each(|name| remove(&dir, name))
        }),
    };
    removed.os("remove old logs beside", || log.display())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A log root that goes away with its owner.
    pub(in crate::pod::logs) struct Root(pub(in crate::pod::logs) PathBuf);

    impl Root {
        pub(in crate::pod::logs) fn new(test: &str) -> Self {
            let name = format!("carob-logs-{test}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            drop(std::fs::remove_dir_all(&root));
            std::fs::create_dir(&root).unwrap();
            Self(root)
        }

        pub(in crate::pod::logs) fn log(&self) -> PathBuf {
            self.0.join("default_web_uid/main/0.log")
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn only_paths_of_logs_are_taken() {
        for path in ["/0.log", "/a/0.log", "/p/../0.log", "/p/c/0.txt", "/p/c/x.log", "/p/c/..", ""]
        {
            let result = directory(Path::new(path), Missing::Refuse).map(drop);
            assert_eq!(result, Err(Errno::EINVAL), "{path}");
        }
        assert_eq!(restart_count("12.log"), Some(12));
        assert_eq!(restart_count("+1.log"), None);
        assert_eq!(restart_count("1.log.20261120-000000"), None);
    }

    #[test]
    fn directories_and_files_have_their_modes() {
        use std::os::unix::fs::PermissionsExt;
        let root = Root::new("modes");
        let log = root.0.join("new/default_web_uid/main/0.log");
        let (dir, name) = directory(&log, Missing::Make).unwrap();
        let (_, size) = open_to_append(&dir, name).unwrap();
        assert_eq!(size, 0);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&log), 0o640);
        assert_eq!(mode(log.parent().unwrap()), 0o755);
        assert_eq!(mode(log.parent().unwrap().parent().unwrap()), 0o755);
    }

    #[test]
    fn planted_links_and_pipes_are_refused() {
        let root = Root::new("planted");
        let log = root.log();
        let (dir, name) = directory(&log, Missing::Make).unwrap();
        let outside = root.0.join("outside");
        std::fs::write(&outside, "precious").unwrap();
        symlink(&outside, &log).unwrap();
        assert_eq!(open_to_append(&dir, name).map(drop), Err(Errno::ELOOP));
        assert_eq!(open_to_read(&dir, name).map(drop), Err(Errno::ELOOP));
        std::fs::remove_file(&log).unwrap();
        nix::unistd::mkfifo(&log, Mode::S_IRWXU).unwrap();
        assert_eq!(open_to_append(&dir, name).map(drop), Err(Errno::EPERM));
        assert_eq!(open_to_read(&dir, name).map(drop), Err(Errno::EPERM));
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");

        let container = log.parent().unwrap();
        std::fs::rename(container, root.0.join("away")).unwrap();
        symlink(root.0.join("away"), container).unwrap();
        assert_eq!(directory(&log, Missing::Make).map(drop), Err(Errno::ENOTDIR));
    }

    #[test]
    fn old_instances_are_pruned() {
        let root = Root::new("prune");
        let dirs = PodDirs {
            state: PathBuf::new(),
            data: PathBuf::new(),
            logs: root.0.join("default_web_uid"),
            cgroup: PathBuf::new(),
        };
        prune(&dirs, "main", 3).unwrap();
        let (dir, _) = directory(&root.log(), Missing::Make).unwrap();
        for name in ["0.log", "1.log", "1.log.20261120-010203.gz", "2.log", "10.log", "notes"] {
            drop(create(&dir, name).unwrap());
        }
        prune(&dirs, "main", 2).unwrap();
        let mut left = names(&dir).unwrap();
        left.retain(|name| !name.starts_with('.'));
        left.sort();
        assert_eq!(left, ["10.log", "2.log", "notes"]);
    }
}
