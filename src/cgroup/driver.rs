//! Who makes cgroups, and how it names them.

use std::path::{Path, PathBuf};

use super::systemd;

/// `--systemd-cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Directories under `/sys/fs/cgroup`.
    Cgroupfs,
    /// Transient units over D-Bus.
    Systemd,
}

impl CgroupDriver {
    /// The one that suits this host and caller: systemd's where it is PID 1 and takes orders of ours.
    #[must_use]
    pub fn of_host() -> Self {
        if systemd::is_ours() { Self::Systemd } else { Self::Cgroupfs }
    }

    /// The one that has made the cgroup that others are below: a path, or the name of a slice.
    #[must_use]
    pub fn of_parent(parent: &Path) -> Self {
        let is_slice = parent.components().count() == 1
            && parent.extension().is_some_and(|extension| extension == "slice");
        if is_slice { Self::Systemd } else { Self::Cgroupfs }
    }

    /// A cgroup for other cgroups, below one such: `/carob` and `pod1`, `carob.slice` and `pod1`.
    #[must_use]
    pub fn parent_below(parent: &Path, name: &str) -> PathBuf {
        match Self::of_parent(parent) {
            Self::Cgroupfs => parent.join(name),
            Self::Systemd => {
                // A dash would be one more level.
                let name = name.replace('-', "_");
                format!("{}-{name}.slice", stem(parent)).into()
            }
        }
    }

    /// `linux.cgroupsPath` of a container below such a cgroup.
    #[must_use]
    pub fn container_below(parent: &Path, name: &str) -> PathBuf {
        match Self::of_parent(parent) {
            Self::Cgroupfs => parent.join(name),
            // The names of scopes are one for the whole host.
            Self::Systemd => format!("{}:{}:{name}", parent.display(), stem(parent)).into(),
        }
    }
}

/// The name of a slice without its ending.
fn stem(slice: &Path) -> String {
    slice.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_says_who_makes_what_is_below() {
        for (parent, pod, container) in [
            ("/carob", "/carob/poda-b", "/carob/poda-b/web_0"),
            ("/x.slice", "/x.slice/poda-b", "/x.slice/poda-b/web_0"),
            ("carob.slice", "carob-poda_b.slice", "carob-poda_b.slice:carob-poda_b:web_0"),
        ] {
            let below = CgroupDriver::parent_below(Path::new(parent), "poda-b");
            assert_eq!(below, Path::new(pod));
            assert_eq!(CgroupDriver::container_below(&below, "web_0"), Path::new(container));
            assert_eq!(CgroupDriver::of_parent(&below), CgroupDriver::of_parent(Path::new(parent)));
        }
    }
}
