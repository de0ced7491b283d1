//! Keeps carob's own binary out of a container's reach (CVE-2019-5736).
//!
//! A process of a container can reach the file that init was started from: through
//! `/proc/<pid>/exe`, or by making `/proc/self/exe` the interpreter of what is executed. So a verb
//! that enters a container first goes over to a detached read-only mount of the file. Every write
//! through that reference fails with EROFS, for as long as it lives.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, readlink};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{fd, mount, process, remap};
use crate::error::{OsContext, Result};

const SELF_EXE: &str = "/proc/self/exe";

/// The mount that this process runs from.
///
/// It stays without this, too. But whoever closes the last descriptor of it waits until no other
/// processor can be looking at it any more, which takes from 40 µs to milliseconds: drop it where
/// nobody is kept waiting.
#[derive(Debug)]
pub struct Protected {
    _tree: Option<OwnedFd>,
}

/// What came of [`protect_early`].
#[derive(Debug)]
enum Early {
    Untried,
    /// This process runs from the mount.
    Over(OwnedFd),
    /// The kernel does not let a process change its file.
    Refused(OwnedFd),
    /// There is no such mount to be had.
    NoMount,
}

static EARLY: Mutex<Early> = Mutex::new(Early::Untried);

/// Does what [`protect`] would do, where that costs little. The exchange unmaps all that has been
/// touched of the program, so it comes first, when that is not much.
pub fn protect_early() {
    let outcome = match read_only_mount() {
        Ok(tree) if go_over(&tree).is_ok() => Early::Over(tree),
        Ok(tree) => Early::Refused(tree),
        Err(_) => Early::NoMount,
    };
    *EARLY.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
}

/// Returns when the running binary cannot be written through `/proc/self/exe` any more.
///
/// Where the kernel does not let a process change its file, carob is executed again, with the same
/// arguments and environment, from a mount or copy that cannot be written.
///
/// Descriptors from `first_unkept` on go no further than that: a caller that waits for the end of
/// a pipe must not wait for the container. Call it before anything is locked or made.
///
/// # Errors
/// [`crate::error::Error::Os`] if neither a read-only mount nor a sealed copy could be made.
pub fn protect(first_unkept: u32) -> Result<Protected> {
    // Not before: an argument may name one of them, `--process /dev/fd/63`.
    let go_on = |tree| {
        fd::cloexec_from(first_unkept).os("close_range", || "inherited descriptors")?;
        Ok(Protected { _tree: tree })
    };
    let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
    let early = std::mem::replace(&mut *early, Early::Untried);
    if let Early::Over(tree) = early {
        return go_on(Some(tree));
    }
    if is_protected()? {
        // Executed by descriptor, it was named after the number.
        process::set_name(c"carob");
        return go_on(None);
    }
    let mount = match early {
        Early::Refused(tree) => Some(tree),
        Early::NoMount => None,
        Early::Untried | Early::Over(_) => match read_only_mount() {
            Ok(tree) if go_over(&tree).is_ok() => return go_on(Some(tree)),
            other => other.ok(),
        },
    };
    let image = match mount {
        Some(tree) => tree,
        None => sealed_copy().os("protect", || SELF_EXE)?,
    };
    // `std::env::args` has none: Rust's own start is left out.
    let args = std::fs::read("/proc/self/cmdline").os("read", || "/proc/self/cmdline")?;
    let args = args.strip_suffix(b"\0").unwrap_or(&args).split(|byte| *byte == 0);
    let args =
        args.map(|argument| c_string(OsStr::from_bytes(argument).to_owned())).collect::<Vec<_>>();
    let env = std::env::vars_os()
        .map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            c_string(key)
        })
        .collect::<Vec<_>>();
    Err(process::fexecve(&image, &args, &env)).os("execute", || "the protected copy of carob")
}

fn c_string(text: OsString) -> CString {
    // Arguments and environment came from execve: they hold no NUL to be cut at.
    CString::new(text.into_vec()).unwrap_or_default()
}

/// Our detached mount, or a memfd sealed against writing.
///
/// A file system that happens to be mounted read-only is not enough: it may be made writable for
/// an update while a container still holds the reference. A mount that is in no namespace cannot,
/// and only there the binary's path is `/`.
fn is_protected() -> Result<bool> {
    let path = readlink(SELF_EXE).os("readlink", || SELF_EXE)?;
    if path == "/" {
        let stat = statvfs(SELF_EXE).os("statvfs", || SELF_EXE)?;
        return Ok(stat.flags().contains(FsFlags::ST_RDONLY));
    }
    if !path.as_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let file = File::open(SELF_EXE).os("open", || SELF_EXE)?;
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    Ok(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE))
}

/// Exchanges the file of this process, and checks that it is so.
fn go_over(tree: &OwnedFd) -> Result<()> {
    let path = fd::proc_path(tree);
    let file = fd::open(path.as_str(), OFlag::O_RDONLY).os("open", || &path)?;
    remap::exchange(file.as_fd()).os("exchange", || SELF_EXE)?;
    if is_protected()? { Ok(()) } else { Err(Errno::EPERM).os("exchange", || SELF_EXE) }
}

/// Needs Linux 5.12 and CAP_SYS_ADMIN over the mount namespace.
fn read_only_mount() -> nix::Result<OwnedFd> {
    let tree = mount::clone_tree(Path::new(SELF_EXE), mount::Subtree::Alone)?;
    mount::set_attributes(tree.as_fd(), mount::Attributes::read_only(), mount::Subtree::Alone)?;
    Ok(tree)
}

/// For a user who may not mount, and for older kernels: costs a copy of the binary.
fn sealed_copy() -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create("carob", flags)?;
    let mut copy = File::from(copy);
    let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let mut original = File::open(SELF_EXE).map_err(errno)?;
    io::copy(&mut original, &mut copy).map_err(errno)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
