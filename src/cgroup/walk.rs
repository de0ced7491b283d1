//! A cgroup and everything below it: its processes, and its removal.
//!
//! The container may have made cgroups of its own, as deep as it liked. So nothing here recurses
//! or builds long paths: there is one open directory, names of what is still to be visited, and
//! `..` to go back (directories of a cgroup file system cannot be moved elsewhere).

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::{Dir as Listing, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir::{Dir, gone};
use crate::error::{Error, OsContext, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

fn is_gone(errno: Errno) -> bool {
    gone(Some(errno))
}

fn open_dir(at: &OwnedFd, name: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(at, name, flags, Mode::empty())
}

fn child_names(dir: &OwnedFd) -> nix::Result<Vec<CString>> {
    // The listing owns and moves its descriptor: give it one of its own.
    let mut listing = Listing::from_fd(open_dir(dir, c".")?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = match entry {
            Err(errno) if is_gone(errno) => break,
            other => other?,
        };
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The pids in `file` (`cgroup.procs`) of the cgroup and everything below it, sorted.
///
/// # Errors
/// The first read that fails for another reason than that a cgroup has gone.
pub(super) fn processes(path: &Path) -> Result<Vec<i32>> {
    let Some(dir) = Dir::open_if_exists(path.to_owned())? else { return Ok(Vec::new()) };
    let mut pids = Vec::new();
    let mut current = dir.into_fd();
    collect(&current, &mut pids).os("read processes of", || path.display())?;
    let mut pending = vec![child_names(&current).os("list", || path.display())?];
    while let Some(names) = pending.last_mut() {
        let Some(name) = names.pop() else {
            pending.pop();
            if !pending.is_empty() {
                current = open_dir(&current, c"..").os("list", || path.display())?;
            }
            continue;
        };
        match open_dir(&current, &name) {
            Ok(child) => current = child,
            Err(errno) if is_gone(errno) => continue,
            Err(errno) => return Err(errno).os("list", || path.display()),
        }
        collect(&current, &mut pids).os("read processes of", || path.display())?;
        pending.push(child_names(&current).os("list", || path.display())?);
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn collect(dir: &OwnedFd, pids: &mut Vec<i32>) -> nix::Result<()> {
    let read = || -> std::io::Result<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(dir, c"cgroup.procs", flags, Mode::empty())?;
        std::io::read_to_string(std::fs::File::from(file))
    };
    match read() {
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            Ok(())
        }
        Err(error) => {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            // A threaded cgroup of v2: its processes are listed by the domain above it.
            if errno == Errno::EOPNOTSUPP || is_gone(errno) { Ok(()) } else { Err(errno) }
        }
    }
}

/// Removes the cgroup and everything below it; what is not there is fine.
///
/// A process that is exiting keeps its cgroup for a moment: tried again until `deadline`, and at
/// least once.
///
/// # Errors
/// `EBUSY`, naming the processes that are still inside.
pub(super) fn remove(path: &Path, deadline: Instant) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
            Ok(()) => return Ok(()),
            Err(errno) if is_gone(errno) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {
                if remove_below(path)? == Progress::Some {
                    continue;
                }
                Errno::EBUSY
            }
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).os("remove cgroup", || path.display()),
        };
        if Instant::now() >= deadline {
            let inside = processes(path)?;
            return Err(Error::Os {
                op: "remove cgroup",
                target: format!("{} (processes inside: {inside:?})", path.display()),
                source: error.into(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[derive(PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

/// Removes what can be removed below `path`, deepest first.
fn remove_below(path: &Path) -> Result<Progress> {
    let context = || path.display();
    let Some(dir) = Dir::open_if_exists(path.to_owned())? else { return Ok(Progress::Some) };
    let mut current = dir.into_fd();
    let mut progress = Progress::None;
    // Per level: names to try, and the name by which the level above knows it.
    let mut pending = vec![(CString::default(), child_names(&current).os("list", context)?)];
    while let Some((own, names)) = pending.last_mut() {
        let Some(name) = names.pop() else {
            let own = std::mem::take(own);
            pending.pop();
            if !pending.is_empty() {
                current = open_dir(&current, c"..").os("list", context)?;
                if unlinkat(&current, own.as_c_str(), UnlinkatFlags::RemoveDir).is_ok() {
                    progress = Progress::Some;
                }
            }
            continue;
        };
        match unlinkat(&current, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) => progress = Progress::Some,
            Err(errno) if is_gone(errno) => progress = Progress::Some,
            Err(_) => {
                // Only a cgroup with children is entered; a busy leaf is left for the next round.
                let Ok(child) = open_dir(&current, &name) else { continue };
                let below = child_names(&child).os("list", context)?;
                if !below.is_empty() {
                    current = child;
                    pending.push((name, below));
                }
            }
        }
    }
    Ok(progress)
}
