//! The kinds of namespace: their words, clone flags and names below `/proc/<pid>/ns`.
//!
//! Source: runtime-spec `config-linux.md`, *Namespaces*; namespaces(7).

use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

/// One kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// oci-spec's name for it.
    pub kind: LinuxNamespaceType,
    /// The specification's word for it.
    pub word: &'static str,
    /// Its flag for clone3(2), unshare(2) and setns(2).
    pub flag: CloneFlags,
    /// Its file below `/proc/<pid>/ns`.
    pub proc_name: &'static str,
}

/// nix has no name for it. Linux 5.6; clone3(2) only, clone(2) has no room for it.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Every kind, in the order to join them: user first, because it gives the right to join the
/// others; mount late, because paths change their meaning with it.
pub const NAMESPACES: [Namespace; 8] = [
    of(LinuxNamespaceType::User),
    of(LinuxNamespaceType::Ipc),
    of(LinuxNamespaceType::Uts),
    of(LinuxNamespaceType::Network),
    of(LinuxNamespaceType::Pid),
    of(LinuxNamespaceType::Time),
    of(LinuxNamespaceType::Cgroup),
    of(LinuxNamespaceType::Mount),
];

/// The row of a kind. A new kind in oci-spec does not compile until it has one.
pub const fn of(kind: LinuxNamespaceType) -> Namespace {
    let (word, flag, proc_name) = match kind {
        LinuxNamespaceType::User => ("user", CloneFlags::CLONE_NEWUSER, "user"),
        LinuxNamespaceType::Ipc => ("ipc", CloneFlags::CLONE_NEWIPC, "ipc"),
        LinuxNamespaceType::Uts => ("uts", CloneFlags::CLONE_NEWUTS, "uts"),
        LinuxNamespaceType::Network => ("network", CloneFlags::CLONE_NEWNET, "net"),
        LinuxNamespaceType::Pid => ("pid", CloneFlags::CLONE_NEWPID, "pid"),
        LinuxNamespaceType::Time => ("time", CLONE_NEWTIME, "time"),
        LinuxNamespaceType::Cgroup => ("cgroup", CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Mount => ("mount", CloneFlags::CLONE_NEWNS, "mnt"),
    };
    Namespace { kind, word, flag, proc_name }
}

/// Where the container's namespace of one kind comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The runtime's own.
    Inherited,
    /// Made for the container.
    New,
    /// The one that this file stands for.
    Joined(&'a Path),
}

/// The namespace of one kind that the configuration asks for.
pub fn origin(spec: &Spec, kind: LinuxNamespaceType) -> Origin<'_> {
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    match all.unwrap_or_default().iter().find(|namespace| namespace.typ() == kind) {
        None => Origin::Inherited,
        Some(namespace) => path(namespace).map_or(Origin::New, Origin::Joined),
    }
}

/// The file to join; an empty path is the same as none.
pub fn path(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// The specification's words, in the order of the table.
pub fn words() -> impl Iterator<Item = &'static str> {
    NAMESPACES.iter().map(|namespace| namespace.word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_kind_once_and_the_specification_s_words() {
        let all = NAMESPACES.iter().fold(CloneFlags::empty(), |all, row| all | row.flag);
        assert_eq!(all.bits().count_ones() as usize, NAMESPACES.len());
        assert_eq!(NAMESPACES[0].kind, LinuxNamespaceType::User);
        for row in NAMESPACES {
            let json = serde_json::to_value(row.kind).unwrap();
            assert_eq!(json, row.word);
            assert_eq!(i64::from(row.flag.bits()), row.kind as i64);
        }
    }

    #[test]
    fn origins() {
        let spec: Spec = serde_json::from_str(
            r#"{"linux": {"namespaces": [
                {"type": "pid"}, {"type": "ipc", "path": ""}, {"type": "network", "path": "/n"}]}}"#,
        )
        .unwrap();
        assert_eq!(origin(&spec, LinuxNamespaceType::Pid), Origin::New);
        assert_eq!(origin(&spec, LinuxNamespaceType::Ipc), Origin::New);
        assert_eq!(origin(&spec, LinuxNamespaceType::Uts), Origin::Inherited);
        let joined = Origin::Joined(Path::new("/n"));
        assert_eq!(origin(&spec, LinuxNamespaceType::Network), joined);
    }
}
