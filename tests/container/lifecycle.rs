//! create, start, state, kill, delete: statuses, exit codes, messages.

use crate::support::Host;
use crate::support::container::exit_code;
use nix::unistd::Pid;
use serde_json::json;
use std::fs;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_goes_through_created_running_stopped() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    assert_eq!(c.status(), "created");
    c.start();
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
    c.verb("state", &[]).output().fails(1, &["does not exist"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn init_waits_before_its_program_until_start() {
    let host = Host::new();
    let c = host.sh("echo started");
    c.create();
    assert_eq!(c.output(), "");
    c.start();
    assert_eq!(c.exit_code(), 0);
    assert_eq!(c.output(), "started\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_exit_code_reaches_whoever_reaps_init() {
    let host = Host::new();
    let c = host.sh("exit 42");
    c.create().start();
    assert_eq!(c.exit_code(), 42);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_zombie_init_counts_as_stopped() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.create().start();
    c.wait_for("stopped"); // nobody has reaped it
    assert_eq!(c.state()["pid"], 0);
    assert_eq!(c.exit_code(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn state_has_the_fields_clients_read() {
    let host = Host::new();
    let c = host.sleeper_with(|s| s["annotations"] = json!({"org.example.a": "b"}));
    c.create();
    let state = c.state();
    assert_eq!(state["id"], c.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], c.pid().as_raw());
    assert_eq!(state["bundle"], c.bundle().to_str().unwrap());
    assert_eq!(state["rootfs"], crate::support::rootfs().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"org.example.a": "b"}));
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    let created = state["created"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.contains('T'), "{created}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_pid_file_is_the_bare_number() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let text = fs::read_to_string(c.bundle().join("pid")).unwrap();
    assert!(text.bytes().all(|b| b.is_ascii_digit()), "{text:?}");
    assert_eq!(text, c.state()["pid"].to_string());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_relative_pid_file_is_where_the_caller_is() {
    let host = Host::new();
    let c = host.sleeper();
    let call = c.bundle_verb("create", &["--pid-file", "here.pid"]);
    call.cwd(host.dir()).output().ok();
    let pid: i32 = fs::read_to_string(host.dir().join("here.pid")).unwrap().parse().unwrap();
    host.adopt(Pid::from_raw(pid));
    assert_eq!(c.state()["pid"], pid);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_bundle_defaults_to_the_current_directory() {
    let host = Host::new();
    let c = host.sh("echo here");
    let out = c.verb("run", &[]).cwd(c.bundle()).output().ok();
    assert_eq!(out.stdout, "here\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_id_in_use_is_refused_and_its_owner_untouched() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let again = host.container_named(c.id(), |_| {});
    again.create_call(&[]).output().fails(1, &["container with given ID already exists"]);
    assert_eq!(c.status(), "created");
    assert!(!again.bundle().join("pid").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_id_can_be_used_again_after_delete() {
    let host = Host::new();
    let c = host.sh("echo once");
    assert_eq!(c.run().ok().stdout, "once\n");
    assert_eq!(c.run().ok().stdout, "once\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ids_outside_the_character_set_are_refused() {
    let host = Host::new();
    for id in ["", ".", "..", "../x", "a/b", "a b", "ä", "a\n", &"x".repeat(1025)] {
        let c = host.sleeper();
        let args = ["create", "--bundle", c.bundle().to_str().unwrap(), "--", id];
        let out = host.runtime(&args);
        assert_eq!(out.code, 1, "{id:?}: {out:?}");
        assert!(!out.stderr.is_empty(), "{id:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ids_may_have_the_characters_of_names_with_dots() {
    // A plus sign cannot be in the name of a unit.
    let Some(host) = Host::only_cgroupfs() else { return };
    let c = host.container_named("aZ09_.-+", |s| s["process"]["args"] = json!(["true"]));
    c.run().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_bundle_or_config_is_an_error() {
    let host = Host::new();
    let c = host.sleeper();
    let nowhere = host.dir().join("nowhere");
    let args = ["create", "--bundle", nowhere.to_str().unwrap(), c.id()];
    host.runtime(&args).fails(1, &["nowhere"]);
    fs::remove_file(c.bundle().join("config.json")).unwrap();
    c.create_call(&[]).output().fails(1, &["config.json"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_of_an_unknown_id_fails_and_with_force_does_not() {
    let host = Host::new();
    host.runtime(&["delete", "nobody"]).fails(1, &["does not exist"]);
    let forced = host.runtime(&["delete", "--force", "nobody"]).ok();
    assert_eq!((forced.stdout.as_str(), forced.stderr.as_str()), ("", ""));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn verbs_on_an_unknown_id_say_it_does_not_exist() {
    let host = Host::new();
    let calls: [&[&str]; 9] = [
        &["state", "nobody"],
        &["start", "nobody"],
        &["kill", "nobody", "9"],
        &["exec", "nobody", "true"],
        &["pause", "nobody"],
        &["resume", "nobody"],
        &["ps", "nobody"],
        &["update", "--memory", "1000000", "nobody"],
        &["events", "--stats", "nobody"],
    ];
    for call in calls {
        let out = host.runtime(call);
        assert_ne!(out.code, 0, "{call:?}: {out:?}");
        assert!(out.stderr.contains("does not exist"), "{call:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_of_a_running_container_names_its_status() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let message = format!("cannot delete container {} that is not stopped: running", c.id());
    c.delete().fails(1, &[&message]);
    assert_eq!(c.status(), "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_force_kills_a_running_container() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    c.delete_force().ok();
    assert_eq!(c.exit_code(), 137);
    c.verb("state", &[]).output().fails(1, &["does not exist"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delete_of_a_created_container_removes_it() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    c.delete().ok();
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn start_twice_is_an_error() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let out = c.verb("start", &[]).output();
    out.fails(1, &["cannot start an already running container"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn start_of_a_stopped_container_is_an_error() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    let out = c.verb("start", &[]).output();
    out.fails(1, &["cannot start a container that has stopped"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_of_a_stopped_container_says_not_running() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    c.kill("TERM").fails(1, &["container not running"]);
    c.kill("KILL").fails(1, &["container not running"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_all_of_a_stopped_container_succeeds() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    host.runtime(&["kill", "--all", c.id(), "KILL"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_created_container_can_be_killed() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    c.kill("KILL").ok();
    assert_eq!(c.exit_code(), 137);
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn signals_are_known_by_name_and_number() {
    let host = Host::new();
    let c = host.sh("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done");
    c.run_detached().wait_output("ready");
    for (n, signal) in ["USR1", "SIGUSR1", "usr1", "10"].into_iter().enumerate() {
        c.kill(signal).ok();
        c.wait_output(&format!("ready\n{}", "usr1\n".repeat(n + 1)));
    }
    c.kill("0").ok();
    c.kill("NOSUCH").fails(1, &["unknown signal", "NOSUCH"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_default_signal_is_term() {
    let host = Host::new();
    let c = host.sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
    c.run_detached().wait_output("ready");
    c.verb("kill", &[]).output().ok();
    assert_eq!(c.exit_code(), 7);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_all_reaches_every_process_of_a_shared_pid_namespace() {
    let host = Host::new();
    let c = host.sh_with("sleep 1000 & sleep 1000 & echo ready; wait", |s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    c.run_detached().wait_output("ready");
    let procs = host.cgroup("pids", c.id()).join("cgroup.procs");
    let pids: Vec<i32> =
        fs::read_to_string(&procs).unwrap().lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    host.runtime(&["kill", "--all", c.id(), "KILL"]).ok();
    for pid in pids {
        let pid = Pid::from_raw(pid); // orphans come to us
        assert_eq!(exit_code(pid), 137);
    }
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn create_leaves_init_in_its_cgroups() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let procs = fs::read_to_string(host.cgroup("memory", c.id()).join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), c.pid().to_string());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_relative_cgroups_path_and_none_at_all_are_placed_somewhere() {
    let Some(host) = Host::only_cgroupfs() else { return };
    for path in [json!(format!("{}/x", host.marker())), serde_json::Value::Null] {
        let id = format!("{}-{}", host.marker(), path.is_null());
        let c = host.container_named(&id, |s| {
            s["process"]["args"] = json!(["sleep", "1000"]);
            s["linux"]["cgroupsPath"] = path;
        });
        c.run_detached();
        let own = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        assert!(own.contains(host.marker()), "{own}");
        c.delete_force().ok();
        assert_eq!(c.exit_code(), 137);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn cgroups_are_made_below_the_given_path_and_deleted_with_their_children() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let sub = host.cgroup("memory", c.id()).join("sub/sub");
    fs::create_dir_all(&sub).unwrap();
    c.delete_force().ok();
    assert!(!host.cgroup("memory", c.id()).exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_empty_environment_is_enough() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    for verb in ["pause", "resume", "state"] {
        c.verb(verb, &[]).empty_env().env("XDG_RUNTIME_DIR", "").output().ok();
    }
    c.verb("delete", &["--force"]).empty_env().output().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_log_file_gets_one_json_line_on_failure_and_none_on_success() {
    let host = Host::new();
    let log = host.dir().join("log.json");
    let call = |args: &[&str]| {
        host.call(&["--log", log.to_str().unwrap(), "--log-format", "json"]).args(args).output()
    };
    let c = host.sh("true");
    call(&["run", "--bundle", c.bundle().to_str().unwrap(), c.id()]).ok();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
    call(&["start", "nobody"]).fails(1, &["does not exist"]);
    let text = fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("does not exist"), "{line}");
    assert!(line["time"].as_str().unwrap().contains('T'), "{line}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_log_file_that_cannot_be_opened_is_an_error() {
    let host = Host::new();
    let out = host.call(&["--log", "/nonexistent/log", "list"]).output();
    assert_eq!(out.code, 1, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_that_is_in_use_is_refused_and_left_alone() {
    let Some(host) = Host::only_carob("runc 1.1 joins it with a warning") else {
        return;
    };
    let first = host.sleeper();
    first.run_detached();
    let path = host.cgroups_path(first.id());
    let second = host.sleeper_with(|s| s["linux"]["cgroupsPath"] = json!(path));
    second.create_call(&[]).output().fails(1, &["cgroup is not empty"]);
    assert_eq!(first.status(), "running");
    first.exec(&["true"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_that_is_there_in_one_hierarchy_alone_is_used() {
    let Some(host) = Host::only_cgroupfs() else { return };
    for hierarchy in crate::support::cgroup::hierarchies() {
        let name = hierarchy.file_name().unwrap().to_str().unwrap();
        let c = host.sh("echo inside");
        let there = host.cgroup(name, c.id());
        // What has no processors, or no controllers above it, takes nobody.
        if name == "cpuset" || !there.starts_with(&hierarchy) {
            continue;
        }
        fs::create_dir_all(&there).unwrap();
        let out = c.run();
        let _by_runc = fs::remove_dir(&there);
        assert_eq!(out.ok().text(), "inside", "{name}");
    }
}

/// Where init makes its namespaces meanwhile, too.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_that_is_in_use_in_one_hierarchy_is_left_alone() {
    let Some(host) = Host::only_carob("runc 1.1 joins it").and_then(|_| Host::only_cgroupfs())
    else {
        return;
    };
    for controller in ["devices", "memory", "unified"] {
        if !crate::support::cgroup::hierarchy(controller).is_dir() {
            continue;
        }
        let mark = host.dir().join("poststop");
        let c = host.sleeper_with(|s| {
            s["hooks"]["poststop"] = json!([{"path": "/bin/touch", "args": ["touch", mark]}]);
        });
        let there = host.cgroup(controller, c.id());
        fs::create_dir_all(&there).unwrap();
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(there.join("cgroup.procs"), stranger.id().to_string()).unwrap();
        let out = c.create_call(&[]).output();
        let lives = stranger.try_wait().unwrap().is_none();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        let left: Vec<_> = crate::support::cgroup::hierarchies()
            .into_iter()
            .map(|hierarchy| hierarchy.join(host.cgroup_below(c.id())))
            .filter(|dir| dir.exists())
            .collect();
        fs::remove_dir(&there).unwrap();
        out.fails(1, &["cgroup is not empty"]);
        assert!(lives, "{controller}");
        assert!(!mark.exists(), "{controller}");
        assert_eq!(left, [there]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroup_that_was_there_stays_when_the_container_cannot_be_made() {
    // A scope is always new, and its cgroup is systemd's to take away.
    let Some(host) = Host::only_carob("runc removes it").and_then(|_| Host::only_cgroupfs()) else {
        return;
    };
    let c = host.sleeper_with(|s| {
        let mount = json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"});
        crate::support::push(s, "/mounts", mount);
    });
    let there = host.cgroup("pids", c.id());
    fs::create_dir_all(&there).unwrap();
    let out = c.create_call(&[]).output();
    let stays = there.exists();
    fs::remove_dir(&there).unwrap();
    out.fails(1, &["nosuchfs"]);
    assert!(stays, "{}", there.display());
    if there != host.cgroup("memory", c.id()) {
        assert!(!host.cgroup("memory", c.id()).exists());
    }
}
