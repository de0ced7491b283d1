//! The volume by which a cluster gives containers access to its API server: left out.
//!
//! Nobody writes it: the cluster adds it to each pod, so that every exported manifest has it. Here is no
//! API server, and nobody to issue a token; a program that needs them says so itself. What is left
//! out is told. The same volume by another name or at another place was written by somebody, who
//! is told that there is none.

use super::tree::{Node, Value};

/// How the cluster calls it, with five letters that it makes up.
const NAME: &str = "kube-api-access-";
/// Where it is mounted.
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Takes it out of a pod, with its mounts; says what was left out.
pub(super) fn leave_out(pod: &mut Node) -> Vec<String> {
    let Some(spec) = pod.get_mut("spec") else { return Vec::new() };
    let names = spec.get("volumes").into_iter().flat_map(list).filter_map(added);
    let names: Vec<String> = names.filter(|name| is_only_in_place(spec, name)).collect();
    if names.is_empty() {
        return names;
    }
    let is_it = |node: &Node| node.text("name").is_some_and(|own| names.iter().any(|n| n == own));
    retain(spec.get_mut("volumes"), |volume| !is_it(volume));
    for containers in CONTAINERS {
        let Some(Node { value: Value::List(all), .. }) = spec.get_mut(containers) else { continue };
        for container in all {
            retain(container.get_mut("volumeMounts"), |mount| !is_it(mount));
        }
    }
    let told = names.iter().map(|name| {
        format!("spec.volumes: {name} is left out, at {PLACE} as well: there is no API server")
    });
    told.collect()
}

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// The name of a volume, if the cluster has added it.
fn added(volume: &Node) -> Option<String> {
    let name = volume.text("name").filter(|name| name.starts_with(NAME))?;
    let sources = list(volume.get("projected")?.get("sources")?);
    let has_token = sources.iter().any(|source| source.get("serviceAccountToken").is_some());
    has_token.then(|| name.to_owned())
}

fn is_only_in_place(spec: &Node, name: &str) -> bool {
    let containers = CONTAINERS.iter().filter_map(|kind| spec.get(kind)).flat_map(list);
    let mounts = containers.filter_map(|one| one.get("volumeMounts")).flat_map(list);
    let mut own = mounts.filter(|mount| mount.text("name") == Some(name));
    own.all(|mount| mount.text("mountPath") == Some(PLACE))
}

fn list(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(all) => all,
        _ => &[],
    }
}

fn retain(node: Option<&mut Node>, wanted: impl Fn(&Node) -> bool) {
    if let Some(Node { value: Value::List(all), .. }) = node {
        all.retain(wanted);
    }
}

#[cfg(test)]
mod tests {
    use crate::pod::manifest::load_text;

    fn pod(name: &str, place: &str) -> String {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  serviceAccountName: default
  containers:
  - name: c
    image: busybox
    volumeMounts:
    - {{name: data, mountPath: /data}}
    - {{name: {name}, mountPath: {place}, readOnly: true}}
  initContainers:
  - name: i
    image: busybox
    volumeMounts: [{{name: {name}, mountPath: {place}, readOnly: true}}]
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - name: {name}
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {{expirationSeconds: 3607, path: token}}
      - configMap:
          items: [{{key: ca.crt, path: ca.crt}}]
          name: kube-root-ca.crt
      - downwardAPI:
          items: [{{fieldRef: {{apiVersion: v1, fieldPath: metadata.namespace}}, path: namespace}}]
"
        )
    }

    #[test]
    fn what_the_cluster_has_added_is_left_out_and_told() {
        let manifest = load_text(pod("kube-api-access-x7k2m", super::PLACE)).unwrap();
        let told = "spec.volumes: kube-api-access-x7k2m is left out, at \
                    /var/run/secrets/kubernetes.io/serviceaccount as well: there is no API server";
        assert_eq!(manifest.left_out, [told]);
        let spec = manifest.pod.spec.unwrap();
        let volumes: Vec<_> = spec.volumes.iter().flatten().map(|one| &one.name).collect();
        assert_eq!(volumes, ["data"]);
        let mounts = |container: &k8s_openapi::api::core::v1::Container| {
            container.volume_mounts.iter().flatten().count()
        };
        assert_eq!(mounts(&spec.containers[0]), 1);
        assert_eq!(mounts(&spec.init_containers.unwrap()[0]), 0);
    }

    #[test]
    fn what_somebody_has_written_is_refused() {
        let wrong = "serviceAccountToken: Forbidden: there is no API server to issue it";
        for text in [pod("token", super::PLACE), pod("kube-api-access-x7k2m", "/token")] {
            let error = load_text(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
