//! Podman, which starts containers through conmon.

use crate::document::snippet;
use crate::image::{self, BUSYBOX};
use crate::support::{Output, Peer, peer, skip};
use crate::yard::{Yard, wait};
use std::fs;

/// What a machine without systemd, CAP_SYS_RESOURCE and registries needs besides.
const HERE: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/pause:latest"
"#;

/// Podman with the images.
#[derive(Debug)]
pub struct Podman {
    pub yard: Yard,
}

impl Podman {
    pub fn new() -> Self {
        let yard = Yard::new();
        let config = snippet("Podman and Buildah", "toml");
        yard.write("/etc/containers/containers.conf", &config);
        yard.write("/etc/containers/containers.conf.d/here.conf", HERE);
        for file in ["/etc/subuid", "/etc/subgid"] {
            yard.write(file, "containers:200000:1000000\n");
        }
        image::write(&yard.path("/tmp/images.tar"));
        let this = Self { yard };
        this.run(&["load", "--quiet", "--input", "/tmp/images.tar"]).ok();
        this
    }

    /// `podman args…`
    pub fn run(&self, args: &[&str]) -> Output {
        self.yard.run(&[&["podman"], args].concat())
    }

    /// A container without a network of its own making that runs until it is killed.
    fn sleeper(&self, name: &str, flags: &[&str]) {
        let start = ["run", "--detach", "--network", "none", "--name", name];
        self.run(&[&start, flags, &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    }

    /// A value of `podman inspect`.
    fn inspect(&self, name: &str, template: &str) -> String {
        self.run(&["inspect", "--format", template, name]).ok().text().to_owned()
    }

    fn wait_for(&self, name: &str, status: &str) {
        wait(&format!("{name} to be {status}"), || match self.inspect(name, "{{.State.Status}}") {
            now if now == status => Ok(()),
            now => Err(now),
        });
    }
}

/// `podman run` with what makes it quick; the container goes when it ends.
fn once(on: &Podman, flags: &[&str], script: &str) -> Output {
    let start = ["run", "--rm", "--network", "none"];
    on.run(&[&start, flags, &[BUSYBOX, "sh", "-c", script]].concat())
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_gives_output_and_exit_status_and_leaves_nothing() {
    let on = Podman::new();
    once(&on, &[], "true").ok();
    let before = on.yard.contents();
    let out = once(&on, &[], "echo out; echo err >&2; exit 7");
    assert_eq!((out.code, out.text(), out.stderr.trim()), (7, "out", "err"));
    for (program, code) in [("/nonexistent", 127), ("nonexistent", 127), ("/etc/plain", 126)] {
        let out = on.run(&["run", "--rm", "--network", "none", BUSYBOX, program]);
        assert_eq!(out.code, code, "{program}: {out:?}");
        assert!(out.stderr.contains(program), "{out:?}");
    }
    let flags = ["--user", "1000:1000", "--read-only", "--tmpfs", "/t", "--workdir", "/t"];
    let out = once(&on, &flags, "id -u; pwd; touch /t/x && touch /x");
    assert_eq!((out.code, out.text()), (1, "1000\n/t"), "{out:?}");
    let flags = ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--env", "A=b"];
    let out = once(&on, &flags, "echo $A; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status").ok();
    assert_eq!(out.stdout, "b\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
    let out = once(&on, &["--memory", "16m"], "head -c 100000000 /dev/zero | tail");
    assert_eq!(out.code, 137, "{out:?}");
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_terminal_reaches_the_container_and_an_exec() {
    let on = Podman::new();
    let run = format!("podman run -it --rm --network none {BUSYBOX} sh -c 'tty; exit 5'");
    let out = on.yard.on_terminal(&run);
    assert!(out.code == 5 && out.stdout.contains("/dev/pts/0"), "{out:?}");
    on.sleeper("t", &[]);
    let out = on.yard.on_terminal("podman exec -it t sh -c 'tty; exit 6'");
    assert!(out.code == 6 && out.stdout.contains("/dev/pts/0"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_goes_through_its_life() {
    let on = Podman::new();
    once(&on, &[], "true").ok();
    let before = on.yard.contents();
    on.sleeper("web", &["--memory", "64m"]);
    let out = on.run(&["exec", "web", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((out.code, out.text()), (3, "in"), "{out:?}");
    let out = on.run(&["exec", "web", "/nonexistent"]);
    assert_eq!(out.code, 127, "{out:?}");
    let out = on.run(&["top", "web", "pid", "args"]).ok();
    assert!(out.stdout.contains("sleep 1000"), "{out:?}");
    let format = "{{.PIDs}} {{.MemUsage}}";
    let out = on.run(&["stats", "--no-stream", "--format", format, "web"]).ok();
    assert!(out.text().starts_with("1 ") && out.text().ends_with("67.11MB"), "{out:?}");

    on.run(&["pause", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}}"), "paused");
    on.run(&["unpause", "web"]).ok();
    on.run(&["update", "--memory", "32m", "--cpus", "0.5", "web"]).ok();
    let limit = if crate::support::cgroup::is_v2() {
        "cat /sys/fs/cgroup/memory.max; cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    } else {
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    };
    let out = on.run(&["exec", "web", "sh", "-c", limit]).ok();
    assert_eq!(out.text(), "33554432\n50000");

    on.run(&["kill", "--signal", "USR1", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}}"), "running", "PID 1 ignores it");
    on.run(&["stop", "--time", "0", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    on.run(&["start", "web"]).ok();
    on.run(&["kill", "web"]).ok();
    on.wait_for("web", "exited");
    on.run(&["rm", "web"]).ok();
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_init_killed_from_outside_is_noticed_and_removed() {
    let on = Podman::new();
    on.sleeper("web", &[]);
    on.yard.kill(&["sleep", "1000"]);
    on.wait_for("web", "exited");
    assert_eq!(on.inspect("web", "{{.State.ExitCode}}"), "137");
    on.run(&["rm", "web"]).ok();
    // And one that is removed as it runs.
    on.sleeper("web", &[]);
    on.run(&["rm", "--force", "--time", "0", "web"]).ok();
    assert_eq!(on.run(&["ps", "--all", "--quiet"]).ok().text(), "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_fails_is_started_again() {
    let on = Podman::new();
    let start = ["run", "--detach", "--network", "none", "--restart", "on-failure:2"];
    on.run(&[&start[..], &["--name", "weak", BUSYBOX, "sh", "-c", "echo run; exit 3"]].concat())
        .ok();
    wait("three runs", || {
        let out = on.run(&["logs", "weak"]);
        let state = on.inspect("weak", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}");
        if out.stdout == "run\nrun\nrun\n" && state == "exited 2 3" {
            return Ok(());
        }
        Err(format!("{state}, {out:?}"))
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_health_check_is_an_exec() {
    let on = Podman::new();
    let check = ["--health-cmd", "test -e /tmp/well", "--health-retries", "1"];
    // Its timer would be systemd's.
    on.sleeper("web", &[&check[..], &["--health-interval", "disable"]].concat());
    let out = on.run(&["healthcheck", "run", "web"]);
    assert_eq!(out.code, 1, "{out:?}");
    on.run(&["exec", "web", "touch", "/tmp/well"]).ok();
    on.run(&["healthcheck", "run", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.Healthcheck.Status}}"), "healthy");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn members_of_a_pod_share_its_namespaces() {
    let on = Podman::new();
    once(&on, &[], "true").ok();
    let before = on.yard.contents();
    on.run(&["pod", "create", "--name", "p", "--network", "none", "--hostname", "pod"]).ok();
    for name in ["a", "b"] {
        on.run(&["run", "--detach", "--pod", "p", "--name", name, BUSYBOX, "sleep", "1000"]).ok();
    }
    let spaces = "hostname; for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    let seen = |name| on.run(&["exec", name, "sh", "-c", spaces]).ok().stdout;
    let first = seen("a");
    assert!(first.starts_with("pod\n"), "{first}");
    assert_eq!(first, seen("b"));
    on.run(&["pod", "pause", "p"]).ok();
    on.run(&["pod", "unpause", "p"]).ok();
    on.run(&["pod", "stop", "--time", "0", "p"]).ok();
    on.run(&["pod", "rm", "p"]).ok();
    // Podman removes the pod's own cgroup only in the hierarchies that it knows.
    on.yard
        .sh("find /sys/fs/cgroup/*/libpod_parent -mindepth 1 -maxdepth 1 -type d -exec rmdir {} +")
        .ok();
    on.yard.returns_to(&before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kubernetes_manifests_are_played() {
    let on = Podman::new();
    let manifest = r"
apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  containers:
    - name: web
      image: localhost/busybox:latest
      command: [sh, -c, 'echo $SAID > /shared/file; sleep 1000']
      env: [{name: SAID, value: hello}]
      resources: {limits: {memory: 32Mi}}
      volumeMounts: [{name: shared, mountPath: /shared}]
    - name: reader
      image: localhost/busybox:latest
      command: [sh, -c, 'until cat /shared/file; do sleep 0.1; done; sleep 1000']
      securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}
      volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
    - name: shared
      hostPath: {path: /run/shared, type: DirectoryOrCreate}
";
    on.yard.write("/tmp/pod.yaml", manifest);
    on.run(&["play", "kube", "--network", "none", "/tmp/pod.yaml"]).ok();
    wait("the reader", || match on.run(&["logs", "played-reader"]) {
        out if out.stdout.contains("hello") => Ok(()),
        out => Err(format!("{out:?}")),
    });
    on.run(&["play", "kube", "--down", "/tmp/pod.yaml"]).ok();
    assert_eq!(on.run(&["ps", "--all", "--quiet"]).ok().text(), "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn user_namespaces_map_ids() {
    let on = Podman::new();
    let map = "cat /proc/self/uid_map; id -u; echo x > /made; stat -c %u /made";
    let out = once(&on, &["--userns", "auto:size=4096"], map).ok();
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "4096", "0", "0"], "{out:?}");
    let maps = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    let out = once(&on, &maps, map).ok();
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "300000", "65536", "0", "0"], "{out:?}");
    on.sleeper("mapped", &maps);
    let out = on.run(&["exec", "mapped", "sh", "-c", "cat /proc/self/uid_map"]).ok();
    assert!(out.stdout.contains("300000"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn groups_of_the_caller_are_kept_on_request() {
    if peer() == Peer::Runc {
        return skip("runc does not know Podman's annotation for it");
    }
    let on = Podman::new();
    let run = ["podman", "run", "--rm", "--network", "none", "--group-add", "keep-groups", BUSYBOX];
    let call = [&["setpriv", "--groups", "4711"], &run[..], &["id", "-G"]].concat();
    assert_eq!(on.yard.run(&call).ok().text(), "0 4711");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn volumes_secrets_and_devices_are_there() {
    let on = Podman::new();
    once(&on, &["--volume", "kept:/data"], "echo kept > /data/file").ok();
    let out =
        once(&on, &["--volume", "kept:/data:ro"], "cat /data/file; touch /data/x").fails(1, &[]);
    assert_eq!(out.text(), "kept", "{out:?}");
    on.yard.write("/tmp/word", "secret words");
    on.run(&["secret", "create", "word", "/tmp/word"]).ok();
    let out = once(&on, &["--secret", "word"], "cat /run/secrets/word").ok();
    assert_eq!(out.stdout, "secret words");
    let mount =
        ["--mount", "type=bind,src=/tmp/word,dst=/word,ro=true", "--device", "/dev/zero:/dev/nul"];
    let out = once(&on, &mount, "cat /word; head -c 3 /dev/nul | wc -c").ok();
    assert_eq!(out.text(), "secret words3");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_init_of_podmans_reaps() {
    let on = Podman::new();
    on.sleeper("web", &["--init"]);
    let out = on.run(&["exec", "web", "cat", "/proc/1/comm"]).ok();
    assert_eq!(out.text(), "podman-init");
    on.run(&["exec", "web", "sh", "-c", "(sleep 0.01 &)"]).ok();
    wait("no zombie", || match on.run(&["exec", "web", "ps", "-o", "stat,args"]).ok().stdout {
        seen if seen.lines().any(|l| l.trim().starts_with('Z')) => Err(seen),
        _ => Ok(()),
    });
    on.run(&["stop", "--time", "30", "web"]).ok();
    assert_eq!(on.inspect("web", "{{.State.ExitCode}}"), "143", "init passes SIGTERM on");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_network_of_podmans_connects_containers() {
    let on = Podman::new();
    let server = "echo served > /tmp/index.html; httpd -f -p 80 -h /tmp";
    on.run(&["run", "--detach", "--name", "web", BUSYBOX, "sh", "-c", server]).ok();
    let address = on.inspect("web", "{{.NetworkSettings.IPAddress}}");
    let get = format!("wget -qO- http://{address}/index.html");
    wait("the server", || match on.run(&["run", "--rm", BUSYBOX, "sh", "-c", &get]) {
        out if out.stdout == "served\n" => Ok(()),
        out => Err(format!("{out:?}")),
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_checkpoint_is_refused_and_the_container_goes_on() {
    if peer() == Peer::Runc {
        return skip("runc has checkpoints, given criu");
    }
    let on = Podman::new();
    on.sleeper("web", &[]);
    let out = on.run(&["container", "checkpoint", "web"]);
    assert!(out.code != 0 && out.stderr.contains("checkpoint"), "{out:?}");
    on.run(&["exec", "web", "true"]).ok();
}
