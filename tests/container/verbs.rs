//! pause, resume, ps, update, events, list, spec, features and the program's own options.

use crate::support::{Container, Host, Peer, cgroup, peer, wait_until};
use serde_json::{Value, json};
use std::fs;

const MIB: u64 = 1 << 20;

fn running(host: &Host) -> Container<'_> {
    let c = host.sleeper();
    c.run_detached();
    c
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_paused_container_stands_still_until_resume() {
    let host = Host::new();
    let c = host.sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done");
    c.run_detached().wait_output("5\n");
    c.verb("pause", &[]).output().ok();
    assert_eq!(c.status(), "paused");
    let before = c.output();
    c.state(); // some time passes
    c.state();
    assert_eq!(c.output(), before);
    c.verb("resume", &[]).output().ok();
    assert_eq!(c.status(), "running");
    wait_until("more output", || if c.output() > before { Ok(()) } else { Err(c.output()) });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pause_and_resume_at_the_wrong_time_are_errors() {
    let host = Host::new();
    let c = running(&host);
    c.verb("resume", &[]).output().fails(1, &["container not paused"]);
    c.verb("pause", &[]).output().ok();
    c.verb("pause", &[]).output().fails(1, &["container not running"]);
    c.verb("resume", &[]).output().ok();
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
    c.verb("pause", &[]).output().fails(1, &["container not running"]);
    c.verb("resume", &[]).output().fails(1, &["container not paused"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_paused_container_can_be_killed() {
    let host = Host::new();
    let c = running(&host);
    c.verb("pause", &[]).output().ok();
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_signal_to_a_paused_container_waits_for_resume() {
    let host = Host::new();
    let c = host.sh("trap 'exit 8' TERM; echo ready; while :; do sleep 0.02; done");
    c.run_detached().wait_output("ready");
    c.verb("pause", &[]).output().ok();
    c.kill("TERM").ok();
    assert_eq!(c.status(), "paused");
    c.verb("resume", &[]).output().ok();
    assert_eq!(c.exit_code(), 8);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_paused_container_can_be_deleted_by_force() {
    let host = Host::new();
    let c = running(&host);
    c.verb("pause", &[]).output().ok();
    c.delete().fails(1, &["paused"]);
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ps_lists_the_host_pids_of_all_processes() {
    let host = Host::new();
    let c = host.sh("sleep 1000 & sleep 1000 & echo up; wait");
    c.run_detached().wait_output("up");
    let pids = c.verb("ps", &["--format", "json"]).output().ok().json();
    let pids: Vec<i64> = pids.as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.contains(&i64::from(c.pid().as_raw())), "{pids:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ps_shows_the_rows_of_the_hosts_ps() {
    let host = Host::new();
    let c = running(&host);
    let out = c.verb("ps", &[]).output().ok();
    let mut lines = out.stdout.lines();
    assert!(lines.next().unwrap().contains("PID"), "{out:?}");
    let row = lines.next().unwrap();
    assert!(row.contains(&c.pid().to_string()) && row.contains("sleep 1000"), "{out:?}");
    assert_eq!(lines.next(), None);
    let out = host.runtime(&["ps", c.id(), "-o", "pid,comm"]).ok();
    assert!(out.stdout.lines().nth(1).unwrap().contains("sleep"), "{out:?}");
}

fn limit_file(host: &Host, c: &Container<'_>, v1: (&str, &str), v2: &str) -> String {
    let (controller, file) = v1;
    let file = if cgroup::is_v2() { v2 } else { file };
    fs::read_to_string(host.cgroup(controller, c.id()).join(file)).unwrap().trim().to_owned()
}

fn memory_limit(host: &Host, c: &Container<'_>) -> u64 {
    limit_file(host, c, ("memory", "memory.limit_in_bytes"), "memory.max").parse().unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_raises_and_lowers_the_memory_limit() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 32 * MIB, "swap": 32 * MIB});
    });
    c.run_detached();
    for mib in [64, 16] {
        let bytes = (mib * MIB).to_string();
        let flags = ["--memory", &bytes, "--memory-swap", &bytes];
        c.verb("update", &flags).output().ok();
        assert_eq!(memory_limit(&host, &c), mib * MIB);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_with_check_before_update_does_not_kill_for_a_limit_below_the_usage() {
    let host = Host::new();
    let text = "x=$(head -c 8000000 /dev/zero | tr '\\0' a); echo filled; sleep 1000; :";
    let c = host.sh_with(text, |s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 64 << 20});
    });
    let running = c.bundle_verb("run", &[]).spawn();
    running.wait_stdout("filled");
    let limit = r#"{"memory":{"limit":1048576,"swap":1048576,"checkBeforeUpdate":true}}"#;
    let out = host.call(&["update", "--resources", "-", c.id()]).stdin(limit).output();
    assert_eq!(out.code, 1, "{out:?}");
    c.wait_for("running");
    c.delete_force().ok();
    running.wait();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_sets_the_pids_limit_by_effect() {
    let host = Host::new();
    let c = running(&host);
    c.exec_sh("sleep 0 & sleep 0 & sleep 0 & wait").ok();
    c.verb("update", &["--pids-limit", "2"]).output().ok();
    assert_ne!(c.exec_sh("sleep 0 & sleep 0 & sleep 0 & wait").code, 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_sets_cpu_quota_shares_and_set() {
    let host = Host::new();
    let c = running(&host);
    let flags = ["--cpu-quota", "30000", "--cpu-period", "100000", "--cpuset-cpus", "0"];
    c.verb("update", &flags).output().ok();
    if cgroup::is_v2() {
        assert_eq!(limit_file(&host, &c, ("cpu", ""), "cpu.max"), "30000 100000");
    } else {
        assert_eq!(limit_file(&host, &c, ("cpu", "cpu.cfs_quota_us"), ""), "30000");
    }
    let out = c.exec(&["grep", "Cpus_allowed_list", "/proc/self/status"]).ok();
    assert!(out.text().ends_with("\t0"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_reads_resources_from_stdin_or_a_file() {
    let host = Host::new();
    let c = running(&host);
    let resources = |mib: u64| json!({"memory": {"limit": mib * MIB}}).to_string();
    c.verb("update", &["--resources", "-"]).stdin(&resources(40)).output().ok();
    assert_eq!(memory_limit(&host, &c), 40 * MIB);
    let file = host.dir().join("resources.json");
    fs::write(&file, resources(50)).unwrap();
    let flag = format!("--resources={}", file.display());
    c.verb("update", &[&flag]).output().ok();
    assert_eq!(memory_limit(&host, &c), 50 * MIB);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_leaves_alone_what_is_zero_missing_or_about_devices() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        s["linux"]["resources"]["memory"] = json!({"limit": 32 * MIB});
        s["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    c.run_detached();
    let resources = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "cpu": {"shares": 0},
        "memory": {"reservation": 0},
        "blockIO": {"weight": 0},
        "unknownField": {"x": 1},
    });
    c.verb("update", &["-r", "-"]).stdin(&resources.to_string()).output().ok();
    assert_eq!(memory_limit(&host, &c), 32 * MIB);
    assert_eq!(limit_file(&host, &c, ("pids", "pids.max"), "pids.max"), "50");
    c.exec_sh("echo x > /dev/null").ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn update_of_a_stopped_container_is_an_error() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    c.verb("update", &["--pids-limit", "7"]).output().fails(1, &["container not running"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn events_stats_has_the_shape_clients_decode() {
    let host = Host::new();
    let c = running(&host);
    let out = c.verb("events", &["--stats"]).output().ok();
    assert_eq!(out.stdout.lines().count(), 1);
    let event = out.json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(c.id())));
    let data = &event["data"];
    for path in [
        "/cpu/usage/total",
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/memory/usage/limit",
        "/memory/usage/usage",
        "/memory/usage/failcnt",
        "/pids/current",
    ] {
        assert!(data.pointer(path).is_some_and(Value::is_u64), "{path}: {data}");
    }
    assert!(data["memory"]["raw"].is_object(), "{data}");
    assert!(data["blkio"].is_object() && data["hugetlb"].is_object(), "{data}");
    assert_eq!(data["pids"]["current"], 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn events_of_a_stopped_container_is_an_error() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    c.verb("events", &["--stats"]).output().fails(1, &["is not running"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn events_end_with_the_container_even_in_the_middle_of_a_reading() {
    let Some(host) = Host::only_carob("runc 1.1 goes on until it is told to end") else {
        return;
    };
    for _ in 0..5 {
        let c = host.sleeper();
        c.run_detached();
        let readers: Vec<_> =
            (0..4).map(|_| c.verb("events", &["--interval", "1ms"]).spawn()).collect();
        readers.iter().for_each(|events| events.wait_stdout("\"stats\""));
        c.delete_force().ok();
        for events in readers {
            let out = events.wait().ok();
            assert_eq!(out.stderr, "");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn events_tell_an_oom_kill() {
    let host = Host::new();
    let c =
        host.sh_with("read x < /dev/shm/go; dd if=/dev/zero of=/dev/shm/x bs=1M count=60", |s| {
            s["linux"]["resources"]["memory"] = json!({"limit": 16 * MIB, "swap": 16 * MIB});
            s["process"]["args"][2] = json!(
                "mkfifo /dev/shm/go; read x < /dev/shm/go; \
             dd if=/dev/zero of=/dev/shm/x bs=1M count=60; sleep 1000"
            );
        });
    c.run_detached();
    let events = c.verb("events", &["--interval", "100ms"]).spawn();
    events.wait_stdout("\"stats\"");
    c.exec_sh("while [ ! -p /dev/shm/go ]; do sleep 0.01; done; echo > /dev/shm/go").ok();
    events.wait_stdout("\"oom\"");
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
    events.signal(nix::sys::signal::Signal::SIGTERM);
    events.wait();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn list_shows_the_containers_of_this_root() {
    let host = Host::new();
    let empty = host.runtime(&["list", "--format", "json"]).ok().json();
    assert!(empty.is_null() || empty == json!([]), "{empty}");
    let c = running(&host);
    assert_eq!(host.runtime(&["list", "-q"]).ok().text(), c.id());
    let table = host.runtime(&["list"]).ok();
    let header: Vec<&str> = table.stdout.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = table.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    let pid = c.pid().to_string();
    assert_eq!(row[..4], [c.id(), &pid, "running", c.bundle().to_str().unwrap()]);
    assert_eq!(row[5], "root");
    let json = host.runtime(&["list", "--format", "json"]).ok().json();
    let entry = &json[0];
    assert_eq!(entry["id"], c.id());
    assert_eq!(entry["status"], "running");
    assert_eq!(entry["owner"], "root");
}

/// By several threads, each with a part.
#[test]
#[ignore = "needs root: run scripts/test"]
fn list_of_very_many_has_each_once_and_in_order() {
    let Some(host) = Host::only_carob("other runtimes have another state") else {
        return;
    };
    let c = running(&host);
    let state = fs::read_to_string(host.state_root().join(c.id()).join("state.json")).unwrap();
    let mut ids: Vec<_> = (0..300).map(|number| format!("{}-{number:03}", c.id())).collect();
    for id in &ids {
        let dir = host.state_root().join(id);
        fs::create_dir(&dir).unwrap();
        let own = format!("\"id\":{id:?}");
        let copy = state.replacen(&format!("\"id\":{:?}", c.id()), &own, 1);
        assert!(copy.contains(&own), "{state}");
        fs::write(dir.join("state.json"), copy).unwrap();
    }
    // One that nobody can read is left out, with a warning.
    fs::write(host.state_root().join(&ids[150]).join("state.json"), "{").unwrap();
    let out = host.runtime(&["list", "--quiet"]).ok();
    assert!(out.stderr.contains(&ids[150]), "{out:?}");
    for id in &ids {
        fs::remove_dir_all(host.state_root().join(id)).unwrap();
    }
    ids.remove(150);
    ids.insert(0, c.id().to_owned());
    assert_eq!(out.stdout.lines().collect::<Vec<_>>(), ids);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn list_of_a_root_that_does_not_exist_does_not_make_it() {
    let Some(host) = Host::only_carob("runc makes it") else {
        return;
    };
    let root = host.dir().join("no-such-root");
    let out = host.bare_call(&["--root", root.to_str().unwrap(), "list"]).output();
    assert!(out.code <= 1 && !root.exists(), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn spec_writes_a_config_that_runs() {
    let host = Host::new();
    let c = host.sleeper();
    fs::remove_file(c.bundle().join("config.json")).unwrap();
    host.call(&["spec"]).cwd(c.bundle()).output().ok();
    let text = fs::read_to_string(c.bundle().join("config.json")).unwrap();
    let mut spec: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(spec["process"]["terminal"], true);
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["echo", "from spec"]);
    spec["root"]["path"] = json!(crate::support::rootfs());
    spec["linux"]["cgroupsPath"] = json!(host.cgroups_path(c.id()));
    fs::write(c.bundle().join("config.json"), spec.to_string()).unwrap();
    assert_eq!(c.run().ok().stdout, "from spec\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn spec_overwrites_nothing_and_takes_a_bundle() {
    let host = Host::new();
    let c = host.sleeper();
    let before = fs::read(c.bundle().join("config.json")).unwrap();
    let out = host.call(&["spec", "--bundle", c.bundle().to_str().unwrap()]).output();
    let out = out.fails(1, &["config.json exists"]);
    assert!(out.stderr.to_lowercase().contains("remove it first"), "{out:?}");
    assert_eq!(fs::read(c.bundle().join("config.json")).unwrap(), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn spec_rootless_has_a_user_namespace() {
    let host = Host::new();
    let dir = host.dir().join("rootless");
    fs::create_dir(&dir).unwrap();
    host.call(&["spec", "--rootless"]).cwd(&dir).output().ok();
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&text).unwrap();
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|n| n["type"] == "user"), "{spec}");
    assert!(spec["linux"]["uidMappings"].is_array(), "{spec}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn features_says_what_works() {
    let host = Host::new();
    let features = host.bare_call(&["features"]).output().ok().json();
    let strings = |pointer: &str| -> Vec<String> {
        let list = features.pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("{pointer}: {features}"));
        list.iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        assert!(strings("/hooks").iter().any(|h| h == hook), "{hook}");
    }
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(strings("/linux/namespaces").iter().any(|n| n == kind), "{kind}");
    }
    for option in ["ro", "rbind", "rprivate", "noexec", "tmpcopyup"] {
        assert!(strings("/mountOptions").iter().any(|o| o == option), "{option}");
    }
    assert!(strings("/linux/capabilities").contains(&"CAP_SYS_ADMIN".to_owned()));
    assert!(strings("/linux/seccomp/actions").contains(&"SCMP_ACT_NOTIFY".to_owned()));
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    if peer() == Peer::Carob {
        assert!(strings("/linux/namespaces").contains(&"time".to_owned()));
        assert!(strings("/mountOptions").contains(&"rro".to_owned()));
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_version_has_the_lines_clients_split() {
    let host = Host::new();
    for flag in ["--version", "-v"] {
        let out = host.bare_call(&[flag]).output().ok();
        let name = if peer() == Peer::Carob { "carob version " } else { "runc version " };
        assert!(out.stdout.starts_with(name), "{out:?}");
        assert!(out.stdout.contains("\nspec: 1."), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn every_verb_explains_itself() {
    let host = Host::new();
    for verb in [
        "create", "start", "run", "exec", "state", "kill", "delete", "list", "ps", "pause",
        "resume", "update", "events", "spec", "features",
    ] {
        let out = host.bare_call(&[verb, "--help"]).output().ok();
        assert!(out.stdout.contains(verb), "{verb}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn checkpoint_and_restore_say_that_they_are_not_supported() {
    let Some(host) = Host::only_carob("runc has them") else {
        return;
    };
    let c = running(&host);
    for verb in ["checkpoint", "restore"] {
        let out = c.verb(verb, &[]).output();
        assert!(out.code != 0 && out.stderr.contains("not support"), "{verb}: {out:?}");
        let probe = host.bare_call(&[verb, "--help"]).output();
        assert_ne!(probe.code, 0, "{verb} --help would claim support: {probe:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn global_options_may_be_given_twice_and_with_an_equals_sign() {
    let host = Host::new();
    let root = format!("--root={}", host.state_root().display());
    host.bare_call(&[root.as_str(), &root, "--debug", "--log-format=json", "list"]).output().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_systemd_driver_without_systemd_is_a_clear_error() {
    let host = Host::new();
    if crate::support::driver::has_systemd() {
        return crate::support::skip("systemd runs here");
    }
    let c = host.container(|s| s["linux"]["cgroupsPath"] = json!("system.slice:carob:x"));
    let args = ["--systemd-cgroup", "create", "--bundle", c.bundle().to_str().unwrap(), c.id()];
    let want = "systemd not running on this host, cannot use systemd cgroups manager";
    host.call(&args).output().fails(1, &[want]);
}
