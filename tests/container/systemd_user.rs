//! `--systemd-cgroup` of an ordinary user, whose own systemd makes the scopes.
//!
//! The calls come from outside of what that systemd has, as from a session: it has to ask the
//! system's to move a process.

use crate::support::driver::{self, runtime_dir_of_user, systemctl_of_user};
use crate::support::user::UID;
use crate::support::{Container, Host, Ids, cgroup};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn property(host: &Host, c: &Container<'_>, name: &str) -> String {
    let unit = host.scope(c.id());
    systemctl_of_user(&["show", "--value", "--property", name, &unit]).trim().to_owned()
}

/// What the user's systemd is given by the system's.
fn limits(spec: &mut Value) {
    spec["linux"]["resources"] = json!({
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 12_345, "period": 50_000},
        "pids": {"limit": 77},
    });
}

/// The container's cgroup, which is that of its process.
fn cgroup_of(c: &Container<'_>) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    cgroup::hierarchy("").join(path)
}

fn end(c: &Container<'_>) {
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
    c.delete().ok();
}

/// A user whose systemd has controllers to give.
fn with_controllers() -> Option<Host> {
    let host = Host::of_systemd_user(Ids::Own)?;
    if cgroup::is_v2() {
        return Some(host);
    }
    crate::support::skip("v1 gives a user's systemd no controllers");
    None
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_of_a_user_is_a_scope_below_its_own_systemd() {
    for ids in [Ids::Own, Ids::Granted] {
        let Some(host) = Host::of_systemd_user(ids) else { return };
        let c = host.sleeper();
        c.create();
        let slice = driver::slice(host.marker());
        let scope = host.scope(c.id());
        let path = format!("/user.slice/user-{UID}.slice/user@{UID}.service/{slice}/{scope}");
        let procs = cgroup_of(&c);
        assert!(procs.ends_with(path.trim_start_matches('/')), "{}", procs.display());
        for (name, want) in [
            ("ActiveState", "active"),
            ("Slice", &*slice),
            ("Delegate", "yes"),
            ("ControlGroup", &path),
        ] {
            assert_eq!(property(&host, &c, name), want, "{name}");
        }
        c.start();
        // Who execs is in no cgroup of the user's systemd, either.
        let inside = c.exec(&["cat", "/proc/self/cgroup"]).ok();
        let own = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
        let mut own = inside.stdout.lines().filter(own).peekable();
        assert!(own.peek().is_some() && own.all(|line| line.ends_with(":/")), "{inside:?}");
        end(&c);
        assert!(!procs.exists());
        assert_eq!(property(&host, &c, "LoadState"), "not-found");
        systemctl_of_user(&["stop", &slice]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_of_a_user_follows_init_out_of_a_cgroup_that_passes_controllers_down() {
    let Some(host) = with_controllers() else { return };
    let c = host.sleeper_with(limits);
    c.run_detached();
    let dir = cgroup_of(&c);
    fs::create_dir(dir.join("init.scope")).unwrap();
    fs::write(dir.join("init.scope/cgroup.procs"), c.pid().to_string()).unwrap();
    fs::write(dir.join("cgroup.subtree_control"), "+memory").unwrap();
    assert_eq!(c.exec(&["cat", "/proc/self/cgroup"]).ok().stdout, "0::/init.scope\n");
    end(&c);
    systemctl_of_user(&["stop", &driver::slice(host.marker())]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_slice_that_is_there_gets_the_controllers_of_the_next_scope() {
    let Some(host) = with_controllers() else { return };
    let first = host.sleeper();
    first.run_detached();
    let c = host.sleeper_with(|s| s["linux"]["resources"]["cpu"] = json!({"cpus": "0"}));
    c.run_detached();
    assert_eq!(fs::read_to_string(cgroup_of(&c).join("cpuset.cpus")).unwrap(), "0\n");
    end(&c);
    end(&first);
    systemctl_of_user(&["stop", &driver::slice(host.marker())]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn limits_of_a_users_container_hold_and_can_be_changed() {
    let Some(host) = with_controllers() else { return };
    let c = host.sleeper_with(limits);
    c.run_detached();
    let dir = cgroup_of(&c);
    let file = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let told = |at: &str, memory: &str, quota: &str| {
        assert_eq!(property(&host, &c, "MemoryMax"), memory, "{at}");
        assert_eq!(file("memory.max"), memory, "{at}");
        assert_eq!(property(&host, &c, "CPUQuotaPerSecUSec"), quota, "{at}");
        assert_eq!(property(&host, &c, "TasksMax"), "77", "{at}");
        assert_eq!(file("pids.max"), "77", "{at}");
    };
    told("at first", "67108864", "250ms");
    assert_eq!(file("cpu.max"), "12500 50000");
    c.verb("update", &["--memory", "33554432", "--cpu-quota", "25000"]).output().ok();
    told("updated", "33554432", "500ms");
    systemctl_of_user(&["daemon-reload"]);
    told("reloaded", "33554432", "500ms");
    systemctl_of_user(&["daemon-reexec"]);
    told("executed again", "33554432", "500ms");
    assert_eq!(file("cpu.max"), "25000 50000");

    c.verb("pause", &[]).output().ok();
    assert_eq!(c.status(), "paused");
    c.verb("resume", &[]).output().ok();
    let stats = c.verb("events", &["--stats"]).output().ok().json();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 32 << 20, "{stats:#}");
    let listed: Vec<i32> =
        serde_json::from_str(c.verb("ps", &["--format", "json"]).output().ok().text()).unwrap();
    assert_eq!(listed, [c.pid().as_raw()]);
    end(&c);
    systemctl_of_user(&["stop", &driver::slice(host.marker())]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_users_systemd_is_reached_without_a_bus() {
    let Some(host) = Host::of_systemd_user(Ids::Own) else { return };
    // The same directory without `bus`.
    let dir = host.dir().join("busless");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(runtime_dir_of_user().join("systemd"), dir.join("systemd")).unwrap();
    let c = host.sh("echo hello");
    let out = c.bundle_verb("run", &[]).env("XDG_RUNTIME_DIR", &dir).output().ok();
    assert_eq!(out.text(), "hello");
    assert_eq!(property(&host, &c, "LoadState"), "not-found");
    systemctl_of_user(&["stop", &driver::slice(host.marker())]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_without_a_systemd_is_told_so_and_nothing_is_left() {
    let Some(host) = Host::of_systemd_user(Ids::Own) else { return };
    let c = host.sleeper();
    let nowhere = host.dir().join("nowhere");
    let create = c.create_call(&[]).env("XDG_RUNTIME_DIR", &nowhere);
    let want = ["cannot reach systemd for --systemd-cgroup", nowhere.to_str().unwrap()];
    create.output().fails(1, &want);
    assert!(!host.state_root().join(c.id()).exists());
    assert_eq!(property(&host, &c, "LoadState"), "not-found");
}
