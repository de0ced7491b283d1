//! Slices in hierarchies that systemd does not look after: on cgroup v1 cpuset, freezer and more.
//!
//! Their directories there are carob's, made on the way to a container's. systemd never takes them
//! away, so whoever leaves one empty does. One that somebody else has made stays.

use std::ffi::CStr;
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::layout::Hierarchy;
use super::super::make::Made;
use crate::sys::xattr;

/// Says that carob has made a cgroup. It is kept in the cgroup itself: containers share a slice,
/// and the last to leave it need not be the one that has made it.
const MARK: &CStr = c"trusted.carob.made";

/// Marks what was made above the cgroups themselves. What stays without a mark only stays.
pub(in crate::cgroup) fn mark(made: &Made, hierarchies: &[Hierarchy]) {
    let leaves: Vec<_> = hierarchies.iter().map(Hierarchy::dir).collect();
    for dir in made.dirs().filter(|dir| !leaves.iter().any(|leaf| leaf == dir)) {
        // A user may not, and has no such hierarchies.
        let _as_good_as_possible =
            dir.to_str().map_or(Ok(()), |dir| xattr::set_of(dir, MARK, b"1"));
    }
}

/// Removes, from a cgroup that has gone upwards, the empty ones that are marked.
pub(in crate::cgroup) fn remove_above(hierarchy: &Hierarchy) {
    let leaf = hierarchy.dir();
    let above = leaf.ancestors().skip(1).take_while(|dir| *dir != hierarchy.mount);
    for dir in above {
        // EBUSY: others are in it.
        if !is_marked(dir) || unlinkat(AT_FDCWD, dir, UnlinkatFlags::RemoveDir).is_err() {
            return;
        }
    }
}

fn is_marked(dir: &Path) -> bool {
    let all = dir.to_str().map(xattr::all_of);
    matches!(all, Some(Ok(all)) if all.iter().any(|(name, _)| name.as_c_str() == MARK))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Cgroup, CgroupDriver};
    use super::*;

    fn cgroup(path: &str) -> Cgroup {
        Cgroup::resolve(Some(Path::new(path)), "", CgroupDriver::Cgroupfs).unwrap()
    }

    fn make(cgroup: &Cgroup) {
        let made = cgroup.create(None).unwrap();
        mark(&made, &cgroup.hierarchies);
    }

    fn remove(cgroup: &Cgroup) {
        cgroup.delete().unwrap();
        cgroup.hierarchies.iter().for_each(remove_above);
    }

    /// In how many hierarchies a cgroup is.
    fn count(path: &str) -> usize {
        let found = cgroup(path);
        found.hierarchies.iter().filter(|hierarchy| hierarchy.dir().exists()).count()
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn the_last_to_leave_a_slice_takes_it_away() {
        let top = format!("/carob-slices-{}", std::process::id());
        let (first, second) = (cgroup(&format!("{top}/a/1")), cgroup(&format!("{top}/a/b/2")));
        let all = first.hierarchies.len();
        make(&first);
        make(&second);
        remove(&first);
        let left = ["", "/a", "/a/b", "/a/1"].map(|below| count(&format!("{top}{below}")));
        assert_eq!(left, [all, all, all, 0]);
        remove(&second);
        assert_eq!(count(&top), 0);
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_slice_of_somebody_elses_stays() {
        let top = format!("/carob-slices-of-others-{}", std::process::id());
        let others = cgroup(&top);
        others.create(None).unwrap();
        let ours = cgroup(&format!("{top}/a/1"));
        make(&ours);
        remove(&ours);
        assert_eq!([count(&top), count(&format!("{top}/a"))], [others.hierarchies.len(), 0]);
        others.delete().unwrap();
    }
}
