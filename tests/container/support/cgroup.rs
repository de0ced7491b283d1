//! Where this machine keeps its cgroups: v1, hybrid or v2.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the unified hierarchy is the only one.
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Whether limits of `controller` can be set here.
pub fn has(controller: &str) -> bool {
    if is_v2() {
        let all = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap();
        // The v2 device controller is a BPF program and is in no list.
        return controller == "devices" || all.split_whitespace().any(|c| c == controller);
    }
    // A directory without this is a place where nothing is mounted.
    Path::new(ROOT).join(controller).join("cgroup.procs").exists()
}

/// The root of the hierarchy that `controller` (its v1 name) is in.
pub fn hierarchy(controller: &str) -> PathBuf {
    if is_v2() { PathBuf::from(ROOT) } else { Path::new(ROOT).join(controller) }
}

/// Every hierarchy of this machine.
pub fn hierarchies() -> Vec<PathBuf> {
    if is_v2() {
        return vec![PathBuf::from(ROOT)];
    }
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    // cpu and cpu,cpuacct may be links to each other
    entries.map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()).collect()
}

/// All cgroups below and including `dir`, children before their parent.
pub fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(tree(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}
