use super::*;

fn load(all: &[(&str, &str)]) -> Result<Manifest> {
    let all: Vec<Text> = all
        .iter()
        .map(|(file, text)| Text {
            file: (*file).into(),
            dir: Some("/home/shop".into()),
            text: (*text).into(),
        })
        .collect();
    texts(&all, &|_| {})
}

fn failure(all: &[(&str, &str)]) -> String {
    load(all).unwrap_err().to_string()
}

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: a
    image: rootfs:/x
";
const WITH_DATA: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
  - name: a
    image: rootfs:/x
    envFrom: [{secretRef: {name: s}}]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes:
  - {name: v, configMap: {name: c}}
  - {name: p, persistentVolumeClaim: {claimName: p}}
";
const DATA: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {a: b}
binaryData: {b: AAE=}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop}
data: {A: eA==, B: eQ==}
stringData: {A: z}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: p}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
- apiVersion: v1
  kind: PersistentVolume
  metadata: {name: disk}
  spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /data}}
";

#[test]
fn a_pod_gets_what_an_api_server_would_give_it() {
    let pod = load(&[("a.yaml", POD)]).unwrap().pod;
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    assert!(pod.metadata.uid.as_ref().is_some_and(|uid| uid.len() == 36));
    assert!(pod.metadata.creation_timestamp.is_some());
    assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(30));
    let named = POD.replace("name: web", "generateName: web-");
    let name = load(&[("a.yaml", &named)]).unwrap().pod.metadata.name.unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[test]
fn objects_come_from_other_documents_and_files() {
    let manifest = load(&[("pod.yaml", WITH_DATA), ("data.yaml", DATA)]).unwrap();
    let objects = &manifest.objects;
    assert_eq!(objects.config_maps["c"].metadata.namespace.as_deref(), Some("shop"));
    let secret = objects.secrets["s"].data.as_ref().unwrap();
    assert_eq!((&secret["A"].0[..], &secret["B"].0[..]), (&b"z"[..], &b"y"[..]));
    assert_eq!(objects.claims["p"].metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(objects.volumes["disk"].metadata.namespace, None);
}

#[test]
fn what_is_written_down_loads_again_to_the_same() {
    let manifest = load(&[("pod.yaml", WITH_DATA), ("data.yaml", DATA)]).unwrap();
    let objects = &manifest.objects;
    let mut items = vec![serde_json::to_value(&manifest.pod).unwrap()];
    items.extend(objects.config_maps.values().map(|object| serde_json::to_value(object).unwrap()));
    items.extend(objects.secrets.values().map(|object| serde_json::to_value(object).unwrap()));
    items.extend(objects.claims.values().map(|object| serde_json::to_value(object).unwrap()));
    items.extend(objects.volumes.values().map(|object| serde_json::to_value(object).unwrap()));
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    for text in
        [serde_json::to_string(&list).unwrap(), serde_json::to_string_pretty(&list).unwrap()]
    {
        assert_eq!(load(&[("list.json", &text)]).unwrap(), manifest);
    }
}

#[test]
fn every_problem_is_named_with_its_file_and_line() {
    let pod = POD
        .replace("image: rootfs:/x", "imag: rootfs:/x\n    envFrom: [{configMapRef: {name: c}}]");
    let data = DATA.replace("data: {a: b}", "data: {a/b: b}\nfoo: 1");
    assert_eq!(
        failure(&[("pod.yaml", &pod), ("data.yaml", &data), ("x.yaml", "a: [")]),
        "x.yaml:2: cannot be read as YAML: while parsing a node, did not find expected node \
         content\n\
         pod.yaml:8: strict decoding error: unknown field \"spec.containers[0].imag\", did you \
         mean \"image\"?\n\
         Pod \"web\" is invalid: pod.yaml:7: spec.containers[0].image: Required value\n\
         data.yaml:5: strict decoding error: unknown field \"foo\"\n\
         ConfigMap \"c\" is invalid: data.yaml:4: data[a/b]: Invalid value: \"a/b\": a valid \
         config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
         or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    );
}

#[test]
fn there_is_exactly_one_pod() {
    for (texts, expected) in [
        (vec![], "no manifest given"),
        (vec![("a.yaml", "# nothing")], "a.yaml: has no Pod"),
        (vec![("a.yaml", DATA)], "a.yaml: has no Pod"),
        (
            vec![("a.yaml", POD), ("b.yaml", POD)],
            "exactly one Pod, there are more: a.yaml:1, b.yaml:1",
        ),
        (
            vec![("a.yaml", "apiVersion: apps/v1\nkind: Deployment")],
            "a.yaml:1: kind Deployment is not supported: give a Pod, as its template describes it",
        ),
        (
            vec![("a.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization")],
            "kind Kustomization is not supported: give what `kubectl kustomize` makes of it",
        ),
        (
            vec![("a.yaml", "apiVersion: v1\nkind: Service")],
            "a.yaml:1: kind Service is not supported",
        ),
        (
            vec![("a.yaml", "apiVersion: v2\nkind: Pod")],
            "no matches for kind \"Pod\" in version \"v2\"",
        ),
        (vec![("a.yaml", "kind: Pod")], "a.yaml:1: Object 'apiVersion' is missing"),
        (vec![("a.yaml", "a: b")], "a.yaml:1: Object 'Kind' is missing"),
        (vec![("a.yaml", "- a")], "must be an object with apiVersion and kind"),
        (
            vec![("a.yaml", POD), ("b.yaml", DATA), ("c.yaml", DATA)],
            "c.yaml:1: ConfigMap \"c\" is given twice, first at b.yaml:1",
        ),
    ] {
        let found = failure(&texts);
        assert!(found.contains(expected), "{texts:?}: {found}");
    }
}

#[test]
fn objects_of_other_namespaces_are_not_seen() {
    let data = DATA.replace("name: c}", "name: c, namespace: other}");
    let found = failure(&[("pod.yaml", WITH_DATA), ("data.yaml", &data)]);
    assert!(found.contains("pod.yaml:11: spec.volumes[0].configMap.name: Not found: \"c\": the ConfigMap of this name is in another namespace than the pod"), "{found}");
    // Nor do they clash.
    let more = format!(
        "{DATA}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: x}}\n"
    );
    assert!(load(&[("pod.yaml", WITH_DATA), ("data.yaml", &more)]).is_ok());
}

#[test]
fn a_claim_without_a_volume_is_named() {
    for (from, to, expected) in [
        ("storage: 1Gi}, hostPath", "storage: 1Mi}, hostPath", "no PersistentVolume that is free"),
        ("{accessModes", "{volumeName: x, accessModes", "PersistentVolume \"x\" not found"),
    ] {
        let data = DATA.replacen(from, to, 1);
        let found = failure(&[("pod.yaml", WITH_DATA), ("data.yaml", &data)]);
        let begin = "data.yaml:16: PersistentVolumeClaim \"p\" is not bound: ";
        assert!(found.starts_with(&format!("{begin}{expected}")), "{found}");
    }
}

#[test]
fn objects_of_a_pod_are_checked_too() {
    for (from, to, expected) in [
        (
            "data: {A: eA==",
            "data: {A: '*'",
            "cannot unmarshal string into data[A] of type base64: ",
        ),
        ("data: {a: b}", "data: {a: 1}", "into data[a] of type string: put it in quotes: \"1\""),
        ("binaryData: {b", "binaryData: {a", "duplicate of key present in binaryData"),
        (
            "accessModes: [ReadWriteOnce], resources",
            "resources",
            "at least 1 access mode is required",
        ),
        ("{storage: 1Gi}}}", "{}}}", "spec.resources[storage]: Required value"),
        ("hostPath: {path: /data}", "local: {path: /a/../b}", "must not contain '..'"),
        (
            "hostPath: {path: /data}",
            "nfs: {server: a, path: b}",
            "spec.nfs: Forbidden: network and cloud",
        ),
        ("hostPath: {path: /data}", "", "must specify a volume type"),
        (
            "metadata: {name: disk}",
            "metadata: {}",
            "metadata.name: Required value: name or generateName",
        ),
    ] {
        let data = DATA.replace(from, to);
        assert_ne!(data, DATA, "{from}");
        let found = failure(&[("pod.yaml", WITH_DATA), ("data.yaml", &data)]);
        assert!(found.contains(expected), "{to}: {found}");
    }
}

#[test]
fn metadata_is_checked() {
    let long = "a".repeat(240);
    for (metadata, expected) in [
        ("{name: A}", "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must"),
        ("{name: ../a}", "metadata.name: Invalid value: \"../a\""),
        ("{}", "metadata.name: Required value: name or generateName is required"),
        ("{name: a, namespace: a/b}", "metadata.namespace: Invalid value"),
        ("{name: a, uid: ../x}", "metadata.uid: Invalid value: \"../x\""),
        ("{name: a, labels: {a b: c}}", "metadata.labels: Invalid value: \"a b\": name part must"),
        (
            "{name: a, labels: {a: b c}}",
            "metadata.labels[a]: Invalid value: \"b c\": a valid label",
        ),
        ("{name: a, annotations: {-: c}}", "metadata.annotations: Invalid value: \"-\""),
        ("{name: a, annotations: {carob/backoff-max: x}}", "must be a duration of at least 10ms"),
        (
            "{name: a, annotations: {container.apparmor.security.beta.kubernetes.io/a: x}}",
            "Forbidden: has no effect; set securityContext.appArmorProfile instead",
        ),
        (
            "{name: a, annotations: {seccomp.security.alpha.kubernetes.io/pod: x}}",
            "Forbidden: has no effect; set securityContext.seccompProfile instead",
        ),
        (&format!("{{name: {long}}}"), "must be no more than 210 characters here"),
        ("{name: a, creationTimestamp: today}", "of type Time: \"today\": not RFC 3339"),
    ] {
        let pod = POD.replace("metadata:\n  name: web", &format!("metadata: {metadata}"));
        let found = failure(&[("a.yaml", &pod)]);
        assert!(found.contains(expected), "{metadata}: {found}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,100}") {
        drop(load(&[("a", &text)]));
    }

    #[test]
    fn no_pod_is_too_strange(key in "[a-zA-Z]{1,12}", value in "([-{}\\[\\]:,'\"&*!|>#\n a0.]|\\PC){0,30}") {
        drop(load(&[("a", &format!("{POD}    {key}: {value}\n"))]));
        drop(load(&[("a", &format!("{POD}  {value}: {value}\n"))]));
    }

    #[test]
    fn no_field_takes_a_value_badly(
        spec in proptest::sample::select(fields()),
        value in "[-0-9a-z.]{0,6}|\\[\\]|\\[x\\]|\\{\\}|'\\PC{0,4}'|null",
    ) {
        let spec = spec.replace('$', &value);
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {spec}}}");
        drop(load(&[("a", &text)]));
    }
}

/// A pod's spec for every field of it, with that field alone; `$` stands for its value.
fn fields() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![("$".to_owned(), super::super::support::pod_spec())];
    while let Some((around, object)) = open.pop() {
        for field in object.fields {
            let this = around.replace('$', &format!("{{{}: $}}", field.name));
            if let Some(inner) = field.kind.object() {
                let list = matches!(field.kind, super::super::support::Kind::List(_));
                open.push((if list { this.replace('$', "[$]") } else { this.clone() }, inner));
            }
            found.push(this);
        }
    }
    found
}

#[test]
fn images_near_the_manifest_have_absolute_paths_in_it() {
    let near = POD.replace("rootfs:/x", "bundle:../x");
    let spec = load(&[("pod.yaml", &near)]).unwrap().pod.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("bundle:/home/x"));
    let stdin = Text { file: "stdin".into(), dir: None, text: near };
    let refused = texts(&[stdin], &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("stdin:8: ") && refused.contains("standard input"), "{refused}");
}
