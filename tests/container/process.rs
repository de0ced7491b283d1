//! process: identity, capabilities, limits, scheduling; hostname and sysctl.

use crate::support::{Host, Peer, copy_program, peer, push, skip};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// The mask of a `Cap…:` line of /proc/self/status.
fn mask(status: &str, line: &str) -> u64 {
    let line = status.lines().find(|l| l.starts_with(line)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

/// The value of a line of /proc/self/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.trim()
}

fn status(host: &Host, edit: impl FnOnce(&mut Value)) -> String {
    let c = host.container(|s| {
        s["process"]["args"] = json!(["cat", "/proc/self/status"]);
        edit(s);
    });
    c.run().ok().stdout
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn user_group_and_additional_groups_are_set() {
    let host = Host::new();
    let status = status(&host, |s| {
        s["process"]["user"] =
            json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6, 1_000_000]});
    });
    assert_eq!(field(&status, "Uid").split_whitespace().collect::<Vec<_>>(), ["1000"; 4]);
    assert_eq!(field(&status, "Gid").split_whitespace().collect::<Vec<_>>(), ["1001"; 4]);
    assert_eq!(field(&status, "Groups"), "5 6 1000000");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn without_additional_groups_there_are_none_of_the_callers() {
    let host = Host::new();
    let c = host.container(|s| s["process"]["args"] = json!(["cat", "/proc/self/status"]));
    let groups = "exec setpriv --groups 123,456 --reuid 0 --regid 0";
    let out = c.bundle_verb("run", &[]).after(&format!("{groups} \"$@\"")).output().ok();
    assert!(!field(&out.stdout, "Groups").contains("123"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_umask_is_the_given_one_or_0022() {
    let host = Host::new();
    let given = status(&host, |s| s["process"]["user"]["umask"] = json!(0o27));
    assert_eq!(field(&given, "Umask"), "0027");
    let c = host.container(|s| s["process"]["args"] = json!(["cat", "/proc/self/status"]));
    let inherited = c.bundle_verb("run", &[]).after("umask 077").output().ok();
    assert_eq!(field(&inherited.stdout, "Umask"), "0022");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn each_capability_set_is_the_given_one() {
    let host = Host::new();
    let status = status(&host, |s| {
        s["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
            "ambient": ["CAP_NET_RAW"],
        });
    });
    let (chown, kill, raw, chroot) = (1, 1 << 5, 1 << 13, 1 << 18);
    assert_eq!(mask(&status, "CapBnd"), chown | kill | raw | chroot);
    assert_eq!(mask(&status, "CapInh"), kill | raw);
    assert_eq!(mask(&status, "CapAmb"), raw);
    // Without new privileges execve adds nothing from the bounding set.
    assert_eq!(mask(&status, "CapPrm"), chown | kill | raw);
    assert_eq!(mask(&status, "CapEff"), chown | kill | raw);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_keeps_only_ambient_capabilities() {
    let host = Host::new();
    let status = status(&host, |s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let two = json!(["CAP_NET_RAW", "CAP_KILL"]);
        s["process"]["capabilities"] = json!({
            "bounding": two, "permitted": two, "effective": two, "inheritable": two,
            "ambient": ["CAP_NET_RAW"],
        });
    });
    for line in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(mask(&status, line), 1 << 13, "{line}: {status}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_capabilities_at_all_leaves_root_without() {
    let host = Host::new();
    let edit = |s: &mut Value| s["process"]["capabilities"] = json!({});
    let status = status(&host, edit);
    for line in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(mask(&status, line), 0, "{line}");
    }
    let out = host.sh_with("chown 1 /tmp", edit).run();
    assert!(out.stderr.contains("Read-only") || out.stderr.contains("not permitted"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_unknown_capability_is_a_warning() {
    let host = Host::new();
    let c = host.sh_with("echo runs", |s| {
        push(s, "/process/capabilities/bounding", json!("CAP_OF_TOMORROW"));
    });
    assert_eq!(c.run().ok().stdout, "runs\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_new_privileges_is_what_the_config_says() {
    let host = Host::new();
    for (value, seen) in [(true, "1"), (false, "0")] {
        let status = status(&host, |s| s["process"]["noNewPrivileges"] = json!(value));
        assert_eq!(field(&status, "NoNewPrivs"), seen);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn resource_limits_are_set_and_felt() {
    let host = Host::new();
    let script = "ulimit -n; ulimit -Hn; ulimit -c; exec 25</ && echo too many";
    let c = host.sh_with(script, |s| {
        s["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ]);
    });
    let out = c.run();
    assert_eq!(out.stdout, "20\n20\n0\n", "{out:?}");
    assert_ne!(out.code, 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn resource_limits_hold_for_exec() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_SIGPENDING", "soft": 77, "hard": 99}]);
    });
    c.run_detached();
    let out = c.exec(&["grep", "pending signals", "/proc/self/limits"]).ok();
    assert_eq!(out.stdout.split_whitespace().collect::<Vec<_>>()[3..5], ["77", "99"], "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_oom_score_adjustment_is_set() {
    let host = Host::new();
    let c = host.sh_with("cat /proc/self/oom_score_adj", |s| {
        s["process"]["oomScoreAdj"] = json!(321);
    });
    assert_eq!(c.run().ok().text(), "321");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_adjustment_that_is_not_allowed_is_an_error() {
    let host = Host::new();
    let lower = std::fs::write("/proc/self/oom_score_adj", "-1");
    if lower.is_ok() {
        std::fs::write("/proc/self/oom_score_adj", "0").unwrap();
        return crate::support::skip("this root may lower oom_score_adj");
    }
    let c = host.sleeper_with(|s| s["process"]["oomScoreAdj"] = json!(-500));
    let out = c.create_call(&[]).output();
    assert_eq!(out.code, 1, "{out:?}");
    if peer() == Peer::Carob {
        assert!(out.stderr.contains("oom_score_adj"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn hostname_and_domainname_are_set() {
    let host = Host::new();
    let c = host.sh_with("cat /proc/sys/kernel/hostname", |s| s["hostname"] = json!("box"));
    assert_eq!(c.run().ok().text(), "box");
    let Some(host) = Host::only_carob("runc 1.1 knows no domainname") else {
        return;
    };
    let c = host.sh_with("cat /proc/sys/kernel/domainname", |s| {
        s["domainname"] = json!("example.org");
    });
    assert_eq!(c.run().ok().text(), "example.org");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sysctls_of_the_containers_namespaces_are_set() {
    let host = Host::new();
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let c = host.sh_with(script, |s| {
        s["linux"]["sysctl"] = json!({
            "net.ipv4.ip_unprivileged_port_start": "77",
            "kernel.shm_rmid_forced": "1",
        });
    });
    assert_eq!(c.run().ok().stdout, "77\n1\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sysctls_of_the_host_are_refused() {
    let host = Host::new();
    for (name, without) in [
        ("vm.swappiness", ""),
        ("kernel.core_pattern", ""),
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shmmax", "ipc"),
    ] {
        let before = std::fs::read(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap();
        let c = host.sleeper_with(|s| {
            s["linux"]["sysctl"] = json!({ name: "1" });
            s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != without);
        });
        c.create_call(&[]).output().fails(1, &[name]);
        let after = std::fs::read(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap();
        assert_eq!(before, after, "{name}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_working_directory_is_set() {
    let host = Host::new();
    let c = host.sh_with("pwd", |s| s["process"]["cwd"] = json!("/home/user"));
    assert_eq!(c.run().ok().text(), "/home/user");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_working_directory_is_made() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let c = host.sh_with("pwd", |s| {
        s["root"] = json!({"path": rootfs});
        s["process"]["cwd"] = json!("/made/deep");
    });
    assert_eq!(c.run().ok().text(), "/made/deep");
    assert!(rootfs.join("made/deep").is_dir());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_working_directory_that_is_a_file_is_an_error() {
    let host = Host::new();
    let c = host.sleeper_with(|s| s["process"]["cwd"] = json!("/etc/passwd"));
    c.create_call(&[]).output().fails(1, &["/etc/passwd"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_directory_only_the_user_may_enter_can_be_the_working_directory() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let home = rootfs.join("home/user");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&home, mode).unwrap();
    let c = host.sh_with("pwd", |s| {
        s["root"]["path"] = json!(rootfs);
        s["process"]["cwd"] = json!("/home/user");
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        s["process"]["capabilities"] = json!({});
    });
    assert_eq!(c.run().ok().text(), "/home/user");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_scheduler_is_set() {
    let Some(host) = Host::only_carob("runc 1.1 knows no process.scheduler") else {
        return;
    };
    let c = host.sh_with("cut -d' ' -f19,41 /proc/self/stat", |s| {
        s["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    });
    assert_eq!(c.run().ok().text(), "7 3");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_io_priority_is_set() {
    let Some(host) = Host::only_carob("runc 1.1 knows no process.ioPriority") else {
        return;
    };
    let c = host.sh_with("ionice", |s| {
        s["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    });
    assert_eq!(c.run().ok().text(), "best-effort: prio 6");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_personality_is_set() {
    let Some(host) = Host::only_carob("runc 1.1 knows no linux.personality") else {
        return;
    };
    if !cfg!(target_arch = "x86_64") {
        return crate::support::skip("LINUX32 has a name of its own on each processor");
    }
    let c = host.sh_with("uname -m", |s| s["linux"]["personality"] = json!({"domain": "LINUX32"}));
    assert_eq!(c.run().ok().text(), "i686");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_cpu_affinity_ends_as_its_final_set() {
    let Some(host) = Host::only_carob("runc 1.1 knows no process.execCPUAffinity") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        s["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    c.run_detached();
    let out = c.exec(&["cat", "/proc/self/status"]).ok();
    assert_eq!(field(&out.stdout, "Cpus_allowed_list"), "0");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_process_leads_its_own_session() {
    let host = Host::new();
    let out = host.sh("cut -d' ' -f1,5,6 /proc/self/stat; exec cat /proc/self/stat").run().ok();
    let last = out.stdout.lines().last().unwrap();
    let fields: Vec<&str> = last.split(' ').collect();
    assert_eq!((fields[0], fields[4], fields[5]), ("1", "1", "1"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn arguments_are_passed_as_they_are() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] =
            json!(["sh", "-c", "printf '<%s>' \"$@\"", "zero", "a b", "", "ü", "-x"]);
    });
    assert_eq!(c.run().ok().stdout, "<a b><><ü><-x>");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_program_that_only_a_capability_makes_executable_is_found() {
    let host = Host::new();
    let rootfs = host.own_rootfs();
    let program = rootfs.join("true");
    copy_program(&rootfs.join("bin/busybox"), &program);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let edit = |s: &mut Value| {
        s["root"]["path"] = json!(rootfs);
        s["process"]["args"] = json!(["/true"]);
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    };
    let with = |caps: Value| {
        host.container(|s| {
            edit(s);
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                s["process"]["capabilities"][set] = caps.clone();
            }
        })
    };
    with(json!([])).run().fails(1, &["/true", "permission denied"]);
    with(json!(["CAP_DAC_OVERRIDE"])).run().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_last_of_several_values_of_a_variable_counts() {
    let Some(host) = Host::only_carob("runc 1.1 passes all of them on") else {
        return;
    };
    let c = host.sh_with("env", |s| {
        s["process"]["env"] = json!([host.env_mark(), "PATH=/bin", "A=one", "A=", "HOME="]);
    });
    let out = c.run().ok();
    let lines = |key: &str| out.stdout.lines().filter(|l| l.starts_with(key)).collect::<Vec<_>>();
    assert_eq!(lines("A="), ["A="]);
    assert_eq!(lines("HOME="), ["HOME=/root"], "an empty one is none");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_callers_cpu_affinity_ends_at_the_container() {
    let Some(host) = Host::only_carob("runc 1.1 keeps it") else {
        return;
    };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = field(&own, "Cpus_allowed_list");
    let c = host.container(|s| {
        s["process"]["args"] = json!(["grep", "Cpus_allowed_list", "/proc/self/status"]);
        s["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let out = c.bundle_verb("run", &[]).after("taskset -pc 0 $$ >/dev/null").output().ok();
    assert_eq!(field(&out.stdout, "Cpus_allowed_list"), own, "also execCPUAffinity is not for it");
    let sleeper = host.sleeper();
    sleeper.run_detached();
    let exec = sleeper.exec_call(&[], &["cat", "/proc/self/status"]);
    let out = exec.after("taskset -pc 0 $$ >/dev/null").output().ok();
    assert_eq!(field(&out.stdout, "Cpus_allowed_list"), own);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_memory_policy_is_in_force() {
    let Some(host) = Host::only_carob("runc 1.1 knows no linux.memoryPolicy") else {
        return;
    };
    let c = host.container(|s| {
        s["process"]["args"] = json!(["cat", "/proc/self/numa_maps"]);
        s["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    });
    let out = c.run();
    if out.code != 0 && out.stderr.contains("Function not implemented") {
        return skip("the kernel has no NUMA support");
    }
    let out = out.ok();
    assert!(out.stdout.contains("bind:0"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_memory_policy_holds_for_exec() {
    let Some(host) = Host::only_carob("runc 1.1 knows no linux.memoryPolicy") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        s["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    });
    let out = c.create_call(&[]).output();
    if out.code != 0 && out.stderr.contains("Function not implemented") {
        return skip("the kernel has no NUMA support");
    }
    host.adopt(c.pid());
    c.start();
    let out = c.exec(&["cat", "/proc/self/numa_maps"]).ok();
    assert!(out.stdout.contains("interleave:0"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_personality_holds_for_exec() {
    let Some(host) = Host::only_carob("runc 1.1 knows no linux.personality") else {
        return;
    };
    let c = host.sleeper_with(|s| s["linux"]["personality"] = json!({"domain": "LINUX32"}));
    c.run_detached();
    assert_eq!(c.exec(&["uname", "-m"]).ok().text(), "i686");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_capability_that_carob_lacks_is_left_out_with_a_warning() {
    let Some(host) = Host::only_carob("runc 1.1 fails") else {
        return;
    };
    let prelude = "exec setpriv --inh-caps -syslog --bounding-set -syslog \"$@\"";
    let asks = |s: &mut Value| {
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            s["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_SYSLOG"]);
        }
    };
    let own = "grep ^Cap /proc/self/status";
    let c = host.sh_with(own, asks);
    let out = c.bundle_verb("run", &[]).after(prelude).output().ok();
    let sets: Vec<&str> = out.stdout.split_whitespace().filter(|word| word.len() == 16).collect();
    assert_eq!(sets, ["0000000000000020"; 5], "{out:?}");
    assert!(out.stderr.starts_with("warning: process.capabilities: "), "{out:?}");
    assert!(out.stderr.ends_with(": CAP_SYSLOG\n"), "{out:?}");

    let c = host.sleeper_with(asks);
    c.run_detached();
    let out = c.exec_call(&[], &["sh", "-c", own]).after(prelude).output().ok();
    assert!(out.stdout.contains("CapPrm:\t0000000000000020"), "{out:?}");
    assert!(out.stderr.ends_with(": CAP_SYSLOG\n"), "{out:?}");

    // What the container has not either was said when it was made.
    let c = host.sleeper_with(asks);
    c.create_call(&[]).after(prelude).output().ok();
    host.adopt(c.pid());
    c.start();
    let silent = c.exec_call(&[], &["true"]).after(prelude).output().ok();
    assert_eq!(silent.stderr, "");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_capabilities_in_the_configuration_are_none_in_the_process() {
    let host = Host::new();
    let c = host.sh_with("grep ^Cap /proc/self/status", |s| {
        s["process"].as_object_mut().unwrap().remove("capabilities");
    });
    let out = c.run().ok();
    let sets: Vec<&str> = out.stdout.split_whitespace().filter(|word| word.len() == 16).collect();
    assert_eq!(sets, ["0000000000000000"; 5], "{out:?}");
}
