//! Which hierarchies this host has, where they are mounted, and carob's own place in each.
//!
//! The well-known directories are tried first: one `statfs` per hierarchy. Only where that fails
//! is `/proc/self/mountinfo` read, which can be long on a host with many containers.

use std::fs;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use serde::{Deserialize, Serialize};

use super::controller::{Controller, Version};
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// Where every distribution mounts its cgroup hierarchies.
const ROOT: &str = "/sys/fs/cgroup";

/// One hierarchy, named as `/proc/self/cgroup` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tree {
    /// A v1 hierarchy with these controllers, `cpu,cpuacct`, or `name=systemd`.
    V1(String),
    /// The tree of cgroup v2; on a hybrid host it may have no controllers.
    Unified,
}

/// A hierarchy and the container's place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    pub(super) tree: Tree,
    /// Mount point of the hierarchy.
    pub(super) mount: PathBuf,
    /// The container's cgroup below `mount`; relative and without `..`.
    pub(super) path: PathBuf,
}

impl Hierarchy {
    /// Full path of the container's cgroup.
    pub(super) fn dir(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    pub(super) fn version(&self) -> Version {
        match self.tree {
            Tree::V1(_) => Version::V1,
            Tree::Unified => Version::V2,
        }
    }

    /// Whether this is the v1 hierarchy of the controller.
    pub(super) fn has_v1(&self, controller: Controller) -> bool {
        match &self.tree {
            Tree::V1(names) => controller.is_in(names),
            Tree::Unified => false,
        }
    }
}

/// A line of `/proc/self/cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    tree: Tree,
    path: PathBuf,
}

/// All mounted hierarchies, with the container's place in each.
///
/// An absolute `cgroups_path` counts from each hierarchy's root. A relative one (or the id, where
/// there is none) counts from carob's own cgroup; on a pure v2 host from the parent of it, because
/// carob's own has processes and therefore can pass no controllers down.
pub(super) fn hierarchies(cgroups_path: Option<&Path>, id: &str) -> Result<Vec<Hierarchy>> {
    let given = match cgroups_path {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new(id),
    };
    let below = clean(given);
    if below.as_os_str().is_empty() {
        return Err(Error::config(
            "linux.cgroupsPath",
            format!("{given:?} is the root it counts from; it must name a cgroup below it"),
        ));
    }
    let own = fd::read_record("/proc/self/cgroup").os("read", || "/proc/self/cgroup")?;
    let own = parse_own(&own);
    let pure_v2 = own.iter().all(|own| own.tree == Tree::Unified);
    let mut mounts = Mounts::default();
    let mut found = Vec::with_capacity(own.len());
    for own in own {
        let start = match (given.is_absolute(), pure_v2) {
            (true, _) => PathBuf::new(),
            (false, false) => clean(&own.path),
            (false, true) => clean(own.path.parent().unwrap_or(Path::new(""))),
        };
        if let Some((mount, start)) = mounts.locate(&own.tree, start, pure_v2)? {
            found.push(Hierarchy { tree: own.tree, mount, path: start.join(&below) });
        }
    }
    if found.is_empty() {
        return Err(Error::Unsupported(
            "no cgroup hierarchy is mounted on this host (looked at /sys/fs/cgroup and mountinfo)"
                .to_owned(),
        ));
    }
    Ok(found)
}

/// carob's own cgroup in the unified tree, below its root.
pub(super) fn own_unified() -> Option<PathBuf> {
    unified_of("self")
}

/// That of a process, by its name in /proc.
pub(super) fn unified_of(process: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let own = parse_own(&text).into_iter().find(|own| own.tree == Tree::Unified)?;
    Some(clean(&own.path))
}

/// Where a container's init is below the container's cgroup in the unified tree.
pub(super) fn place_below(cgroup: &Path, init: i32) -> Option<PathBuf> {
    let place = unified_of(&init.to_string())?;
    place.strip_prefix(cgroup).ok().map(Path::to_owned)
}

/// The path without `/` in front, `.` and `..`; what `..` would leave stays at the root.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Reads a text as each of the two tables.
pub(crate) fn parse_tables(text: &str) {
    let (own, mounts) = (parse_own(text), parse_mounts(text));
    for (own, mount) in own.iter().zip(&mounts) {
        let _shown = (mount.shows(&own.tree), clean(&own.path), clean(&mount.root));
    }
}

fn parse_own(text: &str) -> Vec<Own> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let tree = if names.is_empty() { Tree::Unified } else { Tree::V1(names.to_owned()) };
        Some(Own { tree, path: PathBuf::from(path) })
    };
    text.lines().filter_map(line).collect()
}

/// Whether this host has cgroup v2 alone, where it is expected.
#[must_use]
pub fn is_host_pure_v2() -> bool {
    is_mount_of(Path::new(ROOT), CGROUP2_SUPER_MAGIC)
}

fn is_mount_of(path: &Path, magic: FsType) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == magic)
}

/// The cgroup mounts of `/proc/self/mountinfo`, read when first needed.
#[derive(Default)]
struct Mounts(Option<Vec<Mount>>);

impl Mounts {
    /// The mount point of a tree and `start` as seen below it; `None` if it is not mounted.
    fn locate(
        &mut self,
        tree: &Tree,
        start: PathBuf,
        pure_v2: bool,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        let (known, magic) = match tree {
            Tree::Unified if pure_v2 => (PathBuf::from(ROOT), CGROUP2_SUPER_MAGIC),
            Tree::Unified => (Path::new(ROOT).join("unified"), CGROUP2_SUPER_MAGIC),
            Tree::V1(names) => {
                let dir = names.strip_prefix("name=").unwrap_or(names);
                (Path::new(ROOT).join(dir), CGROUP_SUPER_MAGIC)
            }
        };
        // One call answers both: the hierarchy is mounted there, and our own place is visible.
        if is_mount_of(&known.join(&start), magic) {
            return Ok(Some((known, start)));
        }
        if self.0.is_none() {
            let text =
                fs::read_to_string("/proc/self/mountinfo").os("read", || "/proc/self/mountinfo")?;
            self.0 = Some(parse_mounts(&text));
        }
        let mut candidates = self.0.iter().flatten().filter(|mount| mount.shows(tree));
        Ok(candidates.find_map(|mount| {
            // Inside a container without a cgroup namespace only a part of the tree is mounted.
            let below = start.strip_prefix(clean(&mount.root)).unwrap_or(&start).to_owned();
            let dir = mount.point.join(&below);
            is_mount_of(&dir, magic).then(|| (mount.point.clone(), below))
        }))
    }
}

/// A cgroup mount: which part of which hierarchy is visible where.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
    /// Options of the v1 superblock; `None` for cgroup2.
    v1_options: Option<String>,
}

impl Mount {
    fn shows(&self, tree: &Tree) -> bool {
        match (tree, &self.v1_options) {
            (Tree::Unified, None) => true,
            (Tree::V1(names), Some(options)) => {
                names.split(',').all(|name| options.split(',').any(|option| option == name))
            }
            (Tree::Unified, Some(_)) | (Tree::V1(_), None) => false,
        }
    }
}

/// Source: proc_pid_mountinfo(5).
fn parse_mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (mount, superblock) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut superblock = superblock.split(' ');
        let v1_options = match superblock.next()? {
            "cgroup" => Some(superblock.nth(1)?.to_owned()),
            "cgroup2" => None,
            _ => return None,
        };
        Some(Mount { root: unescape(root), point: unescape(point), v1_options })
    };
    text.lines().filter_map(line).collect()
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let table = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(
        table.iter().fold(field.to_owned(), |text, (code, char)| text.replace(code, char)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths_never_leave_the_root() {
        for (given, want) in [
            ("/foo/bar", "foo/bar"),
            ("foo", "foo"),
            ("../../x", "x"),
            ("/a/../../b/./c/", "b/c"),
            ("..", ""),
            ("/", ""),
            ("a:b:c", "a:b:c"),
        ] {
            assert_eq!(clean(Path::new(given)), Path::new(want), "{given}");
        }
    }

    #[test]
    fn own_cgroups_of_all_layouts() {
        let own = parse_own("9:name=systemd:/a\n4:cpu,cpuacct:/x:y\n0::/u\n");
        let want = [
            (Tree::V1("name=systemd".into()), "/a"),
            (Tree::V1("cpu,cpuacct".into()), "/x:y"),
            (Tree::Unified, "/u"),
        ];
        for (own, (tree, path)) in own.iter().zip(&want) {
            assert_eq!((&own.tree, own.path.as_path()), (tree, Path::new(path)));
        }
        assert_eq!(own.len(), want.len());
    }

    #[test]
    fn mountinfo_lines() {
        let mounts = parse_mounts(concat!(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n",
            "32 31 0:29 /docker/x /cg\\040roup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        ));
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/cg roup/cpu"));
        assert_eq!(mounts[0].root, Path::new("/docker/x"));
        assert!(mounts[0].shows(&Tree::V1("cpu,cpuacct".into())));
        assert!(!mounts[0].shows(&Tree::V1("cpuset".into())));
        assert!(!mounts[0].shows(&Tree::Unified));
        assert!(mounts[1].shows(&Tree::Unified));
    }

    #[test]
    fn the_root_itself_is_refused() {
        for path in ["/", "..", "a/.."] {
            let error = hierarchies(Some(Path::new(path)), "c1").unwrap_err();
            assert!(error.to_string().starts_with("linux.cgroupsPath: "), "{error}");
        }
    }
}
