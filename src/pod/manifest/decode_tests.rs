use super::super::{support, yaml};
use super::*;

fn problems_of(text: &str) -> (Json, Vec<String>) {
    let node = yaml::documents(text).unwrap().remove(0);
    let mut problems = Problems::default();
    let json = decode(support::pod(), &node, &mut problems);
    (json, problems.report("f", &node, "Pod", "a"))
}

const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n";

/// The problems of a pod whose spec has these lines, without the file's name.
fn found(spec: &str) -> Vec<String> {
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    problems_of(&format!("{GOOD}{lines}")).1
}

#[test]
fn everything_is_found_at_once_with_its_line() {
    let found = found(
        "restartPolicy: Sometimes\ncontainers:\n- name: A\n  imag: x\n  tty: 1\n  stdin: yes\n  \
         name: b\n  env:\n  - {name: B, value: 8080}\n  - {name: C, value: on}\n  ports:\n  - \
         containerPort: 70000\nfoo: 1",
    );
    assert_eq!(
        found,
        [
            "f:8: strict decoding error: unknown field \"spec.containers[0].imag\", did you mean \
             \"image\"?",
            "f:9: cannot unmarshal number into spec.containers[0].tty of type boolean",
            "f:11: strict decoding error: duplicate field \"spec.containers[0].name\"",
            "f:13: cannot unmarshal number into spec.containers[0].env[0].value of type string: \
             put it in quotes: \"8080\"",
            "f:14: cannot unmarshal bool into spec.containers[0].env[1].value of type string: \
             put it in quotes: \"on\"",
            "f:17: strict decoding error: unknown field \"spec.foo\"",
            "Pod \"a\" is invalid: [\n  f:5: spec.restartPolicy: Unsupported value: \
             \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\",\n  f:7: \
             spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must \
             consist of lower case alphanumeric characters or '-', and must start and end with an \
             alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?'),\n  f:7: spec.containers[0].image: Required value,\n  \
             f:16: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be \
             between 1 and 65535, inclusive\n]",
        ]
    );
}

#[test]
fn each_wrong_value_is_named() {
    for (spec, expected) in [
        ("containers: []", "f:5: spec.containers: Required value"),
        (
            "hostPID: 1\ncontainers: &c [{name: a, image: b}]",
            "number into spec.hostPID of type boolean",
        ),
        ("containers: x", "cannot unmarshal string into spec.containers of type []Container"),
        ("containers: {}", "cannot unmarshal object into spec.containers of type []Container"),
        ("containers: [x]", "cannot unmarshal string into spec.containers[0] of type Container"),
        ("containers: [null]", "spec.containers[0].name: Required value"),
        ("activeDeadlineSeconds: 0", "must be between 1 and 2147483647, inclusive"),
        ("terminationGracePeriodSeconds: -1", "must be greater than or equal to 0"),
        (
            "priority: 3000000000",
            "cannot unmarshal number 3000000000 into spec.priority of type int32",
        ),
        ("priority: 1.5", "cannot unmarshal number 1.5 into spec.priority of type int32"),
        ("hostname: a.b", "spec.hostname: Invalid value: \"a.b\": a lowercase RFC 1123 label"),
        ("runtimeClassName: kata", "spec.runtimeClassName: Forbidden: carob is the only runtime"),
        (
            "ephemeralContainers: [{}]",
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            "volumes: [{name: a, nfs: {}}]",
            "spec.volumes[0].nfs: Forbidden: network and cloud volumes",
        ),
        ("volumes: [{name: a, gitRepo: {repository: x}}]", "spec.volumes[0].gitRepo: Forbidden: "),
        (
            "affinity: {nodeAfinity: {}}",
            "\"spec.affinity.nodeAfinity\", did you mean \"nodeAffinity\"?",
        ),
        ("resources: {limits: {cpu: 1x}}", "spec.resources.limits[cpu] of type Quantity: \"1x\""),
        ("hostname: \"a\\0\"", "must not contain NUL"),
        ("securityContext: {runAsUser: 4294967296}", "must be between 0 and 2147483647, inclusive"),
        ("nodeSelector: {a: b, a: c}", "duplicate field \"spec.nodeSelector.a\""),
        ("volumes: [{name: a, secret: {secretName: b, defaultMode: 01000}}]", "between 0 and 0777"),
    ] {
        let found = found(spec).join("\n");
        assert!(found.contains(expected), "{spec}: {found}");
    }
}

#[test]
fn values_become_what_the_types_want() {
    let (json, problems) = problems_of(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  creationTimestamp: null\n  \
         managedFields: [{manager: x}]\n  annotations: {a: null}\nspec:\n  hostname: \"\"\n  \
         runtimeClassName: ''\n  resourceClaims: []\n  hostNetwork: yes\n  containers:\n  - name: a\n    \
         image: b\n    ports: [{containerPort: 80.0}]\n    resources: {limits: {cpu: 0.5, memory: 1e9}}\n  \
         volumes:\n  - {name: a, configMap: {name: b, defaultMode: 0644}}\nstatus: {phase: 7}\n",
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(
        json,
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "annotations": {"a": ""}},
            "spec": {
                "hostNetwork": true,
                "containers": [{
                    "name": "a", "image": "b", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "0.5", "memory": "1000000000"}},
                }],
                "volumes": [{"name": "a", "configMap": {"name": "b", "defaultMode": 420}}],
            },
        })
    );
}

#[test]
fn a_name_that_is_nearly_right_is_understood() {
    let container = support::pod_spec().find("containers").unwrap().kind.object().unwrap();
    for (written, meant) in [
        ("Image", Some("image")),
        ("commnad", Some("command")),
        ("livnessProbe", Some("livenessProbe")),
        ("volumeMount", Some("volumeMounts")),
        ("xyz", None),
        ("replicas", None),
    ] {
        assert_eq!(closest(written, container), meant, "{written}");
    }
}
