//! hooks: six kinds, their order, what they see, and what their failure does.

use crate::support::{Container, Host, Peer, peer, push};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs `script` with `$OUT` as the directory that [`outputs`] reads.
fn hook(host: &Host, kind: &str, script: &str) -> Value {
    // startContainer is run in the container, which sees the directory at /mnt.
    let out = if kind == "startContainer" { "/mnt".into() } else { host.dir().join("out") };
    json!({
        "path": "/bin/sh",
        "args": ["sh", "-c", script],
        "env": ["PATH=/usr/bin:/bin", host.env_mark(), format!("OUT={}", out.display()), format!("KIND={kind}")],
    })
}

/// A container with `script` as hook of each of `kinds`.
fn hooked<'h>(host: &'h Host, kinds: &[&str], script: &str) -> Container<'h> {
    let out = host.dir().join("out");
    fs::create_dir_all(&out).unwrap();
    host.sleeper_with(|s| {
        for kind in kinds {
            s["hooks"][kind] = json!([hook(host, kind, script)]);
        }
        let mount =
            json!({"destination": "/mnt", "type": "bind", "source": out, "options": ["bind"]});
        crate::support::push(s, "/mounts", mount);
    })
}

fn read(host: &Host, name: &str) -> String {
    fs::read_to_string(host.dir().join("out").join(name)).unwrap_or_default()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn they_run_in_the_order_of_the_spec() {
    let host = Host::new();
    let c = hooked(&host, &KINDS, "echo $KIND >> $OUT/order");
    c.create();
    if peer() == Peer::Carob {
        assert_eq!(read(&host, "order"), "prestart\ncreateRuntime\ncreateContainer\n");
    }
    c.start();
    crate::support::wait_until("poststart", || {
        let seen = read(&host, "order");
        if seen.contains("poststart") { Ok(()) } else { Err(seen) }
    });
    c.delete_force().ok();
    let order = read(&host, "order");
    let mut order: Vec<&str> = order.lines().collect();
    if peer() == Peer::Runc {
        order.swap(3, 4); // runc runs poststart in create
    }
    assert_eq!(order, KINDS);
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn several_of_a_kind_run_in_their_order() {
    let host = Host::new();
    let out = host.dir().join("out");
    fs::create_dir(&out).unwrap();
    let c = host.sleeper_with(|s| {
        let one = |n| hook(&host, "createRuntime", &format!("echo {n} >> $OUT/order"));
        s["hooks"]["createRuntime"] = json!([one(1), one(2), one(3)]);
    });
    c.create();
    assert_eq!(read(&host, "order"), "1\n2\n3\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn they_read_the_state_on_stdin() {
    let host = Host::new();
    let c = hooked(&host, &KINDS, "cat > $OUT/$KIND");
    c.create().start();
    let pid = c.pid().as_raw();
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
    for kind in KINDS {
        let state: Value = serde_json::from_str(&read(&host, kind)).unwrap_or_default();
        assert_eq!(state["id"], c.id(), "{kind}: {state}");
        assert_eq!(state["bundle"], c.bundle().to_str().unwrap(), "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let status = state["status"].as_str().unwrap();
        match kind {
            "prestart" | "createRuntime" | "createContainer" => {
                assert!(["creating", "created"].contains(&status), "{kind}: {state}");
                // Inside the container it is its pid there, or the host's: the spec does not say.
                let is_one = kind == "createContainer" && state["pid"] == 1;
                assert!(is_one || state["pid"] == pid, "{kind}: {state}");
            }
            "poststop" => assert_eq!(status, "stopped", "{kind}: {state}"),
            _ => {}
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn they_have_only_their_own_environment() {
    let host = Host::new();
    let c = hooked(&host, &["createRuntime"], "env > $OUT/env");
    c.create_call(&[]).env("LEAK", "1").output().ok();
    host.adopt(c.pid());
    let env = read(&host, "env");
    assert!(env.contains("KIND=createRuntime") && !env.contains("LEAK"), "{env}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn they_see_the_namespaces_the_spec_gives() {
    let host = Host::new();
    let script = "readlink /proc/self/ns/mnt > $OUT/$KIND";
    let c = hooked(&host, &KINDS, script);
    c.create();
    let inside = fs::read_link(format!("/proc/{}/ns/mnt", c.pid())).unwrap();
    c.start();
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
    let host_ns = fs::read_link("/proc/self/ns/mnt").unwrap();
    for kind in KINDS {
        let in_container = kind == "createContainer" || kind == "startContainer";
        let expected = if in_container { &inside } else { &host_ns };
        assert_eq!(read(&host, kind).trim(), expected.to_str().unwrap(), "{kind}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn create_runtime_finds_the_namespaces_of_init() {
    let host = Host::new();
    // A network plugin does this: the state's pid leads to the container's network namespace.
    let script =
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > $OUT/net";
    let c = hooked(&host, &["createRuntime"], script);
    c.create();
    let net = fs::read_link(format!("/proc/{}/ns/net", c.pid())).unwrap();
    assert_eq!(read(&host, "net").trim(), net.to_str().unwrap());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failing_create_hook_fails_create_and_leaves_nothing() {
    let host = Host::new();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let c = hooked(&host, &[kind], "echo boom-in-hook >&2; exit 3");
        let out = c.create_call(&[]).output();
        assert_eq!(out.code, 1, "{kind}: {out:?}");
        assert!(out.stderr.contains("boom-in-hook"), "{kind}: {out:?}");
        assert!(!host.state_root().join(c.id()).exists(), "{kind}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failing_start_container_hook_keeps_the_program_from_starting() {
    let host = Host::new();
    let c = hooked(&host, &["startContainer"], "exit 3");
    c.create();
    let out = c.verb("start", &[]).output();
    assert_ne!(c.exit_code(), 0, "{out:?}");
    c.wait_for("stopped");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failing_poststop_hook_does_not_stop_delete() {
    let host = Host::new();
    let c = hooked(&host, &["poststop"], "exit 3");
    c.create();
    c.kill("KILL").ok();
    c.exit_code();
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hook_that_does_not_exist_is_an_error_that_names_it() {
    let host = Host::new();
    let c = host.sleeper_with(|s| s["hooks"]["createRuntime"] = json!([{"path": "/nowhere/hook"}]));
    c.create_call(&[]).output().fails(1, &["/nowhere/hook"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hook_that_takes_too_long_is_killed() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        let mut hook = hook(&host, "createRuntime", "exec sleep 100");
        hook["timeout"] = json!(1);
        s["hooks"]["createRuntime"] = json!([hook]);
    });
    let start = Instant::now();
    assert_eq!(c.create_call(&[]).output().code, 1);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn empty_hooks_are_none() {
    let host = Host::new();
    let c = host.sh_with("echo runs", |s| s["hooks"] = json!({"poststart": []}));
    assert_eq!(c.run().ok().stdout, "runs\n");
    let c = host.sh_with("echo runs", |s| s["hooks"] = json!({}));
    assert_eq!(c.run().ok().stdout, "runs\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_start_container_hook_without_environment_has_the_programs() {
    let host = Host::new();
    let c = host.sh_with("cat /tmp/seen", |s| {
        push(s, "/process/env", json!("OF_THE_PROGRAM=yes"));
        push(s, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        s["hooks"]["startContainer"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "env > /tmp/seen"]}]);
    });
    let out = c.run().ok();
    assert!(out.stdout.contains("OF_THE_PROGRAM=yes\n"), "{out:?}");
    assert!(out.stdout.contains("HOME=/root\n"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hooks_of_the_runtime_run_in_the_bundle_and_of_the_container_in_its_root() {
    let host = Host::new();
    let c = host.container(|s| {
        let seen = |name: &str| {
            let script = format!("pwd -P > {}/{name}", host.dir().display());
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        s["hooks"] =
            json!({"createRuntime": seen("runtime"), "createContainer": seen("container")});
    });
    c.run().ok();
    let seen = |name: &str| fs::read_to_string(host.dir().join(name)).unwrap();
    assert_eq!(seen("runtime").trim(), c.bundle().canonicalize().unwrap().to_str().unwrap());
    let rootfs = crate::support::rootfs().canonicalize().unwrap();
    assert_eq!(seen("container").trim(), rootfs.to_str().unwrap());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_hook_without_output_is_told_by_its_status() {
    let Some(host) = Host::only_carob("runc 1.1 has other words") else {
        return;
    };
    for (script, end) in [("exit 3", "ended with exit status 3\n"), ("kill $$", "by signal 15\n")] {
        let c = hooked(&host, &["createRuntime"], script);
        let out = c.create_call(&[]).output();
        assert!(out.code == 1 && out.stderr.ends_with(end), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_that_a_create_container_hook_makes_are_not_for_everybody_to_write() {
    let host = Host::new();
    let c = hooked(&host, &["createContainer"], "umask > $OUT/umask");
    c.create();
    assert_eq!(read(&host, "umask").trim(), "0022");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hook_that_hangs_does_not_keep_delete_force_waiting() {
    let Some(host) = Host::only_carob("runc has no state of a container that is being made") else {
        return;
    };
    let c = hooked(&host, &["createContainer"], "touch $OUT/in-hook; exec sleep 1000");
    let create = c.create_call(&[]).spawn();
    let mark = host.dir().join("out/in-hook");
    crate::support::wait_until("the hook", || {
        if mark.exists() { Ok(()) } else { Err("not run".to_owned()) }
    });
    c.delete_force().ok();
    assert_ne!(create.wait().code, 0);
}
