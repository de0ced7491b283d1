//! What the API fills in where nothing is given.
//!
//! Source: Kubernetes 1.36 `pkg/apis/core/v1/defaults.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Lifecycle, Pod, PodSpec, Probe, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::rules::resources::{requests, written};

/// Permissions of the files of volumes.
const MODE: i32 = 0o644;

/// Fills in a pod.
pub(super) fn pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let host_network = spec.host_network == Some(true);
    let init = spec.init_containers.iter_mut().flatten();
    for item in spec.containers.iter_mut().chain(init) {
        container(item, host_network);
    }
    spec.volumes.iter_mut().flatten().for_each(volume);
    pod_spec(spec);
}

/// Absent, or an empty string.
fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.into());
    }
}

fn pod_spec(spec: &mut PodSpec) {
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    if spec.service_account_name.is_none() {
        spec.service_account_name = spec.service_account.take();
    }
    let Some(mut resources) = spec.resources.take() else { return };
    let aggregated = requests(spec);
    let limits = resources.limits.clone().unwrap_or_default();
    if !limits.is_empty() || resources.requests.is_some() {
        let requests = resources.requests.get_or_insert_default();
        for (name, amount) in aggregated {
            requests.entry(name).or_insert_with(|| Quantity(written(amount)));
        }
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
    spec.resources = Some(resources);
}

fn container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    text(&mut container.image_pull_policy, pull_policy(image));
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    if let Some(resources) = &mut container.resources {
        requests_from_limits(resources);
    }
    for variable in container.env.iter_mut().flatten() {
        if let Some(field) = variable.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            text(&mut field.api_version, "v1");
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe);
    container.lifecycle.iter_mut().for_each(lifecycle);
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

fn is_latest(image: &str) -> bool {
    if image.contains('@') || image.starts_with("rootfs:") || image.starts_with("bundle:") {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    let requests: &mut BTreeMap<_, _> = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn probe(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, default| {
        if field.unwrap_or(0) == 0 {
            *field = Some(default);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn lifecycle(lifecycle: &mut Lifecycle) {
    let hooks = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    for get in hooks.into_iter().flatten().filter_map(|hook| hook.http_get.as_mut()) {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
}

fn volume(volume: &mut Volume) {
    let sources = [
        volume.config_map.is_some(),
        volume.downward_api.is_some(),
        volume.host_path.is_some(),
        volume.image.is_some(),
        volume.persistent_volume_claim.is_some(),
        volume.projected.is_some(),
        volume.secret.is_some(),
    ];
    if !sources.contains(&true) {
        volume.empty_dir.get_or_insert_default();
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.image {
        let reference = source.reference.as_deref().unwrap_or_default();
        text(&mut source.pull_policy, pull_policy(reference));
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    let mut files = Vec::new();
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(MODE);
        files.extend(source.items.iter_mut().flatten());
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(MODE);
        let parts = source.sources.iter_mut().flatten();
        let parts = parts.filter_map(|part| part.downward_api.as_mut());
        files.extend(parts.flat_map(|part| part.items.iter_mut().flatten()));
    }
    for field in files.into_iter().filter_map(|file| file.field_ref.as_mut()) {
        text(&mut field.api_version, "v1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_filled_in_as_the_api_does() {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {
                "hostNetwork": true,
                "serviceAccount": "sa",
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                "containers": [
                    {"name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
                     "resources": {"limits": {"cpu": "500m"}, "requests": {"memory": "1Mi"}},
                     "livenessProbe": {"timeoutSeconds": 0, "httpGet": {"port": 80}},
                     "lifecycle": {"preStop": {"httpGet": {"port": 80}}}},
                    {"name": "b", "image": "rootfs:/a"},
                ],
                "volumes": [{"name": "x"}, {"name": "y", "secret": {"secretName": "s"}}],
            },
        }))
        .unwrap();
        super::pod(&mut pod);
        let pod = serde_json::to_value(pod).unwrap();
        for (pointer, expected) in [
            ("/restartPolicy", serde_json::json!("Always")),
            ("/dnsPolicy", "ClusterFirst".into()),
            ("/terminationGracePeriodSeconds", 30.into()),
            ("/securityContext", serde_json::json!({})),
            ("/serviceAccountName", "sa".into()),
            ("/containers/0/imagePullPolicy", "Always".into()),
            ("/containers/1/imagePullPolicy", "IfNotPresent".into()),
            (
                "/containers/0/ports/0",
                serde_json::json!(
                {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}),
            ),
            (
                "/containers/0/resources/requests",
                serde_json::json!(
                {"cpu": "500m", "memory": "1Mi"}),
            ),
            ("/containers/0/livenessProbe/timeoutSeconds", 1.into()),
            ("/containers/0/livenessProbe/periodSeconds", 10.into()),
            ("/containers/0/livenessProbe/httpGet/path", "/".into()),
            ("/containers/0/lifecycle/preStop/httpGet/scheme", "HTTP".into()),
            ("/containers/1/terminationMessagePath", "/dev/termination-log".into()),
            ("/resources/requests", serde_json::json!({"cpu": "500m", "memory": "1Mi"})),
            ("/volumes/0/emptyDir", serde_json::json!({})),
            ("/volumes/1/secret/defaultMode", 420.into()),
        ] {
            assert_eq!(pod["spec"].pointer(pointer), Some(&expected), "{pointer}");
        }
    }

    #[test]
    fn the_tag_decides_over_the_pull_policy() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1", false),
            ("host:5000/nginx", true),
            ("host:5000/nginx:1", false),
            ("nginx@sha256:0", false),
            ("bundle:/a", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
