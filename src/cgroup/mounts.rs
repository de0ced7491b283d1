//! What a mount of type `cgroup` is made of. Data only: `init` does the mounts.

use std::path::PathBuf;

use super::layout::{Hierarchy, Tree};
use super::plan::is_pure_v2;

/// The contents of `/sys/fs/cgroup` for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupMount {
    /// A tmpfs with a directory per v1 hierarchy and links to them.
    V1 {
        /// One directory each, to be bound or, in a cgroup namespace, mounted.
        hierarchies: Vec<V1Mount>,
        /// Name and target of each link, as `cpu` → `cpu,cpuacct`.
        links: Vec<(String, String)>,
    },
    /// The one tree.
    V2 {
        /// Mount point on the host.
        mount: PathBuf,
        /// The container's own cgroup in it.
        path: PathBuf,
    },
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Mount {
    /// Options with which to mount it anew: `cpu,cpuacct` or `name=systemd`.
    pub options: String,
    /// Name of its directory: `cpu,cpuacct`, `systemd`.
    pub name: String,
    /// Mount point on the host.
    pub mount: PathBuf,
    /// The container's own cgroup in it, on the host.
    pub path: PathBuf,
}

pub(super) fn of(hierarchies: &[Hierarchy]) -> CgroupMount {
    if let ([unified], true) = (hierarchies, is_pure_v2(hierarchies)) {
        return CgroupMount::V2 { mount: unified.mount.clone(), path: unified.dir() };
    }
    let mut mounts = Vec::new();
    let mut links = Vec::new();
    for hierarchy in hierarchies {
        let Tree::V1(options) = &hierarchy.tree else { continue };
        let name = options.strip_prefix("name=").unwrap_or(options).to_owned();
        if name.contains(',') {
            links.extend(name.split(',').map(|one| (one.to_owned(), name.clone())));
        }
        mounts.push(V1Mount {
            options: options.clone(),
            name,
            mount: hierarchy.mount.clone(),
            path: hierarchy.dir(),
        });
    }
    CgroupMount::V1 { hierarchies: mounts, links }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joint_hierarchies_get_links_and_names_lose_their_prefix() {
        let hierarchy = |names: &str| Hierarchy {
            tree: Tree::V1(names.to_owned()),
            mount: PathBuf::from("/sys/fs/cgroup").join(names),
            path: "c1".into(),
        };
        let unified = Hierarchy {
            tree: Tree::Unified,
            mount: "/sys/fs/cgroup/unified".into(),
            path: "c1".into(),
        };
        let mount = of(&[hierarchy("cpu,cpuacct"), hierarchy("name=systemd"), unified.clone()]);
        let CgroupMount::V1 { hierarchies, links } = mount else { panic!("{mount:?}") };
        assert_eq!(hierarchies[0].path, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/c1"));
        assert_eq!(hierarchies[1].name, "systemd");
        assert_eq!(hierarchies.len(), 2, "the unified tree of a hybrid host is not shown");
        let to = "cpu,cpuacct".to_owned();
        assert_eq!(links, [("cpu".to_owned(), to.clone()), ("cpuacct".to_owned(), to)]);
        assert!(matches!(of(&[unified]), CgroupMount::V2 { .. }));
    }
}
