//! A pod as a whole: names, namespaces of the machine, DNS.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};

use super::super::annotations;
use super::super::names;
use super::super::problem::Problems;
use super::{container, containers, form, list, metadata, resources, security, volumes};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// NAME_MAX of Linux.
const MAX_FILE_NAME: usize = 255;
/// Digits of a restart count, and what separates it.
const RESTART_COUNT: usize = 11;

/// Checks a pod that has been decoded and filled in.
pub(in super::super) fn pod(pod: &Pod, problems: &mut Problems) {
    metadata(&pod.metadata, problems);
    annotations::check(pod, problems);
    let Some(spec) = &pod.spec else { return };
    file_names(pod, spec, problems);
    container_names(spec, problems);
    host_namespaces(spec, problems);
    host_names(spec, problems);
    dns(spec, problems);
    security::annotations(pod, spec, problems);
    security::pod(spec, problems);
    volumes::volumes(spec, problems);
    for (path, item) in containers(spec) {
        container::container(&path, item, spec, problems);
    }
    container::host_ports(spec, problems);
    resources::pod(spec, problems);
}

/// Container ids and log directories have the name of the pod in theirs.
fn file_names(pod: &Pod, spec: &PodSpec, problems: &mut Problems) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let longest = containers(spec).map(|(_, container)| container.name.len()).max().unwrap_or(0);
    let other = namespace.len() + 2 + (longest + RESTART_COUNT).max(uid.len());
    if name.len() + other > MAX_FILE_NAME {
        let most = MAX_FILE_NAME.saturating_sub(other);
        let detail = format!(
            "must be no more than {most} characters here: with the namespace and the name of a \
             container or the uid it names a directory"
        );
        problems.invalid("metadata.name", name, detail);
    }
}

fn container_names(spec: &PodSpec, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (path, container) in containers(spec) {
        if !container.name.is_empty() && !seen.insert(&container.name) {
            problems.duplicate(&format!("{path}.name"), &container.name);
        }
    }
}

fn host_namespaces(spec: &PodSpec, problems: &mut Problems) {
    let host = [
        ("spec.hostNetwork", spec.host_network),
        ("spec.hostPID", spec.host_pid),
        ("spec.hostIPC", spec.host_ipc),
    ];
    if spec.host_users == Some(false) {
        for (path, _) in host.iter().filter(|(_, on)| *on == Some(true)) {
            problems.forbidden(path, "when `hostUsers` is false");
        }
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        problems.invalid("spec.shareProcessNamespace", true, detail);
    }
}

fn host_names(spec: &PodSpec, problems: &mut Problems) {
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        let path = "spec.hostnameOverride";
        form(problems, path, name, names::subdomain(name));
        if name.len() > 64 {
            problems.too_long(path, 64);
        }
        if spec.set_hostname_as_fqdn == Some(true) {
            problems.forbidden(path, "may not be set when `setHostnameAsFQDN` is true");
        }
        if spec.host_network == Some(true) {
            problems.forbidden(path, "may not be set when `hostNetwork` is true");
        }
    }
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let path = format!("spec.hostAliases[{index}]");
        ip(problems, &format!("{path}.ip"), &alias.ip);
        for (index, name) in list(&alias.hostnames).iter().enumerate() {
            form(problems, &format!("{path}.hostnames[{index}]"), name, names::subdomain(name));
        }
    }
}

/// Notes what is no address.
pub(super) fn ip(problems: &mut Problems, path: &str, value: &str) {
    if value.parse::<IpAddr>().is_err() && !value.is_empty() {
        problems.invalid(
            path,
            value,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
}

fn dns(spec: &PodSpec, problems: &mut Problems) {
    let none = spec.dns_policy.as_deref() == Some("None");
    let Some(config) = &spec.dns_config else {
        if none {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            problems.required("spec.dnsConfig", detail);
        }
        return;
    };
    let path = "spec.dnsConfig.nameservers";
    let servers = list(&config.nameservers);
    if none && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        problems.required(path, detail);
    }
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        problems.invalid(path, servers, detail);
    }
    for (index, server) in servers.iter().enumerate() {
        ip(problems, &format!("{path}[{index}]"), server);
    }
    searches(config, problems);
    for (index, option) in list(&config.options).iter().enumerate() {
        let parts = [("name", &option.name), ("value", &option.value)];
        for (field, value) in parts.map(|(field, value)| (field, value.as_deref())) {
            if let Some(value) = value.filter(|value| value.contains(char::is_whitespace)) {
                let path = format!("spec.dnsConfig.options[{index}].{field}");
                problems.invalid(&path, value, "must not contain white space");
            }
        }
    }
}

fn searches(config: &PodDNSConfig, problems: &mut Problems) {
    let path = "spec.dnsConfig.searches";
    let searches = list(&config.searches);
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        problems.invalid(path, searches, detail);
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the \
             search list"
        );
        problems.invalid(path, searches, detail);
    }
    for (index, search) in searches.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." {
            form(problems, &format!("{path}[{index}]"), search, names::subdomain(&name));
        }
    }
}
