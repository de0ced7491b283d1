//! Overlays of many layers before Linux 6.8: by mount(2), whose options fill a page. And of layers
//! that are mounted nowhere, as those with the ids of a pod, before Linux 6.15.
//!
//! mount(2) wants a place, and layers that are mounted where it is called. So a child with a mount
//! namespace of its own opens them again by their paths, attaches those that have none, makes the
//! overlay on a directory there, and copies the mount into a descriptor. It shares our table of
//! descriptors: what it opens we have.
//! The options name descriptors, beside the directory that they are listed in: 500 layers, the most
//! that an overlay may have, need 2000 bytes.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, mkdir, write};

use super::Overlay;
use crate::sys::fd::{self, owned};
use crate::sys::mount::{Subtree, attach, clone_tree};
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
/// `ESTALE` for a layer that is not where its path says any more; `E2BIG`; errors of clone(2),
/// mount(2) and move_mount(2).
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
    let upper = match overlay.upper {
        Some((upper, work)) => Some(again(upper)?.zip(again(work)?).ok_or(Errno::ESTALE)?),
        None => None,
    };
    // Before it is covered.
    chdir(DESCRIPTORS)?;
    let mut names = Vec::with_capacity(lower.len());
    for (layer, again) in overlay.lower.iter().zip(&lower) {
        names.push(again.as_ref().map_or(layer.as_raw_fd(), AsRawFd::as_raw_fd).to_string());
    }
    let nowhere = overlay.lower.iter().zip(&lower).filter(|(_layer, again)| again.is_none());
    attach_each(nowhere.map(|(layer, _none)| *layer))?;
    let mut options = vec![format!("lowerdir={}", names.join(":"))];
    if let Some((upper, work)) = &upper {
        options.push(format!("upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd()));
    }
    options.extend(overlay.options.iter().map(|&word| word.to_owned()));
    let options = options.join(",");
    if options.len() > PAGE {
        return Err(Errno::E2BIG);
    }
    // Flags of a mount have the same bits as its attributes.
    let flags = MsFlags::from_bits_truncate(overlay.attributes);
    mount(Some("overlay"), PLACE, Some("overlay"), flags, Some(options.as_str()))?;
    clone_tree(Path::new(PLACE), Subtree::Alone)
}

/// Opens a directory as it is mounted in the namespace of this process; `None` for one that is the
/// root of a mount in no namespace.
fn again(directory: BorrowedFd) -> nix::Result<Option<OwnedFd>> {
    let path = kernel_path(directory)?;
    let opened = fd::open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    let (is, was) = (fstat(&opened)?, fstat(directory)?);
    match (is.st_dev, is.st_ino) == (was.st_dev, was.st_ino) {
        true => Ok(Some(opened)),
        false if path == Path::new("/") => Ok(None),
        false => Err(Errno::ESTALE),
    }
}

/// Gives mounts that have none a place in this namespace.
fn attach_each<'a>(mounts: impl Iterator<Item = BorrowedFd<'a>>) -> nix::Result<()> {
    let mut mounts = mounts.peekable();
    if mounts.peek().is_none() {
        return Ok(());
    }
    mount(Some("tmpfs"), PLACE, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    for tree in mounts {
        let place = Path::new(PLACE).join(tree.as_raw_fd().to_string());
        mkdir(&place, Mode::S_IRWXU)?;
        attach(tree, fd::open(&place, OFlag::O_PATH | OFlag::O_DIRECTORY)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn layers_may_be_mounted_nowhere() {
        let dir = std::env::temp_dir().join(format!("carob-overlay-{}", std::process::id()));
        let layers = ["one", "other"].map(|name| {
            let layer = dir.join(name);
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(name), name).unwrap();
            clone_tree(&layer, Subtree::Alone).unwrap()
        });
        let [one, other] = layers.each_ref().map(AsFd::as_fd);
        let overlay = Overlay { lower: &[one, other], upper: None, options: &[], attributes: 0 };
        let names = create(&overlay).and_then(|made| crate::sys::dir::names(&made));
        std::fs::remove_dir_all(&dir).unwrap();
        let names = names.unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}
