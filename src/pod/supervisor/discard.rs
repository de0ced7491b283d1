//! Removing what a container has left in its writable layers, beside the work of the supervisor:
//! how long it takes is the container's choice.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sched::CloneFlags;

use super::{Supervisor, ended, rootfs};
use crate::log;
use crate::sys::process::{self, CloneTarget, Cloned};
use crate::sys::{dir, fd};

impl Supervisor {
    /// Removes all layers of a container that were put aside, in a process of its own.
    pub(super) fn discard_layers(&self, container: &str) {
        let (parent, prefix) = rootfs::aside(&self.file.dirs, container);
        let names = old_layers(&parent, prefix);
        if names.is_empty() {
            return;
        }
        match process::clone3(CloneFlags::empty(), &CloneTarget::default()) {
            Ok(Cloned::Parent(child)) => {
                let child = Rc::new(child.pidfd);
                self.spawn(async move {
                    ended(Rc::clone(&child)).await;
                    let _reaped = process::wait(child.as_fd());
                    None
                });
            }
            Ok(Cloned::Child) => {
                // The lock of the supervisor among them: this process may outlive it.
                let _unsupported = fd::close_others(3, &[]);
                process::set_name(c"carob:clear");
                let removed = remove(&parent, &names);
                process::exit_now(i32::from(removed.is_err()))
            }
            // `pod rm` takes them, too.
            Err(errno) => log::warn(format_args!("clone3 to remove old layers: {errno}")),
        }
    }
}

fn old_layers(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let names = entries.flatten().map(|entry| PathBuf::from(entry.file_name()));
    names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(prefix))).collect()
}

fn remove(parent: &Path, names: &[PathBuf]) -> nix::Result<()> {
    let parent = dir::open(parent)?;
    names.iter().try_for_each(|name| dir::remove(&parent, name.as_path()))
}
