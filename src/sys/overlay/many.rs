//! Overlays of many layers before Linux 6.8: by mount(2), whose options fill a page.
//!
//! mount(2) wants a place, and layers that are mounted where it is called. So a child with a mount
//! namespace of its own opens them again by their paths, makes the overlay on a directory there, and
//! copies the mount into a descriptor. It shares our table of descriptors: what it opens we have.
//! The options name descriptors, beside the directory that they are listed in: 500 layers, the most
//! that an overlay may have, need 2000 bytes.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, write};

use super::Overlay;
use crate::sys::fd::owned;
use crate::sys::mount::{Subtree, clone_tree};
use crate::sys::path::kernel_path;
use crate::sys::process::{self, CloneTarget, Cloned};

/// Longest options of mount(2), bytes: a page without the last byte of a string.
const PAGE: usize = 4095;
/// A directory that is there; only the child sees what is mounted on it.
const PLACE: &str = "/proc";
/// Where descriptors are files whose names are numbers.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Makes the overlay.
///
/// # Errors
/// `ESTALE` for a layer that is not where its path says, as one mounted nowhere; `E2BIG`; errors
/// of clone(2) and mount(2).
pub(super) fn create(overlay: &Overlay) -> nix::Result<OwnedFd> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FILES;
    match process::clone3(flags, &CloneTarget::default())? {
        Cloned::Child => {
            let word = match in_own_namespace(overlay) {
                Ok(made) => made.into_raw_fd(),
                Err(errno) => -(errno as i32),
            };
            // Nothing is closed here: the parent would lose it, too.
            let told = write(&theirs, &word.to_ne_bytes());
            process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Parent(child) => {
            // The child's end is ours as well, and open until it has used it.
            process::wait(&child.pidfd)?;
            drop(theirs);
            let mut word = [0; 4];
            File::from(ours).read_exact(&mut word).or(Err(Errno::ECHILD))?;
            match i32::from_ne_bytes(word) {
                errno @ ..0 => Err(Errno::from_raw(-errno)),
                made => owned(made.into()),
            }
        }
    }
}

fn in_own_namespace(overlay: &Overlay) -> nix::Result<OwnedFd> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let lower = overlay.lower.iter().map(|layer| again(*layer)).collect::<nix::Result<Vec<_>>>()?;
    let upper = overlay.upper.map(|(upper, work)| Ok::<_, Errno>((again(upper)?, again(work)?)));
    let upper = upper.transpose()?;
    let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let mut options =
        vec![format!("lowerdir={}", lower.iter().map(number).collect::<Vec<_>>().join(":"))];
    if let Some((upper, work)) = &upper {
        options.push(format!("upperdir={},workdir={}", number(upper), number(work)));
    }
    options.extend(overlay.options.iter().map(|&word| word.to_owned()));
    let options = options.join(",");
    if options.len() > PAGE {
        return Err(Errno::E2BIG);
    }
    chdir(DESCRIPTORS)?;
    // Flags of a mount have the same bits as its attributes.
    let flags = MsFlags::from_bits_truncate(overlay.attributes);
    mount(Some("overlay"), PLACE, Some("overlay"), flags, Some(options.as_str()))?;
    clone_tree(Path::new(PLACE), Subtree::Alone)
}

/// Opens a directory as it is mounted in the namespace of this process.
fn again(directory: BorrowedFd) -> nix::Result<OwnedFd> {
    let path = kernel_path(directory)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = open(&path, flags, Mode::empty())?;
    let (is, was) = (fstat(&opened)?, fstat(directory)?);
    if (is.st_dev, is.st_ino) == (was.st_dev, was.st_ino) { Ok(opened) } else { Err(Errno::ESTALE) }
}
