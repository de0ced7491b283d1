//! Real cgroups on this host. No test here stands in for the kernel.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, mkdirat};

use super::*;

/// A cgroup of this test alone, with its processes; both are gone when it is dropped.
pub(super) struct Fixture {
    pub(super) cgroup: Cgroup,
    children: Vec<Child>,
}

impl Fixture {
    fn resolve() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("carob-test-{}-{count}", std::process::id());
        let cgroup = Cgroup::resolve(None, &id, CgroupDriver::Cgroupfs).unwrap();
        Self { cgroup, children: Vec::new() }
    }

    pub(super) fn create(json: &str) -> Self {
        let fixture = Self::resolve();
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        fixture.cgroup.check(Some(&resources)).unwrap();
        fixture.cgroup.create(Some(&resources)).unwrap();
        fixture
    }

    /// Starts a shell command inside the cgroup.
    pub(super) fn run(&mut self, script: &str) -> u32 {
        let join = self.cgroup.join().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let child = spawn_in(join, command);
        let pid = child.id();
        self.children.push(child);
        pid
    }

    pub(super) fn wait_for(&self, what: &str, mut check: impl FnMut(&Cgroup) -> bool) {
        let start = Instant::now();
        while !check(&self.cgroup) {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:?}", self.cgroup);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The child enters by itself, as init does.
#[allow(unsafe_code, reason = "the standard library has no other way to run code in the child")]
fn spawn_in(join: Join, mut command: Command) -> Child {
    use std::os::unix::process::CommandExt;
    let enter = move || {
        join.enter(Unified::Enter).and_then(|()| join.enter_memory()).map_err(std::io::Error::other)
    };
    // SAFETY: the closure makes system calls and allocates only to report a failure; the test
    // binary's other threads hold no lock that it needs.
    unsafe { command.pre_exec(enter) };
    command.spawn().unwrap()
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.cgroup.kill_all(libc::SIGKILL));
        for child in &mut self.children {
            drop(child.wait());
        }
        let deleted = self.cgroup.delete();
        if !std::thread::panicking() {
            deleted.unwrap();
            for (_, path) in self.cgroup.paths() {
                assert!(!path.exists(), "{} is left", path.display());
            }
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_enters_every_hierarchy_and_delete_removes_all() {
    let mut fixture = Fixture::create("{}");
    let pid = fixture.run("exec sleep 60");
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in text.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap();
        let mounted = fixture.cgroup.paths().any(|(_, dir)| dir.ends_with(&path[1..]));
        assert!(mounted && path.contains("carob-test-"), "{line}");
    }
    assert_eq!(fixture.cgroup.processes().unwrap(), [pid.cast_signed()]);
    let json = serde_json::to_string(&fixture.cgroup).unwrap();
    assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), fixture.cgroup);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_frozen_process_stands_still_and_dies_of_kill_all() {
    let mut fixture = Fixture::create("{}");
    let pid = fixture.run("while :; do :; done");
    fixture.cgroup.freeze().unwrap();
    assert!(fixture.cgroup.is_frozen().unwrap());
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.split(' ').nth(13).unwrap().to_owned()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ticks(), before);
    // Not one that ends it: in a frozen cgroup of v2 those do.
    fixture.cgroup.kill_all(libc::SIGWINCH).unwrap();
    assert!(fixture.cgroup.is_frozen().unwrap(), "only SIGKILL thaws");
    fixture.cgroup.kill_all(libc::SIGKILL).unwrap();
    assert!(!fixture.cgroup.is_frozen().unwrap());
    fixture.wait_for("killed", |cgroup| cgroup.processes().unwrap().is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_fork_bomb_cannot_outrun_kill_all() {
    let mut fixture = Fixture::create(r#"{"pids":{"limit":500}}"#);
    fixture.run("while :; do sleep 5 & done");
    fixture.wait_for("bomb", |cgroup| cgroup.processes().unwrap().len() > 40);
    fixture.cgroup.kill_all(libc::SIGKILL).unwrap();
    fixture.wait_for("killed", |cgroup| cgroup.processes().unwrap().is_empty());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn devices_are_refused_by_the_kernel() {
    let json = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let mut fixture = Fixture::create(json);
    let dir = std::env::temp_dir().join(format!("carob-dev-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let script = format!(
        "cd {0} && mknod kmsg c 1 11 && echo > /dev/null && ! cat < kmsg && touch ok",
        dir.display()
    );
    fixture.run(&script);
    let status = fixture.children[0].wait().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_create_leaves_nothing() {
    let fixture = Fixture::resolve();
    let resources = serde_json::from_str(r#"{"cpu":{"cpus":"4000"}}"#).unwrap();
    let error = fixture.cgroup.create(Some(&resources)).unwrap_err().to_string();
    assert!(error.contains("linux.resources.cpu.cpus"), "{error}");
    for (_, path) in fixture.cgroup.paths() {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn deep_cgroups_below_are_found_and_removed() {
    let fixture = Fixture::create("{}");
    let (_, root) = fixture.cgroup.paths().next().unwrap();
    // Longer than any path may be: made from inside, level by level.
    let name = "d".repeat(200);
    let mode = Mode::from_bits_truncate(0o755);
    let mut at = open(&root, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..40 {
        mkdirat(&at, "x", mode).unwrap();
        mkdirat(&at, name.as_str(), mode).unwrap();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
    }
    assert!(fixture.cgroup.processes().unwrap().is_empty());
    fixture.cgroup.delete().unwrap();
    assert!(!root.exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn sub_cgroups_stay_below_the_container() {
    let fixture = Fixture::create("{}");
    let (names, path) = fixture.cgroup.paths().next().unwrap();
    let names = names.to_owned();
    std::fs::create_dir(path.join("x")).unwrap();
    let argument = if names.is_empty() { "/x".to_owned() } else { format!("{names}:/x") };
    let sub = fixture.cgroup.sub(&[argument]).unwrap();
    assert_eq!(sub.paths().next().unwrap().1, path.join("x"));
    for bad in ["../y", "x/../../y", "nosuch:x", "nosuch"] {
        let error = fixture.cgroup.sub(&[bad.to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("--cgroup "), "{error}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_cpu_quota_is_kept_and_update_lifts_it() {
    let mut fixture = Fixture::create(r#"{"cpu":{"quota":20000,"period":100000}}"#);
    fixture.run("while :; do :; done");
    let cpu = || fixture.cgroup.stats().unwrap().cpu;
    let (start, before) = (Instant::now(), cpu().usage.total);
    std::thread::sleep(Duration::from_millis(1000));
    let used = Duration::from_nanos(cpu().usage.total - before);
    let held = used.as_secs_f64() / start.elapsed().as_secs_f64();
    // How much less it gets is up to whatever else runs on this machine.
    assert!(held < 0.30, "{held}");
    assert!(cpu().throttling.throttled_periods > 0);

    let update = serde_json::from_str(r#"{"cpu":{"quota":-1}}"#).unwrap();
    fixture.cgroup.update(&update).unwrap();
    std::thread::sleep(Duration::from_millis(200)); // the period that has begun
    let lifted = cpu();
    fixture.wait_for("half a second of CPU time", |cgroup| {
        cgroup.stats().unwrap().cpu.usage.total - lifted.usage.total > 500_000_000
    });
    assert_eq!(cpu().throttling.throttled_periods, lifted.throttling.throttled_periods);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_oom_kill_is_counted_and_wakes_the_watcher() {
    let mut fixture = Fixture::create(r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
    let mut watch = fixture.cgroup.oom_watch().unwrap();
    assert_eq!(watch.consume().unwrap(), OomEvent::Nothing);
    assert_eq!(fixture.cgroup.oom_kills().unwrap(), Some(0));
    fixture.run("x=0123456789; while :; do x=$x$x; done");
    // On v2 the limit is hit, and that is told, before the kill is.
    loop {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)).unwrap(), 1, "no event in 5 s");
        match watch.consume().unwrap() {
            OomEvent::Oom => break,
            OomEvent::Nothing => {}
            OomEvent::Gone => panic!("the cgroup is there"),
        }
    }
    fixture.wait_for("oom kill", |cgroup| cgroup.oom_kills().unwrap() == Some(1));
    assert!(!fixture.children[0].wait().unwrap().success());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn memory_limits_move_up_and_down_whatever_their_order() {
    let fixture = Fixture::create(r#"{"memory":{"limit":20971520,"swap":20971520}}"#);
    let limits = || {
        let memory = fixture.cgroup.stats().unwrap().memory;
        (memory.usage.limit, memory.swap.limit)
    };
    for bytes in [41_943_040_u64, 10_485_760] {
        let json = serde_json::json!({"memory": {"limit": bytes, "swap": bytes}});
        fixture.cgroup.update(&serde_json::from_value(json).unwrap()).unwrap();
        assert_eq!(limits(), (bytes, bytes));
    }
    let unlimited = serde_json::from_str(r#"{"memory":{"limit":-1}}"#).unwrap();
    fixture.cgroup.update(&unlimited).unwrap();
    assert!(limits().0 > 1 << 60 && limits().1 > 1 << 60, "{:?}", limits());
}

/// Runs a test on the unified tree alone, as on a pure v2 host; on a hybrid one it has what the v1
/// hierarchies left it. Controllers that are turned on in its root are turned off again: others
/// may want to mount them on v1.
fn on_unified(test: impl FnOnce(&mut Fixture)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let mut fixture = Fixture::resolve();
    fixture.cgroup.hierarchies.retain(|hierarchy| hierarchy.tree == Tree::Unified);
    let Some(hierarchy) = fixture.cgroup.hierarchies.first() else { return };
    let root = Dir::open(hierarchy.mount.clone()).unwrap();
    let before = root.read("cgroup.subtree_control").unwrap();
    test(&mut fixture);
    drop(fixture);
    let after = root.read("cgroup.subtree_control").unwrap();
    for name in after.split_whitespace().filter(|name| !before.contains(name)) {
        root.write("cgroup.subtree_control", &format!("-{name}")).unwrap();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_unified_tree_refuses_devices_freezes_and_kills() {
    on_unified(|fixture| {
        let json = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
        let resources = serde_json::from_str(json).unwrap();
        fixture.cgroup.create(Some(&resources)).unwrap();
        fixture.cgroup.create(Some(&resources)).unwrap();
        let (_, path) = fixture.cgroup.paths().next().unwrap();
        let dir = Dir::open(path.clone()).unwrap();
        let programs = crate::sys::bpf::device_programs(dir.fd()).unwrap();
        assert_eq!(programs.len(), 1, "the second create replaces the program of the first");

        fixture.run("echo > /dev/null && ! cat < /dev/kmsg");
        assert!(fixture.children[0].wait().unwrap().success());

        let pid = fixture.run("while :; do :; done");
        fixture.cgroup.freeze().unwrap();
        assert!(fixture.cgroup.is_frozen().unwrap());
        assert_eq!(fixture.cgroup.processes().unwrap(), [pid.cast_signed()]);
        fixture.cgroup.kill_all(libc::SIGKILL).unwrap();
        fixture.wait_for("killed", |cgroup| cgroup.processes().unwrap().is_empty());
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn controllers_are_enabled_down_to_a_nested_cgroup() {
    on_unified(|fixture| {
        let hierarchy = &mut fixture.cgroup.hierarchies[0];
        let offered = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap();
        let top = hierarchy.dir();
        hierarchy.path = hierarchy.path.join("a/b");
        fixture.cgroup.create(None).unwrap();
        let leaf = fixture.cgroup.paths().next().unwrap().1;
        let enabled = std::fs::read_to_string(leaf.join("cgroup.controllers")).unwrap();
        assert_eq!(enabled, offered);
        fixture.cgroup.delete().unwrap();
        assert!(top.join("a").exists(), "parents stay");
        walk::remove(&top, Instant::now()).unwrap();
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn every_controller_of_a_pure_v2_host_takes_its_limits() {
    if !plan::is_pure_v2(&Fixture::resolve().cgroup.hierarchies) {
        return;
    }
    // Linux 5.14 and 5.15 have brought them.
    let later = Fixture::create(r#"{"cpu": {"shares": 1024}}"#);
    let has = |file: &str| later.cgroup.paths().any(|(_, path)| path.join(file).exists());
    let burst = if has("cpu.max.burst") { r#""burst": 1000,"# } else { "" };
    let idle = if has("cpu.idle") { r#""idle": 0,"# } else { "" };
    let json = r#"{
        "cpu": {LATER "shares": 1024, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
        "memory": {"limit": 20971520, "swap": 20971520, "reservation": 10485760},
        "pids": {"limit": 50},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"memory.high": "15728640", "cgroup.max.depth": "3"}
    }"#;
    let fixture = Fixture::create(&json.replace("LATER", &format!("{burst} {idle}")));
    let (_, path) = fixture.cgroup.paths().next().unwrap();
    let dir = Dir::open(path).unwrap();
    for (file, want) in [
        ("cpu.weight", "100"),
        ("cpu.max", "20000 50000"),
        ("cpuset.cpus", "0"),
        ("memory.max", "20971520"),
        ("memory.low", "10485760"),
        ("memory.high", "15728640"),
        ("pids.max", "50"),
        ("hugetlb.2MB.max", "4194304"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(dir.read(file).unwrap().trim(), want, "{file}");
    }
    if !burst.is_empty() {
        assert_eq!(dir.read("cpu.max.burst").unwrap().trim(), "1000");
    }
    let period = serde_json::from_str(r#"{"cpu":{"period":100000}}"#).unwrap();
    fixture.cgroup.update(&period).unwrap();
    assert_eq!(dir.read("cpu.max").unwrap().trim(), "20000 100000");
    assert!(dir.read("memory.swap.max").is_ok_and(|swap| swap.trim() == "0"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_parent_with_processes_is_named_when_it_cannot_pass_controllers_down() {
    let mut fixture = Fixture::resolve();
    if !plan::is_pure_v2(&fixture.cgroup.hierarchies) {
        return;
    }
    fixture.cgroup.create(None).unwrap();
    fixture.run("exec sleep 60");
    let mut below = fixture.cgroup.clone();
    below.hierarchies[0].path.push("x");
    let limits = serde_json::from_str(r#"{"pids":{"limit":5}}"#).unwrap();
    let error = below.create(Some(&limits)).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.pids.limit: the cgroup "), "{error}");
    assert!(!below.paths().next().unwrap().1.exists());
}
