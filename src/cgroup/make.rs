//! Makes the directories of a cgroup and what must be in them before a process can enter.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::controller::{Controller, Version};
use super::dir::Dir;
use super::layout::Hierarchy;
use super::settings::Setting;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// The directories made so far, parents first, so that a failure can take them back.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

/// How often the way to a cgroup is made again if it goes away meanwhile.
const ATTEMPTS: u32 = 100;

/// Whether a cgroup is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// We made it.
    New,
    /// It was there.
    Joined,
}

impl Made {
    /// Makes `path` and what is missing above it; existing directories are joined.
    pub(super) fn make(&mut self, path: &Path) -> Result<Leaf> {
        match self.make_one(path) {
            Err(Errno::ENOENT) => {}
            other => return other.os("mkdir cgroup", || path.display()),
        }
        let mut attempts = 1..ATTEMPTS;
        loop {
            match self.make_with_levels(path) {
                // Whoever leaves a slice beside us may take away a level that is empty still.
                Err(error) if error.errno() == Some(Errno::ENOENT) && attempts.next().is_some() => {
                }
                other => return other,
            }
        }
    }

    /// From the first missing ancestor down; two runtimes may be doing the same.
    fn make_with_levels(&mut self, path: &Path) -> Result<Leaf> {
        let ancestors: Vec<_> = path.ancestors().collect();
        let missing = ancestors.iter().take_while(|dir| !dir.exists()).count();
        ancestors[..missing].iter().rev().try_fold(Leaf::Joined, |_, dir| {
            self.make_one(dir).os("mkdir cgroup", || dir.display())
        })
    }

    fn make_one(&mut self, path: &Path) -> nix::Result<Leaf> {
        match mkdir(path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                self.0.push(path.to_owned());
                Ok(Leaf::New)
            }
            Err(Errno::EEXIST) => Ok(Leaf::Joined),
            Err(errno) => Err(errno),
        }
    }

    /// All directories of a cgroup that is new in each hierarchy.
    pub(super) fn whole(hierarchies: &[Hierarchy]) -> Self {
        Self(hierarchies.iter().map(Hierarchy::dir).collect())
    }

    /// Those that were made, the leaves among them.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }

    /// Whether this directory was made, and was not there before.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|made| made == path)
    }

    /// Removes what was made. What somebody else uses by now stays: rmdir refuses it.
    pub(super) fn undo(self) {
        for path in self.0.iter().rev() {
            nix::unistd::unlinkat(
                nix::fcntl::AT_FDCWD,
                path.as_path(),
                nix::unistd::UnlinkatFlags::RemoveDir,
            )
            .ok();
        }
    }
}

/// Which controllers of the unified tree are turned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enable {
    /// Pure v2: whatever there is, because what clients read (memory.current, memory.events,
    /// pids.current, io.stat) exists only then.
    All,
    /// Hybrid: those that a limit needs. More would keep others from mounting them on v1.
    Needed,
}

/// What the version of the hierarchy needs in the directories between root and leaf.
pub(super) fn prepare<'a>(
    (hierarchy, leaf): (&Hierarchy, Leaf),
    settings: impl Iterator<Item = &'a Setting> + Clone,
    enable: Enable,
) -> Result<()> {
    match hierarchy.version() {
        Version::V1 if hierarchy.has_v1(Controller::Cpuset) => {
            fill_cpuset((hierarchy, leaf), settings)
        }
        Version::V1 => Ok(()),
        Version::V2 => enable_controllers(hierarchy, settings, enable),
    }
}

const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// A v1 cpuset starts empty, and no process can enter an empty one: each level gets what the
/// level above has. The leaf's own are left out where the configuration gives them.
fn fill_cpuset<'a>(
    (hierarchy, leaf): (&Hierarchy, Leaf),
    settings: impl Iterator<Item = &'a Setting> + Clone,
) -> Result<()> {
    for file in CPUSET_FILES {
        let mut empty = Vec::new();
        let mut path = hierarchy.dir();
        if settings.clone().any(|setting| setting.files[0].0 == file) {
            path.pop();
        }
        // Upwards to the first level that has a value, at the latest the root; then downwards.
        let value = loop {
            let level = path.join(file);
            // One that was just made need not be asked.
            if leaf == Leaf::Joined || path != hierarchy.dir() {
                let value = fd::read_record(&level).os("read", || level.display())?;
                if !value.trim().is_empty() {
                    break value;
                }
            }
            empty.push(level);
            if path == hierarchy.mount || !path.pop() {
                return Err(Error::config(
                    "linux.cgroupsPath",
                    format!("no cgroup above {} has any {file}", hierarchy.dir().display()),
                ));
            }
        };
        for level in empty.iter().rev() {
            fd::write_file(level, value.trim())?;
        }
    }
    Ok(())
}

/// Turns on controllers of the unified tree, top down, for every level above the leaf.
///
/// Those that a limit needs must work; others are turned on where that is possible.
fn enable_controllers<'a>(
    hierarchy: &Hierarchy,
    settings: impl Iterator<Item = &'a Setting> + Clone,
    which: Enable,
) -> Result<()> {
    let needed =
        |name: &str| settings.clone().find(|setting| setting.controller.v2_name() == Some(name));
    let wanted = |name: &&str| which == Enable::All || needed(name).is_some();
    if which == Enable::Needed && settings.clone().next().is_none() {
        return Ok(());
    }
    let offered = Dir::open(hierarchy.mount.clone())?.read("cgroup.controllers")?;
    let leaf = hierarchy.dir();
    let parent = Dir::open(leaf.parent().unwrap_or(&hierarchy.mount).to_owned())?;
    let enabled = parent.read("cgroup.subtree_control")?;
    if !missing(&offered, &enabled).iter().any(wanted) {
        return Ok(());
    }
    let mut levels: Vec<_> =
        leaf.ancestors().skip(1).take_while(|dir| dir.starts_with(&hierarchy.mount)).collect();
    levels.reverse();
    for level in levels {
        let dir = Dir::open(level.to_owned())?;
        let here = dir.read("cgroup.controllers")?;
        let mut missing = missing(&here, &dir.read("cgroup.subtree_control")?);
        missing.retain(wanted);
        enable(&dir, &missing, needed)?;
    }
    // A controller can be absent at a level because the one above does not delegate it.
    let here = Dir::open(leaf.clone())?.read("cgroup.controllers")?;
    for setting in settings.clone() {
        let Some(name) = setting.controller.v2_name() else { continue };
        if !here.split_whitespace().any(|one| one == name) {
            return Err(Error::config(&*setting.field, not_passed_down(hierarchy, name)));
        }
    }
    Ok(())
}

/// Which level does not pass a controller on to the one below, and so not to the leaf.
fn not_passed_down(hierarchy: &Hierarchy, name: &str) -> String {
    let leaf = hierarchy.dir();
    let lists = |dir: &Path, file: &str| {
        let text = Dir::open(dir.to_owned()).and_then(|dir| dir.read(file)).unwrap_or_default();
        text.split_whitespace().any(|one| one == name)
    };
    let mut above = leaf.ancestors().skip(1).take_while(|dir| dir.starts_with(&hierarchy.mount));
    // From the leaf upwards, the first that has it and keeps it to itself.
    let keeper = above.find(|dir| lists(dir, "cgroup.controllers"));
    let keeper = keeper.unwrap_or(&hierarchy.mount).display();
    format!(
        "the cgroup controller {name} is not enabled for {}: it is not in \
         {keeper}/cgroup.subtree_control, where its owner must add it (systemd: Delegate={name})",
        leaf.display()
    )
}

/// The controllers in `available` that `enabled` does not list.
fn missing<'a>(available: &'a str, enabled: &str) -> Vec<&'a str> {
    let is_on = |name: &&str| enabled.split_whitespace().any(|one| one == *name);
    available.split_whitespace().filter(|name| !is_on(name)).collect()
}

fn enable<'a>(
    dir: &Dir,
    names: &[&str],
    needed: impl Fn(&str) -> Option<&'a Setting>,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = names.iter().map(|name| format!("+{name}")).collect();
    // All or nothing in one write; one by one only if that does not work.
    match dir.write_raw("cgroup.subtree_control", &all.join(" ")) {
        Ok(()) => return Ok(()),
        // A cgroup with processes: some controllers could still be turned on, but that would
        // make it a threaded one, and no process could enter the cgroup below it.
        Err(Errno::EBUSY) => {
            let first = names.iter().find_map(|name| Some((name, needed(name)?)));
            return first
                .map_or(Ok(()), |(name, setting)| Err(refused(dir, setting, name, Errno::EBUSY)));
        }
        Err(_) => {}
    }
    for name in names {
        let Err(errno) = dir.write_raw("cgroup.subtree_control", &format!("+{name}")) else {
            continue;
        };
        let Some(setting) = needed(name) else { continue };
        return Err(refused(dir, setting, name, errno));
    }
    Ok(())
}

fn refused(dir: &Dir, setting: &Setting, name: &str, errno: Errno) -> Error {
    let path = dir.path().display();
    if errno == Errno::EBUSY {
        return Error::config(
            &*setting.field,
            format!(
                "the cgroup {path} has processes of its own and therefore cannot pass the \
                 controller {name} down; move them into a cgroup below it, or choose another \
                 linux.cgroupsPath"
            ),
        );
    }
    Error::Os {
        op: "write",
        target: format!("\"+{name}\" to {path}/cgroup.subtree_control ({})", setting.field),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn only_what_is_off_is_turned_on() {
        assert_eq!(missing("cpuset cpu io memory\n", "cpu memory\n"), ["cpuset", "io"]);
        assert!(missing("", "cpu").is_empty());
    }
}
