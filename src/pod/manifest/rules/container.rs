//! A container, but for what has files of its own here.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::super::names;
use super::super::problem::Problems;
use super::{env, form, list, mounts, pod, probe, resources, security};

const MAX_RESTART_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// Checks one.
pub(super) fn container(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    if let Some(image) = item.image.as_deref().filter(|image| image.trim() != *image) {
        let detail = "must not have leading or trailing whitespace";
        problems.invalid(&format!("{path}.image"), image, detail);
    }
    let is_init = path.starts_with("spec.initContainers");
    if is_init && item.restart_policy.as_deref() != Some("Always") {
        not_for_init(path, item, problems);
    } else {
        probe::probes(path, item, problems);
        probe::lifecycle(path, item, spec, problems);
    }
    ports(path, item, spec, problems);
    env::env(path, item, spec, problems);
    mounts::mounts(path, item, spec, problems);
    mounts::devices(path, item, spec, problems);
    restart_rules(path, item, problems);
    if let Some(own) = &item.resources {
        resources::container(&format!("{path}.resources"), own, problems);
    }
    if let Some(context) = &item.security_context {
        security::container(&format!("{path}.securityContext"), context, spec, problems);
    }
}

fn not_for_init(path: &str, item: &Container, problems: &mut Problems) {
    for (field, given) in [
        ("lifecycle", item.lifecycle.is_some()),
        ("livenessProbe", item.liveness_probe.is_some()),
        ("readinessProbe", item.readiness_probe.is_some()),
        ("startupProbe", item.startup_probe.is_some()),
    ] {
        if given {
            let detail = "may not be set for init containers without restartPolicy=Always";
            problems.forbidden(&format!("{path}.{field}"), detail);
        }
    }
}

fn ports(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, port) in list(&item.ports).iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let at = format!("{path}.name");
            form(problems, &at, name, names::port_name(name));
            if !seen.insert(name) {
                problems.duplicate(&at, name);
            }
        }
        host_port(&path, port, spec, problems);
    }
}

fn host_port(path: &str, port: &ContainerPort, spec: &PodSpec, problems: &mut Problems) {
    let number = port.host_port.unwrap_or(0);
    let at = format!("{path}.hostPort");
    if spec.host_network == Some(true) && number != port.container_port {
        let detail = "must match `containerPort` when `hostNetwork` is true";
        problems.invalid(&at, number, detail);
    }
    // 0 is none.
    if !(0..=65_535).contains(&number) {
        problems.invalid(&at, number, "must be between 1 and 65535, inclusive");
    }
    if let Some(address) = &port.host_ip {
        pod::ip(problems, &format!("{path}.hostIP"), address);
    }
}

/// Two app containers, or a sidecar, cannot have the same port of the machine.
pub(super) fn host_ports(spec: &PodSpec, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (path, item) in super::containers(spec) {
        let is_init = path.starts_with("spec.initContainers");
        if is_init && item.restart_policy.as_deref() != Some("Always") {
            continue;
        }
        for (index, port) in list(&item.ports).iter().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let address = port.host_ip.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{address}/{number}");
            if !seen.insert(key.clone()) {
                problems.duplicate(&format!("{path}.ports[{index}].hostPort"), key);
            }
        }
    }
}

fn restart_rules(path: &str, item: &Container, problems: &mut Problems) {
    let rules = list(&item.restart_policy_rules);
    if rules.is_empty() {
        return;
    }
    let at = format!("{path}.restartPolicyRules");
    if item.restart_policy.as_deref().unwrap_or_default().is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        problems.required(&format!("{path}.restartPolicy"), detail);
    }
    if rules.len() > MAX_RESTART_RULES {
        problems.too_many(&at, rules.len(), MAX_RESTART_RULES);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}].exitCodes");
        let Some(codes) = &rule.exit_codes else {
            problems.required(&at, "must be specified");
            continue;
        };
        let values = list(&codes.values);
        if values.is_empty() {
            problems.required(&format!("{at}.values"), "must specify at least one value");
        }
        if values.len() > MAX_EXIT_CODES {
            problems.too_many(&format!("{at}.values"), values.len(), MAX_EXIT_CODES);
        }
    }
}
