//! `pod run`: a manifest becomes a pod, and nothing is left of it.

use crate::scene::Scene;
use crate::support::without;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_runs_prints_and_goes() {
    let scene = Scene::new();
    scene.run(
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, 'echo hello; exec sleep 1000']}
  - {name: two, image: IMAGE, command: [sleep, '1000']}
",
    );

    scene.wait_ready("web");

    assert_eq!(scene.wait_log("web", "one", "hello"), "hello\n");
    assert_eq!(scene.sh("web", "two", "echo in two").ok().stdout, "in two\n");
    scene.pod(&["stop", "web"]).ok();
    assert_eq!(scene.inspect("web")["status"]["phase"], "Failed", "ended by a signal");
    scene.pod(&["rm", "web"]).ok();
}

/// As on Linux 5.10: it is executed a second time, since it may not go over to a mount of its file.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_supervisor_that_is_executed_twice_says_that_it_has_taken_over() {
    let scene = Scene::new();
    let manifest = scene.manifest(
        "pod.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: IMAGE, command: [sleep, '1000']}
",
    );
    let args = scene.run_args("run", &["-d"], &[&manifest]);
    let command = scene.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut verb = without::spawn(command, &["mremap=EPERM".to_owned()]).unwrap();
    assert!(verb.wait().unwrap().success());
    scene.wait_ready("web");
}

/// Most hosts have shared mounts; the one that runs the tests may not.
#[test]
#[ignore = "needs root: run scripts/test"]
fn where_mounts_are_shared_nothing_mounted_in_a_container_reaches_the_host() {
    let scene = Scene::new();
    let manifest = scene.manifest(
        "shared.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {medium: Memory}}]
",
    );
    let carob = format!("{} --root {}", env!("CARGO_BIN_EXE_carob"), scene.root().display());
    let run = scene.run_args("run", &["-d"], &[&manifest]).join(" ");
    let script = format!(
        "{carob} {run} && {carob} pod wait --for=ready --timeout 10s web || exit 1
         grep -F {dir} /proc/self/mountinfo | cut -d' ' -f5
         {carob} pod rm --force web && echo and then:
         grep -F {dir} /proc/self/mountinfo",
        dir = scene.dir().display()
    );
    let out = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "shared", "sh", "-c", &script])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let (there, left) = told.split_once("and then:").unwrap_or_else(|| panic!("{out:?}"));
    let state = scene.state("web").display().to_string();
    let mut mounts: Vec<&str> =
        there.lines().filter_map(|line| line.strip_prefix(state.as_str())).collect();
    mounts.sort_unstable();
    assert_eq!(mounts, ["/etc", "/memory/v", "/shm"], "{told}");
    assert_eq!(left.trim(), "", "{told}");
}

/// As `kubectl get pod -o yaml` has it.
const EXPORTED: &str = "apiVersion: v1
kind: Pod
metadata:
  creationTimestamp: '2026-11-20T10:00:00Z'
  generateName: web-
  labels: {app: web, pod-template-hash: 5d5}
  name: web-5d5
  namespace: default
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: 7b1b2c0e-0000-4000-8000-000000000002, blockOwnerDeletion: true, controller: true}
  resourceVersion: '4711'
  uid: 7b1b2c0e-0000-4000-8000-000000000001
spec:
  containers:
  - image: IMAGE
    imagePullPolicy: IfNotPresent
    name: c
    command: [sh, -c, 'ls /var/run/secrets; exec sleep 1000']
    resources: {}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    volumeMounts:
    - {mountPath: /var/run/secrets/kubernetes.io/serviceaccount, name: kube-api-access-x7k2m, readOnly: true}
  dnsPolicy: ClusterFirst
  enableServiceLinks: true
  nodeName: node-1
  preemptionPolicy: PreemptLowerPriority
  priority: 0
  restartPolicy: Always
  schedulerName: default-scheduler
  securityContext: {}
  serviceAccount: default
  serviceAccountName: default
  terminationGracePeriodSeconds: 1
  tolerations:
  - {effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}
  volumes:
  - name: kube-api-access-x7k2m
    projected:
      defaultMode: 420
      sources:
      - serviceAccountToken: {expirationSeconds: 3607, path: token}
      - configMap:
          items: [{key: ca.crt, path: ca.crt}]
          name: kube-root-ca.crt
      - downwardAPI:
          items: [{fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}, path: namespace}]
status:
  phase: Running
  podIP: 10.244.0.7
";

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_manifest_that_a_cluster_has_exported_runs_and_says_what_is_left_out() {
    let scene = Scene::new();
    let out = scene.run(EXPORTED);
    let told = "spec.volumes: kube-api-access-x7k2m is left out, at \
                /var/run/secrets/kubernetes.io/serviceaccount as well: there is no API server";
    assert!(out.stderr.contains(told), "{out:?}");
    let object = scene.wait_ready("web-5d5");
    assert_eq!(object["spec"]["volumes"], serde_json::json!([]));
    let seen = scene.sh("web-5d5", "c", "ls /var/run/secrets || true").ok();
    assert_eq!(seen.stdout, "");
    // The same text again is the same pod.
    assert_eq!(scene.run(EXPORTED).stdout, "pod/web-5d5 unchanged\n");
}
