//! What is checked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use carob::container::{ExecLaunch, Force, Launch, Stdio};
use carob::error::Error;
use carob::sys::mount::{self, Subtree};
use carob::sys::overlay::{self, Overlay};
use carob::sys::process::{self, Exit, Prctl};
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use super::scene::{Caller, Scene, eventually, streams, text, wait};

type Check = (&'static str, fn(&Scene));

pub const ALL: &[Check] = &[
    ("the_caller_is_afterwards_as_it_was_before", unchanged),
    ("a_launched_container_has_none_of_the_callers_signal_state", signals),
    ("a_hook_has_none_of_it_either", hooks),
    ("a_launch_that_fails_leaves_nothing", failures),
    ("one_that_is_not_started_goes_again", dropped),
    ("streams_belong_to_the_containers_user", streams_of_a_user),
    ("a_terminal_comes_back_to_the_caller", terminal),
    ("a_given_rootfs_is_mounted_nowhere_on_the_host", given_rootfs),
    ("a_given_rootfs_serves_a_user_namespace_that_may_not_walk_to_it", user_namespace),
    ("an_exec_is_as_the_containers_own_process", exec_is_alike),
    ("an_exec_says_why_it_could_not", exec_failures),
    ("an_exec_into_a_paused_container_does_not_stop_the_caller", paused),
    ("a_group_ends_with_all_that_it_started", groups),
    ("a_container_is_taken_back", taken_back),
];

fn block_signals() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block().unwrap();
}

fn unchanged(scene: &Scene) {
    block_signals();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &{
        let mut set = nix::sched::CpuSet::new();
        set.set(0).unwrap();
        set
    })
    .unwrap();
    for dumpable in [true, false] {
        process::prctl(Prctl::Dumpable(dumpable)).unwrap();
        let before = Caller::now();
        let child = scene.sleeper(|spec| {
            spec["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
        });
        let template = scene.runtime.exec_template("c").unwrap();
        let group = template.group("g").unwrap();
        // Opened once and kept.
        group.join().unwrap();
        let after_launch = Caller::now();
        let missing = scene.bundle("x", "", |spec| {
            spec["process"]["args"] = json!(["/missing"]);
        });
        for _ in 0..20 {
            let (read, stdio) = streams();
            let args = ["true".to_owned()];
            let stdio = stdio.each_ref().map(OwnedFd::as_fd);
            let launch = ExecLaunch { args: &args, stdio, group: Some(&group) };
            assert_eq!(wait(&template.exec(&launch).unwrap()), Exit::Status(0));
            wait(&scene.runtime.exec_process("c", &launch).unwrap());
            let failing = ExecLaunch { args: &["/missing".to_owned()], ..launch };
            assert!(template.exec(&failing).is_err());
            drop(read);
            scene.launch(&missing, None).0.unwrap_err();
        }
        let pids = scene.bundle("p", "exec true", |spec| {
            let path = format!("/proc/{}/ns/pid", child.pid);
            for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "pid" {
                    namespace["path"] = json!(path);
                }
            }
        });
        let (joined, read) = scene.run(&pids);
        assert_eq!(wait(&joined), Exit::Status(0));
        drop((joined, read));
        scene.runtime.delete("p", Force::No).unwrap();
        assert_eq!(Caller::now(), after_launch);
        drop((template, group));
        scene.delete("c", &child);
        drop(child);
        assert_eq!(Caller::now(), before);
    }
    process::prctl(Prctl::Dumpable(true)).unwrap();
}

fn signals(scene: &Scene) {
    block_signals();
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let clean = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    let (child, read) = scene.run(&scene.bundle("c", &format!("{script}; sleep 1000"), |_| {}));
    let mut seen = vec![0; clean.len()];
    (&read).read_exact(&mut seen).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), clean);
    let (out, stdio) = streams();
    // Without the shell, which ignores SIGQUIT.
    let args = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"].map(str::to_owned);
    let launch =
        ExecLaunch { args: &args, stdio: stdio.each_ref().map(OwnedFd::as_fd), group: None };
    assert_eq!(wait(&scene.runtime.exec_process("c", &launch).unwrap()), Exit::Status(0));
    drop(stdio);
    assert_eq!(text(out), clean);
    scene.delete("c", &child);
}

fn hooks(scene: &Scene) {
    block_signals();
    let seen = scene.dir.join("mask");
    let script = format!("grep SigBlk /proc/self/status >> {}", seen.display());
    let options = scene.bundle("c", "true", |spec| {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        spec["hooks"] = json!({"createRuntime": hook, "poststart": hook, "poststop": hook});
    });
    let (child, _read) = scene.run(&options);
    wait(&child);
    scene.runtime.delete("c", Force::No).unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), "SigBlk:\t0000000000000000\n".repeat(3));
}

fn failures(scene: &Scene) {
    let not_there = scene.bundle("a", "", |spec| spec["process"]["args"] = json!(["/missing"]));
    let error = scene.launch(&not_there, None).0.unwrap_err().to_string();
    assert!(error.contains("/missing"), "{error}");
    // Found, but no program: that shows at the start only.
    let script = scene.dir.join("script");
    fs::write(&script, "\x7fELF").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let broken = scene.bundle("b", "", |spec| {
        spec["process"]["args"] = json!(["/script"]);
        let mount = json!({"destination": "/script", "type": "bind", "source": script, "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
        spec["root"]["path"] = json!(copy_of_rootfs(scene));
    });
    let error = scene.launch(&broken, None).0.unwrap().start().unwrap_err().to_string();
    assert!(error.contains("exec"), "{error}");
    let terminal = scene.bundle("t", "", |spec| spec["process"]["terminal"] = json!(true));
    let error = scene.launch(&terminal, None).0.unwrap_err().to_string();
    assert!(error.starts_with("process.terminal: "), "{error}");
    for id in ["a", "b", "t"] {
        assert!(matches!(scene.runtime.state(id), Err(Error::NotFound { .. })));
    }
}

fn copy_of_rootfs(scene: &Scene) -> std::path::PathBuf {
    let copy = scene.dir.join("rootfs");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/busybox/rootfs");
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(&copy).status();
    assert!(done.unwrap().success());
    copy
}

fn dropped(scene: &Scene) {
    let (launched, _read) = scene.launch(&scene.bundle("c", "echo never", |_| {}), None);
    let launched = launched.unwrap();
    let pid = launched.pid().unwrap();
    assert_eq!(scene.runtime.processes("c").unwrap(), [pid.as_raw()]);
    drop(launched);
    assert!(matches!(scene.runtime.state("c"), Err(Error::NotFound { .. })));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

fn streams_of_a_user(scene: &Scene) {
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat";
    let options = scene.bundle("c", script, |spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let (child, read) = scene.run(&options);
    assert_eq!(wait(&child), Exit::Status(0));
    assert_eq!(text(read), "out\nerr\n");
    scene.runtime.delete("c", Force::No).unwrap();
}

fn terminal(scene: &Scene) {
    let options = scene.bundle("c", "tty; read line; echo got $line", |spec| {
        spec["process"]["terminal"] = json!(true);
    });
    let launch = Launch { options: &options, stdio: Stdio::Terminal, rootfs: None };
    let (child, master) = scene.runtime.launch(launch).unwrap().start().unwrap();
    let mut master = File::from(master.unwrap());
    master.write_all(b"word\n").unwrap();
    let mut seen = Vec::new();
    // EIO at the end.
    master.read_to_end(&mut seen).unwrap_err();
    let seen = String::from_utf8(seen).unwrap();
    // Another terminal will show it: lines end as a terminal ends them.
    assert!(seen.contains("/dev/pts/0\r\n") && seen.contains("got word\r\n"), "{seen:?}");
    assert_eq!(wait(&child), Exit::Status(0));
    scene.runtime.delete("c", Force::No).unwrap();
}

fn given_rootfs(scene: &Scene) {
    let lower = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/busybox/rootfs");
    let long = "x".repeat(200);
    let (upper, work) = (scene.dir.join(&long).join("upper"), scene.dir.join(&long).join("work"));
    let point = scene.dir.join("point");
    for dir in [&upper, &work, &point] {
        fs::create_dir_all(dir).unwrap();
    }
    let open = |path: &Path| File::open(path).unwrap();
    let (lower, upper_dir, work) = (open(&lower), open(&upper), open(&work));
    let tree = || {
        let layers = [lower.as_fd()];
        let upper = Some((upper_dir.as_fd(), work.as_fd()));
        overlay::create(&Overlay { lower: &layers, upper, options: &[], attributes: 0 }).unwrap()
    };
    let script = "echo kept > /file; cat /proc/self/mountinfo; ls /";
    for (id, propagation) in [("c", None), ("d", Some("rshared"))] {
        let options = scene.bundle(id, script, |spec| {
            spec["root"] = json!({"path": point});
            if let Some(propagation) = propagation {
                spec["linux"]["rootfsPropagation"] = json!(propagation);
            }
        });
        let (launched, read) = scene.launch(&options, Some(tree()));
        let child = launched.unwrap().start().unwrap().0;
        assert_eq!(wait(&child), Exit::Status(0));
        let seen = text(read);
        let root = seen.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert!(root.contains(" - overlay "), "{root}");
        assert!(!seen.contains(&scene.marker), "{seen}");
        assert!(seen.contains("\nfile\n"), "{seen}");
        scene.runtime.delete(id, Force::No).unwrap();
    }
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "kept\n");
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
    let host = scene.bundle("e", script, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
    });
    let error = scene.launch(&host, Some(tree())).0.unwrap_err().to_string();
    assert!(error.contains("mount"), "{error}");
}

fn user_namespace(scene: &Scene) {
    let point = scene.dir.join("closed");
    fs::create_dir(&point).unwrap();
    fs::set_permissions(&point, PermissionsExt::from_mode(0o700)).unwrap();
    let rootfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/busybox/rootfs");
    let tree = mount::clone_tree(&rootfs, Subtree::Alone).unwrap();
    let options = scene.bundle("c", "cat /proc/self/uid_map; hostname", |spec| {
        spec["root"] = json!({"path": point, "readonly": true});
        let map = json!([{"containerID": 0, "hostID": 131_072, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["hostname"] = json!("inside");
    });
    let (launched, read) = scene.launch(&options, Some(tree));
    let child = launched.unwrap().start().unwrap().0;
    assert_eq!(wait(&child), Exit::Status(0));
    let seen = text(read);
    assert!(seen.contains("131072") && seen.ends_with("inside\n"), "{seen}");
    scene.runtime.delete("c", Force::No).unwrap();
}

fn exec_is_alike(scene: &Scene) {
    let script = "id; pwd; echo $KEY; hostname; ulimit -n; umask; cat /proc/self/oom_score_adj; \
                  grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
                  readlink /proc/self/ns/net; ls -l /proc/self/fd | wc -l; cat /proc/self/cgroup";
    for new_user in [false, true] {
        let edit = |spec: &mut serde_json::Value| {
            spec["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
            spec["process"]["cwd"] = json!("/tmp");
            spec["process"]["oomScoreAdj"] = json!(321);
            spec["process"]["noNewPrivileges"] = json!(true);
            spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]);
            spec["process"]["env"].as_array_mut().unwrap().push(json!("KEY=value"));
            spec["hostname"] = json!("inside");
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
            if new_user {
                let map = json!([{"containerID": 0, "hostID": 131_072, "size": 65536}]);
                spec["linux"]["uidMappings"] = map.clone();
                spec["linux"]["gidMappings"] = map;
                spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
        };
        // Outside of what only root may walk to.
        let (first, read) = scene.run(&scene.bundle("a", &format!("cd /tmp; {script}"), edit));
        assert_eq!(wait(&first), Exit::Status(0));
        scene.runtime.delete("a", Force::No).unwrap();
        let own = text(read).replace("/a\n", "/c\n").replace("/a/", "/c/");
        let child = scene.sleeper(edit);
        let (read, stdio) = streams();
        let args = ["sh", "-c", script].map(str::to_owned);
        let stdio_fds = stdio.each_ref().map(OwnedFd::as_fd);
        let launch = ExecLaunch { args: &args, stdio: stdio_fds, group: None };
        assert_eq!(wait(&scene.runtime.exec_process("c", &launch).unwrap()), Exit::Status(0));
        drop(stdio);
        let net = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("net:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(net(&text(read)), net(&own));
        scene.delete("c", &child);
        fs::remove_dir_all(scene.dir.join("bundle-a")).unwrap();
    }
}

fn exec_failures(scene: &Scene) {
    let child = scene.sleeper(|_| {});
    let template = scene.runtime.exec_template("c").unwrap();
    let (_read, stdio) = streams();
    let stdio = stdio.each_ref().map(OwnedFd::as_fd);
    for (args, words) in [
        (vec!["/missing"], "no such file or directory"),
        (vec!["missing"], "executable file not found in $PATH"),
        (vec!["/etc"], "is a directory"),
        (vec![], "empty"),
        (vec!["a\0b"], "nul"),
    ] {
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let launch = ExecLaunch { args: &args, stdio, group: None };
        let error = template.exec(&launch).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(template.group("a/b").is_err() && template.group("..").is_err());
    scene.delete("c", &child);
    let args = ["true".to_owned()];
    let late = ExecLaunch { args: &args, stdio, group: None };
    template.exec(&late).unwrap_err();
    assert!(matches!(scene.runtime.exec_template("c"), Err(Error::NotFound { .. })));
}

fn paused(scene: &Scene) {
    let child = scene.sleeper(|_| {});
    let template = scene.runtime.exec_template("c").unwrap();
    scene.runtime.pause("c").unwrap();
    let (read, stdio) = streams();
    let args = ["echo", "late"].map(str::to_owned);
    let fds = stdio.each_ref().map(OwnedFd::as_fd);
    let executing = template.begin(&ExecLaunch { args: &args, stdio: fds, group: None }).unwrap();
    let mut poll = [nix::poll::PollFd::new(executing.fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut poll, 100_u8).unwrap(), 0);
    scene.runtime.resume("c").unwrap();
    assert!(template.advance(&executing).unwrap());
    assert_eq!(wait(&executing.child), Exit::Status(0));
    drop(stdio);
    assert_eq!(text(read), "late\n");
    scene.delete("c", &child);
}

fn groups(scene: &Scene) {
    let child = scene.sleeper(|_| {});
    let template = scene.runtime.exec_template("c").unwrap();
    for _ in 0..3 {
        let group = template.group("probe").unwrap();
        let (_read, stdio) = streams();
        let script =
            "for i in 1 2 3; do setsid sh -c 'trap : TERM; sleep 1000 & wait' & done; wait";
        let args = ["sh", "-c", script].map(str::to_owned);
        let stdio = stdio.each_ref().map(OwnedFd::as_fd);
        let launch = ExecLaunch { args: &args, stdio, group: Some(&group) };
        let probe = template.exec(&launch).unwrap();
        eventually("seven processes of the probe", || {
            let now = scene.runtime.processes("c").unwrap();
            now.len() >= 8
        });
        group.kill().unwrap();
        assert_eq!(wait(&probe), Exit::Signal(libc::SIGKILL));
        eventually("nobody but init", || {
            let left = scene.runtime.processes("c").unwrap();
            left.iter().all(|pid| {
                let pid = nix::unistd::Pid::from_raw(*pid);
                pid == child.pid || process::stat(pid).unwrap().is_none_or(|stat| !stat.is_alive())
            })
        });
    }
    scene.delete("c", &child);
}

fn taken_back(scene: &Scene) {
    let (pid, pidfd) = {
        let options =
            scene.bundle("c", "trap 'exit 42' TERM; while :; do sleep 0.01; done", |_| {});
        // Somebody else makes it, and dies.
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_carob"))
            .args(["--root".as_ref(), scene.runtime.root.as_os_str()])
            .args(["run", "--detach", "--bundle"])
            .arg(&options.bundle)
            .arg("c")
            .stdin(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        scene.runtime.init_of("c").unwrap().unwrap()
    };
    assert_eq!(scene.runtime.state("c").unwrap().pid, pid.as_raw());
    assert_eq!(process::exit_of_stranger(&pidfd), None);
    // Its trap may not be set yet.
    std::thread::sleep(std::time::Duration::from_millis(200));
    process::pidfd_send_signal(&pidfd, libc::SIGTERM).unwrap();
    eventually("the end of init", || scene.runtime.init_of("c").unwrap().is_none());
    let is_new = File::open("/proc/sys/kernel/osrelease").map(text).is_ok_and(|release| {
        let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next(), parts.next()) >= (Some(6), Some(15))
    });
    if is_new {
        eventually("the exit of a stranger", || {
            process::exit_of_stranger(&pidfd) == Some(Exit::Status(42))
        });
    }
    assert!(scene.runtime.init_of("nobody").is_err());
    scene.runtime.delete("c", Force::No).unwrap();
}

/// Prints the cost of an exec probe, and that of a clone that only joins and executes.
pub fn measure(scene: &Scene, count: u32) {
    let child = scene.sleeper(|_| {});
    let template = scene.runtime.exec_template("c").unwrap();
    let group = template.group("probe").unwrap();
    let null = [(); 3].map(|()| File::options().read(true).write(true).open("/dev/null").unwrap());
    let stdio = null.each_ref().map(File::as_fd);
    let args = ["/bin/true".to_owned()];
    for (name, group) in [("container", None), ("group", Some(&group))] {
        let launch = ExecLaunch { args: &args, stdio, group };
        let (mut executed, begin) = (std::time::Duration::ZERO, Instant::now());
        for _ in 0..count {
            let start = Instant::now();
            let probe = template.exec(&launch).unwrap();
            executed += start.elapsed();
            process::wait(&probe.pidfd).unwrap();
        }
        println!("{name}: executed {:?}, ended {:?}", executed / count, begin.elapsed() / count);
    }
    let begin = Instant::now();
    for _ in 0..count {
        process::wait(&bare(&child).pidfd).unwrap();
    }
    println!("bare: ended {:?}", begin.elapsed() / count);
    scene.delete("c", &child);
}

fn bare(init: &process::Child) -> process::Child {
    use nix::sched::{CloneFlags, setns};
    let own = File::open("/proc/self/ns/pid").unwrap();
    setns(&init.pidfd, CloneFlags::CLONE_NEWPID).unwrap();
    let cloned = process::clone3(CloneFlags::empty(), &process::CloneTarget::default()).unwrap();
    match cloned {
        process::Cloned::Parent(child) => {
            setns(&own, CloneFlags::CLONE_NEWPID).unwrap();
            child
        }
        process::Cloned::Child => {
            let all = CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS;
            setns(&init.pidfd, all).unwrap();
            process::execve(c"/bin/true", &[c"/bin/true".to_owned()], &[]);
            process::exit_now(1)
        }
    }
}
