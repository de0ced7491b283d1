//! As whom containers run, with which rights.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::support::apparmor::{self, Profile};
use crate::support::{copy_program, selinux};

/// Waits until all containers of the pod `p` wait for `reason`; their messages.
fn refused(scene: &Scene, reason: &str) -> Vec<(String, String)> {
    let of = |status: &Value| status["state"]["waiting"]["reason"] == reason;
    let object = scene.wait("p", reason, |object| {
        object["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().all(of))
    });
    let all = object["status"]["containerStatuses"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|one| (text(&one["name"]), text(&one["state"]["waiting"]["message"]))).collect()
}

/// A pod `p` of these containers, each with an own name, security context and image.
fn pod(spec: &str, containers: &[(&str, &str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 0
{spec}
  containers:
"
    );
    for (name, security, image) in containers {
        text.push_str(&format!(
            "  - {{name: {name}, image: '{image}', command: [sleep, '1000'], \
             securityContext: {{{security}}}}}\n"
        ));
    }
    text
}

fn run(scene: &Scene, spec: &str, containers: &[(&str, &str)]) {
    let with_image: Vec<_> = containers.iter().map(|&(name, own)| (name, own, "IMAGE")).collect();
    scene.run(&pod(spec, &with_image));
    scene.wait_ready("p");
}

/// A line of /proc/1/status or that of a process made by exec.
fn status(scene: &Scene, container: &str, of: &str, key: &str) -> String {
    let text = scene.sh("p", container, &format!("cat /proc/{of}/status")).ok().stdout;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key}: {text}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn user_and_groups_are_those_of_container_then_pod_then_image() {
    let scene = Scene::new();
    let image = scene.bundle(
        "image",
        &json!({"args": ["x"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 7, "gid": 8}}),
    );
    let of_pod = "  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000,
    supplementalGroups: [4000, 4001]}";
    scene.run(&pod(
        of_pod,
        &[
            ("pods", "", "IMAGE"),
            ("own", "runAsUser: 1001, runAsGroup: 2001", "IMAGE"),
            ("image", "", &image),
            ("root", "runAsUser: 0, runAsGroup: 0", &image),
        ],
    ));
    scene.wait_ready("p");
    for (container, uid, gid) in
        [("pods", 1000, 2000), ("own", 1001, 2001), ("image", 1000, 2000), ("root", 0, 0)]
    {
        // As seen of the container's own process, and of one made by exec.
        for of in ["1", "self"] {
            let of = |key| status(&scene, container, of, key);
            assert_eq!(of("Uid"), format!("{uid} {uid} {uid} {uid}"), "{container}");
            assert_eq!(of("Gid"), format!("{gid} {gid} {gid} {gid}"), "{container}");
            let groups = of("Groups");
            let mut groups: Vec<&str> = groups.split(' ').collect();
            groups.retain(|group| *group != gid.to_string());
            assert_eq!(groups, ["3000", "4000", "4001"], "{container}");
        }
    }
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.run(&pod("", &[("image", "", &image), ("group", "runAsGroup: 9", &image)]));
    scene.wait_ready("p");
    assert_eq!(scene.sh("p", "image", "id -u; id -g").ok().stdout, "7\n8\n");
    assert_eq!(scene.sh("p", "group", "id -u; id -g").ok().stdout, "7\n9\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_may_be_root_is_refused_under_run_as_non_root() {
    let scene = Scene::new();
    let user = |name: &str, uid: u64| {
        let user = json!({"uid": uid, "gid": 0});
        scene.bundle(name, &json!({"args": ["x"], "cwd": "/", "env": ["PATH=/bin"], "user": user}))
    };
    let (root, wraps, minus_one) =
        (user("root", 0), user("wraps", 1 << 31), user("minus-one", u64::from(u32::MAX)));
    scene.try_run(&pod(
        "  securityContext: {runAsNonRoot: true}",
        &[
            ("plain", "", "IMAGE"),
            ("zero", "runAsUser: 0", "IMAGE"),
            ("image", "", &root),
            ("wraps", "", &wraps),
            ("minus-one", "", &minus_one),
        ],
    ));
    for (name, message) in refused(&scene, "CreateContainerConfigError") {
        let expected = match name.as_str() {
            "zero" => "container's runAsUser breaks non-root policy",
            "plain" | "image" => "container has runAsNonRoot and image will run as root",
            _ => "",
        };
        assert!(message.contains(expected), "{name}: {message}");
    }
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.run(&pod(
        "  securityContext: {runAsNonRoot: true}",
        &[("set", "runAsUser: 5", "IMAGE"), ("allowed", "runAsNonRoot: false", "IMAGE")],
    ));
    scene.wait_ready("p");
    assert_eq!(scene.sh("p", "set", "id -u").ok().stdout, "5\n");
    assert_eq!(scene.sh("p", "allowed", "id -u").ok().stdout, "0\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn capabilities_are_added_and_dropped() {
    const DEFAULT: u64 = 0xa804_25fb;
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    let scene = Scene::new();
    run(
        &scene,
        "",
        &[
            ("default", ""),
            ("add", "capabilities: {add: [NET_ADMIN]}"),
            ("drop", "capabilities: {drop: [ALL]}"),
            ("only", "capabilities: {drop: [ALL], add: [CHOWN]}"),
            ("most", "capabilities: {add: [ALL], drop: [CHOWN]}"),
            ("user", "runAsUser: 9, capabilities: {add: [NET_ADMIN]}"),
            ("privileged", "privileged: true"),
        ],
    );
    let last: u32 =
        fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let all = (1 << (last + 1)) - 1;
    // carob gives no more than it has.
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let all: u64 = all & u64::from_str_radix(ours, 16).unwrap();
    for (name, bounding, effective) in [
        ("default", DEFAULT, DEFAULT),
        ("add", DEFAULT | NET_ADMIN, DEFAULT | NET_ADMIN),
        ("drop", 0, 0),
        ("only", CHOWN, CHOWN),
        ("most", all & !CHOWN, all & !CHOWN),
        ("user", DEFAULT | NET_ADMIN, 0),
        ("privileged", all, all),
    ] {
        for of in ["1", "self"] {
            let of = |key| u64::from_str_radix(&status(&scene, name, of, key), 16).unwrap();
            assert_eq!(of("CapBnd"), bounding, "{name}: {:#x}", of("CapBnd"));
            assert_eq!(of("CapEff"), effective, "{name}: {:#x}", of("CapEff"));
            assert_eq!((of("CapInh"), of("CapAmb")), (0, 0), "{name}");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn privileged_containers_see_the_machine_and_others_do_not() {
    let scene = Scene::new();
    run(
        &scene,
        "",
        &[
            ("usual", ""),
            ("privileged", "privileged: true"),
            ("bound", "allowPrivilegeEscalation: false"),
            ("fixed", "readOnlyRootFilesystem: true"),
        ],
    );
    let of = |name: &str, script: &str| scene.sh("p", name, script);
    // Devices.
    assert_ne!(of("usual", "ls /dev/kmsg || mknod /d b 254 0 && head -c1 /d").code, 0);
    of("privileged", "ls /dev/kmsg").ok();
    // Hidden and unchangeable parts of procfs and sysfs.
    let usual =
        of("usual", "cat /proc/interrupts /proc/timer_list | wc -c; ls /sys/firmware | wc -l");
    assert_eq!(usual.ok().stdout, "0\n0\n");
    for path in
        ["/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_seqnum"]
    {
        assert_ne!(of("usual", &format!("echo x > {path}")).code, 0, "{path}");
    }
    let interrupts = of("privileged", "wc -c < /proc/interrupts").ok().stdout;
    assert_ne!(interrupts.trim(), "0");
    let mounts = |name| of(name, "grep ' /sys ' /proc/mounts").ok().stdout;
    assert!(mounts("usual").contains(" ro,"), "{}", mounts("usual"));
    assert!(mounts("privileged").contains(" rw,"), "{}", mounts("privileged"));
    // Escalation.
    for (name, expected) in [("usual", "0"), ("bound", "1")] {
        assert_eq!(status(&scene, name, "1", "NoNewPrivs"), expected, "{name}");
        assert_eq!(status(&scene, name, "self", "NoNewPrivs"), expected, "{name}");
    }
    // The root, and the pod's own files in it.
    of("usual", "touch /file && echo >> /etc/hosts").ok();
    for path in ["/file", "/etc/hosts", "/etc/resolv.conf"] {
        assert_ne!(of("fixed", &format!("echo >> {path}")).code, 0, "{path}");
    }
    of("fixed", "echo x > /dev/termination-log && echo x > /dev/shm/x").ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn system_calls_are_filtered_where_asked_for() {
    let scene = Scene::new();
    let data = scene.dir().join("data");
    let profiles = data.join("seccomp");
    fs::create_dir_all(profiles.join("sub")).unwrap();
    let no_mkdir = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    fs::write(profiles.join("sub/no-mkdir.json"), no_mkdir.to_string()).unwrap();
    fs::write(profiles.join("empty.json"), "").unwrap();
    fs::write(profiles.join("nothing.json"), "{}").unwrap();

    run(
        &scene,
        "  securityContext: {seccompProfile: {type: RuntimeDefault}}",
        &[
            ("pods", ""),
            ("none", "seccompProfile: {type: Unconfined}"),
            ("own", "seccompProfile: {type: Localhost, localhostProfile: sub/no-mkdir.json}"),
            ("privileged", "privileged: true"),
        ],
    );
    for (name, mode, made) in
        [("pods", "2", true), ("none", "0", true), ("own", "2", false), ("privileged", "0", true)]
    {
        for of in ["1", "self"] {
            assert_eq!(status(&scene, name, of, "Seccomp"), mode, "{name}");
        }
        assert_eq!(scene.sh("p", name, "mkdir /made").code == 0, made, "{name}");
    }
    assert_ne!(scene.sh("p", "pods", "unshare -U true").code, 0, "RuntimeDefault has no unshare");
    scene.pod(&["rm", "--force", "p"]).ok();

    run(&scene, "", &[("usual", "")]);
    assert_eq!(status(&scene, "usual", "1", "Seccomp"), "0", "Unconfined by default");
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.try_run(&pod(
        "",
        &[
            ("empty", "seccompProfile: {type: Localhost, localhostProfile: empty.json}", "IMAGE"),
            (
                "nothing",
                "seccompProfile: {type: Localhost, localhostProfile: nothing.json}",
                "IMAGE",
            ),
            ("absent", "seccompProfile: {type: Localhost, localhostProfile: absent.json}", "IMAGE"),
        ],
    ));
    for (name, message) in refused(&scene, "CreateContainerError") {
        assert!(message.contains("seccomp") && message.contains(&name), "{name}: {message}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_the_machine_cannot_enforce_fails_the_pod() {
    let scene = Scene::new();
    let has = |path: &str| Path::new(path).exists();
    for (name, own, missing, reason) in [
        (
            "apparmor",
            "appArmorProfile: {type: RuntimeDefault}",
            !has("/sys/module/apparmor/parameters/enabled"),
            "AppArmor",
        ),
        (
            "selinux",
            "seLinuxOptions: {level: 's0:c1,c2'}",
            !has("/sys/fs/selinux/enforce"),
            "SELinux",
        ),
    ] {
        if !missing {
            continue;
        }
        scene.try_run(&pod("", &[("c", own, "IMAGE")]));
        let object = scene.wait_phase("p", "Failed");
        assert_eq!(object["status"]["reason"], reason, "{name}");
        let message = object["status"]["message"].as_str().unwrap();
        assert!(message.contains("is not enabled on the host"), "{message}");
        scene.pod(&["rm", "p"]).ok();
    }
    scene.try_run(&pod("", &[("c", "procMount: Unmasked", "IMAGE")])).fails(1, &["hostUsers"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn apparmor_profiles_are_those_of_container_then_pod_and_must_be_loaded() {
    if !apparmor::is_there() {
        return;
    }
    let scene = Scene::new();
    let load = |forbidden| Profile::load(scene.dir(), scene.marker(), forbidden);
    let (pods, own) = (load("pods"), load("own"));
    let localhost =
        |name: &str| format!("appArmorProfile: {{type: Localhost, localhostProfile: \"{name}\"}}");
    run(
        &scene,
        &format!("  securityContext: {{{}}}", localhost(&pods.name)),
        &[
            ("pods", ""),
            ("own", &localhost(&own.name)),
            ("none", "appArmorProfile: {type: Unconfined}"),
            ("privileged", "privileged: true, appArmorProfile: {type: RuntimeDefault}"),
        ],
    );
    for (name, label) in [
        ("pods", pods.seen()),
        ("own", own.seen()),
        ("none", "unconfined".into()),
        ("privileged", "unconfined".into()),
    ] {
        let own = "/attr/apparmor/current";
        let script = format!(
            "cat /proc/1{own} /proc/self{own}; mkdir -p /tmp; echo >/tmp/pods || echo refused"
        );
        let refused = if name == "pods" { "refused\n" } else { "" };
        let out = scene.sh("p", name, &script).ok();
        assert_eq!(out.stdout, format!("{label}\n{label}\n{refused}"), "{name}");
    }
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.try_run(&pod("", &[("c", &localhost("nobodys"), "IMAGE")]));
    for (_, message) in refused(&scene, "CreateContainerError") {
        assert!(message.contains("apparmor profile not found nobodys"), "{message}");
    }
    scene.pod(&["rm", "--force", "p"]).ok();

    scene.try_run(&pod("", &[("c", "appArmorProfile: {type: RuntimeDefault}", "IMAGE")]));
    let object = scene.wait_phase("p", "Failed");
    assert_eq!(object["status"]["reason"], "AppArmor", "{object}");
    assert!(object["status"]["message"].as_str().unwrap().contains("RuntimeDefault"), "{object}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn selinux_labels_are_those_of_container_then_pod() {
    if !selinux::is_there() {
        return;
    }
    let scene = Scene::new();
    run(
        &scene,
        "  securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}",
        &[("pods", ""), ("own", "seLinuxOptions: {type: spc_t, level: s0}")],
    );
    for (name, kind, level) in [("pods", "container_t", "s0:c1,c2"), ("own", "spc_t", "s0")] {
        let pid = Pid::from_raw(scene.init("p", name));
        let label = format!("system_u:system_r:{kind}:{level}");
        let of_init = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
        assert_eq!(selinux::trimmed(&of_init), label, "{name}");
        let out = scene.sh("p", name, "cat /proc/self/attr/current; echo >/file").ok();
        assert_eq!(selinux::trimmed(&out.stdout), label, "{name}");
        let label = |level: &str| format!("system_u:object_r:container_file_t:{level}");
        for path in ["/", "/bin/busybox", "/file", "/dev"] {
            assert_eq!(selinux::label_of_file(pid, path), label(level), "{name} {path}");
        }
        // What they share.
        assert_eq!(selinux::label_of_file(pid, "/dev/shm"), label("s0:c1,c2"), "{name}");
    }
}

/// A directory with little but busybox in it, as an image.
fn small_image(scene: &Scene, name: &str) -> PathBuf {
    let root = scene.dir().join(name);
    let busybox = Path::new(Scene::image().trim_start_matches("rootfs:")).join("bin/busybox");
    for dir in ["bin", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for program in ["sh", "sleep"] {
        copy_program(&busybox, &root.join("bin").join(program));
    }
    root
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hostile_files_of_an_image_neither_hold_its_pod_up_nor_reach_the_host() {
    let scene = Scene::new();
    let (fifo, endless, links) =
        (small_image(&scene, "fifo"), small_image(&scene, "endless"), small_image(&scene, "links"));
    for name in ["passwd", "group"] {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&fifo.join("etc").join(name), mode).unwrap();
        symlink("/dev/zero", endless.join("etc").join(name)).unwrap();
    }
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "as it was").unwrap();
    // Where the pod mounts its own files.
    for name in ["hosts", "hostname", "resolv.conf"] {
        symlink(outside.join(name), links.join("etc").join(name)).unwrap();
    }
    symlink(outside.join("log"), links.join("termination-log")).unwrap();
    symlink(&outside, links.join("work")).unwrap();

    let image = |root: &Path| format!("rootfs:{}", root.display());
    let text = pod(
        "",
        &[
            ("fifo", "runAsUser: 5", &image(&fifo)),
            ("endless", "runAsUser: 5", &image(&endless)),
            ("links", "", &image(&links)),
        ],
    );
    let more = "securityContext: {}, terminationMessagePath: /termination-log, workingDir: /srv/a}";
    scene.run(&text.replace("securityContext: {}}", more));
    let running = |name: &str| scene.container("p", name)["state"]["running"].is_object();
    scene.wait("p", "two of three running", |_| running("endless") && running("links"));
    let waiting = scene.container("p", "fifo")["state"]["waiting"].clone();
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("/etc/passwd in the rootfs must be a regular file"), "{message}");
    assert_eq!(scene.sh("p", "endless", "echo ran").ok().stdout, "ran\n");
    let pid = scene.carob(&["state", "default_p_endless_0"]).ok().json()["pid"].to_string();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 5);
    scene.sh("p", "links", "echo pwned > /etc/hosts; echo pwned > /termination-log").ok();
    let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "as it was");
}
