//! What has worked against other engines of pods. The table is in docs/security.md.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::scene::{Output, Scene};

/// A directory of the host that nothing may write to, and what it holds.
struct Victim(PathBuf);

impl Victim {
    fn new(scene: &Scene) -> Self {
        let dir = scene.dir().join("victim");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "host").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.0).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.path("file")).unwrap(), "host");
        assert_eq!(fs::metadata(self.path("file")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::metadata(&self.0).unwrap().mode() & 0o7777, 0o755);
    }
}

fn manifest(spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p, uid: u-1}}
spec:
  terminationGracePeriodSeconds: 0
{spec}"
    )
}

fn wait_reason(scene: &Scene, reason: &str) -> String {
    let object = scene.wait("p", reason, |object| {
        object["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    });
    let waiting = &object["status"]["containerStatuses"][0]["state"]["waiting"];
    waiting["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn links_planted_in_volumes_do_not_lead_their_removal_out() {
    // CVE-2017-1002102.
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let data = scene.dir().join("data/pods");
    let spec = format!(
        "  containers:
  - name: c
    image: IMAGE
    command: [sleep, '1000']
    volumeMounts:
    - {{name: e, mountPath: /e}}
    - {{name: m, mountPath: /m}}
    - {{name: s, mountPath: /s}}
    - {{name: pods, mountPath: /pods}}
  volumes:
  - {{name: e, emptyDir: {{}}}}
  - {{name: m, configMap: {{name: m}}}}
  - {{name: s, secret: {{secretName: s}}}}
  - {{name: pods, hostPath: {{path: {}, type: DirectoryOrCreate}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: m}}
data: {{key: value}}
---
apiVersion: v1
kind: Secret
metadata: {{name: s}}
stringData: {{key: value}}
",
        data.display()
    );
    scene.run(&manifest(&spec));
    scene.wait_ready("p");
    // What comes from objects cannot be written, by root either.
    for volume in ["m", "s"] {
        let out = scene.sh("p", "c", &format!("echo x > /{volume}/key"));
        assert!(out.code != 0 && out.stderr.contains("Read-only file system"), "{out:?}");
    }
    // By the back door everything can be exchanged, directories of volumes too.
    let at = victim.0.display();
    let script = format!(
        "ln -s {at} /e/dir; ln -s {at}/file /e/file; cd /pods/u-1/volumes
        for kind in kubernetes.io~*; do for volume in $kind/*; do
            mv $volume $volume.old; ln -s {at} $volume; done; done
        mv kubernetes.io~secret moved; ln -s {at} kubernetes.io~secret; ls -l . */ >&2"
    );
    scene.sh("p", "c", &script).ok();
    let removed = scene.pod(&["rm", "--force", "p"]);
    victim.is_untouched();
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(!data.join("u-1").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_socket_of_a_pod_can_be_reached_from_a_container_of_the_hosts_network() {
    // CVE-2020-15257: an abstract socket has no permissions but the network namespace.
    let scene = Scene::new();
    let spec = "  hostNetwork: true
  containers: [{name: c, image: IMAGE, command: [sleep, '1000']}]
";
    scene.run(&manifest(spec));
    scene.wait_ready("p");
    let supervisor = scene.supervisor("p").unwrap();
    let links = fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| {
            let text = link.to_string_lossy().into_owned();
            Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    assert!(!inodes.is_empty(), "it listens");
    let table = fs::read_to_string(format!("/proc/{supervisor}/net/unix")).unwrap();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(inode), name) = (fields.get(6), fields.get(7)) else { continue };
        if inodes.iter().any(|own| own == inode) {
            assert!(name.is_none_or(|name| !name.starts_with('@')), "{line}");
        }
    }
    // Nobody but root gets to the one that has a name.
    let socket = fs::read_dir(scene.state("p")).unwrap().flatten().find(|entry| {
        use std::os::unix::fs::FileTypeExt;
        entry.file_type().is_ok_and(|kind| kind.is_socket())
    });
    let socket = socket.unwrap().path();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o177, 0);
    let open = scene.dir().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(scene.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let connect =
        format!("busybox nc -U {0} </dev/null || exec nc -U {0} </dev/null", socket.display());
    let out = scene.on_machine("setpriv");
    let mut out = out;
    let out = out.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &connect]);
    assert!(!out.output().unwrap().status.success());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_of_etc_that_are_links_in_an_image_write_nothing_on_the_host() {
    // CVE-2024-5154, CVE-2025-0750.
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let climb = "../".repeat(20);
    let target = |name: &str| format!("{climb}{}", victim.path(name).display());
    for (number, links) in [
        vec![("etc/hosts", target("hosts")), ("etc/hostname", target("file"))],
        vec![("etc/resolv.conf", victim.path("file").display().to_string())],
        vec![("dev/termination-log", target("log"))],
        vec![("etc", target(""))],
    ]
    .into_iter()
    .enumerate()
    {
        let root = scene.dir().join(format!("root-{number}"));
        let from = Scene::image();
        let from = from.trim_start_matches("rootfs:");
        let copied = std::process::Command::new("cp").args(["-a", from]).arg(&root).status();
        assert!(copied.unwrap().success());
        for (name, to) in &links {
            let path = root.join(name);
            let _there = fs::remove_file(&path);
            if *name == "etc" {
                let _there = fs::remove_dir_all(&path);
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(to, &path).unwrap();
        }
        let spec = format!(
            "  restartPolicy: Never
  hostAliases: [{{ip: 10.1.2.3, hostnames: [planted]}}]
  containers:
  - name: c
    image: rootfs:{}
    command: [sh, -c, 'cat /etc/hosts; echo x >> /etc/hosts; echo x >> /etc/hostname; echo x >> /etc/resolv.conf; echo x > /dev/termination-log']
",
            root.display()
        );
        scene.run(&manifest(&spec));
        scene.wait("p", "its end", |object| {
            let phase = object["status"]["phase"].as_str().unwrap();
            let state = &object["status"]["containerStatuses"][0]["state"];
            phase != "Running" && phase != "Pending" || state["waiting"]["message"].is_string()
        });
        victim.is_untouched();
        scene.pod(&["rm", "--force", "p"]).ok();
        victim.is_untouched();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn logs_are_written_through_no_link_and_names_are_no_paths() {
    // CVE-2024-5154, CVE-2025-0750.
    let scene = Scene::new();
    let victim = Victim::new(&scene);
    let spec = "  restartPolicy: Never
  containers: [{name: c, image: IMAGE, command: [echo, written]}]
";
    for part in ["", "c", "c/0.log"] {
        let path = scene.manifest("logs.yaml", &manifest(spec));
        let args = scene.run_args("create", &[], &[&path]);
        scene.carob(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let planted = scene.dir().join("logs/default_p_u-1").join(part);
        let planted = PathBuf::from(planted.to_string_lossy().trim_end_matches('/'));
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        let _made_before = fs::remove_dir(&planted);
        let to = if part == "c/0.log" { victim.path("file") } else { victim.0.clone() };
        symlink(to, &planted).unwrap();
        let started = scene.pod(&["start", "p"]);
        if started.code == 0 {
            scene.wait("p", "its end", |object| {
                let state = &object["status"]["containerStatuses"][0]["state"];
                !state["terminated"].is_null() || state["waiting"]["message"].is_string()
            });
        }
        let logs = scene.pod(&["logs", "p"]);
        assert!(!logs.stdout.contains("host"), "{logs:?}");
        victim.is_untouched();
        scene.pod(&["rm", "--force", "p"]).ok();
        victim.is_untouched();
        let _kept = fs::remove_file(&planted);
    }
    let refused = |text: String, words: &str| {
        scene.try_run(&text).fails(1, &[words]);
    };
    let whole = manifest(spec);
    refused(whole.replace("name: p,", "name: ../p,"), "metadata.name");
    refused(whole.replace("uid: u-1", "uid: ../../u"), "metadata.uid");
    refused(whole.replace("name: p,", "name: p, namespace: ../n,"), "metadata.namespace");
    refused(whole.replace("name: c,", "name: ../c,"), "spec.containers[0].name");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_profile_that_is_not_named_or_not_there_never_means_unconfined() {
    // CVE-2023-2431.
    let scene = Scene::new();
    let profiles = scene.dir().join("data/seccomp");
    fs::create_dir_all(profiles.join("directory")).unwrap();
    for (name, text) in
        [("empty", ""), ("blank", "\n"), ("null", "null"), ("half", "{\"defaultAct")]
    {
        fs::write(profiles.join(name), text).unwrap();
    }
    let with = |profile: &str| {
        manifest(&format!(
            "  securityContext: {{seccompProfile: {profile}}}
  containers: [{{name: c, image: IMAGE, command: [sleep, '1000']}}]
"
        ))
    };
    let try_it = |profile: &str| -> Option<Output> {
        let out = scene.try_run(&with(profile));
        if out.code != 0 {
            return Some(out);
        }
        scene.wait("p", "a refusal", |object| {
            let status = &object["status"];
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            waiting["message"]
                .as_str()
                .is_some_and(|text| text.contains("seccomp") || text.contains("localhostProfile"))
        });
        assert!(!scene.events("p").contains(&"c/Started".to_owned()));
        scene.pod(&["rm", "--force", "p"]).ok();
        None
    };
    for name in
        ["empty", "blank", "null", "half", "directory", "absent", "../seccomp/half", "/etc/passwd"]
    {
        try_it(&format!("{{type: Localhost, localhostProfile: {name}}}"));
    }
    for profile in [
        "{type: Localhost}",
        "{type: Localhost, localhostProfile: ''}",
        "{type: ''}",
        "{type: localhost}",
        "{localhostProfile: half}",
        "{type: RuntimeDefault, localhostProfile: half}",
    ] {
        let refused = try_it(profile).unwrap_or_else(|| panic!("{profile} is taken"));
        assert!(refused.stderr.contains("seccompProfile"), "{profile}: {refused:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn output_without_end_of_a_probe_costs_the_supervisor_nothing() {
    // CVE-2022-1708, CVE-2022-31030.
    let scene = Scene::new();
    let spec = "  containers:
  - name: c
    image: IMAGE
    command: [sleep, '1000']
    readinessProbe: {periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 3, exec: {command: ['yes', loud]}}
    lifecycle: {postStart: {exec: {command: [sh, -c, 'yes | head -c 50000000']}}}
";
    scene.run(&manifest(spec));
    crate::support::wait_until("three probes", || {
        let events = scene.pod(&["events", "p"]).ok().stdout;
        if events.contains("Unhealthy") { Ok(()) } else { Err(events) }
    });
    let supervisor = scene.supervisor("p").unwrap();
    let status = fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
}
