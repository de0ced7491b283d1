//! Kernel parameters: their paths, and the namespace that each belongs to.

use std::borrow::Cow;

use oci_spec::runtime::LinuxNamespaceType;

/// The parameter's path below `/proc/sys`, or `None` if the key cannot be one.
///
/// The first separator of the key, `.` or `/`, is the one between directories; the other one is
/// then part of a name, as in `net/ipv4/conf/eth0.100/forwarding` and its equal
/// `net.ipv4.conf.eth0/100.forwarding`. Source: sysctl(8).
pub fn path(key: &str) -> Option<Cow<'_, str>> {
    let path = match key.bytes().find(|b| matches!(b, b'.' | b'/')) {
        Some(b'/') => Cow::Borrowed(key),
        _ => Cow::Owned(key.chars().map(swap_separators).collect()),
    };
    let is_name = |name: &str| !matches!(name, "" | "." | "..");
    let clean = !key.bytes().any(|b| b.is_ascii_control() || b == b' ');
    (clean && path.split('/').all(is_name)).then_some(path)
}

/// The key, with dots, of the parameter at this path.
pub fn key(path: &str) -> String {
    path.chars().map(swap_separators).collect()
}

fn swap_separators(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

/// The kind of namespace that has its own value of the parameter at this path, if any has.
///
/// Source: ipc_namespaces(7), uts_namespaces(7), network_namespaces(7).
pub fn namespace(path: &str) -> Option<LinuxNamespaceType> {
    match path {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Some(LinuxNamespaceType::Ipc),
        "kernel/hostname" | "kernel/domainname" => Some(LinuxNamespaceType::Uts),
        _ if path.starts_with("fs/mqueue/") => Some(LinuxNamespaceType::Ipc),
        _ if path.starts_with("net/") => Some(LinuxNamespaceType::Network),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_either_separator() {
        for (key, expected) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("", None),
            ("/net/x", None),
            (".net.x", None),
            ("net..x", None),
            ("net/../kernel/x", None),
            ("net.//.kernel", None),
            ("net/x/", None),
            ("net.x\n", None),
            ("net.x\0", None),
            ("net. x", None),
        ] {
            assert_eq!(path(key).as_deref(), expected, "{key:?}");
        }
        assert_eq!(key("net/ipv4/conf/eth0.100/forwarding"), "net.ipv4.conf.eth0/100.forwarding");
    }

    #[test]
    fn each_belongs_to_one_namespace() {
        for (path, expected) in [
            ("kernel/shmmax", Some(LinuxNamespaceType::Ipc)),
            ("kernel/shm_next_id", None),
            ("fs/mqueue/msg_max", Some(LinuxNamespaceType::Ipc)),
            ("kernel/hostname", Some(LinuxNamespaceType::Uts)),
            ("net/core/somaxconn", Some(LinuxNamespaceType::Network)),
            ("network/x", None),
            ("kernel/core_pattern", None),
            ("vm/swappiness", None),
        ] {
            assert_eq!(namespace(path), expected, "{path}");
        }
    }
}
