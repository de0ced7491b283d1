//! run: exit codes, stdio, detach, signal forwarding.

use crate::support::{Host, Peer, peer, wait_until};
use serde_json::json;
use std::fs;
use std::process::Command;

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_exit_code_is_the_programs() {
    let host = Host::new();
    for code in [0, 1, 42, 255] {
        let out = host.sh(&format!("exit {code}")).run();
        assert_eq!(out.code, code, "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn death_by_signal_is_128_plus_its_number() {
    let host = Host::new();
    // PID 1 ignores its own signals, so the shell's child is what dies in a shared pid namespace.
    let c = host.sh_with("kill -9 $$", |s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    assert_eq!(c.run().code, 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn stdin_stdout_stderr_are_the_callers() {
    let host = Host::new();
    let c = host.sh("cat; echo to-stderr >&2");
    let out = c.bundle_verb("run", &[]).stdin("from-stdin\n").output().ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("from-stdin\n", "to-stderr\n"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nothing_is_left_after_the_foreground_run() {
    let host = Host::new();
    let c = host.sh("true");
    c.run().ok();
    c.verb("state", &[]).output().fails(1, &["does not exist"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn keep_leaves_the_stopped_container() {
    let Some(host) =
        Host::only_carob("run --keep came with runc 1.1 but 1.1.5 still removes cgroup")
    else {
        return;
    };
    let c = host.sh("exit 3");
    assert_eq!(c.bundle_verb("run", &["--keep"]).output().code, 3);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn detach_returns_while_the_container_runs() {
    let host = Host::new();
    let c = host.sh("echo up; sleep 1000");
    c.run_detached().wait_output("up");
    assert_eq!(c.status(), "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_detached_init_becomes_the_callers_child() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let stat = fs::read_to_string(format!("/proc/{}/stat", c.pid())).unwrap();
    let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().to_owned();
    assert_eq!(parent, std::process::id().to_string());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn signals_to_the_foreground_run_reach_the_container() {
    let host = Host::new();
    // SIGTERM, SIGHUP, SIGUSR1, and the first real-time signal, which runtimes of languages may keep to
    // themselves: runc 1.1 dies of it.
    let codes: &[i32] = if peer() == Peer::Carob { &[15, 1, 10, 34] } else { &[15, 1, 10] };
    for code in codes {
        let script = format!(
            "trap 'echo got {code}; exit {code}' {code}; echo ready; while :; do sleep 0.02; done"
        );
        let c = host.sh(&script);
        let run = c.bundle_verb("run", &[]).spawn();
        run.wait_stdout("ready");
        let kill = Command::new("kill").arg(format!("-{code}")).arg(run.pid().to_string()).status();
        assert!(kill.unwrap().success());
        let out = run.wait();
        assert_eq!(out.code, *code, "{out:?}");
        assert_eq!(out.stdout, format!("ready\ngot {code}\n"));
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_pid_file_names_init_while_it_runs() {
    let host = Host::new();
    let c = host.sh("echo ready; read line");
    let pid_file = host.dir().join("run.pid");
    let run = c.bundle_verb("run", &["--pid-file", pid_file.to_str().unwrap()]).spawn();
    let out = run.wait(); // stdin is /dev/null
    assert_eq!(out.stdout, "ready\n");
    assert!(fs::read_to_string(pid_file).unwrap().parse::<u32>().is_ok());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_program_is_reported_once_in_the_words_clients_look_for() {
    let host = Host::new();
    for (arg, word) in [
        ("/nonexistent", "no such file or directory"),
        ("nonexistent", "executable file not found in $PATH"),
        ("/etc/plain", "permission denied"),
    ] {
        let c = host.container(|s| s["process"]["args"] = json!([arg, "x"]));
        let out = c.create_call(&[]).output().fails(1, &[arg, word]);
        assert_eq!(out.stderr.matches(word).count(), 1, "{out:?}");
        assert!(!c.bundle().join("pid").exists(), "{arg}: pid file left");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn path_comes_from_the_containers_environment() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] = json!(["marked"]);
        s["process"]["env"] = json!(["PATH=/nowhere:/opt"]);
        s["root"]["path"] = json!(host.own_rootfs());
    });
    let config = fs::read_to_string(c.bundle().join("config.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_str(&config).unwrap();
    let opt = std::path::Path::new(spec["root"]["path"].as_str().unwrap()).join("opt");
    fs::create_dir(&opt).unwrap();
    fs::write(opt.join("marked"), "#!/bin/sh\necho found\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(opt.join("marked"), mode).unwrap();
    assert_eq!(c.run().ok().stdout, "found\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn descriptors_of_the_caller_do_not_reach_the_container() {
    let host = Host::new();
    let c = host.sh("ls /proc/self/fd | tr '\\n' ' '");
    let out = c.bundle_verb("run", &[]).after("exec 5</etc/passwd 9</ 33</dev/null").output().ok();
    assert_eq!(out.text(), "0 1 2 3", "3 is ls itself");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn preserve_fds_keeps_exactly_that_many() {
    let host = Host::new();
    let c = host.sh("cat <&3; ls /proc/self/fd | tr '\\n' ' '");
    let file = host.dir().join("fd3");
    fs::write(&file, "through fd 3\n").unwrap();
    let prelude = format!("exec 3<{} 4</dev/null 5</etc/passwd", file.display());
    let out = c.bundle_verb("run", &["--preserve-fds", "2"]).after(&prelude).output().ok();
    let (first, fds) = out.stdout.split_once('\n').unwrap();
    assert_eq!((first, fds.trim()), ("through fd 3", "0 1 2 3 4 5"), "5 is ls itself");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn listen_fds_are_passed_on_with_the_containers_own_pid() {
    let host = Host::new();
    let c = host.sh("echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    let file = host.dir().join("listen");
    fs::write(&file, "socket\n").unwrap();
    let prelude = format!("exec 3<{}; export LISTEN_FDS=1 LISTEN_PID=$$", file.display());
    let out = c.bundle_verb("run", &[]).after(&prelude).output().ok();
    assert_eq!(out.stdout, "1 1\nsocket\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ignored_and_blocked_signals_are_not_inherited() {
    let host = Host::new();
    // Not through sh, which itself ignores QUIT.
    let c = host.container(|s| {
        s["process"]["args"] = json!(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]);
    });
    let out = c.bundle_verb("run", &[]).after("trap '' PIPE USR1 TERM").output().ok();
    let masks = out.stdout.lines().map(|l| u64::from_str_radix(&l[8..], 16).unwrap());
    // Signals 32 and 33 are glibc's own: its posix_spawn ignores them in our children.
    let ours = !(0b11 << 31);
    assert_eq!(masks.map(|m| m & ours).collect::<Vec<_>>(), [0, 0], "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_environment_is_exactly_the_configs() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] = json!(["env"]);
        s["process"]["env"] = json!(["PATH=/bin", "A=1", "B=x y=z"]);
    });
    let out = c.bundle_verb("run", &[]).env("LEAK", "1").output().ok();
    let mut lines: Vec<&str> = out.stdout.lines().filter(|l| !l.starts_with("HOME=")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=x y=z", "PATH=/bin"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn home_is_set_from_the_containers_passwd_when_missing() {
    let host = Host::new();
    for (uid, home) in [(0, "/root"), (1000, "/home/user")] {
        let c =
            host.sh_with("echo $HOME", |s| s["process"]["user"] = json!({"uid": uid, "gid": uid}));
        assert_eq!(c.run().ok().text(), home);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn standard_output_that_is_closed_does_not_crash_the_runtime() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let out = c.verb("state", &[]).after("exec >&-").output();
    assert!(out.code == 0 || out.code == 1, "{out:?}");
    assert!(!out.stderr.contains("panic"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_detached_container_holds_no_descriptor_of_the_caller_but_stdio() {
    let host = Host::new();
    let c = host.sleeper();
    let fifo = host.dir().join("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let call = c.create_call(&[]).after(&format!("exec 7<>{}", fifo.display()));
    call.output().ok();
    host.adopt(c.pid());
    // With a writer left open, a non-blocking open for writing would succeed.
    wait_until("the fifo to have no reader", || {
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        match nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty()) {
            Err(nix::errno::Errno::ENXIO) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
