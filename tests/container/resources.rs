//! linux.resources: limits, proven by what they do.

use crate::support::{Container, Host, Peer, cgroup, peer, skip, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SPIN: &str = "while :; do :; done";

fn limit(spec: &mut Value, key: &str, value: Value) {
    spec["linux"]["resources"][key] = value;
}

/// CPU time of `pid`, user and kernel.
fn cpu_time(pid: nix::unistd::Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cpu_quota_of_20_percent_holds() {
    let host = Host::new();
    let c = host.sh_with(SPIN, |s| limit(s, "cpu", json!({"quota": 20_000, "period": 100_000})));
    c.run_detached();
    // In the kernel's periods, not by a clock: on a busy machine it may get less at any time.
    let (used, periods) = wait_until("periods in which it wants more", || {
        let cpu = c.verb("events", &["--stats"]).output().ok().json()["data"]["cpu"].clone();
        let throttling = &cpu["throttling"];
        let count = |name: &str| throttling[name].as_u64().unwrap_or(0);
        match (count("periods"), count("throttledPeriods")) {
            (periods, throttled) if periods >= 30 && throttled >= 10 => {
                Ok((Duration::from_nanos(cpu["usage"]["total"].as_u64().unwrap()), periods))
            }
            _ => Err(cpu.to_string()),
        }
    });
    let granted = Duration::from_millis(20 * periods);
    assert!(used < granted.mul_f64(1.35), "{used:?} in {periods} periods");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn cpu_shares_divide_a_contended_cpu() {
    let host = Host::new();
    let spinner = |shares: u32| {
        host.sh_with(SPIN, |s| limit(s, "cpu", json!({"shares": shares, "cpus": "0"})))
    };
    let (large, small) = (spinner(2048), spinner(256));
    large.run_detached();
    small.run_detached();
    let used = || [cpu_time(large.pid()), cpu_time(small.pid())];
    let before = used();
    let [large, small] = wait_until("use of the CPU", || {
        let now = used();
        let spent = [now[0] - before[0], now[1] - before[1]];
        if spent[0] + spent[1] > Duration::from_secs(2) {
            Ok(spent)
        } else {
            Err(format!("{spent:?}"))
        }
    });
    assert!(large > 3 * small, "8 to 1 was asked for: {large:?} to {small:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cpuset_confines_the_processes() {
    let host = Host::new();
    let c = host.sh_with("grep Cpus_allowed_list /proc/self/status; nproc", |s| {
        limit(s, "cpu", json!({"cpus": "0", "mems": "0"}));
    });
    let out = c.run().ok();
    assert_eq!(out.stdout.split_whitespace().collect::<Vec<_>>(), ["Cpus_allowed_list:", "0", "1"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cpu_that_does_not_exist_is_an_error() {
    let host = Host::new();
    let c = host.sleeper_with(|s| limit(s, "cpu", json!({"cpus": "4000"})));
    let out = c.create_call(&[]).output();
    assert_eq!(out.code, 1, "{out:?}");
    if peer() == Peer::Carob {
        let words = "error: linux.resources.cpu.cpus: \"4000\": allowed here are 0";
        assert!(out.stderr.starts_with(words), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn cpu_burst_and_idle_are_set() {
    let Some(host) = Host::only_carob("runc 1.1 knows neither cpu.burst nor cpu.idle") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        limit(s, "cpu", json!({"quota": 20_000, "period": 100_000, "burst": 10_000}));
    });
    let burst = if cgroup::is_v2() { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    let out = c.create_call(&[]).output();
    if out.stderr.contains(&format!("this kernel has no {burst}")) {
        out.fails(1, &["error: linux.resources.cpu.burst: 10000: "]);
        return skip("this kernel has neither cpu.burst (Linux 5.14) nor cpu.idle (5.15)");
    }
    out.ok();
    host.adopt(c.pid());
    assert_eq!(read(&host.cgroup("cpu", c.id()).join(burst)), "10000");
    let c = host.sleeper_with(|s| limit(s, "cpu", json!({"idle": 1})));
    c.create();
    assert_eq!(read(&host.cgroup("cpu", c.id()).join("cpu.idle")), "1");
}

/// On v2 from the cgroup above, which counts along: systemd takes a scope's away once it is empty.
fn oom_kills(host: &Host, c: &Container<'_>) -> u64 {
    let own = host.cgroup("memory", c.id());
    let text = match cgroup::is_v2() {
        true => read(&own.parent().unwrap().join("memory.events")),
        false => read(&own.join("memory.oom_control")),
    };
    let line = text.lines().find(|l| l.starts_with("oom_kill ")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_over_the_memory_limit_is_killed() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] = json!(["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"]);
        limit(s, "memory", json!({"limit": 16 * MIB, "swap": 16 * MIB}));
    });
    c.run_detached();
    assert_eq!(c.exit_code(), 137);
    assert!(oom_kills(&host, &c) >= 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_within_the_memory_limit_is_not() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] = json!(["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=8"]);
        limit(s, "memory", json!({"limit": 32 * MIB, "swap": 32 * MIB}));
    });
    c.run().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_small_memory_limit_still_starts() {
    let host = Host::new();
    // runc's init needs several MiB under the limit itself.
    let bytes = if crate::support::peer() == crate::support::Peer::Runc { 8 * MIB } else { MIB };
    let c = host.sh_with("echo fits", |s| limit(s, "memory", json!({"limit": bytes})));
    assert_eq!(c.run().ok().stdout, "fits\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn memory_reservation_and_swap_are_written() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        limit(s, "memory", json!({"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}));
    });
    c.create();
    let dir = host.cgroup("memory", c.id());
    let expected = if cgroup::is_v2() {
        [("memory.max", 64), ("memory.swap.max", 32), ("memory.low", 32)]
    } else {
        [
            ("memory.limit_in_bytes", 64),
            ("memory.memsw.limit_in_bytes", 96),
            ("memory.soft_limit_in_bytes", 32),
        ]
    };
    for (file, mib) in expected {
        assert_eq!(read(&dir.join(file)), (mib * MIB).to_string(), "{file}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_swap_limit_below_the_memory_limit_is_an_error() {
    let host = Host::new();
    let c = host.sleeper_with(|s| limit(s, "memory", json!({"limit": 64 * MIB, "swap": 32 * MIB})));
    assert_eq!(c.create_call(&[]).output().code, 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_oom_killer_can_be_disabled_on_v1() {
    if cgroup::is_v2() {
        return skip("cgroup v2 has no switch for the OOM killer");
    }
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        limit(s, "memory", json!({"limit": 64 * MIB, "disableOOMKiller": true}));
    });
    c.create();
    let text = read(&host.cgroup("memory", c.id()).join("memory.oom_control"));
    assert!(text.contains("oom_kill_disable 1"), "{text}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn forks_over_the_pids_limit_are_refused() {
    let host = Host::new();
    let c = host.sh_with("for i in 1 2 3 4 5 6; do sleep 9 & done; echo all started", |s| {
        limit(s, "pids", json!({"limit": 4}));
    });
    let out = c.run();
    assert!(out.stderr.contains("can't fork"), "{out:?}");
    assert!(!out.stdout.contains("all started"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pids_limit_holds_for_exec_too() {
    let host = Host::new();
    let c = host.sleeper_with(|s| limit(s, "pids", json!({"limit": 3})));
    c.run_detached();
    let out = c.exec_sh("sleep 1 & sleep 1 & sleep 1 & wait");
    assert!(out.code != 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pids_limit_of_zero_is_one_and_of_minus_one_is_none() {
    let Some(host) = Host::only_carob("runc 1.1 takes 0 for none") else { return };
    for (limit_given, written) in [(0, "1"), (-1, "max")] {
        let c = host.sleeper_with(|s| limit(s, "pids", json!({"limit": limit_given})));
        c.run_detached();
        assert_eq!(read(&host.cgroup("pids", c.id()).join("pids.max")).trim(), written);
        c.delete_force().ok();
    }
}

/// A character device outside the default set that root can open without a capability.
///
/// Not tun: runc 1.1 has it in its default set.
pub fn spare_device() -> Option<Value> {
    let misc = fs::read_to_string("/proc/misc").ok()?;
    let words = misc.lines().filter_map(|l| l.trim().split_once(' '));
    let (minor, _) = words.into_iter().find(|(_, n)| ["fuse", "loop-control"].contains(n))?;
    let minor: u32 = minor.parse().ok()?;
    Some(json!({"path": "/dev/mine", "type": "c", "major": 10, "minor": minor}))
}

/// What happens to an open for reading and one for writing under `rules` for the spare device.
fn open_device(rules: impl FnOnce(&Value) -> Value) -> Option<String> {
    let Some(device) = spare_device() else {
        skip("no device to try on in /proc/misc");
        return None;
    };
    let host = Host::new();
    let script = "(: < /dev/mine) && echo -n r; (: >> /dev/mine) && echo -n w; true";
    let c = host.sh_with(script, |s| {
        s["linux"]["resources"]["devices"] = rules(&device["minor"]);
        s["linux"]["devices"] = json!([device]);
    });
    Some(c.run().ok().stdout)
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_denied_device_is_refused() {
    let rules = |_: &Value| json!([{"allow": false, "access": "rwm"}]);
    if let Some(seen) = open_device(rules) {
        assert_eq!(seen, "");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_allowed_device_works() {
    let seen = open_device(|minor| {
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": minor, "access": "rwm"},
        ])
    });
    if let Some(seen) = seen {
        assert_eq!(seen, "rw");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn device_access_is_per_mode() {
    let seen = open_device(|minor| {
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": minor, "access": "r"},
        ])
    });
    if let Some(seen) = seen {
        assert_eq!(seen, "r");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_later_device_rule_wins() {
    let seen = open_device(|minor| {
        json!([
            {"allow": true, "access": "rwm"},
            {"allow": false, "type": "c", "major": 10, "minor": minor, "access": "w"},
        ])
    });
    if let Some(seen) = seen {
        assert_eq!(seen, "r");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn all_devices_allowed_means_all() {
    if let Some(seen) = open_device(|_| json!([{"allow": true, "access": "rwm"}])) {
        assert_eq!(seen, "rw");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_device_rules_at_all_allow_the_default_devices() {
    let host = Host::new();
    let c = host.sh_with("echo x > /dev/null && head -c1 /dev/zero | wc -c", |s| {
        s["linux"]["resources"].as_object_mut().unwrap().remove("devices");
    });
    assert_eq!(c.run().ok().text(), "1");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_io_weight_is_set_or_the_reason_is_told() {
    let host = Host::new();
    let c = host.sleeper_with(|s| limit(s, "blockIO", json!({"weight": 500})));
    let files = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"];
    let out = c.create_call(&[]).output();
    if out.code == 0 {
        host.adopt(c.pid());
        let dir = host.cgroup("blkio", c.id());
        let written = files.iter().filter_map(|f| fs::read_to_string(dir.join(f)).ok());
        assert!(
            written.into_iter().any(|w| w.contains("500") || w.contains("default 4")),
            "{out:?}"
        );
    } else {
        assert!(out.stderr.contains("weight"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_io_throttle_is_written() {
    let host = Host::new();
    let Some(disk) = disk() else {
        return skip("no block device to throttle");
    };
    let (major, minor) = disk;
    let c = host.sleeper_with(|s| {
        limit(
            s,
            "blockIO",
            json!({
                "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}],
            }),
        );
    });
    c.create();
    let file = if cgroup::is_v2() { "io.max" } else { "blkio.throttle.read_bps_device" };
    let text = read(&host.cgroup("blkio", c.id()).join(file));
    assert!(text.starts_with(&format!("{major}:{minor} ")) && text.contains("1048576"), "{text}");
}

fn disk() -> Option<(u32, u32)> {
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        if !entry.path().join("device").exists() {
            continue;
        }
        let dev = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = dev.trim().split_once(':')?;
        return Some((major.parse().ok()?, minor.parse().ok()?));
    }
    None
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn unified_is_applied_on_v2_and_refused_on_v1() {
    let host = Host::new();
    let c = host.sleeper_with(|s| limit(s, "unified", json!({"pids.max": "17"})));
    let out = c.create_call(&[]).output();
    if cgroup::is_v2() {
        out.ok();
        host.adopt(c.pid());
        assert_eq!(read(&host.cgroup("pids", c.id()).join("pids.max")), "17");
    } else {
        out.fails(1, &["unified"]);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_limit_of_a_controller_that_is_not_there_is_an_error() {
    let Some(host) = Host::only_carob("runc drops hugepage limits without a v1 hugetlb hierarchy")
    else {
        return;
    };
    let c = host.sleeper_with(|s| {
        limit(s, "hugepageLimits", json!([{"pageSize": "2MB", "limit": 2 * MIB}]));
    });
    let out = c.create_call(&[]).output();
    // Either set, in a hierarchy of its own or in the unified one, or told.
    if out.code == 0 {
        host.adopt(c.pid());
        let (hierarchy, file) = match (cgroup::is_v2(), cgroup::has("hugetlb")) {
            (false, true) => ("hugetlb", "hugetlb.2MB.limit_in_bytes"),
            _ => ("unified", "hugetlb.2MB.max"),
        };
        assert_eq!(read(&host.cgroup(hierarchy, c.id()).join(file)), (2 * MIB).to_string());
    } else {
        assert!(out.stderr.contains("hugetlb"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_page_size_the_machine_does_not_have_is_an_error() {
    let Some(host) = Host::only_carob("runc 1.1 ignores it without a hugetlb hierarchy") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        limit(s, "hugepageLimits", json!([{"pageSize": "3MB", "limit": 0}]));
    });
    let out = c.create_call(&[]).output();
    assert!(out.code == 1 && out.stderr.contains("hugepageLimits[0]"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn zeroes_that_docker_sends_mean_unset() {
    let host = Host::new();
    let c = host.sh_with("echo runs", |s| {
        limit(s, "cpu", json!({"shares": 0, "quota": 0, "period": 0}));
        limit(s, "memory", json!({"reservation": 0, "kernel": 0}));
        limit(s, "blockIO", json!({"weight": 0}));
    });
    assert_eq!(c.run().ok().stdout, "runs\n");
}
