//! What a container is told: its environment, its command line, its working directory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::scene::Scene;

/// The objects that the pods here refer to.
const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast, level: '3', shared: of-map}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {token: czNjcjN0}
stringData: {shared: of-secret}
---
";

/// A pod with variables from everywhere.
const SOURCES: &str = "apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {app: web}
  annotations: {example.com/note: a note}
spec:
  restartPolicy: Never
  nodeName: some-node
  serviceAccountName: robot
  containers:
  - name: c
    image: BUNDLE
    command: [env]
    resources:
      requests: {cpu: 250m, memory: 32Mi}
      limits: {cpu: 1500m, memory: 64Mi}
    envFrom:
    - {configMapRef: {name: settings}}
    - {prefix: S_, secretRef: {name: keys}}
    - {secretRef: {name: keys}}
    - {configMapRef: {name: absent, optional: true}}
    env:
    - {name: early, value: '$(LATE) $(level) $$(level) $(unterminated $(nobody)'}
    - {name: LATE, value: late}
    - {name: nested, value: '$(LATE)-$(early)'}
    - {name: level, value: '4'}
    - {name: key, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
    - {name: secret, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: none, valueFrom: {secretKeyRef: {name: keys, key: absent, optional: true}}}
    - {name: twice, value: first}
    - {name: twice, value: second}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['example.com/note']\"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: MILLI, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
";

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// `state.waiting` of the containers of a pod, once all of them wait for `reason`.
fn waiting(scene: &Scene, pod: &str, reason: &str) -> BTreeMap<String, String> {
    let of = |status: &Value| status["state"]["waiting"]["reason"] == reason;
    let object = scene.wait(pod, reason, |object| {
        object["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().all(of))
    });
    let all = object["status"]["containerStatuses"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|one| (text(&one["name"]), text(&one["state"]["waiting"]["message"]))).collect()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn variables_come_from_all_sources_in_their_order() {
    let scene = Scene::new();
    let image = scene.bundle(
        "image",
        &json!({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/bin", "FROM_IMAGE=image", "mode=image", "HOSTNAME=of-image"]}),
    );
    scene.run(&format!("{OBJECTS}{}", SOURCES.replace("BUNDLE", &image)));
    let object = scene.wait_phase("p", "Succeeded");

    let log = scene.pod(&["logs", "p"]).ok().stdout;
    let mut found = variables(&log);
    for (name, value) in [
        ("PATH", "/bin"),
        ("FROM_IMAGE", "image"),
        ("mode", "fast"),
        ("HOSTNAME", "of-image"),
        // The later source wins.
        ("shared", "of-secret"),
        ("S_token", "s3cr3t"),
        ("S_shared", "of-secret"),
        ("token", "s3cr3t"),
        ("early", "$(LATE) 3 $(level) $(unterminated $(nobody)"),
        ("LATE", "late"),
        ("nested", "late-$(LATE) 3 $(level) $(unterminated $(nobody)"),
        ("level", "4"),
        ("key", "fast"),
        ("secret", "s3cr3t"),
        ("twice", "second"),
        ("NAME", "p"),
        ("NAMESPACE", "default"),
        ("POD_UID", object["metadata"]["uid"].as_str().unwrap()),
        ("LABEL", "web"),
        ("NOTE", "a note"),
        ("NODE", "some-node"),
        ("ACCOUNT", "robot"),
        ("IP", "127.0.0.1"),
        ("IPS", "127.0.0.1"),
        ("CPU", "2"),
        ("MILLI", "250"),
        ("MEMORY", "64"),
    ] {
        assert_eq!(found.remove(name), Some(value), "{name}");
    }
    assert!(found.remove("HOST").is_some_and(|ip| ip.contains(['.', ':'])), "{log}");
    for own in ["SHLVL", "PWD", "HOME"] {
        found.remove(own);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_missing_keeps_a_container_from_being_made() {
    let scene = Scene::new();
    let map_key = "env: [{name: X, valueFrom: {configMapKeyRef: {name: settings, key: absent}}}]";
    let secret_key = "env: [{name: X, valueFrom: {secretKeyRef: {name: keys, key: absent}}}]";
    let pod = |containers: &[(&str, &str)]| {
        let of = |(name, what): &(&str, &str)| {
            format!("  - {{name: {name}, image: IMAGE, command: [sleep, '1'], {what}}}\n")
        };
        let containers: String = containers.iter().map(of).collect();
        format!(
            "{OBJECTS}apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  containers:
{containers}"
        )
    };
    // Objects are next to the pod, or it is refused.
    for (what, words) in [
        (map_key.replace("settings", "other"), "configMapKeyRef.name: Not found: \"other\""),
        (secret_key.replace("keys", "other"), "secretKeyRef.name: Not found: \"other\""),
        (
            "envFrom: [{secretRef: {name: other}}]".to_owned(),
            "secretRef.name: Not found: \"other\"",
        ),
    ] {
        scene.try_run(&pod(&[("c", &what)])).fails(1, &[words]);
    }
    scene.run(&pod(&[("map", map_key), ("secret", secret_key)]));
    let messages = waiting(&scene, "p", "CreateContainerConfigError");
    assert_eq!(messages["map"], "couldn't find key absent in ConfigMap default/settings");
    assert_eq!(messages["secret"], "couldn't find key absent in Secret default/keys");
    assert_eq!(scene.status("p"), "CreateContainerConfigError");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn command_and_args_stand_for_entrypoint_and_cmd() {
    let scene = Scene::new();
    let image = scene.bundle(
        "image",
        &json!({"args": ["echo", "entry"], "cwd": "/usr", "user": {"uid": 7, "gid": 8},
                "env": ["PATH=/bin", "WHO=image"]}),
    );
    let containers = [
        ("neither", "", "entry"),
        (
            "args",
            "args: [more, $(WHO), '$(MINE)'], env: [{name: MINE, value: m}]",
            "entry more $(WHO) m",
        ),
        ("command", "command: [sh, -c, 'pwd; id -u; id -g; echo $WHO']", "/usr\n7\n8\nimage"),
        (
            "both",
            "command: [echo, one], args: [two, $(nobody), $$(MINE)]",
            "one two $(nobody) $(MINE)",
        ),
        ("dir", "command: [pwd], workingDir: /tmp", "/tmp"),
        ("made", "command: [pwd], workingDir: /not/there/yet", "/not/there/yet"),
    ];
    let mut text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
"
    .to_owned();
    for (name, what, _) in containers {
        text.push_str(&format!("  - {{name: {name}, image: '{image}', {what}}}\n"));
    }
    text.push_str(
        "  - {name: bare, image: IMAGE, command: [sh, -c, 'pwd; echo $PATH; echo $HOSTNAME']}\n",
    );
    scene.run(&text);
    scene.wait_phase("p", "Succeeded");
    for (name, _, output) in containers {
        let log = scene.pod(&["logs", "-c", name, "p"]).ok().stdout;
        assert_eq!(log, format!("{output}\n"), "{name}");
    }
    let bare = scene.pod(&["logs", "-c", "bare", "p"]).ok().stdout;
    assert_eq!(bare, "/\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\np\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_program_that_cannot_be_is_told() {
    let scene = Scene::new();
    scene.try_run(
        "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  containers:
  - {name: none, image: IMAGE}
  - {name: absent, image: IMAGE, command: [no-such-program]}
  - {name: image, image: 'rootfs:/nonexistent', command: [x]}
  - {name: pull, image: '127.0.0.1:1/nginx:1.27'}
",
    );
    let object = scene.wait("p", "failures", |_| {
        let events = scene.events("p");
        ["none", "absent", "image", "pull"]
            .iter()
            .all(|name| events.contains(&format!("{name}/Failed")))
    });
    let of = |name: &str| {
        let status = scene.container("p", name);
        let (waiting, ended) = (&status["state"]["waiting"], &status["state"]["terminated"]);
        let state = if waiting.is_null() { ended } else { waiting };
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    };
    for (name, reason, words) in [
        ("none", "CreateContainerError", "no command specified"),
        ("absent", "", "no-such-program"),
        ("image", "ErrImagePull", "/nonexistent does not exist"),
        ("pull", "ErrImagePull", "127.0.0.1:1"),
    ] {
        let (found, message) = of(name);
        assert!(
            reason.is_empty() || found == reason || found == "ImagePullBackOff",
            "{name}: {found}"
        );
        assert!(message.contains(words), "{name}: {found}: {message}\n{object:#}");
    }
}
