//! Volumes: what is in them, who sees it, and what those who write to them cannot do.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::scene::{Scene, is_linux};

const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  \
                    terminationGracePeriodSeconds: 0\n";
/// For a container that stays: it ends at once when it is told to.
const STAY: &str = "trap exit TERM; while :; do sleep 0.1; done";

/// Runs a pod `web` with this spec and waits until it is Ready.
fn ready(scene: &Scene, spec: &str) {
    run(scene, spec);
    scene.wait_ready("web");
}

fn run(scene: &Scene, spec: &str) {
    scene.run(&manifest(scene, spec));
}

/// `DIR` is the directory of the test, `STAY` the command of a container that does nothing.
fn manifest(scene: &Scene, spec: &str) -> String {
    let stay = format!("image: IMAGE, command: [sh, -c, '{STAY}']");
    let spec = spec.replace("STAY", &stay).replace("DIR", &scene.dir().display().to_string());
    format!("{HEAD}{spec}")
}

#[track_caller]
fn sh(scene: &Scene, container: &str, script: &str) -> String {
    scene.sh("web", container, script).ok().stdout
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Messages of a pod's warnings.
fn warnings(scene: &Scene) -> String {
    let text = fs::read_to_string(scene.state("web").join("events.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("Warning")).collect::<Vec<_>>().join("\n")
}

/// A mount of the host that is undone with the test.
struct HostMount(PathBuf);

impl HostMount {
    fn tmpfs(at: PathBuf, propagation: MsFlags) -> Self {
        fs::create_dir_all(&at).unwrap();
        mount(Some("t"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let made = Self(at);
        mount(None::<&str>, &made.0, None::<&str>, propagation, None::<&str>).unwrap();
        made
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Exchanges two names as fast as it can.
struct Flipper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flipper {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_empty_dir_is_shared_and_survives_restarts() {
    let scene = Scene::new();
    ready(
        &scene,
        "  containers:
  - {name: a, STAY, volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: none, mountPath: /none}]}
  - {name: b, STAY, volumeMounts: [{name: disk, mountPath: /d}, {name: memory, mountPath: /m, readOnly: true}]}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: none}
",
    );
    assert_eq!(sh(&scene, "a", "stat -c %a /disk /memory /none"), "777\n777\n777\n");
    sh(&scene, "a", "echo one > /disk/x; echo two > /memory/x; touch /none/x");
    assert_eq!(sh(&scene, "b", "cat /d/x /m/x"), "one\ntwo\n");
    scene.sh("web", "b", "touch /m/y").fails(1, &["Read-only"]);
    assert_eq!(sh(&scene, "a", "stat -f -c %T /memory"), "tmpfs\n");
    let full = scene.sh("web", "a", "dd if=/dev/zero of=/memory/big bs=64k count=32");
    full.fails(1, &["No space left"]);
    scene.pod(&["kill", "-c", "a", "web"]).ok();
    wait_until("a restart", || scene.container("web", "a")["restartCount"] == 1);
    scene.wait_ready("web");
    assert_eq!(sh(&scene, "a", "cat /disk/x /memory/x"), "one\ntwo\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_exceeds_the_size_of_an_empty_dir_is_evicted() {
    let scene = Scene::new();
    run(
        &scene,
        "  containers:
  - {name: a, image: IMAGE, command: [sh, -c, 'dd if=/dev/zero of=/v/x bs=64k count=32; exec sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes:
  - {name: v, emptyDir: {sizeLimit: 1Mi}}
",
    );
    let object = scene.wait_phase("web", "Failed");
    assert_eq!(object["status"]["reason"], "Evicted");
    let message = object["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\"."),
        "{message}"
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_moves_directories_about_is_evicted_all_the_same() {
    let scene = Scene::new();
    run(
        &scene,
        "  containers:
  - name: a
    image: IMAGE
    command: [sh, -c]
    args:
    - |
      dd if=/dev/zero of=/v/x bs=64k count=32
      mkdir -p /v/a /v/b
      for i in $(seq 3000); do mkdir /v/a/$i; done
      while :; do mv /v/a /v/b/a; mv /v/b/a /v/a; done
    volumeMounts: [{name: v, mountPath: /v}]
  volumes:
  - {name: v, emptyDir: {sizeLimit: 1Mi}}
",
    );
    let object = scene.wait_phase("web", "Failed");
    assert_eq!(object["status"]["reason"], "Evicted");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_host_path_is_what_its_type_says() {
    let scene = Scene::new();
    let dir = scene.dir().join("host");
    fs::create_dir_all(dir.join("dir")).unwrap();
    fs::write(dir.join("file"), "content").unwrap();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    ready(
        &scene,
        "  containers:
  - name: a
    STAY
    volumeMounts: [{name: dir, mountPath: /dir}, {name: made, mountPath: /made}, {name: any, mountPath: /any}, {name: file, mountPath: /file}, {name: new, mountPath: /new}, {name: socket, mountPath: /socket}, {name: zero, mountPath: /zero}]
  volumes:
  - {name: dir, hostPath: {path: DIR/host/dir, type: Directory}}
  - {name: made, hostPath: {path: DIR/host/deep/made, type: DirectoryOrCreate}}
  - {name: any, hostPath: {path: DIR/host/any}}
  - {name: file, hostPath: {path: DIR/host/file, type: File}}
  - {name: new, hostPath: {path: DIR/host/new, type: FileOrCreate}}
  - {name: socket, hostPath: {path: DIR/host/socket, type: Socket}}
  - {name: zero, hostPath: {path: /dev/zero, type: CharDevice}}
"
        .replace("    STAY\n", &format!("    image: IMAGE\n    command: [sh, -c, '{STAY}']\n"))
        .as_str(),
    );
    let kinds = "for f in dir made any file new socket zero; do stat -c %F /$f; done";
    assert_eq!(
        sh(&scene, "a", kinds),
        "directory\ndirectory\ndirectory\nregular file\nregular empty file\nsocket\n\
         character special file\n"
    );
    sh(&scene, "a", "echo here > /dir/x; echo there > /new; cat /file");
    assert_eq!(fs::read_to_string(dir.join("dir/x")).unwrap(), "here\n");
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "there\n");
    assert_eq!(fs::metadata(dir.join("new")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::metadata(dir.join("deep/made")).unwrap().mode() & 0o777, 0o755);
    scene.pod(&["rm", "--force", "web"]).ok();
    assert!(dir.join("dir/x").exists() && dir.join("new").exists(), "it is the host's");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_host_path_of_another_type_keeps_the_pod_waiting() {
    let scene = Scene::new();
    fs::write(scene.dir().join("file"), "").unwrap();
    for (path, kind, what) in [
        ("file", "Directory", "a directory"),
        ("nothing", "Directory", "a directory"),
        ("nothing", "File", "a file"),
        ("file", "Socket", "a socket file"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
        ("file", "DirectoryOrCreate", "a directory"),
    ] {
        let spec = format!(
            "  containers: [{{name: a, STAY, volumeMounts: [{{name: v, mountPath: /v}}]}}]\n  \
             volumes: [{{name: v, hostPath: {{path: DIR/{path}, type: {kind}}}}}]\n"
        );
        run(&scene, &spec);
        let failed = format!("hostPath type check failed: {}/{path} is not", scene.dir().display());
        wait_until(kind, || warnings(&scene).contains(&format!("{failed} {what}")));
        assert!(warnings(&scene).contains("MountVolume.SetUp failed for volume \\\"v\\\""));
        assert!(warnings(&scene).contains("FailedMount"));
        let object = scene.inspect("web");
        assert_eq!(object["status"]["phase"], "Pending");
        assert_eq!(scene.status("web"), "ContainerCreating");
        scene.pod(&["rm", "--force", "web"]).ok();
    }
    assert!(!scene.dir().join("nothing").exists());
}

const DATA: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {a: one, b: one}
binaryData: {raw: AAH/}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {key: secret}
";

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_of_objects_lie_as_in_a_cluster() {
    let scene = Scene::new();
    let spec = "  containers:
  - name: a
    image: IMAGE
    command: [sh, -c, 'trap exit TERM; while :; do sleep 0.1; done']
    resources: {limits: {cpu: 250m}}
    volumeMounts: [{name: c, mountPath: /c}, {name: s, mountPath: /s}, {name: d, mountPath: /d}, {name: p, mountPath: /p}, {name: o, mountPath: /o}, {name: one, mountPath: /one}]
  volumes:
  - {name: c, configMap: {name: c}}
  - {name: s, secret: {secretName: s, defaultMode: 0400}}
  - {name: one, configMap: {name: c, items: [{key: a, path: deep/er/x, mode: 0600}]}}
  - {name: o, configMap: {name: absent, optional: true}}
  - name: d
    downwardAPI:
      items:
      - {path: name, fieldRef: {fieldPath: metadata.name}}
      - {path: cpu, resourceFieldRef: {containerName: a, resource: limits.cpu, divisor: 1m}}
  - name: p
    projected:
      sources:
      - configMap: {name: c, items: [{key: a, path: key}, {key: b, path: dir/b}]}
      - secret: {name: s}
      - downwardAPI: {items: [{path: dir/name, fieldRef: {fieldPath: metadata.namespace}}]}
";
    ready(&scene, &format!("{spec}{DATA}"));
    assert_eq!(sh(&scene, "a", "cat /c/a /c/b; od -An -tx1 /c/raw"), "oneone 00 01 ff\n");
    assert_eq!(
        sh(&scene, "a", "cd /c; stat -L -c %a a; stat -L -c %a /s/key; ls"),
        "644\n400\na\nb\nraw\n"
    );
    let layout = "cd /c; readlink a; readlink ..data | \
                  grep -cE '^\\.\\.[0-9]{4}(_[0-9]{2}){5}\\.[0-9]+$'; stat -c %a ..data/.";
    assert_eq!(sh(&scene, "a", layout), "..data/a\n1\n755\n");
    assert_eq!(
        sh(&scene, "a", "cat /one/deep/er/x; stat -L -c %a /one/deep/er/x; ls /one /o"),
        "one600\n/o:\n\n/one:\ndeep\n"
    );
    assert_eq!(sh(&scene, "a", "cat /s/key /d/name /d/cpu"), "secretweb250");
    assert_eq!(
        sh(&scene, "a", "cat /p/key /p/dir/b /p/dir/name"),
        "secretonedefault",
        "the later one wins"
    );
    for path in ["/c/a", "/c/new", "/s/key", "/d/name", "/p/key", "/o/new"] {
        scene.sh("web", "a", &format!("echo x > {path}")).fails(1, &["Read-only file system"]);
    }
    let in_memory = "for v in s d p; do grep \" /$v \" /proc/self/mounts | cut -d' ' -f3; done; \
                     grep -c ' /c tmpfs' /proc/self/mounts";
    assert_eq!(scene.sh("web", "a", in_memory).stdout, "tmpfs\ntmpfs\ntmpfs\n0\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn changed_data_appears_all_at_once() {
    let scene = Scene::new();
    // Who stays in one `..data` sees one state, or that it is gone.
    let watch = "trap exit TERM; while cd -P /v/..data; do \
                 a=$(cat a) && b=$(cat b) || continue; [ $a = $b ] || echo torn: $a $b; \
                 [ $a = three ] && echo saw three && sleep 0.1; done; echo lost";
    let spec = format!(
        "  containers:
  - {{name: a, image: IMAGE, command: [sh, -c, '{watch}'], volumeMounts: [{{name: v, mountPath: /v}}, {{name: v, mountPath: /part, subPath: a}}]}}
  - {{name: b, STAY, env: [{{name: A, valueFrom: {{configMapKeyRef: {{name: c, key: a}}}}}}], volumeMounts: [{{name: s, mountPath: /s}}]}}
  volumes:
  - {{name: v, configMap: {{name: c}}}}
  - {{name: s, projected: {{sources: [{{secret: {{name: s}}}}]}}}}
{DATA}"
    );
    ready(&scene, &spec);
    let text = manifest(&scene, &spec);
    assert_eq!(scene.run(&text).stdout, "pod/web unchanged\n");
    for value in ["two", "one", "two", "three"] {
        let changed =
            text.replace("a: one, b: one", &format!("a: {value}, b: {value}, c: {value}"));
        let changed = changed.replace("key: secret", &format!("{value}: secret"));
        assert_eq!(scene.run(&changed).stdout, "pod/web configured\n");
        // It is done when the verb returns.
        assert_eq!(sh(&scene, "a", "cat /v/a /v/b /v/c"), value.repeat(3));
        assert_eq!(sh(&scene, "b", "ls /s"), format!("{value}\n"), "gone keys are gone");
    }
    let log = scene.wait_log("web", "a", "saw three");
    assert!(!log.contains("torn") && !log.contains("lost"), "{log}");
    assert_eq!(
        sh(&scene, "a", "cat /part; ls -A /v | grep -c '^\\.\\.[0-9]'"),
        "one1\n",
        "a subPath stays"
    );
    assert_eq!(sh(&scene, "b", "echo $A"), "one\n", "an environment stays");
    assert_eq!(scene.container("web", "a")["restartCount"], 0);
    let differs = text.replace("mountPath: /s}", "mountPath: /t}");
    scene.try_run(&differs).fails(1, &["differs in spec.containers[1].volumeMounts[0].mountPath"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn links_that_a_container_plants_do_not_lead_out_when_data_changes() {
    // CVE-2025-9566: by `kube play` of a changed ConfigMap.
    let scene = Scene::new();
    let victim = scene.dir().join("victim");
    fs::create_dir(&victim).unwrap();
    for name in ["a", "b", "c", "key"] {
        fs::write(victim.join(name), "host").unwrap();
    }
    let spec = format!(
        "  containers:
  - {{name: a, STAY, securityContext: {{privileged: true}}, volumeMounts: [{{name: c, mountPath: /c}}, {{name: s, mountPath: /s}}]}}
  volumes:
  - {{name: c, configMap: {{name: c}}}}
  - {{name: s, secret: {{secretName: s}}}}
{DATA}"
    );
    ready(&scene, &spec);
    let text = manifest(&scene, &spec);
    let before = |name: &str| fs::read_to_string(victim.join(name)).unwrap();
    let at = victim.display();
    let plants = [
        format!("ln -sfn {at}/a a; ln -sfn {at}/b b; ln -s {at}/c c; ln -sfn {at}/key key"),
        format!("ln -sfn {at} ..data; ln -s {at} ..data_tmp; ln -s {at} ..new"),
        format!("rm -rf ..2*; mkdir ..data_tmp; ln -s {at}/a ..data_tmp/a"),
        format!("d=$(readlink ..data); rm -rf $d; ln -s {at} $d"),
        format!("rm -rf ..* *; ln -s {at} ..data"),
        "rm -rf ..* *; mkdir -p ..data/x a/b; chmod 0 ..data".to_owned(),
    ];
    for (number, plant) in plants.iter().enumerate() {
        for volume in ["c", "s"] {
            let script = format!(
                "set -e; mount -o remount,bind,rw /{volume}; cd /{volume}; set +e; {plant}"
            );
            scene.sh("web", "a", &script).ok();
        }
        let changed = text.replace("a: one, b: one", &format!("a: n{number}, b: n{number}"));
        let changed = changed.replace("key: secret", &format!("key: secret{number}"));
        assert_eq!(scene.run(&changed).stdout, "pod/web configured\n", "{plant}");
        let seen = sh(&scene, "a", "cat /c/a /c/b /s/key");
        assert_eq!(seen, format!("n{number}n{number}secret{number}"), "{plant}");
        for name in ["a", "b", "c", "key"] {
            assert_eq!(before(name), "host", "{plant}");
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 4, "{plant}");
        assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o755, "{plant}");
    }
    scene.pod(&["rm", "--force", "web"]).ok();
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 4, "nor when it is removed");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_claim_leads_to_its_volume() {
    let scene = Scene::new();
    fs::create_dir(scene.dir().join("local")).unwrap();
    fs::write(scene.dir().join("local/old"), "").unwrap();
    let objects = "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: mine}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: named}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', volumeName: host, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: host}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: DIR/made, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 2Gi}
  local: {path: DIR/local}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: x, operator: Exists}]}]}}
";
    let spec = format!(
        "  securityContext: {{fsGroup: 4321}}
  containers:
  - {{name: a, STAY, volumeMounts: [{{name: m, mountPath: /mine}}, {{name: host, mountPath: /named}}, {{name: r, mountPath: /read}}]}}
  volumes:
  - {{name: m, persistentVolumeClaim: {{claimName: mine}}}}
  - {{name: host, persistentVolumeClaim: {{claimName: named}}}}
  - {{name: r, persistentVolumeClaim: {{claimName: mine, readOnly: true}}}}
{objects}"
    );
    ready(&scene, &spec);
    sh(&scene, "a", "echo x > /mine/x; echo y > /named/y");
    assert_eq!(fs::read_to_string(scene.dir().join("local/x")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(scene.dir().join("made/y")).unwrap(), "y\n");
    scene.sh("web", "a", "touch /read/x").fails(1, &["Read-only"]);
    // fsGroup is for the local volume, not for a path of the host.
    assert_eq!(fs::metadata(scene.dir().join("local/old")).unwrap().gid(), 4321);
    assert_eq!(fs::metadata(scene.dir().join("made")).unwrap().gid(), 0);
    scene.pod(&["rm", "--force", "web"]).ok();
    assert!(scene.dir().join("local/x").exists() && scene.dir().join("made/y").exists());
    let unbound = manifest(&scene, &spec).replace("volumeName: host", "volumeName: other");
    scene.try_run(&unbound).fails(1, &["named"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_part_of_a_volume_is_mounted_and_made_where_it_is_missing() {
    let scene = Scene::new();
    ready(
        &scene,
        "  initContainers:
  - {name: i, image: IMAGE, command: [sh, -c, 'mkdir -p /v/real/sub; echo in > /v/real/sub/f; ln -s real/sub /v/link'], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - name: a
    image: IMAGE
    command: [sh, -c, 'trap exit TERM; while :; do sleep 0.1; done']
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts:
    - {name: v, mountPath: /made, subPath: new/deep}
    - {name: v, mountPath: /expr, subPathExpr: logs/$(POD)}
    - {name: v, mountPath: /link, subPath: link}
    - {name: v, mountPath: /file, subPath: real/sub/f}
    - {name: v, mountPath: /ro, subPath: real, readOnly: true}
    - {name: v, mountPath: /all}
  volumes: [{name: v, emptyDir: {}}]
",
    );
    sh(&scene, "a", "echo x > /made/x; echo y > /expr/y");
    assert_eq!(
        sh(
            &scene,
            "a",
            "cd /all; cat new/deep/x logs/web/y /link/f /file; stat -c %a new logs/web"
        ),
        "x\ny\nin\nin\n777\n777\n"
    );
    scene.sh("web", "a", "touch /ro/x").fails(1, &["Read-only"]);
    // What is mounted stays the one it was, whatever takes its place.
    sh(
        &scene,
        "a",
        "mv /all/new/deep /all/moved; ln -s / /all/new/deep; echo z > /made/z; cat /all/moved/z",
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_part_of_a_volume_that_leads_out_is_refused_without_a_word_about_the_host() {
    let scene = Scene::new();
    fs::create_dir(scene.dir().join("secret")).unwrap();
    run(
        &scene,
        "  initContainers:
  - {name: i, image: IMAGE, command: [sh, -c, 'cd /v; ln -s / root; ln -s ../../.. up; ln -s DIR/secret abs; ln -s loop loop; ln -s /proc/self/root magic'], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: root, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: root}]}
  - {name: below, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: root/etc}]}
  - {name: up, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: up/x}]}
  - {name: abs, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: abs}]}
  - {name: made, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: abs/made}]}
  - {name: loop, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: loop}]}
  - {name: magic, STAY, volumeMounts: [{name: v, mountPath: /x, subPath: magic}]}
  - {name: empty, STAY, volumeMounts: [{name: v, mountPath: /x, subPathExpr: $(NONE)/x}]}
  volumes: [{name: v, emptyDir: {}}]
",
    );
    for name in ["root", "below", "up", "abs", "made", "loop", "magic"] {
        let refused = || scene.container("web", name)["state"]["waiting"].clone();
        wait_until(name, || refused()["reason"] == "CreateContainerConfigError");
        let message = refused()["message"].as_str().unwrap().to_owned();
        assert_eq!(
            message,
            format!("failed to prepare subPath for volumeMount \"v\" of container {name:?}")
        );
    }
    let refused = || scene.container("web", "empty")["state"]["waiting"]["message"].clone();
    wait_until("empty", || refused() == "missing value for NONE");
    assert_eq!(fs::read_dir(scene.dir().join("secret")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_part_of_a_volume_that_flips_to_a_link_never_shows_the_host() {
    // CVE-2017-1002101, CVE-2021-25741.
    let scene = Scene::new();
    let dir = scene.dir();
    fs::create_dir_all(dir.join("v/sub/in")).unwrap();
    fs::create_dir_all(dir.join("secret/in")).unwrap();
    fs::write(dir.join("v/sub/in/who"), "inside\n").unwrap();
    fs::write(dir.join("secret/in/who"), "host\n").unwrap();
    symlink(dir.join("secret"), dir.join("v/flip")).unwrap();
    let flipper = Flipper::new(dir.join("v/sub"), dir.join("v/flip"));
    let containers: String = (0..4)
        .map(|n| {
            format!(
                "  - {{name: c{n}, image: IMAGE, command: [sh, -c, 'cat /x/who >> /seen/c{n}'], \
                     volumeMounts: [{{name: v, mountPath: /x, subPath: sub/in}}, \
                     {{name: seen, mountPath: /seen}}]}}\n"
            )
        })
        .collect();
    let spec = format!(
        "  containers:\n{containers}  volumes:\n  - {{name: v, hostPath: {{path: DIR/v}}}}\n  \
             - {{name: seen, hostPath: {{path: DIR/seen}}}}\n"
    );
    let hurry = "{name: web, annotations: {carob/backoff-initial: 10ms, carob/backoff-max: 10ms}}";
    scene.run(&manifest(&scene, &spec).replace("{name: web}", hurry));
    let seen = || -> String {
        let files = fs::read_dir(dir.join("seen")).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).unwrap()).collect()
    };
    let refused = "failed to prepare subPath";
    wait_until("both", || seen().lines().count() > 20 && warnings(&scene).contains(refused));
    scene.pod(&["rm", "--force", "web"]).ok();
    drop(flipper);
    assert!(!seen().contains("host"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let wrong: Vec<_> = mounts
        .lines()
        .filter(|line| line.split(' ').nth(3).is_some_and(|root| root.contains("secret")))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn mounts_get_through_as_the_propagation_says() {
    let scene = Scene::new();
    let shared = HostMount::tmpfs(scene.dir().join("shared"), MsFlags::MS_SHARED);
    fs::create_dir(shared.0.join("late")).unwrap();
    fs::create_dir(shared.0.join("own")).unwrap();
    ready(
        &scene,
        "  containers:
  - {name: none, STAY, volumeMounts: [{name: v, mountPath: /v}]}
  - {name: to, STAY, volumeMounts: [{name: v, mountPath: /v, mountPropagation: HostToContainer}]}
  - {name: both, STAY, securityContext: {privileged: true}, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}
  volumes: [{name: v, hostPath: {path: DIR/shared}}]
",
    );
    {
        let late = HostMount::tmpfs(shared.0.join("late"), MsFlags::MS_PRIVATE);
        fs::write(late.0.join("x"), "").unwrap();
        assert_eq!(sh(&scene, "to", "ls /v/late"), "x\n");
        assert_eq!(sh(&scene, "both", "ls /v/late"), "x\n");
        assert_eq!(sh(&scene, "none", "ls /v/late"), "");
    }
    sh(&scene, "both", "mount -t tmpfs t /v/own; touch /v/own/y");
    assert!(shared.0.join("own/y").exists());
    assert_eq!(sh(&scene, "to", "ls /v/own"), "y\n");
    assert_eq!(sh(&scene, "none", "ls /v/own"), "");
    umount2(&shared.0.join("own"), MntFlags::MNT_DETACH).unwrap();
    scene.pod(&["rm", "--force", "web"]).ok();
    drop(shared);
    let private = HostMount::tmpfs(scene.dir().join("shared"), MsFlags::MS_PRIVATE);
    run(
        &scene,
        "  containers: [{name: to, STAY, volumeMounts: [{name: v, mountPath: /v, mountPropagation: HostToContainer}]}]
  volumes: [{name: v, hostPath: {path: DIR/shared}}]
",
    );
    let refused = || scene.container("web", "to")["state"]["waiting"]["message"].to_string();
    wait_until("refused", || refused().contains("but it is not a shared or slave mount"));
    scene.pod(&["rm", "--force", "web"]).ok();
    drop(private);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn read_only_may_be_recursive() {
    let scene = Scene::new();
    let outer = HostMount::tmpfs(scene.dir().join("outer"), MsFlags::MS_PRIVATE);
    let inner = HostMount::tmpfs(outer.0.join("inner"), MsFlags::MS_PRIVATE);
    ready(
        &scene,
        "  containers:
  - {name: plain, STAY, volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}
  - {name: all, STAY, volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}]}
  - {name: able, STAY, volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: IfPossible}]}
  volumes: [{name: v, hostPath: {path: DIR/outer}}]
",
    );
    for (container, inner_too) in [("plain", false), ("all", true), ("able", true)] {
        scene.sh("web", container, "touch /v/x").fails(1, &["Read-only"]);
        let below = scene.sh("web", container, "touch /v/inner/x");
        assert_eq!(below.code != 0, inner_too, "{container}: {below:?}");
    }
    scene.pod(&["rm", "--force", "web"]).ok();
    drop(inner);
    drop(outer);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_volume_belongs_to_the_fs_group() {
    let scene = Scene::new();
    fs::create_dir(scene.dir().join("host")).unwrap();
    ready(
        &scene,
        &format!(
            "  securityContext: {{runAsUser: 1000, runAsGroup: 1000, fsGroup: 4321}}
  containers:
  - {{name: a, STAY, volumeMounts: [{{name: e, mountPath: /e}}, {{name: m, mountPath: /m}}, {{name: c, mountPath: /c}}, {{name: s, mountPath: /s}}, {{name: h, mountPath: /h}}, {{name: e, mountPath: /part, subPath: part}}]}}
  volumes:
  - {{name: e, emptyDir: {{}}}}
  - {{name: m, emptyDir: {{medium: Memory}}}}
  - {{name: c, configMap: {{name: c}}}}
  - {{name: s, secret: {{secretName: s, defaultMode: 0400}}}}
  - {{name: h, hostPath: {{path: DIR/host}}}}
{DATA}"
        ),
    );
    assert_eq!(sh(&scene, "a", "id -u; id -G"), "1000\n1000 4321\n");
    assert_eq!(
        sh(&scene, "a", "stat -c '%g %a' /e /m /h; stat -L -c '%g %a' /c/a /s/key"),
        "4321 2777\n4321 2777\n0 755\n4321 644\n4321 440\n"
    );
    sh(&scene, "a", "touch /e/x /m/x /part/x; cat /s/key");
    assert_eq!(
        sh(&scene, "a", "stat -c '%u %g' /e/x /m/x /part/x"),
        "1000 4321\n1000 4321\n1000 4321\n"
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_read_only_root_leaves_volumes_writable_and_hosts_may_be_a_volume() {
    let scene = Scene::new();
    ready(
        &scene,
        &format!(
            "  hostAliases: [{{ip: 10.0.0.9, hostnames: [other]}}]
  containers:
  - {{name: a, image: IMAGE, command: [sh, -c, 'echo bye > /dev/termination-log; {STAY}'], securityContext: {{readOnlyRootFilesystem: true}}, volumeMounts: [{{name: e, mountPath: /not/there/yet}}, {{name: c, mountPath: /etc/hosts, subPath: a}}]}}
  - {{name: b, STAY, securityContext: {{readOnlyRootFilesystem: true}}, volumeMounts: [{{name: e, mountPath: /e, subPath: x}}]}}
  volumes:
  - {{name: e, emptyDir: {{}}}}
  - {{name: c, configMap: {{name: c}}}}
{DATA}"
        ),
    );
    for path in ["/x", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        scene.sh("web", "a", &format!("echo x >> {path}")).fails(1, &["Read-only file system"]);
    }
    sh(&scene, "a", "touch /not/there/yet/x /dev/shm/x");
    assert_eq!(sh(&scene, "a", "cat /etc/hosts; cat /etc/hostname"), "oneweb\n");
    assert!(sh(&scene, "b", "cat /etc/hosts").contains("10.0.0.9\tother"));
    scene.pod(&["stop", "web"]).ok();
    assert_eq!(scene.container("web", "a")["state"]["terminated"]["message"], "bye\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ids_of_a_user_namespace_are_those_of_the_host_in_volumes() {
    let scene = Scene::new();
    fs::create_dir(scene.dir().join("host")).unwrap();
    run(
        &scene,
        &format!(
            "  hostUsers: false
  containers:
  - {{name: a, STAY, volumeMounts: [{{name: e, mountPath: /e}}, {{name: m, mountPath: /m}}, {{name: h, mountPath: /h}}, {{name: c, mountPath: /c}}, {{name: s, mountPath: /s}}, {{name: e, mountPath: /part, subPath: part}}]}}
  volumes:
  - {{name: e, emptyDir: {{}}}}
  - {{name: m, emptyDir: {{medium: Memory}}}}
  - {{name: h, hostPath: {{path: DIR/host}}}}
  - {{name: c, configMap: {{name: c}}}}
  - {{name: s, secret: {{secretName: s, defaultMode: 0400}}}}
{DATA}"
        ),
    );
    if !is_linux(6, 3) {
        wait_until("a refusal", || warnings(&scene).contains("which for tmpfs takes Linux 6.3"));
        return;
    }
    scene.wait_ready("web");
    assert_ne!(sh(&scene, "a", "cat /proc/self/uid_map"), "", "it is readable");
    sh(&scene, "a", "touch /e/x /m/x /part/x /h/x; chown 7 /h/x; cat /c/a /s/key /etc/hosts");
    assert_eq!(sh(&scene, "a", "stat -c %u /e/x /m/x /part/x /h/x /etc/hosts"), "0\n0\n0\n7\n0\n");
    assert_eq!(fs::metadata(scene.dir().join("host/x")).unwrap().uid(), 7);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_a_container_has_mounted_in_a_volume_goes_with_the_pod() {
    let scene = Scene::new();
    ready(
        &scene,
        "  containers:
  - {name: a, STAY, securityContext: {privileged: true}, volumeMounts: [{name: e, mountPath: /e, subPath: p}, {name: m, mountPath: /m}]}
  volumes:
  - {name: e, emptyDir: {}}
  - {name: m, emptyDir: {medium: Memory}}
",
    );
    sh(
        &scene,
        "a",
        "mkdir -p /e/d /m/d; mount -t tmpfs t /e/d; mount --bind /proc /m/d; \
         ln -s / /e/root; mkdir -p /e/$(printf 'deep/%.0s' $(seq 200)); chmod 0 /e/deep",
    );
    scene.pod(&["rm", "--force", "web"]).ok();
    assert!(Path::new("/etc/passwd").exists());
    assert_eq!(scene.pod(&["ps", "-A", "--format", "name"]).ok().stdout, "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn directories_of_a_pod_are_for_root_alone() {
    let scene = Scene::new();
    ready(
        &scene,
        "  containers: [{name: a, STAY, volumeMounts: [{name: e, mountPath: /e}]}]
  volumes: [{name: e, emptyDir: {}}]
",
    );
    let data = fs::read_dir(scene.dir().join("data/pods")).unwrap().next().unwrap().unwrap().path();
    for dir in [scene.state("web"), data] {
        let mode = fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{}: {mode:o}", dir.display());
    }
    let socket = fs::read_dir(scene.state("web"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mode = socket.unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn data_that_changes_while_there_is_no_supervisor_arrives() {
    let scene = Scene::new();
    let spec = format!(
        "  containers: [{{name: a, STAY, volumeMounts: [{{name: c, mountPath: /c}}, {{name: c, mountPath: /part, subPath: a}}]}}]
  volumes: [{{name: c, configMap: {{name: c}}}}]
{DATA}"
    );
    ready(&scene, &spec);
    let supervisor = Pid::from_raw(scene.supervisor("web").unwrap());
    kill(supervisor, Signal::SIGKILL).unwrap();
    wait_until("its death", || scene.supervisor("web").is_none());
    let changed = manifest(&scene, &spec).replace("a: one", "a: two");
    assert_eq!(scene.run(&changed).stdout, "pod/web configured\n");
    assert_eq!(sh(&scene, "a", "cat /c/a /part"), "twoone");
    // A new instance has the new part, too.
    scene.pod(&["kill", "-c", "a", "web"]).ok();
    wait_until("a restart", || scene.container("web", "a")["restartCount"] == 1);
    scene.wait_ready("web");
    assert_eq!(sh(&scene, "a", "cat /c/a /part"), "twotwo");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_volume_in_a_volume_is_not_led_astray_by_a_link() {
    let scene = Scene::new();
    fs::create_dir(scene.dir().join("victim")).unwrap();
    ready(
        &scene,
        &format!(
            "  containers:
  - {{name: a, STAY, volumeMounts: [{{name: e, mountPath: /e}}, {{name: c, mountPath: /e/x/c}}]}}
  - {{name: b, STAY, volumeMounts: [{{name: e, mountPath: /e}}]}}
  volumes:
  - {{name: e, emptyDir: {{}}}}
  - {{name: c, configMap: {{name: c}}}}
{DATA}"
        ),
    );
    assert_eq!(sh(&scene, "a", "cat /e/x/c/a; ls /e/x/c"), "onea\nb\nraw\n");
    let link = format!("mv /e/x /e/y; ln -s {} /e/x; ls /e", scene.dir().join("victim").display());
    sh(&scene, "b", &link);
    scene.pod(&["kill", "-c", "a", "web"]).ok();
    wait_until("another start", || {
        let status = scene.container("web", "a");
        status["restartCount"] != 0 || status["state"]["waiting"]["message"].is_string()
    });
    assert_eq!(fs::read_dir(scene.dir().join("victim")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_of_etc_cannot_fill_the_machine() {
    // CVE-2020-8557.
    let scene = Scene::new();
    ready(&scene, "  containers: [{name: a, STAY}, {name: b, STAY}]\n");
    let full = scene.sh("web", "a", "dd if=/dev/zero of=/etc/hosts bs=64k count=1600");
    full.fails(1, &["No space left"]);
    let size = sh(&scene, "b", "stat -c %s /etc/hosts").trim().parse::<u64>().unwrap();
    assert!(size < 2 << 20, "{size}");
    scene.pod(&["kill", "-c", "a", "web"]).ok();
    wait_until("a restart", || scene.container("web", "a")["restartCount"] == 1);
    scene.wait_ready("web");
    assert!(sh(&scene, "a", "cat /etc/hosts").contains("127.0.0.1\tlocalhost"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn data_that_cannot_be_applied_changes_nothing_and_is_refused_again() {
    let scene = Scene::new();
    let spec = format!(
        "  containers: [{{name: a, STAY, volumeMounts: [{{name: s, mountPath: /s}}, {{name: c, mountPath: /c}}]}}]
  volumes:
  - {{name: s, secret: {{secretName: s}}}}
  - {{name: c, configMap: {{name: c, items: [{{key: a, path: a}}]}}}}
{DATA}"
    );
    ready(&scene, &spec);
    let changed = manifest(&scene, &spec).replace("key: secret", "key: other");
    for _ in 0..2 {
        let refused = scene.try_run(&changed.replace("a: one, ", ""));
        refused.fails(1, &["configmap references non-existent config key: a"]);
        assert_eq!(sh(&scene, "a", "cat /s/key /c/a"), "secretone");
    }
    assert_eq!(scene.run(&changed).stdout, "pod/web configured\n");
    assert_eq!(sh(&scene, "a", "cat /s/key /c/a"), "otherone");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn links_planted_while_data_changes_do_not_lead_out_either() {
    let scene = Scene::new();
    let victim = scene.dir().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("a"), "host").unwrap();
    let at = victim.display();
    let attack = format!(
        "mount -o remount,bind,rw /c; cd /c; trap exit TERM; while :; do \
         for n in ..data_tmp a b ..data ..2*; do ln -sfn {at} $n; mv -T $n x; rm -rf $n; \
         ln -s {at}/a $n; rm -f $n; done; done 2>/dev/null"
    );
    let spec = format!(
        "  containers:
  - {{name: a, image: IMAGE, command: [sh, -c, '{attack}'], securityContext: {{privileged: true}}, volumeMounts: [{{name: c, mountPath: /c}}]}}
  volumes: [{{name: c, configMap: {{name: c}}}}]
{DATA}"
    );
    ready(&scene, &spec);
    let text = manifest(&scene, &spec);
    for number in 0..30 {
        let changed = text.replace("a: one", &format!("a: n{number}, n{number}: x"));
        // It may fail, but only at what it is to replace.
        let out = scene.try_run(&changed);
        assert!(out.code == 0 || out.stderr.contains("SetUp failed for volume"), "{out:?}");
    }
    scene.pod(&["rm", "--force", "web"]).ok();
    let left: Vec<_> = fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
    assert_eq!(fs::read_to_string(victim.join("a")).unwrap(), "host");
    let (file, dir) = (fs::metadata(victim.join("a")).unwrap(), fs::metadata(&victim).unwrap());
    assert_eq!((file.mode() & 0o777, dir.mode() & 0o777), (0o644, 0o755));
}
