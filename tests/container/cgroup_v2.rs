//! What only a host of cgroup v2 alone can show: delegation, threads, groups of the OOM killer.
//! Elsewhere these are skipped; `scripts/test --hosts` has such hosts.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::resources::spare_device;
use crate::support::{Container, Host, cgroup, push, runtime, skip, wait_until};

const MIB: i64 = 1 << 20;

/// A host whose only hierarchy is the unified one.
fn v2_host() -> Option<Host> {
    if !cgroup::is_v2() {
        skip("needs a host of cgroup v2 alone");
        return None;
    }
    Host::only_carob("tests of carob's own words and ways")
}

/// One whose cgroups are directories that anybody makes; those above scopes are systemd's.
fn v2_host_without_systemd() -> Option<Host> {
    v2_host().and_then(|_| Host::only_cgroupfs())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{text:?} to {}: {e}", path.display()));
}

/// The cgroup above a test's containers, made before them.
fn parent(host: &Host) -> PathBuf {
    let dir = cgroup::hierarchy("").join(host.marker());
    fs::create_dir(&dir).unwrap();
    dir
}

/// The container's own part of the tree, writable.
fn with_writable_cgroup(spec: &mut Value) {
    for mount in spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
        }
    }
}

fn with_user_namespace(spec: &mut Value) {
    push(spec, "/linux/namespaces", json!({"type": "user"}));
    for map in ["uidMappings", "gidMappings"] {
        spec["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
}

/// A process in a cgroup, for as long as it is held.
struct Occupant(Child);

impl Occupant {
    fn new(dir: &Path) -> Self {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        write(&dir.join("cgroup.procs"), &child.id().to_string());
        Self(child)
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn shares_become_the_weight_that_kubernetes_and_runc_agree_on() {
    let Some(host) = v2_host() else { return };
    for (shares, weight) in [(2, "1"), (512, "59"), (1024, "100"), (262_144, "10000")] {
        let c = host.sleeper_with(|s| s["linux"]["resources"]["cpu"] = json!({"shares": shares}));
        c.create();
        assert_eq!(read(&host.cgroup("cpu", c.id()).join("cpu.weight")), weight, "{shares}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_oom_group_dies_as_one() {
    let Some(host) = v2_host() else { return };
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; echo survived";
    for (group, code, says) in [("0", 0, "survived\n"), ("1", 137, "")] {
        let c = host.sh_with(script, |s| {
            s["linux"]["resources"]["memory"] = json!({"limit": 16 * MIB, "swap": 16 * MIB});
            s["linux"]["resources"]["unified"] = json!({"memory.oom.group": group});
        });
        let out = c.run();
        assert_eq!((out.code, out.stdout.as_str()), (code, says), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_denied_device_stays_denied_while_limits_are_changed() {
    let Some(host) = v2_host() else { return };
    let Some(device) = spare_device() else { return skip("no device to try on in /proc/misc") };
    let script = "n=0; while ! true </dev/mine; do n=$((n+1)); echo $n >/tmp/tries; done \
                  2>/dev/null; sleep 1000";
    let c = host.sh_with(script, |s| {
        push(s, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        s["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
        s["linux"]["devices"] = json!([device]);
    });
    c.run_detached();
    let tries = || {
        let file = format!("/proc/{}/root/tmp/tries", c.pid());
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    // Once the device has been opened, their number stands still.
    let grows = || {
        let before = tries();
        wait_until("another try", || match tries() {
            now if now > before => Ok(()),
            now => Err(format!("{before}, then {now}")),
        });
    };
    grows();
    for shares in 1..=20 {
        let (shares, pids) = ((shares * 100).to_string(), (shares + 50).to_string());
        c.verb("update", &["--cpu-share", &shares, "--pids-limit", &pids]).output().ok();
        grows();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn memory_and_swap_together_become_swap_alone() {
    let Some(host) = v2_host() else { return };
    let c = host.sleeper_with(|s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB, "swap": 96 * MIB});
    });
    c.create();
    let dir = host.cgroup("memory", c.id());
    if !dir.join("memory.swap.max").exists() {
        return skip("this kernel does not count swap");
    }
    let limits = || ["memory.max", "memory.swap.max"].map(|file| read(&dir.join(file)));
    let mib = |mib: i64| (mib * MIB).to_string();
    let max = || "max".to_owned();
    assert_eq!(limits(), [mib(64), mib(32)]);
    // Alone, memory leaves swap as it is; no limit at all is one for both.
    let changes: [(&[&str], [String; 2]); 5] = [
        (&["--memory", "32m", "--memory-swap", "32m"], [mib(32), mib(0)]),
        (&["--memory", "48m"], [mib(48), mib(0)]),
        (&["--memory-swap", "-1"], [mib(48), max()]),
        (&["--memory", "16m", "--memory-swap", "20m"], [mib(16), mib(4)]),
        (&["--memory", "-1"], [max(), max()]),
    ];
    for (flags, want) in changes {
        c.verb("update", flags).output().ok();
        assert_eq!(limits(), want, "{flags:?}");
    }
    for (flags, word) in [
        (&["--memory-swap", "64m"][..], "memory.limit"),
        (&["--memory", "64m", "--memory-swap", "32m"], "below"),
    ] {
        c.verb("update", flags).output().fails(1, &["linux.resources.memory.swap", word]);
        assert_eq!(limits(), [max(), max()], "{flags:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn statistics_tell_of_pressure() {
    let Some(host) = v2_host() else { return };
    let c = host.sleeper();
    c.run_detached();
    if !host.cgroup("cpu", c.id()).join("cpu.pressure").exists() {
        return skip("this kernel does not measure pressure (psi=1)");
    }
    let stats = c.verb("events", &["--stats"]).output().ok().json();
    let data = &stats["data"];
    for psi in [&data["cpu"]["psi"], &data["memory"]["psi"], &data["blkio"]["psi"]] {
        assert!(psi["some"]["total"].is_u64() && psi["some"]["avg10"].is_number(), "{stats:#}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn below_a_threaded_cgroup_no_container_is_made_and_the_file_is_named() {
    let Some(host) = v2_host_without_systemd() else { return };
    let threaded = parent(&host).join("threaded");
    fs::create_dir(&threaded).unwrap();
    write(&threaded.join("cgroup.type"), "threaded");
    let path = format!("/{}/threaded/c", host.marker());
    let c = host.sleeper_with(|s| s["linux"]["cgroupsPath"] = json!(path));
    c.create_call(&[]).output().fails(1, &["threaded", "cgroup.type", "linux.cgroupsPath"]);
    assert!(!threaded.join("c").exists());
    fs::remove_dir(&threaded).unwrap();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_with_processes_passes_nothing_down_and_only_limits_need_it() {
    let Some(host) = v2_host_without_systemd() else { return };
    let parent = parent(&host);
    let _occupant = Occupant::new(&parent);
    let c = host.sleeper_with(|s| s["linux"]["resources"]["pids"] = json!({"limit": 7}));
    let words = ["linux.resources.pids.limit", "processes of its own", "pids", host.marker()];
    c.create_call(&[]).output().fails(1, &words);
    assert!(!parent.join(c.id()).exists());
    host.sh("exit 3").run().fails(3, &[]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_that_passes_controllers_down_takes_no_container() {
    let Some(host) = v2_host_without_systemd() else { return };
    // The first brings the controllers to the cgroup above.
    host.sh("true").run().ok();
    let leaf = host.cgroup("memory", "c1");
    fs::create_dir_all(leaf.join("below")).unwrap();
    write(&leaf.join("cgroup.subtree_control"), "+memory");
    let out = host.sleeper().create_call(&[]).output();
    out.fails(1, &["cgroup.subtree_control", "linux.cgroupsPath"]);
    // They are the test's own: carob leaves what was there before.
    for dir in [leaf.join("below"), leaf] {
        fs::remove_dir(dir).unwrap();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_follows_init_out_of_a_cgroup_that_passes_controllers_down() {
    let Some(host) = v2_host() else { return };
    let c = host.sleeper_with(|s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB});
    });
    c.run_detached();
    let dir = host.cgroup("memory", c.id());
    for below in ["init.scope", "other"] {
        fs::create_dir(dir.join(below)).unwrap();
    }
    write(&dir.join("init.scope/cgroup.procs"), &c.pid().to_string());
    let place = || c.exec(&["cat", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(place(), "0::/\n", "init is elsewhere, but the container's cgroup takes processes");
    write(&dir.join("cgroup.subtree_control"), "+memory");
    assert_eq!(place(), "0::/init.scope\n");
    // One that is asked for is not exchanged for another.
    let into = |below| c.exec_call(&["--cgroup", below], &["cat", "/proc/self/cgroup"]).output();
    assert_eq!(into("other").ok().stdout, "0::/other\n");
    write(&dir.join("other/cgroup.subtree_control"), "+memory");
    for below in ["other", "/"] {
        into(below).fails(255, &["cgroup.subtree_control"]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_is_asked_for_a_writable_cgroup_gets_a_subtree_of_its_own() {
    let Some(host) = v2_host() else { return };
    let script = "cd /sys/fs/cgroup && mkdir own && echo 0 > own/cgroup.procs && \
                  cat /proc/self/cgroup && ! echo 1 2>/dev/null > memory.max";
    let c = host.sh_with(script, |s| {
        with_writable_cgroup(s);
        with_user_namespace(s);
        s["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB});
    });
    assert_eq!(c.run().ok().stdout, "0::/own\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_owner_of_a_cgroup_is_the_users_own_only_where_it_may_write() {
    let Some(host) = v2_host() else { return };
    let writable = host.sleeper_with(|s| {
        with_writable_cgroup(s);
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let mapped = host.sleeper_with(|s| {
        with_writable_cgroup(s);
        with_user_namespace(s);
    });
    let read_only = host.sleeper_with(with_user_namespace);
    for (c, owner) in [(writable, 1000), (mapped, 100_000), (read_only, 0)] {
        c.create();
        let dir = host.cgroup("pids", c.id());
        let owners = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"]
            .map(|file| fs::metadata(dir.join(file)).unwrap().uid());
        assert_eq!(owners, [owner; 4], "{}", c.id());
        assert_eq!(fs::metadata(dir.join("pids.max")).unwrap().uid(), 0, "{}", c.id());
    }
}

/// A container that may do what root may, with carob in it and a bundle to run.
fn outer<'h>(host: &'h Host, script: &str, inner: &Value) -> Container<'h> {
    let bundle = host.dir().join("inner");
    fs::create_dir(&bundle).unwrap();
    fs::create_dir(bundle.join("rootfs")).unwrap();
    chown(&bundle, Some(0), Some(0)).unwrap();
    let mut spec = crate::support::default_config();
    spec["process"]["args"] = json!(["sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/pids.max"]);
    spec["linux"]["cgroupsPath"] = json!("/inner");
    spec["linux"]["resources"] = inner.clone();
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    host.sh_with(script, |s| {
        with_writable_cgroup(s);
        let all: Vec<String> = caps_of_this_kernel();
        for set in ["bounding", "effective", "permitted"] {
            s["process"]["capabilities"][set] = json!(all);
        }
        s["linux"]["maskedPaths"] = json!([]);
        s["linux"]["readonlyPaths"] = json!([]);
        s["root"] = json!({"path": host.own_rootfs()});
        let rootfs = crate::support::rootfs();
        for (source, destination) in
            [(runtime(), "/carob"), (bundle.clone(), "/inner"), (rootfs, "/inner/rootfs")]
        {
            push(
                s,
                "/mounts",
                json!({"type": "bind", "source": source,
                "destination": destination, "options": ["bind"]}),
            );
        }
        push(s, "/mounts", json!({"type": "tmpfs", "source": "tmpfs", "destination": "/run"}));
    })
}

fn caps_of_this_kernel() -> Vec<String> {
    [
        "SYS_ADMIN",
        "SYS_CHROOT",
        "SYS_RESOURCE",
        "NET_ADMIN",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "SETFCAP",
        "NET_RAW",
        "NET_BIND_SERVICE",
        "AUDIT_WRITE",
        "DAC_READ_SEARCH",
    ]
    .map(|name| format!("CAP_{name}"))
    .to_vec()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn carob_runs_in_a_container_of_its_own() {
    let Some(host) = v2_host() else { return };
    let script = "mkdir /sys/fs/cgroup/own && echo 1 > /sys/fs/cgroup/own/cgroup.procs && \
                  exec /carob --root /run/carob run --bundle /inner inner";
    let c = outer(&host, script, &json!({"pids": {"limit": 9}}));
    assert_eq!(c.run().ok().stdout, "0::/\n9\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_root_of_a_cgroup_namespace_keeps_its_limits() {
    let Some(host) = v2_host() else { return };
    let options = read(Path::new("/proc/self/mountinfo"));
    if !options.lines().any(|l| l.contains(" - cgroup2 ") && l.contains("nsdelegate")) {
        return skip("cgroup2 is mounted without nsdelegate");
    }
    let c = outer(&host, "echo max > /sys/fs/cgroup/pids.max", &json!({}));
    let out = c.run();
    assert!(out.code != 0 && out.stderr.contains("not permitted"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_controller_that_a_container_does_not_have_is_named_with_its_file() {
    let Some(host) = v2_host_without_systemd() else { return };
    // Its processes keep the cgroup above from passing anything down.
    let _occupant = Occupant::new(&parent(&host));
    let script = "mkdir /sys/fs/cgroup/own && echo 1 > /sys/fs/cgroup/own/cgroup.procs && \
                  exec /carob --root /run/carob run --bundle /inner inner";
    let c = outer(&host, script, &json!({"pids": {"limit": 9}}));
    let words =
        ["linux.resources.pids.limit", "controller pids", "/sys/fs/cgroup/cgroup.controllers"];
    c.run().fails(1, &words);
}
