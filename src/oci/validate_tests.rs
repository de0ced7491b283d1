//! Tests of `oci::validate`: for each rule what breaks it, and that what clients write passes.

#![allow(clippy::too_many_lines, clippy::wildcard_enum_match_arm, reason = "tables of cases")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{error::Error, oci::load};

/// What `runc spec` writes.
const RUNC_SPEC: &str = include_str!("testdata/runc-spec.json");
/// What dockerd 20.10 writes for a container with a network of its own, shortened lists.
const DOCKER: &str = include_str!("testdata/docker.json");

fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "env": ["A=b"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [
            {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
            {"type": "network"}, {"type": "time"}]}
    })
}

/// Sets the value at a JSON pointer, making the objects on the way.
fn set(config: &mut Value, pointer: &str, new: Value) {
    let mut at = config;
    for key in pointer.split('/').skip(1) {
        at = match at {
            Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap().entry(key).or_insert(Value::Null)
            }
        };
    }
    *at = new;
}

fn check(config: &Value) -> Result<Vec<Warning>> {
    let loaded = load::parse_spec(config.to_string().into_bytes())?;
    validate(&loaded.spec)
}

/// Each row: pointer, its new value, the field of the error, a part of its reason.
fn refused(rows: &[(&str, Value, &str, &str)]) {
    for (pointer, value, field, words) in rows {
        let mut config = base();
        set(&mut config, pointer, value.clone());
        let shown = value.to_string();
        match check(&config) {
            Err(Error::Config { field: found, reason }) => {
                assert_eq!(found, *field, "{pointer} = {shown}: {reason}");
                assert!(reason.contains(words), "{pointer} = {shown}: {reason}");
            }
            other => panic!("{pointer} = {shown}: {other:?}"),
        }
    }
}

fn accepted(rows: &[(&str, Value)]) {
    for (pointer, value) in rows {
        let mut config = base();
        set(&mut config, pointer, value.clone());
        let warnings = check(&config).unwrap_or_else(|e| panic!("{pointer} = {value}: {e}"));
        assert_eq!(warnings, [], "{pointer} = {value}");
    }
}

fn warned(pointer: &str, value: Value, field: &str, words: &str) {
    let mut config = base();
    set(&mut config, pointer, value);
    let warnings = check(&config).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].field, field);
    assert!(warnings[0].reason.contains(words), "{}", warnings[0]);
}

#[test]
fn what_clients_write_passes_without_a_warning() {
    for (name, text) in [("runc spec", RUNC_SPEC), ("docker", DOCKER)] {
        let loaded = load::parse_spec(text.into()).unwrap();
        assert_eq!(loaded.warnings, [], "{name}");
        assert_eq!(validate(&loaded.spec).unwrap(), [], "{name}");
    }
    assert_eq!(check(&base()).unwrap(), []);
}

#[test]
fn what_is_required() {
    refused(&[
        ("/process", Value::Null, "process", "missing"),
        ("/process/args", json!([]), "process.args", "must not be empty"),
        ("/process/args", Value::Null, "process.args", "must not be empty"),
        ("/process/cwd", json!("tmp"), "process.cwd", "\"tmp\" must be an absolute path"),
        ("/process/cwd", json!(""), "process.cwd", "absolute"),
        ("/root", Value::Null, "root", "missing"),
        ("/root/path", json!(""), "root.path", "must not be empty"),
        (
            "/linux/namespaces",
            json!([{"type": "user"}, {"type": "pid"}]),
            "linux.namespaces",
            "\"mount\" is missing",
        ),
    ]);
}

#[test]
fn nul_bytes() {
    let nul = "a\0b";
    refused(&[
        ("/process/args", json!(["sh", nul]), "process.args[1]", "NUL"),
        ("/process/env", json!(["A=1", "B=\0"]), "process.env[1]", "NUL"),
        ("/process/cwd", json!("/\0"), "process.cwd", "NUL"),
        ("/process/apparmorProfile", json!(nul), "process.apparmorProfile", "NUL"),
        ("/process/selinuxLabel", json!(nul), "process.selinuxLabel", "NUL"),
        ("/root/path", json!(nul), "root.path", "NUL"),
        ("/hostname", json!(nul), "hostname", "NUL"),
        ("/linux/namespaces/1/path", json!("/\0"), "linux.namespaces[1].path", "NUL"),
        ("/linux/cgroupsPath", json!(nul), "linux.cgroupsPath", "NUL"),
        ("/linux/mountLabel", json!(nul), "linux.mountLabel", "NUL"),
        ("/linux/maskedPaths", json!(["/\0"]), "linux.maskedPaths[0]", "NUL"),
        ("/linux/sysctl", json!({"net.a": nul}), "linux.sysctl.net.a", "NUL"),
        ("/mounts", json!([{"destination": "/\0"}]), "mounts[0].destination", "NUL"),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "tmpfs", "options": ["ro", nul]}]),
            "mounts[0].options[1]",
            "NUL",
        ),
        (
            "/mounts",
            json!([{"destination": "/a", "source": nul, "options": ["bind"]}]),
            "mounts[0].source",
            "NUL",
        ),
        ("/hooks", json!({"poststop": [{"path": "/a\0"}]}), "hooks.poststop[0].path", "NUL"),
    ]);
}

#[test]
fn process() {
    let rlimits = |list| json!(list);
    refused(&[
        ("/process/env", json!(["A"]), "process.env[0]", "\"A\" has no '='"),
        ("/process/env", json!(["=x"]), "process.env[0]", "no key"),
        ("/process/user/uid", json!(u32::MAX), "process.user.uid", "0 to 4294967294"),
        ("/process/user/gid", json!(u32::MAX), "process.user.gid", "4294967295 is not an id"),
        (
            "/process/user/additionalGids",
            json!([1, u32::MAX]),
            "process.user.additionalGids[1]",
            "not an id",
        ),
        ("/process/user/umask", json!(512), "process.user.umask", "octal 777"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj", "-1000 to 1000"),
        (
            "/process/rlimits",
            rlimits([
                json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}),
                json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 1}),
            ]),
            "process.rlimits[1].type",
            "RLIMIT_CORE is there twice",
        ),
        (
            "/process/rlimits",
            rlimits([
                json!({"type": "RLIMIT_CPU", "soft": 0, "hard": 0}),
                json!({"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}),
            ]),
            "process.rlimits[1].soft",
            "RLIMIT_NOFILE: 9 is above the hard limit 8",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority",
            "0 to 7",
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "0", "final": "3-1"}),
            "process.execCPUAffinity.final",
            "\"3-1\"",
        ),
    ]);
    accepted(&[
        ("/process/oomScoreAdj", json!(-1000)),
        ("/process/user/umask", json!(511)),
        ("/process/env", json!(["A=", "B=c=d"])),
        ("/process/execCPUAffinity", json!({"initial": "0-3,7"})),
        ("/process/consoleSize", json!({"height": 1u64 << 40, "width": 1})),
    ]);
    let mut config = base();
    set(&mut config, "/process/terminal", json!(true));
    set(&mut config, "/process/consoleSize", json!({"height": 1, "width": 65536}));
    let text = check(&config).unwrap_err().to_string();
    assert_eq!(text, "process.consoleSize.width: 65536, allowed are at most 65535");
}

#[test]
fn scheduler() {
    let deadline = |runtime: u64, deadline: u64, period: u64| {
        json!({"policy": "SCHED_DEADLINE",
            "runtime": runtime, "deadline": deadline, "period": period})
    };
    let pointer = "/process/scheduler";
    refused(&[
        (pointer, json!({"policy": "SCHED_ISO"}), "process.scheduler.policy", "reserved"),
        (
            pointer,
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "process.scheduler.nice",
            "-20 to 19",
        ),
        (pointer, json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority", "1 to 99"),
        (
            pointer,
            json!({"policy": "SCHED_BATCH", "priority": 5}),
            "process.scheduler.priority",
            "SCHED_BATCH has none",
        ),
        (
            pointer,
            json!({"policy": "SCHED_RR", "priority": 5, "period": 1}),
            "process.scheduler.period",
            "only SCHED_DEADLINE",
        ),
        (pointer, deadline(0, 10, 10), "process.scheduler.runtime", "above 0"),
        (pointer, deadline(11, 10, 10), "process.scheduler.runtime", "at most the deadline"),
        (pointer, deadline(5, 10, 9), "process.scheduler.deadline", "at most the period"),
    ]);
    accepted(&[
        (pointer, json!({"policy": "SCHED_OTHER", "nice": -20})),
        (pointer, json!({"policy": "SCHED_FIFO", "priority": 99})),
        (pointer, deadline(5, 10, 0)),
        (pointer, deadline(5, 10, 10)),
    ]);
}

#[test]
fn capability_sets() {
    let caps = json!({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]});
    let field = "process.capabilities.ambient";
    warned(
        "/process/capabilities",
        caps,
        field,
        "can't raise ambient capability CAP_CHOWN: not in permitted",
    );
    let caps = json!({"permitted": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_BPF"]});
    warned("/process/capabilities", caps, "process.capabilities.effective", "CAP_BPF");
}

#[test]
fn namespaces() {
    let with = |more: Value| {
        let mut list = base()["linux"]["namespaces"].clone();
        list.as_array_mut().unwrap().push(more);
        list
    };
    let pointer = "/linux/namespaces";
    refused(&[
        (
            pointer,
            with(json!({"type": "pid"})),
            "linux.namespaces[6].type",
            "\"pid\" is there twice",
        ),
        (
            pointer,
            with(json!({"type": "cgroup", "path": "ns"})),
            "linux.namespaces[6].path",
            "\"ns\" must be an absolute path",
        ),
        (pointer, with(json!({"type": "user"})), "linux.uidMappings", "must not be empty"),
        (
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "linux.gidMappings",
            "needs a \"user\" namespace",
        ),
    ]);
    accepted(&[
        (pointer, with(json!({"type": "cgroup", "path": "/proc/1/ns/cgroup"}))),
        (pointer, with(json!({"type": "user", "path": "/proc/1/ns/user"}))),
        ("/linux/namespaces/1/path", json!("")),
    ]);
}

#[test]
fn user_mappings() {
    let case = |uids: Value, user: Value| {
        let mut config = base();
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        set(&mut config, "/linux/uidMappings", uids);
        let all = json!([{"containerID": 0, "hostID": 0, "size": 100}]);
        set(&mut config, "/linux/gidMappings", all);
        set(&mut config, "/process/user", user);
        check(&config).map_err(|e| e.to_string())
    };
    let range =
        |id: u32, host: u32, size: u32| json!({"containerID": id, "hostID": host, "size": size});
    let root = || json!({"uid": 0, "gid": 0});
    let good = json!([range(0, 1000, 10), range(10, 5000, 10)]);
    assert!(case(good.clone(), root()).is_ok());
    assert!(case(json!([range(0, 0, u32::MAX)]), root()).is_ok());
    assert!(case(good.clone(), json!({"uid": 19, "gid": 99, "additionalGids": [5]})).is_ok());
    for (uids, user, words) in [
        (json!([range(0, 0, 0)]), root(), "linux.uidMappings[0].size: 0 maps nothing"),
        (json!([range(1, 0, u32::MAX)]), root(), "linux.uidMappings[0].containerID: 1 with size"),
        (json!([range(0, 5, u32::MAX)]), root(), "linux.uidMappings[0].hostID: 5 with size"),
        (
            json!([range(5, 0, 5), range(0, 10, 6)]),
            root(),
            "linux.uidMappings[0].containerID: 5 overlaps the range of 6 from 0 in [1]",
        ),
        (
            json!([range(0, 0, 5), range(5, 4, 1)]),
            root(),
            "linux.uidMappings[1].hostID: 4 overlaps",
        ),
        (
            Value::from_iter((0..341).map(|i| range(i, i, 1))),
            root(),
            "linux.uidMappings: 341 ranges",
        ),
        (good.clone(), json!({"uid": 20, "gid": 0}), "process.user.uid: 20 is in no range"),
        (good.clone(), json!({"uid": 0, "gid": 100}), "process.user.gid: 100 is in no range"),
        (
            good,
            json!({"uid": 0, "gid": 0, "additionalGids": [1, 200]}),
            "process.user.additionalGids[1]: 200 is in no range of linux.gidMappings",
        ),
    ] {
        let error = case(uids, user).unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn names_of_the_host() {
    let mut without_uts = base();
    without_uts["linux"]["namespaces"] = json!([{"type": "mount"}]);
    for field in ["hostname", "domainname"] {
        let mut config = without_uts.clone();
        set(&mut config, &format!("/{field}"), json!("a"));
        let text = check(&config).unwrap_err().to_string();
        assert_eq!(text, format!("{field}: \"a\" needs a \"uts\" namespace in linux.namespaces"));
        set(&mut config, &format!("/{field}"), json!(""));
        assert!(check(&config).is_ok(), "empty is not set");
    }
    let (long, longest) = ("h".repeat(65), "h".repeat(64));
    refused(&[
        ("/hostname", json!(long), "hostname", "65 bytes"),
        ("/domainname", json!(long), "domainname", "at most 64"),
    ]);
    accepted(&[
        ("/hostname", json!(longest)),
        ("/linux/namespaces/2/path", json!("/proc/1/ns/uts")),
    ]);
}

#[test]
fn time_offsets() {
    refused(&[
        (
            "/linux/timeOffsets",
            json!({"realtime": {"secs": 1}}),
            "linux.timeOffsets.realtime",
            "monotonic and boottime",
        ),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"nanosecs": 1_000_000_000}}),
            "linux.timeOffsets.monotonic.nanosecs",
            "0 to 999999999",
        ),
    ]);
    accepted(&[("/linux/timeOffsets", json!({"boottime": {"secs": -5, "nanosecs": 1}}))]);
    let mut joined = base();
    set(&mut joined, "/linux/timeOffsets", json!({"boottime": {"secs": 1}}));
    set(&mut joined, "/linux/namespaces/5/path", json!("/proc/1/ns/time"));
    let text = check(&joined).unwrap_err().to_string();
    assert!(text.starts_with("linux.timeOffsets: needs a new \"time\" namespace"), "{text}");
}

#[test]
fn sysctls() {
    let sysctl = |key: &str| json!({key: "1"});
    let pointer = "/linux/sysctl";
    refused(&[
        (pointer, sysctl("vm.swappiness"), "linux.sysctl.vm.swappiness", "would change the host"),
        (pointer, sysctl("kernel.core_pattern"), "linux.sysctl.kernel.core_pattern", "host"),
        (pointer, sysctl("kernel/hostname"), "linux.sysctl.kernel/hostname", "use hostname"),
        (pointer, sysctl("net/../kernel/core_pattern"), "linux.sysctl", "no parameter"),
        (pointer, sysctl("net.x\nkernel.y"), "linux.sysctl", "no parameter"),
        (pointer, sysctl(""), "linux.sysctl", "no parameter"),
    ]);
    accepted(&[
        (pointer, sysctl("net.ipv4.ip_forward")),
        (pointer, sysctl("net/ipv4/conf/eth0.1/forwarding")),
        (pointer, sysctl("kernel.shmmax")),
        (pointer, sysctl("fs.mqueue.msg_max")),
        (pointer, sysctl("kernel.domainname")),
    ]);
    let mut both = base();
    set(&mut both, pointer, sysctl("kernel.domainname"));
    set(&mut both, "/domainname", json!("d"));
    assert!(check(&both).unwrap_err().to_string().contains("together with domainname"));
    for (key, word) in [
        ("net.core.somaxconn", "network"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        let mut config = base();
        config["linux"]["namespaces"] = json!([{"type": "mount"}]);
        set(&mut config, pointer, sysctl(key));
        let text = check(&config).unwrap_err().to_string();
        assert!(text.contains(&format!("needs a {word:?} namespace")), "{text}");
    }
}

#[test]
fn net_devices() {
    refused(&[
        ("/linux/netDevices", json!({"": {}}), "linux.netDevices", "interface name"),
        ("/linux/netDevices", json!({"a/b": {}}), "linux.netDevices", "\"a/b\""),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "sixteen-letters-"}}),
            "linux.netDevices.eth0.name",
            "1 to 15",
        ),
    ]);
    accepted(&[("/linux/netDevices", json!({"eth0": {"name": "eth%d"}, "eth1": {}}))]);
}

#[test]
fn mounts() {
    let mount = |mount: Value| json!([{"destination": "/m", "type": "tmpfs"}, mount]);
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    refused(&[
        ("/mounts", mount(json!({"destination": ""})), "mounts[1].destination", "empty"),
        (
            "/mounts",
            mount(json!({"destination": "/a", "options": ["rbind"]})),
            "mounts[1].source",
            "needs a source",
        ),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "bind", "source": "/s"})),
            "mounts[1].type",
            "\"bind\" is no filesystem, and neither",
        ),
        ("/mounts", mount(json!({"destination": "/a"})), "mounts[1].type", "no filesystem"),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs", "options": ["ridmap"]})),
            "mounts[1].options",
            "needs uidMappings and gidMappings",
        ),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs", "uidMappings": map})),
            "mounts[1].gidMappings",
            "missing with uidMappings",
        ),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs", "gidMappings": map})),
            "mounts[1].uidMappings",
            "missing with gidMappings",
        ),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs",
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 0}]})),
            "mounts[1].uidMappings[0].size",
            "at least 1",
        ),
        ("/linux/rootfsPropagation", json!("public"), "linux.rootfsPropagation", "\"public\""),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]", "absolute"),
        ("/linux/readonlyPaths", json!([""]), "linux.readonlyPaths[0]", "absolute"),
    ]);
    accepted(&[
        (
            "/mounts",
            mount(json!({"destination": "/a", "source": "s", "options": ["bind", "idmap"],
                "uidMappings": map, "gidMappings": map})),
        ),
        ("/mounts", mount(json!({"destination": "/a", "options": ["remount", "ro"]}))),
        ("/linux/rootfsPropagation", json!("rslave")),
        ("/linux/rootfsPropagation", json!("")),
    ]);
    let relative = mount(json!({"destination": "a", "type": "proc"}));
    warned("/mounts", relative, "mounts[1].destination", "\"a\" is relative");
}

#[test]
fn devices() {
    let device = |more: Value| {
        let mut device = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3});
        device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([device])
    };
    let pointer = "/linux/devices";
    refused(&[
        (pointer, device(json!({"path": "dev/x"})), "linux.devices[0].path", "absolute"),
        (pointer, device(json!({"path": "/dev/../x"})), "linux.devices[0].path", ".."),
        (pointer, device(json!({"path": "/"})), "linux.devices[0].path", "name a file"),
        (pointer, device(json!({"type": "a"})), "linux.devices[0].type", "c, b, u, p"),
        (pointer, device(json!({"major": 4096})), "linux.devices[0].major", "0 to 4095"),
        (pointer, device(json!({"minor": -1})), "linux.devices[0].minor", "-1"),
        (pointer, json!([{"path": "/d", "type": "b"}]), "linux.devices[0].major", "missing"),
        (pointer, device(json!({"fileMode": 1 << 16})), "linux.devices[0].fileMode", "7777"),
        (pointer, device(json!({"uid": u32::MAX})), "linux.devices[0].uid", "not an id"),
        (
            pointer,
            json!([
                {"path": "/d", "type": "c", "major": 1, "minor": 3},
                {"path": "/d", "type": "c", "major": 1, "minor": 5}
            ]),
            "linux.devices[1].path",
            "there twice",
        ),
    ]);
    accepted(&[
        (pointer, json!([{"path": "/fifo", "type": "p"}])),
        (pointer, device(json!({"type": "u", "fileMode": 0o20666, "uid": 1, "gid": 2}))),
        (pointer, json!([device(json!({}))[0], device(json!({}))[0]])),
    ]);
}

#[test]
fn cpu() {
    let cpu = |name: &str, value: Value| json!({"cpu": {name: value}});
    let pointer = "/linux/resources";
    refused(&[
        (pointer, cpu("quota", json!(999)), "linux.resources.cpu.quota", "at least 1000"),
        (pointer, cpu("quota", json!(-2)), "linux.resources.cpu.quota", "-1 (no limit)"),
        (pointer, cpu("period", json!(999)), "linux.resources.cpu.period", "1000 to 1000000"),
        (pointer, cpu("period", json!(1_000_001)), "linux.resources.cpu.period", "1000001"),
        (pointer, cpu("shares", json!(1)), "linux.resources.cpu.shares", "2 to 262144"),
        (pointer, cpu("shares", json!(262_145)), "linux.resources.cpu.shares", "2 to 262144"),
        (pointer, cpu("idle", json!(2)), "linux.resources.cpu.idle", "0 and 1"),
        (pointer, cpu("cpus", json!("0-")), "linux.resources.cpu.cpus", "\"0-\" is no range"),
        (pointer, cpu("cpus", json!("0,,1")), "linux.resources.cpu.cpus", "no range"),
        (pointer, cpu("cpus", json!("+1")), "linux.resources.cpu.cpus", "no range"),
        (pointer, cpu("mems", json!("0-99999")), "linux.resources.cpu.mems", "no range"),
        (
            pointer,
            json!({"cpu": {"quota": 5000, "burst": 5001}}),
            "linux.resources.cpu.burst",
            "at most the quota 5000",
        ),
        (
            pointer,
            json!({"cpu": {"realtimeRuntime": 11, "realtimePeriod": 10}}),
            "linux.resources.cpu.realtimeRuntime",
            "at most realtimePeriod 10",
        ),
        (pointer, cpu("realtimeRuntime", json!(-2)), "linux.resources.cpu.realtimeRuntime", "-1"),
    ]);
    accepted(&[
        (pointer, json!({"cpu": {"shares": 0, "period": 0, "quota": -1, "cpus": "", "mems": ""}})),
        (pointer, json!({"cpu": {"quota": 1000, "period": 1000, "burst": 1000, "idle": 1}})),
        (pointer, cpu("cpus", json!("0-3,7,9-9"))),
    ]);
    let zero = cpu("quota", json!(0));
    warned(pointer, zero, "linux.resources.cpu.quota", "no limit");
}

#[test]
fn memory_and_pids() {
    let memory = |value: Value| json!({"memory": value});
    let pointer = "/linux/resources";
    refused(&[
        (
            pointer,
            memory(json!({"limit": -2})),
            "linux.resources.memory.limit",
            "-2 bytes, allowed are -1",
        ),
        (pointer, memory(json!({"kernel": -9})), "linux.resources.memory.kernel", "-9"),
        (
            pointer,
            memory(json!({"limit": 10, "swap": 9})),
            "linux.resources.memory.swap",
            "below the limit 10",
        ),
        (pointer, memory(json!({"swap": 9})), "linux.resources.memory.swap", "needs a limit"),
        (
            pointer,
            memory(json!({"limit": -1, "swap": 9})),
            "linux.resources.memory.swap",
            "needs a limit",
        ),
        (
            pointer,
            memory(json!({"swappiness": 101})),
            "linux.resources.memory.swappiness",
            "0 to 100",
        ),
        (pointer, json!({"pids": {"limit": -2}}), "linux.resources.pids.limit", "-1 (no limit)"),
    ]);
    accepted(&[
        (pointer, memory(json!({"limit": 0, "reservation": 0, "swap": -1}))),
        (pointer, memory(json!({"limit": 10, "swap": 10, "swappiness": 100}))),
        (pointer, json!({"pids": {"limit": 0}})),
        (pointer, json!({"pids": {"limit": -1}})),
    ]);
    let update: LinuxResources = serde_json::from_value(memory(json!({"swap": 9}))).unwrap();
    assert!(validate_resources(&update).is_ok(), "the limit may be set already");
}

#[test]
fn other_resources() {
    let io = |value: Value| json!({"blockIO": value});
    let huge = |sizes: &[&str]| {
        let entry = |size: &&str| json!({"pageSize": size, "limit": 1});
        json!({"hugepageLimits": sizes.iter().map(entry).collect::<Vec<_>>()})
    };
    let rule = |value: Value| json!({"devices": [value]});
    let pointer = "/linux/resources";
    let prefix = "linux.resources";
    refused(&[
        (pointer, io(json!({"weight": 9})), "linux.resources.blockIO.weight", "10 to 1000"),
        (pointer, io(json!({"leafWeight": 1001})), "linux.resources.blockIO.leafWeight", "1001"),
        (
            pointer,
            io(json!({"weightDevice": [{"major": 8, "minor": 0}]})),
            "linux.resources.blockIO.weightDevice[0].weight",
            "one of weight and leafWeight",
        ),
        (
            pointer,
            io(json!({"throttleReadIOPSDevice": [{"major": 8, "minor": -1, "rate": 1}]})),
            "linux.resources.blockIO.throttleReadIOPSDevice[0].minor",
            "negative",
        ),
        (pointer, huge(&["2M"]), &format!("{prefix}.hugepageLimits[0].pageSize"), "64KB"),
        (pointer, huge(&["MB"]), &format!("{prefix}.hugepageLimits[0].pageSize"), "\"MB\""),
        (pointer, huge(&["02MB"]), &format!("{prefix}.hugepageLimits[0].pageSize"), "02MB"),
        (
            pointer,
            huge(&["2MB", "2MB"]),
            &format!("{prefix}.hugepageLimits[1].pageSize"),
            "there twice",
        ),
        (
            pointer,
            json!({"network": {"priorities": [{"name": "e th", "priority": 1}]}}),
            "linux.resources.network.priorities[0].name",
            "interface name",
        ),
        (pointer, json!({"rdma": {"mlx": {}}}), "linux.resources.rdma.mlx", "hcaHandles"),
        (
            pointer,
            json!({"rdma": {"a b": {"hcaHandles": 1}}}),
            "linux.resources.rdma",
            "no device name",
        ),
        (
            pointer,
            json!({"unified": {"../memory.max": "1"}}),
            "linux.resources.unified",
            "no file of a cgroup",
        ),
        (pointer, json!({"unified": {"..": "1"}}), "linux.resources.unified", "memory.high"),
        (pointer, json!({"unified": {"memory": "1"}}), "linux.resources.unified", "memory.high"),
        (
            pointer,
            rule(json!({"allow": true, "type": "p", "access": "r"})),
            "linux.resources.devices[0].type",
            "a, b and c",
        ),
        (
            pointer,
            rule(json!({"allow": true, "access": "rwx"})),
            "linux.resources.devices[0].access",
            "r, w and m",
        ),
        (pointer, rule(json!({"allow": true})), "linux.resources.devices[0].access", "letters"),
        (
            pointer,
            rule(json!({"allow": true, "access": "a"})),
            "linux.resources.devices[0].access",
            "\"a\"",
        ),
        (
            pointer,
            rule(json!({"allow": true, "major": -2, "access": "r"})),
            "linux.resources.devices[0].major",
            "-1 (any)",
        ),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath", "\"..\""),
    ]);
    accepted(&[
        (pointer, io(json!({"weight": 0, "weightDevice": [{"major": 8, "leafWeight": 10}]}))),
        (pointer, huge(&["64KB", "2MB", "1GB"])),
        (pointer, json!({"unified": {"memory.high": "1", "hugetlb.2MB.max": "0"}})),
        (
            pointer,
            rule(json!({"allow": true, "type": "c", "major": 1, "minor": -1, "access": "m"})),
        ),
        ("/linux/cgroupsPath", json!("system.slice:carob:c1")),
        ("/linux/cgroupsPath", json!("/kubepods/..data")),
    ]);
    warned(
        pointer,
        rule(json!({"allow": false, "access": "rwa"})),
        "linux.resources.devices[0].access",
        "left out",
    );
}

#[test]
fn seccomp() {
    let rule = |value: Value| {
        let mut rule = json!({"names": ["mount"], "action": "SCMP_ACT_ERRNO"});
        rule.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    };
    let pointer = "/linux/seccomp";
    refused(&[
        (pointer, rule(json!({"names": []})), "linux.seccomp.syscalls[0].names", "empty"),
        (pointer, rule(json!({"names": ["a", ""]})), "linux.seccomp.syscalls[0].names[1]", "empty"),
        (
            pointer,
            rule(json!({"args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]})),
            "linux.seccomp.syscalls[0].args[0].index",
            "0 to 5",
        ),
        (
            pointer,
            rule(json!({"errnoRet": 4096})),
            "linux.seccomp.syscalls[0].errnoRet",
            "0 to 4095",
        ),
        (
            pointer,
            rule(json!({"action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "linux.seccomp.syscalls[0].errnoRet",
            "SCMP_ACT_KILL returns none",
        ),
        (
            pointer,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet",
            "SCMP_ACT_ALLOW returns none",
        ),
        (
            pointer,
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction",
            "cannot be the default",
        ),
        (
            pointer,
            rule(json!({"action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.listenerPath",
            "is missing",
        ),
        (
            pointer,
            rule(json!({"action": "SCMP_ACT_NOTIFY", "names": ["write"]})),
            "linux.seccomp.syscalls[0].names[0]",
            "cannot be used for the write syscall",
        ),
        (
            pointer,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata",
            "without listenerPath",
        ),
    ]);
    let mut notify = rule(json!({"action": "SCMP_ACT_NOTIFY"}));
    notify["listenerPath"] = json!("/run/agent.sock");
    notify["listenerMetadata"] = json!("x");
    accepted(&[
        (pointer, notify),
        (pointer, rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65535}))),
        (pointer, json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38})),
    ]);
}

#[test]
fn processor_and_memory_nodes() {
    let policy = |mode: &str, nodes: &str, flags: &[&str]| json!({"mode": format!("MPOL_{mode}"), "nodes": nodes, "flags": flags});
    refused(&[
        ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID", "\"a/b\""),
        ("/linux/intelRdt", json!({"closID": ".."}), "linux.intelRdt.closID", "plain directory"),
        (
            "/linux/intelRdt",
            json!({"schemata": ["L3:0=f", "MB:0=1\nL3:0=0"]}),
            "linux.intelRdt.schemata[1]",
            "newline",
        ),
        (
            "/linux/intelRdt",
            json!({"memBwSchema": "L3:0=f"}),
            "linux.intelRdt.memBwSchema",
            "begin with \"MB:\"",
        ),
        (
            "/linux/memoryPolicy",
            policy("BIND", "", &[]),
            "linux.memoryPolicy.nodes",
            "empty with MPOL_BIND",
        ),
        (
            "/linux/memoryPolicy",
            policy("LOCAL", "0", &[]),
            "linux.memoryPolicy.nodes",
            "takes none",
        ),
        ("/linux/memoryPolicy", policy("BIND", "x", &[]), "linux.memoryPolicy.nodes", "\"x\""),
        (
            "/linux/memoryPolicy",
            policy("BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
            "linux.memoryPolicy.flags",
            "exclude each other",
        ),
        (
            "/linux/memoryPolicy",
            policy("INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]),
            "linux.memoryPolicy.flags",
            "MPOL_INTERLEAVE",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
            "linux.personality.flags",
            "no flags yet",
        ),
    ]);
    accepted(&[
        ("/linux/intelRdt", json!({"closID": "/", "l3CacheSchema": "L3:0=f"})),
        ("/linux/memoryPolicy", policy("PREFERRED", "", &[])),
        ("/linux/memoryPolicy", policy("BIND", "0-1", &["MPOL_F_NUMA_BALANCING"])),
        ("/linux/personality", json!({"domain": "LINUX32", "flags": []})),
    ]);
}

#[test]
fn hooks_and_annotations() {
    let hook = |value: Value| json!({"createContainer": [{"path": "/a"}, value]});
    refused(&[
        ("/hooks", hook(json!({"path": "h"})), "hooks.createContainer[1].path", "absolute"),
        (
            "/hooks",
            hook(json!({"path": "/h", "timeout": 0})),
            "hooks.createContainer[1].timeout",
            "greater than 0",
        ),
        (
            "/hooks",
            hook(json!({"path": "/h", "env": ["X"]})),
            "hooks.createContainer[1].env[0]",
            "KEY=value",
        ),
        ("/hooks", json!({"prestart": [{"path": ""}]}), "hooks.prestart[0].path", "absolute"),
        ("/annotations", json!({"": "x"}), "annotations", "must not be empty"),
    ]);
    accepted(&[
        ("/hooks", hook(json!({"path": "/h", "args": [], "env": ["A=b"], "timeout": 1}))),
        ("/annotations", json!({"a": ""})),
    ]);
}

#[test]
fn a_process_to_exec_is_checked_alike() {
    let process: Process =
        serde_json::from_value(json!({"user": {}, "args": ["a"], "cwd": "x"})).unwrap();
    let text = validate_process(&process).unwrap_err().to_string();
    assert!(text.starts_with("process.cwd: "), "{text}");
}

/// Every pointer into a document.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), all));
        }
        Value::Object(map) => map.iter().for_each(|(key, v)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            pointers(v, &format!("{at}/{key}"), all);
        }),
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["", "/", "..", "\0", "-", "0-", "4294967295", "pid", "é"])
            .prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
    ]
}

proptest! {
    #[test]
    fn no_document_makes_it_panic(
        docker in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..4),
    ) {
        let mut config: Value =
            serde_json::from_str(if docker { DOCKER } else { RUNC_SPEC }).unwrap();
        for (index, value) in changes {
            let mut all = Vec::new();
            pointers(&config, "", &mut all);
            let pointer: &String = index.get(&all);
            *config.pointer_mut(pointer).unwrap() = value;
        }
        if let Err(error) = check(&config) {
            prop_assert!(matches!(error, Error::Config { .. }), "{error}");
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
