//! Mistakes in config.json: each an error that says where, and nothing was started.

use crate::support::{Host, Peer, peer, push};
use serde_json::{Value, json};
use std::fs;

/// `create` of the edited config fails; carob's error has every one of `words`.
///
/// What is left behind is found by the Host; here only that no init was ever started.
fn refused(host: &Host, edit: impl FnOnce(&mut Value), words: &[&str]) {
    let c = host.sleeper_with(edit);
    let out = c.create_call(&[]).output();
    assert_eq!(out.code, 1, "{words:?}: {out:?}");
    assert!(!c.bundle().join("pid").exists(), "{words:?}: pid file");
    assert!(!host.state_root().join(c.id()).exists(), "{words:?}: state");
    assert!(!host.cgroup("pids", c.id()).exists(), "{words:?}: cgroup");
    if peer() == Peer::Carob {
        for word in words {
            assert!(out.stderr.contains(word), "no {word:?}: {out:?}");
        }
    }
}

/// As [`refused`], for what runc 1.1 lets pass.
fn refused_by_carob(reason: &str, edit: impl FnOnce(&mut Value), words: &[&str]) {
    if let Some(host) = Host::only_carob(reason) {
        refused(&host, edit, words);
    }
}

/// `create` with this text as config.json fails; carob's error has every one of `words`.
fn refused_text(text: &[u8], words: &[&str]) {
    let host = Host::new();
    let c = host.sleeper();
    fs::write(c.bundle().join("config.json"), text).unwrap();
    let out = c.create_call(&[]).output();
    assert_eq!(out.code, 1, "{out:?}");
    if peer() == Peer::Carob {
        for word in words {
            assert!(out.stderr.contains(word), "no {word:?}: {out:?}");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn text_that_is_not_json() {
    refused_text(b"hello", &["config.json", "line 1"]);
    refused_text(b"", &["config.json"]);
    refused_text(b"{\"ociVersion\": \"1.0.2\",", &["config.json"]);
    refused_text(b"\xff\xfe{}", &["config.json"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn json_that_is_no_config() {
    refused_text(b"{}", &["ociVersion"]);
    refused_text(b"[]", &["config.json"]);
    if peer() == Peer::Carob {
        refused_text(b"null", &["config.json"]); // runc 1.1 panics
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_file_of_100_mb() {
    let Some(host) = Host::only_carob("runc 1.1 reads a config of any size") else {
        return;
    };
    let c = host.sleeper();
    let file = fs::File::options().write(true).open(c.bundle().join("config.json")).unwrap();
    file.set_len(100 << 20).unwrap();
    c.create_call(&[]).output().fails(1, &["config.json"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_wrong_type_is_named_by_its_path() {
    let host = Host::new();
    refused(&host, |s| s["process"]["args"] = json!("true"), &["process.args"]);
    refused(&host, |s| s["process"]["user"]["uid"] = json!("root"), &["process.user.uid"]);
    refused(&host, |s| s["process"]["user"]["uid"] = json!(-1), &["process.user.uid", "-1"]);
    refused(&host, |s| s["root"] = json!("/"), &["root"]);
    refused(&host, |s| s["mounts"][1]["options"] = json!("ro"), &["mounts[1].options"]);
    refused(
        &host,
        |s| s["linux"]["resources"]["memory"] = json!({"limit": "1g"}),
        &["linux.resources.memory.limit", "1g"],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_number_too_large_for_a_user_id() {
    let host = Host::new();
    refused(
        &host,
        |s| s["process"]["user"]["uid"] = json!(4_294_967_296_u64),
        &["process.user.uid", "4294967296"],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_spec_version_that_is_too_new_or_none() {
    let words = ["ociVersion", "7.0.0"];
    refused_by_carob("runc 1.1 takes any version", |s| s["ociVersion"] = json!("7.0.0"), &words);
    let words = ["ociVersion", "banana"];
    refused_by_carob("runc 1.1 takes any version", |s| s["ociVersion"] = json!("banana"), &words);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_unknown_namespace() {
    let host = Host::new();
    refused(
        &host,
        |s| push(s, "/linux/namespaces", json!({"type": "space"})),
        &["linux.namespaces[6]", "space"],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_namespace_twice() {
    let host = Host::new();
    refused(
        &host,
        |s| push(s, "/linux/namespaces", json!({"type": "pid"})),
        &["linux.namespaces[6]", "pid"],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_namespace_path_that_is_relative() {
    let edit = |s: &mut Value| {
        s["linux"]["namespaces"][1] = json!({"type": "network", "path": "proc/self/ns/net"});
    };
    let words = ["linux.namespaces[1].path", "proc/self/ns/net"];
    refused_by_carob("runc 1.1 takes a relative path", edit, &words);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mount_without_destination() {
    let host = Host::new();
    refused(
        &host,
        |s| push(s, "/mounts", json!({"type": "tmpfs", "source": "tmpfs"})),
        &["mounts["],
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_option_with_two_meanings_for_propagation() {
    let edit = |s: &mut Value| s["linux"]["rootfsPropagation"] = json!("sideways");
    let host = Host::new();
    refused(&host, edit, &["linux.rootfsPropagation", "sideways"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_relative_working_directory() {
    let host = Host::new();
    refused(&host, |s| s["process"]["cwd"] = json!("tmp"), &["process.cwd", "tmp"]);
    refused(&host, |s| s["process"]["cwd"] = json!(""), &["process.cwd"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_arguments() {
    let host = Host::new();
    refused(&host, |s| s["process"]["args"] = json!([]), &["process.args"]);
    refused(&host, |s| s.as_object_mut().unwrap().remove("process").map_or((), drop), &["process"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_malformed_capability() {
    let edit = |s: &mut Value| push(s, "/process/capabilities/bounding", json!("CHOWN; rm -rf"));
    let words = ["process.capabilities.bounding", "CHOWN; rm -rf"];
    refused_by_carob("runc 1.1 ignores malformed capability names", edit, &words);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_quota_without_meaning() {
    let edit =
        |s: &mut Value| s["linux"]["resources"]["cpu"] = json!({"quota": 10, "period": 100_000});
    let host = Host::new();
    refused(&host, edit, &["quota", "10"]);
    let edit = |s: &mut Value| s["linux"]["resources"]["cpu"] = json!({"period": 5});
    refused(&host, edit, &["period", "5"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_soft_limit_above_the_hard_one() {
    let host = Host::new();
    let edit = |s: &mut Value| {
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]);
    };
    refused(&host, edit, &["process.rlimits[0]", "20", "10"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_resource_limit_that_is_unknown_or_given_twice() {
    let host = Host::new();
    let edit = |s: &mut Value| {
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_LUCK", "soft": 1, "hard": 1}]);
    };
    refused(&host, edit, &["process.rlimits[0]", "RLIMIT_LUCK"]);
    let edit = |s: &mut Value| {
        let one = json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1});
        s["process"]["rlimits"] = json!([one, one]);
    };
    refused_by_carob("runc 1.1 applies both", edit, &["process.rlimits[1]", "RLIMIT_NOFILE"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_nul_in_a_path_or_argument() {
    let host = Host::new();
    refused(&host, |s| s["process"]["args"] = json!(["a\0b"]), &["process.args[0]"]);
    refused(&host, |s| s["process"]["cwd"] = json!("/a\0b"), &["process.cwd"]);
    refused(&host, |s| s["root"]["path"] = json!("/a\0b"), &["root.path"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_rootfs() {
    let host = Host::new();
    let edit = |s: &mut Value| s["root"]["path"] = json!("/nowhere/root");
    refused(&host, edit, &["/nowhere/root"]);
    refused(&host, |s| s["root"]["path"] = json!(""), &["root.path"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn environment_without_an_equals_sign() {
    let edit = |s: &mut Value| push(s, "/process/env", json!("NOVALUE"));
    refused_by_carob("runc 1.1 passes it on", edit, &["process.env[", "NOVALUE"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hostname_without_a_namespace_for_it() {
    let host = Host::new();
    let edit = |s: &mut Value| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "uts");
    };
    refused(&host, edit, &["hostname"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hook_with_a_relative_path() {
    let host = Host::new();
    let edit = |s: &mut Value| s["hooks"] = json!({"poststop": [{"path": "bin/true"}]});
    if peer() == Peer::Runc {
        return crate::support::skip("runc 1.1 runs it");
    }
    refused(&host, edit, &["hooks.poststop[0].path", "bin/true"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_seccomp_action_or_architecture_that_does_not_exist() {
    let host = Host::new();
    refused(
        &host,
        |s| s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_MAYBE"}),
        &["linux.seccomp.defaultAction", "SCMP_ACT_MAYBE"],
    );
    let edit = |s: &mut Value| {
        s["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ABACUS"]});
    };
    refused(&host, edit, &["linux.seccomp.architectures[0]", "SCMP_ARCH_ABACUS"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn id_maps_without_a_user_namespace() {
    let edit = |s: &mut Value| {
        s["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    };
    refused_by_carob("runc 1.1 ignores them", edit, &["linux.uidMappings"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn device_rules_without_meaning() {
    let host = Host::new();
    let edit = |s: &mut Value| {
        push(s, "/linux/resources/devices", json!({"allow": true, "type": "x", "access": "r"}));
    };
    refused(&host, edit, &["linux.resources.devices[1].type", "x"]);
    let edit = |s: &mut Value| {
        push(s, "/linux/resources/devices", json!({"allow": true, "type": "c", "access": "q"}));
    };
    let words = ["linux.resources.devices[1].access", "q"];
    refused_by_carob("runc 1.1 takes any access", edit, &words);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cgroups_path_that_climbs_out() {
    let Some(host) = Host::only_carob("runc 1.1 cleans the path instead") else {
        return;
    };
    let edit = |s: &mut Value| s["linux"]["cgroupsPath"] = json!("/a/../../../x");
    refused(&host, edit, &["linux.cgroupsPath", "/a/../../../x"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn flags_that_are_unknown() {
    let host = Host::new();
    for args in [&["--nonsense", "list"][..], &["create", "--nonsense", "x"], &["nonsense"]] {
        let out = host.call(args).output();
        assert_ne!(out.code, 0, "{args:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn arguments_that_are_missing_or_too_many() {
    let host = Host::new();
    for args in [&["state"][..], &["create"], &["start", "a", "b"], &["delete"], &["exec"]] {
        let out = host.call(args).output();
        assert_ne!(out.code, 0, "{args:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_class_of_cache_where_there_is_none() {
    let Some(host) = Host::only_carob("runc says it in other words") else { return };
    let c = host.sleeper_with(|s| s["linux"]["intelRdt"] = json!({"closID": "carob-none"}));
    let is_mounted = fs::read_to_string("/proc/mounts").unwrap().contains(" resctrl ");
    let text = if is_mounted { "closID" } else { "no resctrl" };
    c.create_call(&[]).output().fails(1, &["linux.intelRdt", text]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_the_kernel_refuses_is_named_by_its_json_path() {
    let host = Host::new();
    let join = |kind: &str, path: &str| {
        let namespace = json!({"type": kind, "path": path});
        move |s: &mut Value| {
            let all = s["linux"]["namespaces"].as_array_mut().unwrap();
            let own = all.iter_mut().find(|own| own["type"] == namespace["type"]).unwrap();
            *own = namespace;
        }
    };
    for kind in ["ipc", "pid"] {
        refused(
            &host,
            join(kind, "/nosuch"),
            &["error: linux.namespaces[", "].path: open", "such"],
        );
        let words = ["error: linux.namespaces[", "].path: join", "/proc/self/ns/uts", kind];
        refused(&host, join(kind, "/proc/self/ns/uts"), &words);
    }
    refused(
        &host,
        |s| {
            let mount = json!({"destination": "/mnt", "source": "/nosuch", "options": ["bind"]});
            s["mounts"].as_array_mut().unwrap().insert(3, mount);
        },
        &["error: mounts[3].source: \"/nosuch\""],
    );
    refused(
        &host,
        |s| {
            let mount = json!({"destination": "/mnt", "type": "nosuchfs", "source": "none"});
            s["mounts"].as_array_mut().unwrap().insert(2, mount);
        },
        &["error: mounts[2]: /mnt: make file system nosuchfs"],
    );
    for (key, value) in [("net.ipv4.nosuch", "1"), ("kernel.msgmax", "many")] {
        let field = format!("error: linux.sysctl.{key}: ");
        refused(&host, |s| s["linux"]["sysctl"] = json!({ key: value }), &[&field]);
    }
}

/// Without the capability to, even root may not go beyond what it has.
#[test]
#[ignore = "needs root: run scripts/test"]
fn limits_that_may_not_be_raised_are_named_by_their_json_path() {
    let Some(host) = Host::only_carob("runc 1.1 has other words") else {
        return;
    };
    // More than fs.nr_open can be, which systemd sets to its most: not even root may.
    let many = 3_000_000_000_u64;
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": many, "hard": many}]);
    let c = host.sleeper_with(|s| s["process"]["rlimits"] = limit.clone());
    let words = ["error: process.rlimits: set RLIMIT_NOFILE to soft 3000000000"];
    c.create_call(&[]).output().fails(1, &words);
    let c = host.sleeper_with(|s| s["process"]["oomScoreAdj"] = json!(-500));
    let prelude = "exec setpriv --inh-caps -sys_resource --bounding-set -sys_resource \"$@\"";
    let out = c.create_call(&[]).after(prelude).output();
    out.fails(1, &["error: process.oomScoreAdj: -500: write"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_scheduler_that_is_refused_is_named_as_in_the_configuration() {
    let Some(host) = Host::only_carob("runc 1.1 knows no process.scheduler") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        s["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 10});
    });
    let prelude = "exec setpriv --inh-caps -sys_nice --bounding-set -sys_nice \"$@\"";
    let words = ["error: process.scheduler: set SCHED_FIFO priority 10: Operation not permitted"];
    c.create_call(&[]).after(prelude).output().fails(1, &words);
}
