//! `--systemd-cgroup`: what systemd shows of a container's unit, and what becomes of it.

use crate::resources::spare_device;
use crate::support::driver::{self, systemctl};
use crate::support::{Container, Host, cgroup, leaks, push, skip, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// A property of a container's unit.
fn property(host: &Host, c: &Container<'_>, name: &str) -> String {
    unit_property(&host.scope(c.id()), name)
}

fn unit_property(unit: &str, name: &str) -> String {
    let shown = systemctl(&["show", "--value", "--property", name, unit]);
    shown.trim().to_owned()
}

fn limits(spec: &mut Value) {
    let resources = &mut spec["linux"]["resources"];
    resources["memory"] = json!({"limit": 64 << 20, "reservation": 32 << 20});
    resources["cpu"] = json!({"shares": 512, "quota": 12_345, "period": 50_000, "cpus": "0"});
    resources["pids"] = json!({"limit": 77});
}

fn file(host: &Host, c: &Container<'_>, controller: &str, name: &str) -> String {
    let path = host.cgroup(controller, c.id()).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().into()
}

/// The file with CPU quota and period, or v1's first.
fn cpu_max(host: &Host, c: &Container<'_>) -> String {
    let name = if cgroup::is_v2() { "cpu.max" } else { "cpu.cfs_quota_us" };
    file(host, c, "cpu", name)
}

fn memory_max(host: &Host, c: &Container<'_>) -> String {
    let name = if cgroup::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    file(host, c, "memory", name)
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_is_a_delegated_scope_in_its_slice() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper();
    c.create();
    let slice = driver::slice(host.marker());
    for (name, want) in [
        ("ActiveState", "active"),
        ("Slice", &*slice),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("Transient", "yes"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("ControlGroup", &format!("/{slice}/{}", host.scope(c.id()))),
    ] {
        assert_eq!(property(&host, &c, name), want, "{name}");
    }
    let own = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let path = format!("/{slice}/{}", host.scope(c.id()));
    assert!(own.lines().all(|line| line.ends_with(&path)), "{own}");
    c.start();
    // A cgroup namespace begins here.
    let inside = c.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(inside.text().lines().all(|line| line.ends_with(":/")), "{inside:?}");
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
    c.delete().ok();
    assert_eq!(driver::scopes(host.marker()), Vec::<String>::new());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_a_path_the_scope_is_named_by_the_id_in_system_slice() {
    let Some(host) = Host::systemd() else { return };
    let id = host.marker().to_owned();
    let c = host.container_named(&id, |s| {
        s["process"]["args"] = json!(["sleep", "1000"]);
        s["linux"]["cgroupsPath"] = json!("");
    });
    c.run_detached();
    let unit = format!("carob-{id}.scope");
    assert_eq!(unit_property(&unit, "Slice"), "system.slice");
    assert!(unit_property(&unit, "Description").contains(&id));
    c.delete_force().ok();
    assert_eq!(unit_property(&unit, "LoadState"), "not-found");
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_kubelets_slices_are_nested_by_their_names() {
    let Some(host) = Host::systemd() else { return };
    let top = driver::slice(host.marker()).replace(".slice", "");
    let pod = format!("{top}-besteffort-pod12_ab.slice");
    let c = host.sleeper_with(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("{pod}:cri-containerd:{top}"));
    });
    c.run_detached();
    let unit = format!("cri-containerd-{top}.scope");
    let want = format!("/{top}.slice/{top}-besteffort.slice/{pod}/{unit}");
    assert_eq!(unit_property(&unit, "ControlGroup"), want);
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
    assert_eq!(unit_property(&unit, "LoadState"), "not-found");
    systemctl(&["stop", &pod]);
    systemctl(&["stop", &format!("{top}-besteffort.slice")]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn limits_are_told_to_systemd_and_survive_its_reload() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper_with(limits);
    c.run_detached();
    let (memory, weight) = match cgroup::is_v2() {
        true => ("MemoryMax", ("CPUWeight", "59")),
        false => ("MemoryLimit", ("CPUShares", "512")),
    };
    let told = |at: &str| {
        assert_eq!(property(&host, &c, memory), "67108864", "{at}");
        assert_eq!(property(&host, &c, weight.0), weight.1, "{at}");
        // The next whole percent of 24.69 %.
        assert_eq!(property(&host, &c, "CPUQuotaPerSecUSec"), "250ms", "{at}");
        assert_eq!(property(&host, &c, "CPUQuotaPeriodUSec"), "50ms", "{at}");
        assert_eq!(property(&host, &c, "TasksMax"), "77", "{at}");
        assert_eq!(memory_max(&host, &c), "67108864", "{at}");
        assert_eq!(file(&host, &c, "pids", "pids.max"), "77", "{at}");
        if cgroup::is_v2() {
            assert_eq!(property(&host, &c, "AllowedCPUs"), "0", "{at}");
            assert_eq!(property(&host, &c, "MemoryLow"), "33554432", "{at}");
        }
    };
    told("at first");
    let quota = || assert!(cpu_max(&host, &c).starts_with("12500"), "{}", cpu_max(&host, &c));
    quota();
    systemctl(&["daemon-reload"]);
    told("reloaded");
    driver::execute_systemd_again();
    told("executed again");
    quota();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_tells_systemd_too() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper_with(limits);
    c.run_detached();
    // By its state alone: engines do not pass --systemd-cgroup to every verb.
    let root = host.state_root();
    let root = root.to_str().unwrap();
    let flags = ["--memory", "33554432", "--memory-reservation", "0", "--cpu-quota", "25000"];
    host.bare_call(&["--root", root, "update"]).args(&flags).args(&[c.id()]).output().ok();
    let memory = if cgroup::is_v2() { "MemoryMax" } else { "MemoryLimit" };
    let told = |at: &str| {
        assert_eq!(property(&host, &c, memory), "33554432", "{at}");
        assert_eq!(property(&host, &c, "CPUQuotaPerSecUSec"), "500ms", "{at}");
        // What was not given stays.
        assert_eq!(property(&host, &c, "CPUQuotaPeriodUSec"), "50ms", "{at}");
        assert_eq!(property(&host, &c, "TasksMax"), "77", "{at}");
        assert_eq!(memory_max(&host, &c), "33554432", "{at}");
        assert!(cpu_max(&host, &c).starts_with("25000"), "{at}: {}", cpu_max(&host, &c));
    };
    told("updated");
    systemctl(&["daemon-reload"]);
    told("reloaded");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn device_rules_survive_a_reload() {
    let Some(host) = Host::systemd() else { return };
    let Some(device) = spare_device() else { return skip("no device to try on in /proc/misc") };
    let container = |allow: bool| {
        let c = host.sleeper_with(|s| {
            s["linux"]["resources"]["devices"] = json!([{"allow": allow, "access": "rwm"}]);
            s["linux"]["devices"] = json!([device]);
        });
        c.run_detached();
        c
    };
    // Alike but for their rules: what one may open, only rules can refuse to the other.
    let (allowed, denied) = (container(true), container(false));
    let in_force = |at: &str| {
        allowed.exec_sh("true </dev/mine").ok();
        denied.exec_sh("echo x >/dev/null").ok();
        let out = denied.exec_sh("true </dev/mine");
        assert!(out.stderr.contains("not permitted"), "{at}: {out:?}");
    };
    in_force("at first");
    systemctl(&["daemon-reload"]);
    in_force("reloaded");
    driver::execute_systemd_again();
    in_force("executed again");
    // Settings applied again, the controller's own among them.
    for c in [&allowed, &denied] {
        systemctl(&["set-property", "--runtime", &host.scope(c.id()), "TasksMax=99"]);
    }
    in_force("after another property");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn annotations_become_properties() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper_with(|s| {
        s["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7.5",
            "org.systemd.property.KillSignal": "2",
            "org.systemd.property.After": "['local-fs.target']",
            "org.systemd.property.CollectMode": "'inactive'",
            "org.opencontainers.image.title": "not [ for systemd",
        });
    });
    c.run_detached();
    assert!(property(&host, &c, "TimeoutStopUSec").starts_with("7.5"));
    assert_eq!(property(&host, &c, "KillSignal"), "2");
    assert!(property(&host, &c, "After").contains("local-fs.target"));
    assert_eq!(property(&host, &c, "CollectMode"), "inactive");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_systemd_cannot_have_is_refused_before_anything_is_made() {
    let Some(host) = Host::systemd() else { return };
    let refused = |want: &str, edit: &dyn Fn(&mut Value)| {
        let c = host.sleeper_with(edit);
        c.create_call(&[]).output().fails(1, &[want]);
        assert!(!host.state_root().join(c.id()).exists(), "{want}");
        assert!(!host.cgroup("pids", c.id()).exists(), "{want}");
    };
    for (name, value) in [
        ("PIDs", "[uint32 1]"),
        ("TimeoutStopUSec", "soon"),
        // This one only systemd knows not to exist.
        ("NoSuchThing", "true"),
    ] {
        let annotation = format!("org.systemd.property.{name}");
        refused(name, &|s| s["annotations"] = json!({annotation.as_str(): value}));
    }
    for (path, want) in [
        ("/carob/x", "expected cgroupsPath to be of format \"slice:prefix:name\""),
        ("nothing:a:b", "\"nothing\" is no slice of systemd"),
        ("system.slice:a:b c", "cannot be the name of a systemd unit"),
    ] {
        refused(want, &|s| s["linux"]["cgroupsPath"] = json!(path));
    }
    assert_eq!(driver::scopes(host.marker()), Vec::<String>::new());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_unit_in_use_is_refused_and_left_alone() {
    let Some(host) = Host::systemd() else { return };
    let first = host.sleeper();
    first.run_detached();
    // The unit is in another slice: only systemd knows that the name is taken.
    let word = driver::slice(host.marker()).replace(".slice", "");
    let second = host.sleeper_with(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("system.slice:{word}:{}", first.id()));
    });
    let want = format!("systemd has a unit {} already", host.scope(first.id()));
    second.create_call(&[]).output().fails(1, &[&want]);
    let path = host.cgroups_path(first.id());
    let third = host.sleeper_with(|s| s["linux"]["cgroupsPath"] = json!(path));
    third.create_call(&[]).output().fails(1, &["cgroup is not empty"]);
    assert_eq!(first.status(), "running");
    first.exec(&["true"]).ok();
    assert_eq!(property(&host, &first, "ActiveState"), "active");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_unit_of_the_same_name_does_not_stand_in_the_way() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper();
    let unit = host.scope(c.id());
    let slice = driver::slice(host.marker());
    // Failed, as its process has to be killed in the end; kept, as that is the default.
    let script = format!(
        "systemd-run --quiet --scope --unit={unit} --slice={slice} -p TimeoutStopSec=1 \
         sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done' | \
         {{ read -r up; systemctl stop {unit}; }}; systemctl is-failed {unit}"
    );
    let _alone = driver::present();
    let out = Command::new("timeout").args(["100", "sh", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "failed", "{out:?}");
    c.run_detached();
    assert_eq!(property(&host, &c, "ActiveState"), "active");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_takes_what_a_killed_create_has_left() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sh_with("true", |s| {
        let hook =
            json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "env": [host.env_mark()]});
        s["hooks"] = json!({"prestart": [hook]});
    });
    let create = c.create_call(&[]).spawn();
    wait_until("the hook", || {
        let procs = fs::read_to_string(host.cgroup("pids", c.id()).join("cgroup.procs"));
        if procs.is_ok_and(|procs| !procs.trim().is_empty()) { Ok(()) } else { Err("none".into()) }
    });
    create.signal(nix::sys::signal::Signal::SIGKILL);
    create.wait();
    host.adopt_orphans();
    c.delete_force().ok();
    assert!(!host.cgroup("pids", c.id()).exists());
    assert_eq!(driver::scopes(host.marker()), Vec::<String>::new());
}

/// systemd takes the cgroup of a scope away as soon as nobody is in it: between any two looks at it.
#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_does_not_mind_that_systemd_removes_the_cgroup_meanwhile() {
    let Some(host) = Host::systemd() else { return };
    // The opens of the directory, and of files in it, are eight.
    for nth in 1..=10 {
        // The second process keeps the cgroup until all in it are killed: a pid namespace would end with
        // its first.
        let c = host.sh_with("sleep 1000 & echo up; exec sleep 1000", |s| {
            s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        });
        c.run_detached().wait_output("up");
        leaks::processes(host.marker()).into_iter().for_each(|pid| host.adopt(pid));
        let dir = host.cgroup("pids", c.id());
        let delay = format!("inject=openat:delay_enter=500000:when={nth}");
        let slow = format!("strace -qq -o /dev/null -P {} -e {delay}", dir.display());
        let delete = c.verb("delete", &["--force"]).after(&format!("set -- {slow} \"$@\"")).spawn();
        delete.wait_while(|| host.reap()).ok();
        assert!(!host.state_root().join(c.id()).exists(), "{nth}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_bus_is_a_clear_error_and_leaves_nothing() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper();
    let none = host.dir().join("no-such-socket");
    let address = format!("unix:path={}", none.display());
    let create = c.create_call(&[]).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let want = ["cannot reach systemd for --systemd-cgroup", none.to_str().unwrap(), "start dbus"];
    create.output().fails(1, &want);
    assert!(!host.state_root().join(c.id()).exists());
    // One that is there is deleted all the same, and used without systemd meanwhile.
    c.run_detached();
    c.exec_call(&[], &["true"]).env("DBUS_SYSTEM_BUS_ADDRESS", &address).output().ok();
    c.verb("pause", &[]).env("DBUS_SYSTEM_BUS_ADDRESS", &address).output().ok();
    assert_eq!(c.status(), "paused");
    let delete = c.verb("delete", &["--force"]).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let out = delete.output().ok();
    assert!(out.stderr.is_empty() || out.stderr.contains("cannot reach systemd"), "{out:?}");
    assert_eq!(c.exit_code(), 137);
    assert!(!host.cgroup("pids", c.id()).exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_gets_a_scope_as_well() {
    let Some(host) = Host::systemd() else { return };
    let c = host.sleeper_with(|s| {
        push(s, "/linux/namespaces", json!({"type": "user"}));
        for key in ["uidMappings", "gidMappings"] {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            s["linux"][key] = map;
        }
    });
    c.run_detached();
    assert_eq!(property(&host, &c, "ActiveState"), "active");
    c.exec(&["true"]).ok();
}
