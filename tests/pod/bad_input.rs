//! Manifests that cannot be: each is refused in words that help, and nothing is left.

use std::fs;

use crate::scene::{Output, Scene};

fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}")
}

/// A pod of one container with these further lines.
fn one(more: &str) -> String {
    pod(&format!("  containers:\n  - name: one\n    image: IMAGE\n{more}"))
}

/// Refused before there is a pod.
#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_wrong_in_a_manifest_is_said_with_field_value_and_way_out() {
    let scene = Scene::new();
    let two = format!("{}---\n{}", one(""), one("").replace("web", "other"));
    let bomb = format!(
        "a: &a [x, x, x, x, x, x, x, x, x]\n{}",
        ('b'..='i')
            .map(|c| {
                let before = char::from(u8::try_from(c).unwrap() - 1);
                format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 9].join(", "))
            })
            .collect::<String>()
    );
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
    let port_probe = "    livenessProbe: {tcpSocket: {port: nowhere}}\n";
    let twice = "  containers:\n  - {name: one, image: IMAGE}\n  - {name: one, image: IMAGE}\n";
    let table: [(&str, String, &[&str]); 13] = [
        (
            "unknown field",
            one("    imagePullPolice: Never\n"),
            &["imagePullPolice", "unknown field"],
        ),
        ("wrong type", one("    command: sleep\n"), &["spec.containers[0].command"]),
        (
            "two containers of a name",
            pod(twice),
            &["spec.containers[1].name", "Duplicate value", "\"one\""],
        ),
        ("unknown named port", one(port_probe), &["livenessProbe", "port", "nowhere"]),
        (
            "volume path escapes",
            one("    volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]\n"),
            &["volumeMounts[0].subPath", "../x", ".."],
        ),
        (
            "unknown volume",
            one("    volumeMounts: [{name: v, mountPath: /v}]\n"),
            &["volumeMounts[0].name", "\"v\""],
        ),
        ("YAML bomb", bomb, &["pod.yaml"]),
        ("two pods", two, &["exactly one Pod", "pod.yaml:"]),
        ("no pod", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n".into(), &["no Pod"]),
        ("a Deployment", deployment.into(), &["Deployment", "Pod"]),
        ("empty", String::new(), &["no Pod"]),
        ("no YAML", "{{{{".into(), &["pod.yaml"]),
        (
            "negative grace",
            pod("  terminationGracePeriodSeconds: -1\n  containers: [{name: one, image: IMAGE}]\n"),
            &["spec.terminationGracePeriodSeconds", "-1"],
        ),
    ];
    for (what, text, words) in table {
        let path = scene.manifest("pod.yaml", &text);
        refused(&scene, what, &path, words);
    }
    let path = scene.dir().join("pod.yaml");
    fs::write(&path, (0..=255_u8).cycle().take(4096).collect::<Vec<u8>>()).unwrap();
    refused(&scene, "garbage", &path, &["pod.yaml", "UTF-8"]);
    fs::write(&path, vec![b'#'; 20 << 20]).unwrap();
    refused(&scene, "20 MB", &path, &["pod.yaml", "16777216"]);
    refused(&scene, "missing", &scene.dir().join("none.yaml"), &["none.yaml"]);
}

#[track_caller]
fn refused(scene: &Scene, what: &str, path: &std::path::Path, words: &[&str]) {
    let args = scene.run_args("run", &["-d"], &[path]);
    let began = std::time::Instant::now();
    let out = scene.carob(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(out.code, 0, "{what}: {out:?}");
    assert!(out.stderr.len() < 10_000, "{what}: an error of {} bytes", out.stderr.len());
    for word in words {
        assert!(out.stderr.contains(word), "{what}: {word:?} is not in {}", out.stderr);
    }
    assert!(began.elapsed().as_secs() < 5, "{what} took {:?}", began.elapsed());
    assert_eq!(scene.leaks(), Vec::<String>::new(), "{what}");
}

/// Found when the pod is started: it waits with a reason, and goes on when it is mended.
#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_missing_on_the_machine_is_the_reason_why_a_pod_waits() {
    let scene = Scene::new();
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    let volume = |source: &str| {
        format!(
            "{}  volumes: [{{name: v, {source}}}]\n",
            one("    command: [sleep, '1000']\n    volumeMounts: [{name: v, mountPath: /v}]\n")
        )
    };
    let file = outside.join("file").display().to_string();
    let from = "    env: [{name: A, valueFrom: {configMapKeyRef: {name: missing, key: k}}}]\n";
    let table: [(&str, String, &str, &[&str]); 5] = [
        (
            "no rootfs",
            one("").replace("IMAGE", "rootfs:/nowhere"),
            "Failed",
            &["/nowhere", "does not exist"],
        ),
        (
            "a file, not a directory",
            volume(&format!("hostPath: {{path: {file}, type: Directory}}")),
            "FailedMount",
            &[&file, "is not a directory"],
        ),
        (
            "no such host path",
            volume("hostPath: {path: /nowhere/x, type: Directory}"),
            "FailedMount",
            &["/nowhere/x"],
        ),
        (
            "no ConfigMap for a volume",
            volume("configMap: {name: missing}"),
            "FailedMount",
            &["missing", "ot found"],
        ),
        ("no ConfigMap for env", one(from), "Failed", &["missing", "ot found"]),
    ];
    for (what, text, reason, words) in table {
        let out: Output = scene.try_run(&text);
        if out.code != 0 {
            // Known from the manifest alone.
            assert!(words.iter().all(|word| out.stderr.contains(word)), "{what}: {out:?}");
        } else {
            let found = |text: &str| {
                text.lines().any(|line| {
                    line.contains(reason) && words.iter().all(|word| line.contains(word))
                })
            };
            let events = || scene.pod(&["events", "--all", "web"]).ok().stdout;
            let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !found(&events()) {
                assert!(std::time::Instant::now() < end, "{what}:\n{}", events());
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            scene.pod(&["rm", "--force", "web"]).ok();
        }
        assert_eq!(scene.leaks(), Vec::<String>::new(), "{what}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sub_path_that_leads_out_of_its_volume_is_not_followed() {
    let scene = Scene::new();
    let secret = scene.dir().join("secret");
    fs::create_dir(&secret).unwrap();
    let volume = scene.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::symlink(&secret, volume.join("out")).unwrap();
    let mounts = "    command: [sleep, '1000']\n    volumeMounts: [{name: v, mountPath: /v, subPath: out}]\n";
    let text = format!(
        "{}  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        one(mounts),
        volume.display()
    );
    scene.run(&text);
    let object = scene.wait("web", "its reason", |object| {
        object["status"]["containerStatuses"][0]["state"]["waiting"]["message"].is_string()
    });
    let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "CreateContainerConfigError", "{waiting}");
}
