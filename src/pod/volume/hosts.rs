//! The text of `/etc/hosts`.
//!
//! Source: Kubernetes, `pkg/kubelet/kubelet_pods.go`: the texts.

use k8s_openapi::api::core::v1::HostAlias;

/// What every pod's file starts with.
const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// For a pod with a network of its own. An empty `domain` is none.
pub(super) fn of_pod(ips: &[String], host: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("{HEADER}{LOCAL}");
    for ip in ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{host}\n"));
        } else {
            text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n"));
        }
    }
    add_aliases(&mut text, aliases);
    text
}

/// For a pod in the machine's network: the machine's file.
pub(super) fn of_machine(file: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("{HEADER_HOST_NETWORK}{file}");
    add_aliases(&mut text, aliases);
    text
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases() -> Vec<HostAlias> {
        let alias = |ip: &str, names: &[&str]| HostAlias {
            ip: ip.into(),
            hostnames: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        };
        vec![alias("127.0.0.1", &["foo.local", "bar.local"]), alias("10.1.2.3", &["far"])]
    }

    #[test]
    fn of_a_pod() {
        let ips = ["10.0.0.7".to_owned(), "fd00::7".to_owned()];
        let start = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
            fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        assert_eq!(of_pod(&ips, "web", "", &[]), format!("{start}10.0.0.7\tweb\nfd00::7\tweb\n"));
        assert_eq!(
            of_pod(&ips[..1], "web", "sub.ns.svc.cluster.local", &aliases()),
            format!(
                "{start}10.0.0.7\tweb.sub.ns.svc.cluster.local\tweb\n\n\
                 # Entries added by HostAliases.\n\
                 127.0.0.1\tfoo.local\tbar.local\n10.1.2.3\tfar\n"
            )
        );
    }

    #[test]
    fn of_the_machine() {
        assert_eq!(
            of_machine("127.0.0.1 localhost\n", &aliases()[1..]),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n\
             # Entries added by HostAliases.\n10.1.2.3\tfar\n"
        );
    }
}
