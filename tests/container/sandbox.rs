//! `pod sandbox`: namespaces that containers of any runtime join.

use crate::support::{Host, Output, cgroup, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const RUNC: &str = "/usr/sbin/runc";

/// A sandbox that is removed with the test.
struct Sandbox<'h> {
    host: &'h Host,
    name: &'static str,
}

impl<'h> Sandbox<'h> {
    fn new(host: &'h Host, name: &'static str) -> Self {
        Self { host, name }
    }

    fn verb(&self, verb: &str, flags: &[&str]) -> Output {
        let call = self.host.call(&["pod", "sandbox", verb]);
        let out = call.args(flags).args(&[self.name]).output();
        // Whoever made it has gone: we are the parent of pause.
        if out.code == 0 && !out.stdout.is_empty() {
            let pid = i32::try_from(out.json()["pid"].as_i64().unwrap()).unwrap();
            if pid > 0 {
                self.host.adopt(Pid::from_raw(pid));
            }
        }
        out
    }

    fn create(&self, flags: &[&str]) -> Output {
        let cgroup = self.cgroup();
        let mut all = vec!["--cgroup", &cgroup];
        all.extend_from_slice(flags);
        self.verb("create", &all)
    }

    fn cgroup(&self) -> String {
        self.host.cgroup_parent(self.name).0
    }

    fn state(&self) -> PathBuf {
        self.host.state_root().join("@sandboxes").join(self.name)
    }

    /// What joins it: `script` in a container of busybox.
    fn member<'a>(&self, report: &Value, script: &str) -> crate::support::Container<'a>
    where
        'h: 'a,
    {
        let id = format!("m{}", fs::read_dir(self.host.dir()).unwrap().count());
        self.host.container_named(&id, |spec| {
            spec["process"]["args"] = json!(["sh", "-c", script]);
            let parent = report["cgroup"].as_str().unwrap();
            spec["linux"]["cgroupsPath"] = json!(self.host.cgroups_path_in(parent, &id));
            let list = spec["linux"]["namespaces"].as_array_mut().unwrap();
            let joined = report["namespaces"].as_object().unwrap();
            list.retain(|one| !joined.contains_key(one["type"].as_str().unwrap()));
            list.extend(joined.iter().map(|(kind, path)| json!({"type": kind, "path": path})));
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/dev/shm");
            for (destination, key) in [("/dev/shm", "shm"), ("/etc/hosts", "hosts")] {
                mounts.push(json!({"destination": destination, "type": "bind",
                    "source": report[key], "options": ["bind"]}));
            }
            let rootfs = self.host.own_rootfs();
            fs::write(rootfs.join("etc/hosts"), "").unwrap();
            spec["root"]["path"] = json!(rootfs);
            spec["root"]["readonly"] = json!(false);
            spec.as_object_mut().unwrap().remove("hostname");
        })
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        self.host.call(&["pod", "sandbox", "rm", self.name]).output();
        // Stays if there is another one, or something was left.
        fs::remove_dir(self.host.state_root().join("@sandboxes")).ok();
    }
}

fn namespace(pid: &Value, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn containers_of_runc_and_carob_join_it() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    let made = sandbox.create(&["--hosts-entry", "10.1.2.3=db,db.local"]).ok().json();
    assert_eq!(made["status"], "running");
    let kinds: Vec<_> = made["namespaces"].as_object().unwrap().keys().collect();
    assert_eq!(kinds, ["ipc", "network", "uts"]);
    assert_eq!(sandbox.verb("inspect", &[]).ok().json(), made);
    let script = "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done; hostname; \
                  grep -c 10.1.2.3 /etc/hosts; ip addr show lo | grep -c 127.0.0.1; \
                  ls /dev/shm; echo mark > /dev/shm/$MARK; stat -c %a /dev/shm";
    let expected =
        ["net", "ipc", "uts"].map(|kind| namespace(&made["pid"], kind).display().to_string());
    let member = sandbox.member(&made, &format!("MARK=carob; {script}"));
    let seen = member.run().ok();
    assert_eq!(seen.text(), format!("{}\nweb\n1\n1\n1777", expected.join("\n")));
    let other = sandbox.member(&made, &format!("MARK=runc; {script}"));
    let root = host.dir().join("runc");
    let runc = std::process::Command::new(RUNC)
        .args(host.driver_flags())
        .args(["--root".as_ref(), root.as_os_str(), "run".as_ref(), "--bundle".as_ref()])
        .arg(other.bundle())
        .arg("member")
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&runc.stdout).trim().to_owned();
    assert_eq!(seen, format!("{}\nweb\n1\n1\ncarob\n1777", expected.join("\n")), "{runc:?}");
    let shm = Path::new(made["shm"].as_str().unwrap());
    assert_eq!(fs::read_dir(shm).unwrap().count(), 2);
    sandbox.verb("rm", &[]).ok();
    assert!(!sandbox.state().exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pause_reaps_the_orphans_of_a_shared_pid_namespace() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "pids");
    let made = sandbox.create(&["--pid", "pod"]).ok().json();
    // The subshell ends first: its child is an orphan, and then a zombie if nobody reaps it.
    let script = "cat /proc/1/comm; ls /proc/1/root /proc/1/root/dev; \
                  for i in 1 2 3 4 5; do (sleep 0.0$i &); done; sleep 0.5; \
                  grep -l zombie /proc/[0-9]*/status; kill -0 1 && echo alive";
    let seen = sandbox.member(&made, script).run();
    assert!(seen.stdout.starts_with("pause\n"), "{seen:?}");
    assert!(seen.stdout.ends_with("alive\n") && !seen.stdout.contains("status"), "{seen:?}");
    assert_eq!(sandbox.verb("inspect", &[]).ok().json()["status"], "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn each_user_namespace_has_ids_of_its_own_and_keeps_them() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let (one, two) = (Sandbox::new(&host, "one"), Sandbox::new(&host, "two"));
    let first = one.create(&["--userns"]).ok().json();
    let second = two.create(&["--userns", "--pid", "pod"]).ok().json();
    assert_eq!(first["userNamespaceBase"], 65_536);
    assert_eq!(second["userNamespaceBase"], 131_072);
    let seen = two.member(&second, "cat /proc/self/uid_map").run();
    let map: Vec<_> = seen.stdout.split_whitespace().collect();
    assert_eq!(map, ["0", "131072", "65536"], "{seen:?}");
    one.verb("stop", &[]).ok();
    let third = Sandbox::new(&host, "three");
    assert_eq!(third.create(&["--userns"]).ok().json()["userNamespaceBase"], 196_608);
    let again = one.verb("start", &[]).ok().json();
    assert_eq!(again["userNamespaceBase"], 65_536);
    assert_eq!(again["id"], "one_POD_2");
    one.verb("rm", &[]).ok();
    let four = Sandbox::new(&host, "four");
    assert_eq!(four.create(&["--userns"]).ok().json()["userNamespaceBase"], 65_536);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn stop_ends_what_runs_in_it_and_start_brings_it_back() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    let made = sandbox.create(&["--hostname", "other"]).ok().json();
    let member = sandbox.member(&made, "exec sleep 1000");
    member.run_detached();
    sandbox.verb("stop", &[]).ok();
    assert_eq!(member.status(), "stopped");
    member.delete_force().ok();
    sandbox.verb("stop", &[]).ok();
    let stopped = sandbox.verb("inspect", &[]).ok().json();
    assert_eq!((&stopped["status"], &stopped["pid"]), (&json!("stopped"), &json!(0)));
    assert_eq!(stopped["namespaces"], json!({}));
    let again = sandbox.verb("start", &[]).ok().json();
    assert_eq!(again["status"], "running");
    assert_eq!(sandbox.verb("start", &[]).ok().json(), again);
    // Pause has died: it is made again.
    nix::sys::signal::kill(
        Pid::from_raw(i32::try_from(again["pid"].as_i64().unwrap()).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    wait_until("status stopped", || {
        let now = sandbox.verb("inspect", &[]).ok().json();
        if now["status"] == "stopped" { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(sandbox.verb("start", &[]).ok().json()["status"], "running");
    let seen = sandbox.member(&sandbox.verb("inspect", &[]).ok().json(), "hostname").run().ok();
    assert_eq!(seen.text(), "other");
    sandbox.verb("rm", &[]).ok();
    sandbox.verb("rm", &[]).fails(1, &["sandbox \"web\" not found"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_the_hosts_is_not_among_the_namespaces() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "hosts");
    let made = sandbox.create(&["--network", "host", "--ipc", "host", "--pid", "host"]).ok().json();
    assert_eq!(made["namespaces"], json!({}));
    assert_eq!(made["shm"], "/dev/shm");
    for kind in ["net", "ipc", "uts", "pid", "user"] {
        assert_eq!(
            namespace(&made["pid"], kind),
            namespace(&json!(std::process::id()), kind),
            "{kind}"
        );
    }
    let hosts = fs::read_to_string(made["hosts"].as_str().unwrap()).unwrap();
    assert_eq!(hosts, fs::read_to_string("/etc/hosts").unwrap());
    let refused = Sandbox::new(&host, "sysctl");
    let flags = ["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"];
    refused.create(&flags).fails(1, &["net.ipv4.ip_forward"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kernel_parameters_limits_and_files_are_as_asked() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    let resources = host.dir().join("resources.json");
    fs::write(&resources, json!({"memory": {"limit": 64 << 20}}).to_string()).unwrap();
    let made = sandbox.create(&[
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=7",
        "--resources",
        resources.to_str().unwrap(),
        "--dns",
        "10.0.0.1",
        "--dns",
        "fd00::1",
        "--dns-search",
        "a.b",
        "--dns-option",
        "ndots:5",
    ]);
    let made = made.ok().json();
    let resolv_conf = fs::read_to_string(made["resolvConf"].as_str().unwrap()).unwrap();
    assert_eq!(
        resolv_conf,
        "search a.b\noptions ndots:5\nnameserver 10.0.0.1\nnameserver fd00::1\n"
    );
    assert_eq!(fs::read_to_string(made["hostname"].as_str().unwrap()).unwrap(), "web\n");
    let memory = cgroup::hierarchy("memory").join(host.cgroup_parent("web").1);
    let limit = ["memory.limit_in_bytes", "memory.max"]
        .iter()
        .find_map(|file| fs::read_to_string(memory.join(file)).ok());
    assert_eq!(limit.unwrap().trim(), (64 << 20).to_string());
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; mknod /tmp/x c 1 3 && echo made";
    let seen = sandbox.member(&made, script).run().ok();
    // The pod's cgroup takes no device away from its containers.
    assert_eq!(seen.text(), "7\nmade");
    let shm = Path::new(made["shm"].as_str().unwrap());
    assert_eq!(fs::metadata(shm).unwrap().permissions().mode() & 0o7777, 0o1777);
    let size = nix::sys::statvfs::statvfs(shm).unwrap();
    assert_eq!(size.blocks() * size.fragment_size(), 64 << 20);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_refused_sandbox_leaves_nothing() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    for (flags, words) in [
        (&["--sysctl", "net.ipv4.nothing=1"][..], &["linux.sysctl.net.ipv4.nothing"][..]),
        (&["--sysctl", "kernel.core_pattern=|/x"], &["kernel.core_pattern"]),
        (&["--sysctl", "no-value"], &["KEY=VALUE"]),
        (&["--hostname", "a\n10.0.0.1 b"], &["host name"]),
        (&["--hosts-entry", "db=10.0.0.1"], &["IP=NAME"]),
        (&["--hosts-entry", "10.0.0.1=a b"], &["one word"]),
        (&["--dns", "here"], &["--dns"]),
        (&["--dns-search", "x"], &["--dns"]),
    ] {
        sandbox.create(flags).fails(1, words);
        assert!(!sandbox.state().exists(), "{flags:?}");
        assert_eq!(host.runtime(&["list", "-q"]).ok().stdout, "");
        assert!(!cgroup::hierarchy("pids").join(host.cgroup_parent("web").1).exists());
    }
    for name in ["../x", "a/b", "."] {
        let out = host.runtime(&["pod", "sandbox", "create", "--cgroup", &sandbox.cgroup(), name]);
        out.fails(1, &["invalid container ID format"]);
    }
    sandbox.create(&[]).ok();
    sandbox.create(&[]).fails(1, &["in use"]);
    let (cgroup, _) = host.cgroup_parent("free");
    sandbox.verb("create", &["--cgroup", &cgroup]).fails(1, &["\"web\" already exists"]);
    assert_eq!(sandbox.verb("inspect", &[]).ok().json()["status"], "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_creator_may_be_killed_at_any_time() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    let cgroup = sandbox.cgroup();
    for millis in 0..15 {
        let running = host.call(&["pod", "sandbox", "create", "--cgroup", &cgroup, "web"]).spawn();
        std::thread::sleep(Duration::from_millis(millis));
        running.signal(Signal::SIGKILL);
        running.wait();
        host.adopt_orphans();
        sandbox.verb("rm", &[]);
        let made = sandbox.create(&[]);
        assert_eq!(made.clone().ok().json()["status"], "running", "{millis} ms: {made:?}");
        sandbox.verb("rm", &[]).ok();
        host.adopt_orphans();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn pause_is_small_static_and_still() {
    let Some(host) = Host::only_carob("runc knows no pods") else { return };
    let sandbox = Sandbox::new(&host, "web");
    let made = sandbox.create(&["--pid", "pod"]).ok().json();
    let pid = &made["pid"];
    let exe = PathBuf::from(format!("/proc/{pid}/root/pause"));
    let image = fs::read(&exe).unwrap();
    assert!(image.len() < 8 << 10, "{} bytes", image.len());
    const PT_INTERP: u32 = 3;
    let (at, count) = (usize::from(image[32]), usize::from(image[56]));
    for header in (0..count).map(|n| at + n * 56) {
        let kind = u32::from_le_bytes(image[header..header + 4].try_into().unwrap());
        assert_ne!(kind, PT_INTERP, "not static");
    }
    assert_eq!(fs::metadata(&exe).unwrap().mode() & 0o7777, 0o111);
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| -> u64 {
        let status = status();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(number("VmRSS:") <= 32, "{}", status());
    let before = number("voluntary_ctxt_switches:");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(number("voluntary_ctxt_switches:"), before);
    // Of the root only pause and an empty /dev, and nothing can be written.
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dev", "pause"]);
    assert_eq!(fs::read_dir(root.join("dev")).unwrap().count(), 0);
    assert!(fs::write(root.join("x"), "").is_err());
    let process = Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(process, Signal::SIGHUP).unwrap();
    nix::sys::signal::kill(process, Signal::SIGTERM).unwrap();
    let ended = nix::sys::wait::waitpid(process, None).unwrap();
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(process, 0));
}
