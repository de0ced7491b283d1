//! An ordinary user's containers: without cgroups, with delegated ones, with one id and with many.

use crate::support::call::Output;
use crate::support::user::{FIRST_SUBID, UID};
use crate::support::without::is_unknown_to_kernel;
use crate::support::{Cgroups, Host, Ids, User, cgroup, skip, wait_until};
use serde_json::{Value, json};
use std::fs;

fn alone() -> Host {
    Host::of(User::new(Ids::Own, Cgroups::None))
}

fn with_subids() -> Host {
    Host::of(User::new(Ids::Granted, Cgroups::None))
}

/// Where a cgroup of the unified tree, or of v1's pids and freezer, is delegated to the user.
fn with_cgroups() -> Host {
    let controllers: &[&str] = if cgroup::is_v2() { &["pids"] } else { &["pids", "freezer"] };
    Host::of(User::new(Ids::Own, Cgroups::Delegated(controllers)))
}

fn refuses(host: &Host, edit: impl FnOnce(&mut Value), words: &[&str]) {
    let container = host.sh_with("echo started", edit);
    let out = container.run().fails(1, words);
    assert_eq!(out.stdout, "", "nothing has been started: {out:?}");
    assert!(!host.state_root().join(container.id()).exists());
}

/// As the host sees a process: its real user id.
fn uid_on_host(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The cgroup of a process that has the pids controller.
fn cgroup_of(pid: nix::unistd::Pid) -> std::path::PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(":/")?;
        let is_it = if cgroup::is_v2() { "" } else { "pids" } == controllers;
        is_it.then(|| cgroup::hierarchy("pids").join(path))
    };
    text.lines().find_map(of).unwrap()
}

fn pids(out: &Output) -> Vec<i32> {
    serde_json::from_str(out.text()).unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_is_root_in_a_container_of_its_own() {
    let host = alone();
    let script = "id -u; id -g; cat /proc/self/setgroups; hostname; echo x >/dev/null; \
                  echo 1 >/dev/shm/f; ls /dev; cat /proc/self/status";
    let out = host.sh(script).run().ok();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines[..4], ["0", "0", "deny", "carob"], "{out:?}");
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"] {
        assert!(lines.contains(&device), "{device}: {out:?}");
    }
    assert!(out.stdout.contains("CapEff:\t00000000a80425fb"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_ptmx_that_is_asked_for_is_the_containers() {
    let ptmx = json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]);
    for host in [Host::new(), alone()] {
        let c = host.sh_with("readlink /dev/ptmx", |s| s["linux"]["devices"] = ptmx.clone());
        assert_eq!(c.run().ok().stdout, "pts/ptmx\n");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_users_exec_enters_a_container_that_waits_for_its_start() {
    let Some(_) = Host::only_carob("runc 1.1 enters no container without a cgroup") else { return };
    for uid in [0, 1] {
        let host = with_subids();
        let container = host.sh_with("echo started", |s| {
            s["process"]["user"] = json!({"uid": uid, "gid": uid});
        });
        container.create();
        let out = container.exec_sh("id -u; tr '\\0' ' ' </proc/1/cmdline").ok();
        assert!(out.stdout.starts_with(&format!("{uid}\n")), "{out:?}");
        container.start().wait_output("started");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_goes_through_all_verbs() {
    let Some(_) = Host::only_carob("runc 1.1 finds processes only by a cgroup") else { return };
    let host = alone();
    let container = host.sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done");
    container.create();
    assert_eq!(container.status(), "created");
    container.start().wait_output("ready");

    let out = container.exec_sh("id -u; readlink /proc/self/ns/pid; cat /proc/1/cmdline").ok();
    assert!(out.stdout.starts_with("0\n"), "{out:?}");
    assert!(out.stdout.contains("trap"), "exec sees the container's processes: {out:?}");

    let flags = ["--detach", "--pid-file", &format!("{}/exec.pid", container.bundle().display())];
    container.exec_call(&flags, &["sleep", "1000"]).output().ok();
    let sleeper = fs::read_to_string(container.bundle().join("exec.pid")).unwrap();
    host.adopt(nix::unistd::Pid::from_raw(sleeper.parse().unwrap()));
    let listed = pids(&container.verb("ps", &["--format", "json"]).output().ok());
    assert!(listed.contains(&container.pid().as_raw()), "{listed:?}");
    assert!(listed.contains(&sleeper.parse().unwrap()), "{listed:?}");

    let list = host.runtime(&["list", "--format", "json"]).ok().json();
    assert_eq!(list[0]["id"], container.id());
    assert_eq!(list[0]["owner"], "carobtest", "{list}");

    container.kill("TERM").ok();
    // It ends when the process that was put beside it has been reaped, by us.
    wait_until("the end of what was put beside it", || {
        match nix::sys::wait::waitpid(
            nix::unistd::Pid::from_raw(sleeper.parse().unwrap()),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        ) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) => Err("it lives".into()),
            _ => Ok(()),
        }
    });
    assert_eq!(container.exit_code(), 5);
    container.wait_for("stopped").delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn all_processes_of_a_container_without_cgroup_get_a_signal() {
    let Some(_) = Host::only_carob("runc 1.1 finds processes only by a cgroup") else { return };
    let host = alone();
    let script = "(trap 'echo two; exit 0' USR1; echo child; while :; do sleep 0.02; done) &
        trap 'echo one; wait $!; exit 0' USR1; echo init; while :; do sleep 0.02; done";
    let container = host.sh(script);
    container.run_detached().wait_output("child").wait_output("init");
    container.verb("kill", &["--all"]).args(&["USR1"]).output().ok();
    container.wait_output("two").wait_output("one");
    container.exit_code();
    container.verb("kill", &["--all"]).args(&["KILL"]).output().ok();
    container.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_takes_a_cgroup_says_so() {
    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    let host = alone();
    let container = host.sleeper();
    container.run_detached();
    let has_none = "the container has no cgroup";
    container.verb("pause", &[]).output().fails(1, &["cannot pause", has_none]);
    container.verb("events", &["--stats"]).output().fails(1, &["cannot read", has_none]);
    let words = ["linux.resources.pids.limit", "pids", "you may not make", "delegated"];
    container.verb("update", &["--pids-limit", "5"]).output().fails(1, &words);
    container.kill("KILL").ok();
    container.exit_code();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_takes_more_rights_is_refused_before_anything_starts() {
    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    let host = alone();
    refuses(
        &host,
        |spec| spec["linux"]["resources"] = json!({"memory": {"limit": 1 << 26}}),
        &["linux.resources.memory.limit", "the cgroup controller memory", "you may not make"],
    );
    refuses(
        &host,
        |spec| spec["linux"]["cgroupsPath"] = json!("/carob-test-nowhere/c"),
        &["linux.cgroupsPath", "cannot be used", "Permission denied", "leave it out"],
    );
    refuses(
        &host,
        |spec| {
            let linux = spec["linux"].as_object_mut().unwrap();
            linux.retain(|key, _| !key.ends_with("Mappings"));
            linux["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "user");
        },
        &["linux.namespaces", "\"user\" namespace", "carob spec --rootless"],
    );
    refuses(
        &host,
        |spec| spec["linux"]["uidMappings"][0]["hostID"] = json!(0),
        &["linux.uidMappings[0]", "host ids 0-0 are not yours", "/etc/subuid", "usermod"],
    );
    refuses(
        &host,
        |spec| spec["process"]["user"]["additionalGids"] = json!([0]),
        &["process.user.additionalGids", "setgroups", "linux.gidMappings"],
    );
    refuses(
        &host,
        |spec| {
            let limit = json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 4_000_000_000_u64});
            spec["process"]["rlimits"] = json!([limit]);
        },
        &["process.rlimits", "RLIMIT_NOFILE", "4000000000", "above yours"],
    );
    refuses(
        &host,
        |spec| {
            let network = json!({"type": "network", "path": "/proc/1/ns/net"});
            spec["linux"]["namespaces"][1] = network;
        },
        &["linux.namespaces[1].path", "only root can join"],
    );
    let call = host.bare_call(&["--rootless=false", "--root"]).args(&[host.state_root()]);
    let container = host.sh("echo started");
    let bundle = container.bundle().to_str().unwrap();
    let out = call.args(&["run", "--bundle", bundle, container.id()]).output();
    out.fails(1, &["mkdir cgroup", "Permission denied"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn granted_ids_are_mapped_by_the_helpers() {
    let Some(_) = Host::only_carob("runc 1.1 refuses additional groups") else { return };
    let host = with_subids();
    let container = host.sleeper_with(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 65000]});
    });
    container.run_detached();
    let pid = container.pid().as_raw();
    assert_eq!(uid_on_host(pid), FIRST_SUBID + 999);
    let out = container.exec_sh("id -u; id -G; cat /proc/self/uid_map").ok();
    assert_eq!(out.stdout.lines().next(), Some("1000"), "{out:?}");
    assert_eq!(out.stdout.lines().nth(1), Some("1000 5 65000"), "{out:?}");
    let out = container.exec_call(&["--user", "0:0"], &["id", "-u"]).output().ok();
    assert_eq!(out.text(), "0");
    assert_eq!(pids(&container.verb("ps", &["--format", "json"]).output().ok()), [pid]);
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 137);
    container.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ids_that_are_not_granted_are_refused_with_those_that_are() {
    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    refuses(
        &with_subids(),
        |spec| spec["linux"]["gidMappings"][1]["size"] = json!(65_537),
        &["linux.gidMappings[1]", "host ids 700000-765536", "/etc/subgid", "700000-765535"],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_the_helpers_only_the_own_id_can_be_mapped() {
    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    let host = with_subids();
    let container = host.sh("echo started");
    let out = container.bundle_verb("run", &[]).env("PATH_OF_USER", "/nowhere").output();
    out.fails(1, &["linux.uidMappings", "newuidmap is not installed", "hostID 61211"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn oom_scores_are_raised_and_a_lower_one_is_a_warning() {
    let host = alone();
    let score = |score: i32| move |spec: &mut Value| spec["process"]["oomScoreAdj"] = json!(score);
    let container = host.sleeper_with(score(700));
    container.run_detached();
    let inside = |args: &[&str]| container.exec(args).ok().text().to_owned();
    assert_eq!(inside(&["cat", "/proc/1/oom_score_adj"]), "700");
    assert_eq!(inside(&["cat", "/proc/self/oom_score_adj"]), "700");
    container.kill("KILL").ok();
    container.exit_code();
    let Some(_) = Host::only_carob("runc refuses a lower one") else { return };
    let out = host.sh_with("cat /proc/self/oom_score_adj", score(-1000)).run().ok();
    assert!(out.stderr.contains("process.oomScoreAdj: -1000: "), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn namespaces_of_another_container_of_the_user_are_joined() {
    let Some(_) = Host::only_carob("runc 1.1 wants id maps of a joined user namespace") else {
        return;
    };
    for host in [alone(), with_subids()] {
        let other = host.sleeper();
        other.run_detached();
        let kinds = [("user", "user"), ("pid", "pid"), ("uts", "uts"), ("network", "net")];
        let path = |file: &str| format!("/proc/{}/ns/{file}", other.pid());
        let c = host.sh_with(
            "for n in user pid uts net; do readlink /proc/self/ns/$n; done; id -u",
            |s| {
                for (kind, file) in kinds {
                    let list = s["linux"]["namespaces"].as_array_mut().unwrap();
                    list.retain(|namespace| namespace["type"] != kind);
                    list.push(json!({"type": kind, "path": path(file)}));
                }
                for key in ["uidMappings", "gidMappings"] {
                    s["linux"].as_object_mut().unwrap().remove(key);
                }
                s.as_object_mut().unwrap().remove("hostname");
            },
        );
        let there = kinds.map(|(_, file)| fs::read_link(path(file)).unwrap());
        let there = there.map(|link| format!("{}\n", link.display())).concat();
        assert_eq!(c.run().ok().stdout, format!("{there}0\n"));
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_state_is_in_the_users_runtime_directory() {
    let host = alone();
    let bundle = host.sh("echo hello").bundle().to_str().unwrap().to_owned();
    let name = crate::support::runtime().file_name().unwrap().to_owned();
    let run = |args: &[&str]| host.bare_call(args).env("USER", "carobtest");
    let out = run(&["run", "--bundle", &bundle, "c0"]).output().ok();
    assert_eq!(out.text(), "hello");
    let root = host.dir().join("run").join(name);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&root).unwrap());
    assert_eq!(mode & 0o7777, 0o1700, "{}", root.display());

    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    let out = run(&["run", "--bundle", &bundle, "c0"]).env("XDG_RUNTIME_DIR", "").output();
    // Root may have made it already: then it is its content that is refused.
    out.fails(1, &["/run/carob", "XDG_RUNTIME_DIR"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn delegated_cgroups_are_used() {
    let Some(_) = Host::only_carob("runc 1.1 wants all hierarchies of v1 or none") else { return };
    let host = with_cgroups();
    let container = host.sleeper_with(|spec| {
        spec["linux"]["resources"] = json!({"pids": {"limit": 9}});
    });
    container.run_detached();
    let own = cgroup_of(container.pid());
    assert_eq!(fs::read_to_string(own.join("pids.max")).unwrap().trim(), "9");
    assert_eq!(
        pids(&container.verb("ps", &["--format", "json"]).output().ok()),
        [container.pid().as_raw()]
    );
    container.verb("pause", &[]).output().ok();
    container.wait_for("paused").verb("resume", &[]).output().ok();
    container.wait_for("running").verb("update", &["--pids-limit", "8"]).output().ok();
    assert_eq!(fs::read_to_string(own.join("pids.max")).unwrap().trim(), "8");
    let stats = container.verb("events", &["--stats"]).output().ok().json();
    assert_eq!(stats["data"]["pids"]["current"], 1, "{stats}");
    container.exec(&["true"]).ok();
    container.kill("KILL").ok();
    container.exit_code();
    container.delete().ok();
    assert!(!own.exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_controller_that_is_not_delegated_is_named() {
    let Some(_) = Host::only_carob("runc says it otherwise") else { return };
    let host = with_cgroups();
    refuses(
        &host,
        |spec| spec["linux"]["resources"] = json!({"cpu": {"cpus": "0"}}),
        &["linux.resources.cpu.cpus", "the cgroup controller cpuset"],
    );
}

/// CVE-2023-25809: what of the host's cgroups the user may write, its container must not.
#[test]
#[ignore = "needs root: run scripts/test"]
fn cgroups_of_the_user_are_out_of_the_containers_reach() {
    let Some(_) = Host::only_carob("runc 1.1.5 lets them be written") else { return };
    let host = with_cgroups();
    let controller = if cgroup::is_v2() { "" } else { "/pids" };
    let script = format!(
        "found=no; for dir in $(find /sys/fs/cgroup{controller} -type d 2>/dev/null); do \
         found=yes; mkdir $dir/carob-escape 2>/dev/null && echo made $dir; \
         echo 1 2>/dev/null >$dir/cgroup.procs && echo joined $dir; done; echo $found"
    );
    let rbind = |spec: &mut Value| {
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys" {
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
        }
        spec["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    };
    let out = host.sh_with(&script, rbind).run().ok();
    assert_eq!(out.text(), "yes", "{out:?}");

    // A new sysfs is impossible in the host's network namespace: carob takes the host's.
    let out = host.sh_with(&script, |spec| {
        let linux = &mut spec["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "cgroup" && n["type"] != "network");
        spec["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
    });
    let out = out.run().ok();
    assert_eq!(out.text(), "yes", "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_overlay_is_mounted_by_the_users_root() {
    let Some(_) = Host::only_carob("runc 1.1 mounts it without userxattr") else { return };
    if is_unknown_to_kernel("mount_setattr") {
        return skip(
            "overlays in user namespaces came with Linux 5.11, a release before that call",
        );
    }
    let host = with_subids();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(host.dir().join(name)).unwrap();
        nix::unistd::chown(
            &host.dir().join(name),
            Some(nix::unistd::Uid::from_raw(UID)),
            Some(nix::unistd::Gid::from_raw(UID)),
        )
        .unwrap();
    }
    fs::create_dir(host.dir().join("lower/gone")).unwrap();
    let dir = host.dir().display().to_string();
    let script = "cd /mnt && rmdir gone && mkdir gone && touch gone/new && ls gone";
    let container = host.sh_with(script, |spec| {
        spec["root"]["readonly"] = json!(true);
        let options = format!("lowerdir={dir}/lower,upperdir={dir}/upper,workdir={dir}/work");
        let options: Vec<_> = options.split(',').collect();
        crate::support::push(
            spec,
            "/mounts",
            json!({"destination": "/mnt", "type": "overlay", "source": "o", "options": options}),
        );
    });
    let out = container.run();
    assert_eq!((out.code, out.text()), (0, "new"), "{out:?}");
}

/// A container of a caller who is root in a user namespace that somebody else has made.
fn nested<'h>(host: &'h Host, script: &str) -> crate::support::Container<'h> {
    host.sh_with(script, |spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.retain(|key, _| !key.ends_with("Mappings"));
        linux["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "user");
    })
}

/// Runs a script of the user as root of a user namespace; `$R` is the state root, `run NAME BUNDLE`
/// starts a container and waits until it runs.
fn in_user_namespace(host: &Host, script: &str) -> Output {
    let run = r#"
run() {
    "$CAROB" --root "$R" run --bundle "$2" "$1" &
    left=600
    until "$CAROB" --root "$R" state "$1" 2>/dev/null | grep -q '"running"'; do
        left=$((left - 1)); [ "$left" -gt 0 ] || exit 9
        sleep 0.05
    done
}
"#;
    let inside = format!("unshare --user --map-root-user sh -c '{run}{script}'");
    let inside = inside.replace("'\"running\"'", "running");
    let call = host.bare_call(&["-"]).env("SCRIPT_OF_USER", inside).env("R", host.state_root());
    // Several calls of the runtime, which an emulated machine takes its time for.
    call.within(std::time::Duration::from_secs(240)).output()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn root_of_somebody_elses_user_namespace_goes_through_the_verbs() {
    let Some(_) = Host::only_carob("runc 1.1 finds processes only by a cgroup") else { return };
    let host = alone();
    let container = nested(&host, "trap 'exit 5' TERM; while :; do sleep 0.02; done");
    let script = format!(
        "run {id} {bundle}; \
         \"$CAROB\" --root \"$R\" exec {id} sh -c \"id -u; ls /dev/null; echo x >/dev/null\"; \
         \"$CAROB\" --root \"$R\" ps --format json {id} >/dev/null || exit 8; \
         \"$CAROB\" --root \"$R\" kill {id} TERM; wait; \
         \"$CAROB\" --root \"$R\" list --quiet; echo done",
        id = container.id(),
        bundle = container.bundle().display(),
    );
    let out = in_user_namespace(&host, &script).ok();
    assert_eq!(out.text(), "0\n/dev/null\ndone", "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn root_of_somebody_elses_user_namespace_joins_pid_namespaces() {
    let Some(_) = Host::only_carob("runc ends both otherwise") else { return };
    let host = alone();
    let first = nested(&host, "trap 'exit 0' TERM; while :; do sleep 0.02; done");
    let second = nested(&host, "echo $$; ls /proc | grep -c ^1$");
    let config = second.bundle().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut spec: Value = serde_json::from_str(&text).unwrap();
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!("/proc/@PID@/ns/pid");
        }
    }
    fs::write(&config, spec.to_string()).unwrap();
    nix::unistd::chown(&config, Some(nix::unistd::Uid::from_raw(UID)), None).unwrap();
    let script = format!(
        "run {id} {bundle}; \
         pid=$(\"$CAROB\" --root \"$R\" state {id} | sed -n \"s/.*pid.: \\([0-9]*\\).*/\\1/p\"); \
         sed -i \"s,@PID@,$pid,\" {config}; \
         \"$CAROB\" --root \"$R\" run --bundle {other} {other_id}; echo code $?; \
         \"$CAROB\" --root \"$R\" kill {id} TERM; wait",
        id = first.id(),
        bundle = first.bundle().display(),
        config = config.display(),
        other = second.bundle().display(),
        other_id = second.id(),
    );
    let out = in_user_namespace(&host, &script).ok();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines[1..], ["1", "code 0"], "the other one's init is pid 1: {out:?}");
    assert_ne!(lines[0], "1", "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pods_say_that_they_need_root() {
    let Some(_) = Host::only_carob("runc has no pods") else { return };
    let host = alone();
    let manifest = host.dir().join("pod.yaml");
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: \
                [{name: c, image: 'rootfs:/nowhere', command: [sh]}]}}";
    fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_str().unwrap();
    host.runtime(&["pod", "run", manifest]).fails(1, &["pods need root on this machine"]);
    host.runtime(&["pod", "sandbox", "create", "p"]).fails(1, &["pods need root"]);
    assert!(!host.state_root().join("@pods").exists());
}
