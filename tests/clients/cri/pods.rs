//! Pods, their containers, and what is left of them.

use super::client::{Cri, strings};
use super::messages::*;
use crate::containerd::Containerd;
use crate::support::skip;
use crate::yard::wait;
use std::fs;

const SPACES: &str = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done";

#[test]
#[ignore = "needs root: run scripts/test"]
fn containers_of_a_pod_share_its_namespaces_and_address() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("shared", |_| {});
    let web = pod.run_sh("web", "echo served > /tmp/index.html; httpd -f -p 8080 -h /tmp");
    let other = pod.run("other", |_| {});
    let (_, first) = cri.sh(&web, SPACES);
    let (_, second) = cri.sh(&other, SPACES);
    let same: Vec<bool> = first.lines().zip(second.lines()).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, true, false, false], "net ipc uts pid mnt: {first} {second}");
    assert_eq!(cri.sh(&other, "hostname").1, "shared");
    let address = pod.status().network.unwrap().ip;
    for host in ["127.0.0.1", &address] {
        wait("the server", || {
            match cri.sh(&other, &format!("wget -qO- http://{host}:8080/index.html")) {
                (0, text) if text == "served" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    let (_, cgroup) = cri.sh(&web, "cat /proc/1/cgroup");
    let place = format!("/kubepods/pod-shared/{web}");
    assert!(cgroup.lines().all(|l| l.ends_with(&place) || l.ends_with(":/")), "{cgroup}");
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_shared_process_namespace_is_that_of_the_sandbox() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("processes", |p| p.namespaces().pid = POD);
    let shared = |c: &mut ContainerConfig| {
        c.security().namespaces.get_or_insert_default().pid = POD;
    };
    let first = pod.run("first", |c| {
        shared(c);
        c.command = strings(&["sleep", "1234"]);
    });
    let second = pod.run("second", shared);
    let (_, seen) = cri.sh(&second, "ps -o pid,args");
    assert!(seen.lines().any(|l| l.trim().starts_with("1 sh -c trap")), "the sandbox: {seen}");
    assert!(seen.contains("sleep 1234"), "{seen}");
    // The process that ends without a parent is reaped by the sandbox.
    cri.stop_container(&first, 0);
    assert_eq!(cri.ended(&first).exit_code, 137);
    wait("the process to be gone", || match cri.sh(&second, "ps -o args").1 {
        seen if seen.contains("1234") => Err(seen),
        _ => Ok(()),
    });
    assert_eq!(cri.status(&second).state, RUNNING);
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn namespaces_of_the_node_are_joined() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let node = NamespaceOption { network: NODE, pid: NODE, ipc: NODE, user: None };
    let pod = cri.pod("node", |p| {
        *p.namespaces() = node.clone();
        // As for a kubelet: the node's name is not the pod's to set.
        p.hostname.clear();
    });
    let c = pod.run("c", |c| c.security().namespaces = Some(node));
    let (_, seen) = cri.sh(&c, SPACES);
    let own = on.yard.sh(SPACES).ok().stdout;
    let same: Vec<bool> = seen.lines().zip(own.lines()).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, true, true, false], "net ipc uts pid mnt: {seen} {own}");
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_is_the_pods() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let ids = || vec![IdMapping { host_id: 200_000, container_id: 0, length: 65_536 }];
    let user = UserNamespace { mode: POD, uids: ids(), gids: ids() };
    let pod = cri.pod("users", |p| p.namespaces().user = Some(user.clone()));
    let c = pod.run("c", |c| {
        c.security().namespaces.get_or_insert_default().user = Some(user);
    });
    let (_, map) = cri.sh(&c, "cat /proc/self/uid_map");
    let map: Vec<&str> = map.split_whitespace().collect();
    if map == ["0", "0", "4294967295"] {
        let version = on.yard.run(&["containerd", "--version"]).ok().stdout;
        return skip(&format!("no user namespaces for pods in {}", version.trim()));
    }
    assert_eq!(map, ["0", "200000", "65536"]);
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_a_pod_says_about_security_is_so() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("secure", |p| {
        let sysctls = &mut p.linux.get_or_insert_default().sysctls;
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    });
    on.yard.write("/run/data/file", "from the node\n");
    let c = pod.run("c", |c| {
        c.mounts.push(Mount {
            container_path: "/data".into(),
            host_path: "/run/data".into(),
            readonly: true,
        });
        let security = c.security();
        security.run_as_user = Some(Int64 { value: 1000 });
        security.supplemental_groups = vec![4000];
        security.readonly_rootfs = true;
        security.no_new_privs = true;
        security.capabilities = Some(Capabilities { add: vec![], drop: strings(&["ALL"]) });
    });
    let ask = |script: &str| cri.sh(&c, script).1;
    assert_eq!(ask("id -u; id -G"), "1000\n1000 4000");
    assert_eq!(ask("touch /x 2>&1"), "touch: /x: Read-only file system");
    assert_eq!(ask("cat /data/file; touch /data/x 2>&1 | grep -c Read-only"), "from the node\n1");
    let status = ask("grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status");
    let values: Vec<&str> = status.lines().filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(values, ["0000000000000000", "0000000000000000", "1", "2"], "{status}");
    assert_eq!(ask("cat /proc/kcore 2>/dev/null | wc -c"), "0");
    assert_eq!(ask("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "80");
    assert_eq!(ask("cat /proc/1/oom_score_adj"), "999");
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ends_of_containers_have_their_reasons() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("ends", |_| {});
    let log = |name: &str| {
        let text = fs::read_to_string(on.yard.path(&format!("/var/log/pods/ends/{name}.log")));
        text.unwrap_or_default()
    };

    let good = pod.run_sh("good", "echo one; echo two >&2");
    let status = cri.ended(&good);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"), "{status:?}");
    let lines = log("good");
    assert!(lines.contains(" stdout F one\n") && lines.contains(" stderr F two\n"), "{lines}");

    let bad = pod.run_sh("bad", "exit 3");
    let status = cri.ended(&bad);
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"), "{status:?}");

    let missing = pod.create("missing", |c| c.command = strings(&["/nonexistent"]));
    let start = cri.ask::<_, Empty>("StartContainer", ContainerId { id: missing.clone() });
    let error = start.unwrap_err();
    assert!(error.message().contains("no such file or directory"), "{error:?}");
    let status = cri.status(&missing);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"), "{status:?}");

    let greedy = pod.run("greedy", |c| {
        c.command = strings(&["sh", "-c", "head -c 100000000 /dev/zero | tail"]);
        c.resources().memory_limit = 16 << 20;
    });
    let status = cri.ended(&greedy);
    assert_eq!(status.reason, "OOMKilled", "{status:?}");

    let deaf = pod.run_sh("deaf", "trap '' TERM; while :; do sleep 1; done");
    cri.stop_container(&deaf, 1);
    assert_eq!(cri.ended(&deaf).exit_code, 137);
    let polite = pod.run_sh("polite", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done");
    wait("the trap", || match log("polite") {
        text if text.contains("up") => Ok(()),
        text => Err(text),
    });
    cri.stop_container(&polite, 30);
    assert_eq!(cri.ended(&polite).exit_code, 0);
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn limits_are_counted_and_changed() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("limits", |_| {});
    let c = pod.run("c", |c| {
        c.command = strings(&["sh", "-c", "while :; do :; done"]);
        let resources = c.resources();
        resources.memory_limit = 64 << 20;
        (resources.cpu_quota, resources.cpu_period) = (20_000, 100_000);
    });
    let stats = || {
        let question = ContainerId { id: c.clone() };
        cri.get::<_, StatsResponse>("ContainerStats", question).stats.unwrap()
    };
    let cpu = wait("counted time", || {
        let now = stats();
        let cpu = now.cpu.and_then(|cpu| cpu.core_nano_seconds).map_or(0, |n| n.value);
        let memory = now.memory.and_then(|m| m.working_set_bytes).map_or(0, |n| n.value);
        if cpu > 0 && memory > 0 { Ok(cpu) } else { Err(format!("{cpu} {memory}")) }
    });
    wait("more time", || {
        let now = stats().cpu.and_then(|cpu| cpu.core_nano_seconds).map_or(0, |n| n.value);
        if now > cpu { Ok(()) } else { Err(format!("{now}")) }
    });

    let changed = Resources {
        memory_limit: 32 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..<_>::default()
    };
    let question = Update { id: c.clone(), linux: Some(changed) };
    let _: Empty = cri.get("UpdateContainerResources", question);
    let (memory, quota) = if crate::support::cgroup::is_v2() {
        ("cat /sys/fs/cgroup/memory.max", "cat /sys/fs/cgroup/cpu.max")
    } else {
        let memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
        (memory, "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    };
    assert_eq!(cri.sh(&c, memory).1, (32 << 20).to_string());
    assert_eq!(cri.sh(&c, quota).1.split(' ').next(), Some("50000"));
    // Devices, which an update sends as all denied, are as before.
    assert_eq!(cri.sh(&c, "echo > /dev/null; echo $?").1, "0");
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pods_outlive_a_containerd_that_is_killed() {
    let mut on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("lasting", |_| {});
    let c = pod.run("c", |_| {});
    on.restart_killed();
    let again = Cri::connect(&on);
    assert_eq!(again.status(&c).state, RUNNING);
    assert_eq!(again.sh(&c, "echo still"), (0, "still".into()));
    again.stop_container(&c, 0);
    assert_eq!(again.ended(&c).exit_code, 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn twenty_pods_at_a_time_come_and_go_and_leave_nothing() {
    let on = Containerd::start();
    let first = Cri::connect(&on);
    let round = |cri: &Cri, name: &str| {
        let pod = cri.pod(name, |_| {});
        let c = pod.run("c", |_| {});
        assert_eq!(cri.sh(&c, "hostname"), (0, name.to_owned()));
        cri.stop_container(&c, 0);
        cri.remove_container(&c);
        pod.remove();
    };
    // The parent of a pod's cgroups is the kubelet's, who makes and removes it.
    let parents = "find /sys/fs/cgroup/*/kubepods -maxdepth 1 -name 'pod-*' -exec rmdir {} +";
    round(&first, "first");
    on.yard.sh(parents).ok();
    let before = on.yard.contents();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (on, round) = (&on, &round);
            scope.spawn(move || round(&Cri::connect(on), &format!("pod-{n}")));
        }
    });
    assert_eq!((first.count("ListContainers"), first.count("ListPodSandbox")), (0, 0));
    on.yard.sh(parents).ok();
    on.yard.returns_to(&before);
}
