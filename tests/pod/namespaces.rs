//! What containers of a pod share, and what is theirs alone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::scene::{Scene, is_linux};

/// A pod with a user namespace, and volumes of all kinds.
const OWN_USERS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 0
  securityContext: {fsGroup: 3000}
  containers:
  - name: a
    image: IMAGE
    command: [sh, -c, 'echo up > /dev/termination-log; exec sleep 1000']
    volumeMounts:
    - {name: empty, mountPath: /empty}
    - {name: settings, mountPath: /settings}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host}
  - name: b
    image: IMAGE
    securityContext: {runAsUser: 1000, procMount: Unmasked}
    command: [sleep, '1000']
    volumeMounts:
    - {name: empty, mountPath: /empty}
  - {name: t, image: IMAGE, tty: true, stdin: true, securityContext: {privileged: true}, command: [sh]}
  volumes:
  - {name: empty, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: settings, configMap: {name: settings}}
  - {name: host, hostPath: {path: HOST}}
";

/// A namespace of a container of the pod `p`, or of the host.
fn namespace(scene: &Scene, container: Option<&str>, kind: &str) -> String {
    let path = format!("/proc/self/ns/{kind}");
    match container {
        None => fs::read_link(path).unwrap().display().to_string(),
        Some(name) => scene.sh("p", name, &format!("readlink {path}")).ok().stdout.trim().into(),
    }
}

fn run(scene: &Scene, spec: &str) {
    scene.run(&pod("p", spec));
    scene.wait_ready("p");
}

/// A pod with two containers that wait, and more in its `spec`.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: IMAGE, command: [sleep, '1000']}}
  - {{name: b, image: IMAGE, command: [sleep, '1001']}}
{spec}"
    )
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn network_ipc_and_names_are_shared_and_processes_are_not() {
    let scene = Scene::new();
    run(&scene, "");
    for (kind, shared, own) in [
        ("net", true, true),
        ("ipc", true, true),
        ("uts", true, true),
        ("pid", false, true),
        ("mnt", false, true),
        ("user", true, false),
    ] {
        let of = |container| namespace(&scene, container, kind);
        let (a, b, host) = (of(Some("a")), of(Some("b")), of(None));
        assert_eq!(a == b, shared, "{kind}: {a} {b}");
        assert_eq!(a != host, own, "{kind}: {a} {host}");
    }

    let seen = scene.sh("p", "a", "cat /proc/1/cmdline; ls -d /proc/[0-9]* | wc -l").ok().stdout;
    assert!(seen.starts_with("sleep\x001000\0"), "{seen:?}");
    let count: u32 = seen.rsplit('\0').next().unwrap().trim().parse().unwrap();
    assert!(count < 6, "processes of others are seen: {seen:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn in_a_shared_process_namespace_pause_comes_first_and_reaps() {
    let scene = Scene::new();
    run(&scene, "  shareProcessNamespace: true\n");

    let (a, b) = (namespace(&scene, Some("a"), "pid"), namespace(&scene, Some("b"), "pid"));
    assert_eq!(a, b);
    assert_ne!(a, namespace(&scene, None, "pid"));
    let first = scene.sh("p", "a", "cat /proc/1/cmdline | tr '\\0' ' '").ok().stdout;
    assert!(first.starts_with("/pause"), "{first:?}");
    let seen = scene.sh("p", "b", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").ok().stdout;
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 1001"), "{seen:?}");

    // Orphans: their parent ends first.
    scene.sh("p", "a", "for i in 1 2 3; do (sleep 0.1 &); done; sleep 0.5").ok();
    let states = scene.sh("p", "a", "cat /proc/[0-9]*/stat").ok().stdout;
    assert!(!states.contains(") Z "), "zombies are left: {states}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn namespaces_of_the_host_are_joined_where_asked_for() {
    let scene = Scene::new();
    run(&scene, "  hostNetwork: true\n  hostPID: true\n  hostIPC: true\n");
    for kind in ["net", "uts", "pid", "ipc"] {
        let (own, host) = (namespace(&scene, Some("a"), kind), namespace(&scene, None, kind));
        assert_eq!(own, host, "{kind}");
    }
    assert_ne!(namespace(&scene, Some("a"), "mnt"), namespace(&scene, None, "mnt"));

    let file = format!("/dev/shm/{}", scene.marker());
    fs::write(&file, "of the host").unwrap();
    let read = scene.sh("p", "a", &format!("cat {file}"));
    fs::remove_file(&file).unwrap();
    assert_eq!(read.ok().stdout, "of the host", "hostIPC shares /dev/shm");

    let hosts = scene.sh("p", "a", "cat /etc/hosts").ok().stdout;
    let of_host = fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(hosts, format!("# Kubernetes-managed hosts file (host network).\n{of_host}"));
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let names = scene.sh("p", "a", "hostname; echo $HOSTNAME; cat /etc/hostname").ok().stdout;
    assert_eq!(names, format!("{name}\n{name}\n{name}\n"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_with_a_user_namespace_owns_its_files() {
    let scene = Scene::new();
    let host = scene.dir().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "of root").unwrap();
    let mut manifest = OWN_USERS.replace("HOST", &host.display().to_string());
    if !is_linux(6, 3) {
        // A tmpfs of these has no id-mapped mounts.
        manifest = manifest.replace("{medium: Memory}", "{}");
    }
    scene.run(&manifest);
    scene.wait_ready("p");

    let (a, b) = (namespace(&scene, Some("a"), "user"), namespace(&scene, Some("b"), "user"));
    assert_eq!(a, b);
    assert_ne!(a, namespace(&scene, None, "user"));
    let map = scene.sh("p", "a", "cat /proc/self/uid_map").ok().stdout;
    let numbers: Vec<u32> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [0, base, 65536] = numbers[..] else { panic!("{map:?}") };
    assert!(base >= 65536 && base % 65536 == 0, "{map:?}");

    // Root of the pod owns the image's files, and can change them.
    let script = "set -e; [ $(stat -c %u:%g /bin/busybox) = 0:0 ]; echo new > /etc/passwd; \
                  chown 7:8 /etc/group; chmod 600 /etc/group; rm /etc/plain; mkdir -p /a/b; \
                  stat -c %u:%g:%a /etc/group; stat -c %u:%g /a/b /; cat /settings/key; echo; \
                  echo x > /empty/f; stat -c %u:%g /empty/f; echo y > /memory/f; cat /host/file; \
                  chown 5 /host/file; cat /etc/hosts > /dev/null; echo >> /etc/hosts";
    let told = scene.sh("p", "a", script).ok().stdout;
    assert_eq!(told, "7:8:600\n0:0\n0:0\nvalue\n0:3000\nof root");
    assert_eq!(fs::metadata(host.join("file")).unwrap().uid(), 5, "volumes are id-mapped");
    assert!(scene.sh("p", "b", "id -u; cat /empty/f").ok().stdout.starts_with("1000\nx\n"));

    // On the host they are nobody's.
    let upper = scene.dir().join("data/pods");
    let upper = fs::read_dir(upper).unwrap().next().unwrap().unwrap().path();
    let passwd = upper.join("containers/a/layer/upper/etc/passwd");
    assert_eq!(fs::metadata(passwd).unwrap().uid(), base);
    let pid = scene.carob(&["state", "default_p_a_0"]).ok().json()["pid"].to_string();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), base);

    // Nothing is hidden of procfs with procMount: Unmasked.
    scene.sh("p", "b", "test -s /proc/timer_list || head -c1 /proc/interrupts").ok();
    let masked = |name| scene.sh("p", name, "grep -c ' /proc/' /proc/mounts").stdout;
    assert_eq!(masked("b").trim(), "0");
    assert_ne!(masked("a").trim(), "0");

    // Devices and a terminal.
    let tty = scene.sh("p", "t", "test -c /dev/kmsg && readlink /proc/1/fd/0").ok().stdout;
    assert_eq!(tty, "/dev/pts/0\n");

    // No two pods have the same ids.
    scene.run(&pod("q", "  hostUsers: false\n"));
    scene.wait_ready("q");
    let other = scene.sh("q", "a", "cat /proc/self/uid_map").ok().stdout;
    assert_ne!(other, map);

    // Nor has a sandbox that is no pod the ids of one.
    let cgroup = scene.cgroup_parent("alone");
    let made = scene.pod(&["sandbox", "create", "--userns", "--cgroup", &cgroup, "alone"]);
    scene.run(&pod("r", "  hostUsers: false\n"));
    scene.wait_ready("r");
    let third = scene.sh("r", "a", "cat /proc/self/uid_map").ok().stdout;
    scene.pod(&["sandbox", "rm", "alone"]).ok();
    let first = made.ok().json()["userNamespaceBase"].to_string();
    assert!(!third.contains(&first), "{first} {third}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn removing_a_pod_is_in_nobodys_way() {
    let scene = Scene::new();
    scene.run(&pod("p", "  hostUsers: false\n"));
    scene.wait_ready("p");
    let all = fs::File::open(scene.root().join("@pods")).unwrap();
    // As `pod rm` holds it, for as long as a huge volume takes.
    let flock = nix::fcntl::Flock::lock(all, nix::fcntl::FlockArg::LockExclusive).unwrap();
    scene.carob(&["kill", "default_p_POD_0", "KILL"]).ok();
    scene.wait("p", "a new sandbox", |object| {
        object["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    drop(flock);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_user_of_a_shared_pid_namespace_gets_what_pause_holds() {
    let scene = Scene::new();
    let user = "  shareProcessNamespace: true\n  securityContext: {runAsUser: 65535}\n";
    scene.run(&pod("p", user));
    scene.wait_ready("p");
    // Asked for by ptrace(2), as pidfd_getfd(2) is.
    scene.sh("p", "a", "ls /proc/1/fd").fails(1, &["Permission denied"]);
    scene.sh("p", "a", "readlink /proc/self/exe && cat /proc/1/comm").ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn dev_shm_is_one_of_64_mib_for_the_pod() {
    let scene = Scene::new();
    run(&scene, "");
    let mode = scene.sh("p", "a", "echo shared > /dev/shm/f; stat -c %a /dev/shm").ok().stdout;
    assert_eq!(mode, "1777\n");
    let told = scene.sh("p", "b", "cat /dev/shm/f; df -k /dev/shm | tail -1").ok().stdout;
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("shared"));
    assert_eq!(lines.next().unwrap().split_whitespace().nth(1), Some("65536"), "{told}");
    assert!(!std::path::Path::new("/dev/shm/f").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pod_has_the_name_that_its_manifest_gives() {
    let scene = Scene::new();
    let long = "x".repeat(60);
    for (pod, spec, kernel, line) in [
        ("plain", "", "plain", "127.0.0.1\tplain\n"),
        ("dotted.name", "", "dotted.name", "127.0.0.1\tdotted.name\n"),
        (
            "sub",
            "  hostname: web\n  subdomain: inner\n",
            "web",
            "127.0.0.1\tweb.inner.default.svc.cluster.local\tweb\n",
        ),
        (
            "fqdn",
            "  hostname: web\n  subdomain: inner\n  setHostnameAsFQDN: true\n",
            "web.inner.default.svc.cluster.local",
            "127.0.0.1\tweb.inner.default.svc.cluster.local\tweb\n",
        ),
    ] {
        scene.run(&self::pod(pod, spec));
        scene.wait_ready(pod);
        let told = scene.sh(pod, "a", "hostname; echo $HOSTNAME; cat /etc/hostname").ok().stdout;
        assert_eq!(told, format!("{kernel}\n{kernel}\n{kernel}\n"), "{pod}");
        let hosts = scene.sh(pod, "b", "cat /etc/hosts").ok().stdout;
        assert!(hosts.ends_with(line), "{pod}: {hosts}");
        scene.pod(&["rm", "--force", pod]).ok();
    }
    let spec = format!("  hostname: {long}\n  subdomain: inner\n  setHostnameAsFQDN: true\n");
    scene.try_run(&pod("long", &spec));
    scene.wait("long", "a failed sandbox", |_| {
        scene.events("long").iter().any(|reason| reason == "FailedCreatePodSandBox")
    });
    let events = scene.pod(&["events", "--all", "long"]).ok().stdout;
    assert!(events.contains("is too long (64 characters is the max"), "{events}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hosts_and_resolv_conf_hold_what_the_manifest_adds() {
    let scene = Scene::new();
    run(
        &scene,
        "  hostAliases:
  - {ip: 10.1.2.3, hostnames: [far, far.local]}
  - {ip: 'fd00::9', hostnames: [six]}
  dnsPolicy: None
  dnsConfig:
    nameservers: [10.0.0.10, 10.0.0.11]
    searches: [a.example, b.example]
    options: [{name: ndots, value: '2'}, {name: edns0}]
",
    );
    let hosts = scene.sh("p", "a", "cat /etc/hosts").ok().stdout;
    let expected = "127.0.0.1\tp\n\n# Entries added by HostAliases.\n\
                    10.1.2.3\tfar\tfar.local\nfd00::9\tsix\n";
    assert!(hosts.ends_with(expected), "{hosts}");
    let start = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n";
    assert!(hosts.starts_with(start), "{hosts}");
    assert_eq!(
        scene.sh("p", "b", "cat /etc/resolv.conf").ok().stdout,
        "search a.example b.example\nnameserver 10.0.0.10\nnameserver 10.0.0.11\n\
         options ndots:2 edns0\n"
    );
    // One file for the pod, and room for little in it.
    scene.sh("p", "a", "echo 10.9.9.9 more >> /etc/hosts").ok();
    assert!(scene.sh("p", "b", "cat /etc/hosts").ok().stdout.contains("10.9.9.9 more"));
    let filled = scene.sh("p", "a", "head -c 1000000 /dev/zero >> /etc/hosts");
    assert_ne!(filled.code, 0, "the file is bounded: {filled:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn safe_sysctls_are_set_and_others_refuse_the_pod() {
    let scene = Scene::new();
    run(
        &scene,
        "  securityContext:
    sysctls:
    - {name: net.ipv4.ip_local_port_range, value: '40000 50000'}
    - {name: kernel/shm_rmid_forced, value: '1'}
",
    );
    for (key, value) in [
        ("net/ipv4/ip_local_port_range", "40000 50000"),
        ("kernel/shm_rmid_forced", "1"),
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ] {
        let told = scene.sh("p", "b", &format!("cat /proc/sys/{key}")).ok().stdout;
        assert_eq!(told.split_whitespace().collect::<Vec<_>>().join(" "), value, "{key}");
    }
    for (sysctl, host) in [
        ("{name: net.ipv4.tcp_syncookies, value: '1'}", "hostNetwork"),
        ("{name: kernel/shm_rmid_forced, value: '1'}", "hostIPC"),
    ] {
        let spec = format!("  {host}: true\n  securityContext: {{sysctls: [{sysctl}]}}\n");
        let words = format!("may not be specified when '{host}' is true");
        scene.try_run(&pod("refused", &spec)).fails(1, &[&words]);
    }
    for (name, sysctl, text) in [
        ("other", "{name: kernel.msgmax, value: '65536'}", "\"kernel.msgmax\" not allowlisted"),
        // Could be read as one more by others who handle it.
        ("evil", "{name: kernel.shm_rmid_forced, value: '1+kernel.core_pattern=x'}", "plain text"),
    ] {
        scene.run(&pod(name, &format!("  securityContext: {{sysctls: [{sysctl}]}}\n")));
        let object = scene.wait_phase(name, "Failed");
        assert_eq!(object["status"]["reason"], "SysctlForbidden", "{object:#}");
        let message = object["status"]["message"].as_str().unwrap();
        assert!(message.contains("forbidden sysctl: ") && message.contains(text), "{message}");
        assert_eq!(scene.status(name), "SysctlForbidden");
        assert!(!scene.events(name).iter().any(|reason| reason == "SandboxStarted"));
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn name_servers_over_the_limit_are_left_out_and_told() {
    let scene = Scene::new();
    let servers = "dnsConfig: {nameservers: [192.0.2.1, 192.0.2.2, 192.0.2.3]}";
    run(&scene, &format!("  dnsPolicy: Default\n  {servers}\n"));
    let told = scene.sh("p", "b", "grep -c nameserver /etc/resolv.conf").ok().stdout;
    assert_eq!(told, "3\n");
    // Those of the machine come first.
    let of_node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let is_over = of_node.lines().any(|line| line.starts_with("nameserver"));
    let is_told = scene.events("p").iter().any(|reason| reason == "DNSConfigForming");
    assert_eq!(is_told, is_over, "{of_node}");
}
