//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::names;
use super::super::problem::Problems;
use super::{form, list};
use crate::sys::signal::Signal;

/// Checks the three probes of a container.
pub(super) fn probes(path: &str, item: &Container, problems: &mut Problems) {
    for (field, probe) in [
        ("livenessProbe", &item.liveness_probe),
        ("readinessProbe", &item.readiness_probe),
        ("startupProbe", &item.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let path = format!("{path}.{field}");
        let handlers = [
            ("exec", probe.exec.is_some()),
            ("httpGet", probe.http_get.is_some()),
            ("tcpSocket", probe.tcp_socket.is_some()),
            ("grpc", probe.grpc.is_some()),
        ];
        one_handler(&path, &handlers, problems);
        numbers(&path, field, probe, problems);
        if let Some(get) = &probe.http_get {
            http_get(&format!("{path}.httpGet"), get, item, problems);
        }
        if let Some(socket) = &probe.tcp_socket {
            port(&format!("{path}.tcpSocket.port"), &socket.port, item, problems);
        }
    }
}

fn numbers(path: &str, field: &str, probe: &Probe, problems: &mut Problems) {
    let threshold = probe.success_threshold.unwrap_or(1);
    if field != "readinessProbe" && threshold != 1 {
        problems.invalid(&format!("{path}.successThreshold"), threshold, "must be 1");
    }
    let Some(grace) = probe.termination_grace_period_seconds else { return };
    let path = format!("{path}.terminationGracePeriodSeconds");
    if field == "readinessProbe" {
        problems.invalid(&path, grace, "must not be set for readinessProbes");
    } else if grace <= 0 {
        problems.invalid(&path, grace, "must be greater than 0");
    }
}

fn one_handler(path: &str, handlers: &[(&str, bool)], problems: &mut Problems) {
    let mut given = handlers.iter().filter(|(_, given)| *given).map(|(name, _)| name);
    if given.next().is_none() {
        problems.required(path, "must specify a handler type");
    }
    for name in given {
        let detail = "may not specify more than 1 handler type";
        problems.forbidden(&format!("{path}.{name}"), detail);
    }
}

fn http_get(path: &str, get: &HTTPGetAction, item: &Container, problems: &mut Problems) {
    port(&format!("{path}.port"), &get.port, item, problems);
    for (index, header) in list(&get.http_headers).iter().enumerate() {
        let path = format!("{path}.httpHeaders[{index}]");
        form(problems, &format!("{path}.name"), &header.name, names::header(&header.name));
        if header.value.contains(['\r', '\n']) {
            let detail = "must not contain line breaks";
            problems.invalid(&format!("{path}.value"), &header.value, detail);
        }
    }
}

/// A name of a port must be one of the container's own; otherwise the probe could never run.
fn port(path: &str, port: &IntOrString, item: &Container, problems: &mut Problems) {
    let IntOrString::String(name) = port else { return };
    let mut ports = list(&item.ports).iter();
    if !name.is_empty() && !ports.any(|port| port.name.as_deref() == Some(name)) {
        problems.not_found(path, name, "no port of this container has this name");
    }
}

/// Checks the hooks of a container.
pub(super) fn lifecycle(path: &str, item: &Container, spec: &PodSpec, problems: &mut Problems) {
    let Some(lifecycle) = &item.lifecycle else { return };
    let path = format!("{path}.lifecycle");
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(hook) = hook else { continue };
        let path = format!("{path}.{field}");
        let handlers = [
            ("exec", hook.exec.is_some()),
            ("httpGet", hook.http_get.is_some()),
            ("sleep", hook.sleep.is_some()),
        ];
        one_handler(&path, &handlers, problems);
        if let Some(get) = &hook.http_get {
            http_get(&format!("{path}.httpGet"), get, item, problems);
        }
        let grace = spec.termination_grace_period_seconds.unwrap_or(30);
        if let Some(sleep) = &hook.sleep
            && !(0..=grace).contains(&sleep.seconds)
        {
            // The API's words; as there, the whole grace period is allowed.
            let detail = format!(
                "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            );
            problems.invalid(&format!("{path}.sleep"), sleep.seconds, detail);
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        stop_signal(&format!("{path}.stopSignal"), signal, spec, problems);
    }
}

fn stop_signal(path: &str, signal: &str, spec: &PodSpec, problems: &mut Problems) {
    if spec.os.is_none() {
        problems.forbidden(path, "may not be set when `spec.os.name` is not set");
    }
    if !signal.starts_with("SIG") || signal.parse::<Signal>().is_err() {
        problems.invalid(path, signal, "must be a signal of Linux, such as SIGTERM");
    }
}
