//! exec: a further process in a running container.

use crate::support::container::exit_code;
use crate::support::{Container, Host, Output, Peer, peer};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;

fn running(host: &Host) -> Container<'_> {
    let c = host.sleeper();
    c.run_detached();
    c
}

fn process(args: &[&str]) -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"})
}

fn status_line(out: &Output, key: &str) -> String {
    let line = out.stdout.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{out:?}"));
    line[key.len()..].trim_start_matches(':').trim().to_owned()
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_runs_in_the_containers_namespaces() {
    let host = Host::new();
    let c = running(&host);
    for ns in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let inside = c.exec(&["readlink", &format!("/proc/self/ns/{ns}")]).ok();
        let init = fs::read_link(format!("/proc/{}/ns/{ns}", c.pid())).unwrap();
        assert_eq!(inside.text(), init.to_str().unwrap());
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_runs_in_the_containers_cgroups() {
    let host = Host::new();
    let c = running(&host);
    let pid_file = host.dir().join("exec.pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    c.exec_call(&flags, &["sleep", "1000"]).output().ok();
    let pid = fs::read_to_string(pid_file).unwrap();
    host.adopt(Pid::from_raw(pid.parse().unwrap()));
    let init = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), init);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_exit_code_is_the_programs() {
    let host = Host::new();
    let c = running(&host);
    assert_eq!(c.exec_sh("exit 42").code, 42);
    assert_eq!(c.exec_sh("kill -9 $$").code, 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn stdio_is_the_callers() {
    let host = Host::new();
    let c = running(&host);
    let call = c.exec_call(&[], &["sh", "-c", "cat; echo err >&2"]).stdin("hello\n");
    let out = call.output().ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("hello\n", "err\n"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn flags_change_env_cwd_and_user() {
    let host = Host::new();
    let c = running(&host);
    let flags = ["--env", "X=1", "--env", "Y=2", "--cwd", "/tmp", "--user", "1000:5"];
    let out = c.exec_call(&flags, &["sh", "-c", "echo $X $Y; pwd; id -u; id -g"]).output().ok();
    assert_eq!(out.stdout, "1 2\n/tmp\n1000\n5\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn additional_gids_are_set() {
    let host = Host::new();
    let c = running(&host);
    let flags = ["--user", "1000:1000", "-g", "7", "-g", "8"];
    let out = c.exec_call(&flags, &["id", "-G"]).output().ok();
    assert_eq!(out.text(), "1000 7 8");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_that_is_no_number_is_refused() {
    let Some(host) = Host::only_carob("runc 1.1 wraps 4294967296 around to root") else {
        return;
    };
    let c = running(&host);
    for user in ["alice", "1x", "-1", "4294967296", "1:x", "1:", ":1"] {
        let out = c.exec_call(&["--user", user], &["true"]).output();
        assert_ne!(out.code, 0, "{user}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn arguments_after_the_id_are_verbatim() {
    let host = Host::new();
    let c = running(&host);
    let out = c.exec(&["echo", "-n", "--user", "x", "-h", "--", "$HOME"]).ok();
    assert_eq!(out.stdout, "--user x -h -- $HOME");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_file_is_the_whole_process() {
    let host = Host::new();
    let c = running(&host);
    let mut p = process(&["sh", "-c", "id -u; id -G; pwd; echo $A"]);
    p["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [10, 20]});
    p["env"] = json!(["PATH=/bin", "A=b"]);
    p["cwd"] = json!("/tmp");
    let out = c.exec_process(&[], &p).output().ok();
    assert_eq!(out.stdout, "1000\n1000 10 20\n/tmp\nb\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_umask_of_a_process_file_is_set() {
    let Some(host) = Host::only_carob("runc 1.1 keeps its caller's umask in exec") else {
        return;
    };
    let c = running(&host);
    let mut p = process(&["sh", "-c", "umask"]);
    p["user"]["umask"] = json!(0o27);
    assert_eq!(c.exec_process(&[], &p).output().ok().text(), "0027");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_file_without_capabilities_gets_the_containers() {
    let host = Host::new();
    let c = running(&host);
    let out = c.exec_process(&[], &process(&["cat", "/proc/self/status"])).output().ok();
    let init = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    let bounding = init.lines().find(|l| l.starts_with("CapBnd")).unwrap();
    assert_eq!(status_line(&out, "CapBnd"), bounding[7..].trim());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn no_new_privileges_comes_from_the_process_file() {
    let host = Host::new();
    let c = running(&host);
    for (value, seen) in [(true, "1"), (false, "0")] {
        let mut p = process(&["cat", "/proc/self/status"]);
        p["noNewPrivileges"] = json!(value);
        let out = c.exec_process(&[], &p).output().ok();
        assert_eq!(status_line(&out, "NoNewPrivs"), seen);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn cap_adds_no_inheritable_capability() {
    let host = Host::new();
    let c = running(&host);
    let out = c.exec_call(&["--cap", "CAP_NET_ADMIN"], &["cat", "/proc/self/status"]).output().ok();
    assert_eq!(status_line(&out, "CapInh"), "0000000000000000");
    let effective = u64::from_str_radix(&status_line(&out, "CapEff"), 16).unwrap();
    assert_ne!(effective & (1 << 12), 0, "CAP_NET_ADMIN is effective: {out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_failed_exec_is_255_and_leaves_no_pid_file() {
    let host = Host::new();
    let c = running(&host);
    let pid_file = host.dir().join("exec.pid");
    for (arg, word) in [
        ("/nonexistent", "no such file or directory"),
        ("nonexistent", "executable file not found in $PATH"),
        ("/etc/plain", "permission denied"),
    ] {
        for detach in [&[][..], &["--detach"][..]] {
            let mut flags = vec!["--pid-file", pid_file.to_str().unwrap()];
            flags.extend_from_slice(detach);
            c.exec_call(&flags, &[arg]).output().fails(255, &[arg, word]);
            assert!(!pid_file.exists(), "{arg}");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_missing_cwd_is_an_error() {
    let host = Host::new();
    let c = running(&host);
    let out = c.exec_call(&["--cwd", "/nowhere"], &["true"]).output();
    let out = out.fails(255, &["/nowhere"]);
    if peer() == Peer::Carob {
        assert!(!out.stderr.contains("config.json"), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn detach_leaves_a_process_of_ours() {
    let host = Host::new();
    let c = running(&host);
    let pid_file = host.dir().join("exec.pid");
    let flags = ["-d", "--pid-file", pid_file.to_str().unwrap()];
    c.exec_call(&flags, &["sh", "-c", "exit 9"]).output().ok();
    let pid = Pid::from_raw(fs::read_to_string(pid_file).unwrap().parse().unwrap());
    host.adopt(pid);
    assert_eq!(exit_code(pid), 9);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_stopped_container_refuses() {
    let host = Host::new();
    let c = host.sh("exit 0");
    c.run_detached().wait_for("stopped");
    c.exec(&["true"]).fails(255, &["cannot exec in a stopped container"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_paused_container_refuses() {
    let host = Host::new();
    let c = running(&host);
    c.verb("pause", &[]).output().ok();
    c.exec(&["true"]).fails(255, &["cannot exec in a paused container"]);
    c.verb("resume", &[]).output().ok();
    c.exec(&["true"]).ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_created_container_accepts() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    assert_eq!(c.exec(&["echo", "early"]).ok().stdout, "early\n");
    c.start();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn descriptors_of_the_caller_do_not_reach_the_process() {
    let host = Host::new();
    let c = running(&host);
    let call = c.exec_call(&[], &["ls", "/proc/self/fd"]).after("exec 5</etc/passwd 33</");
    let out = call.output().ok();
    assert_eq!(out.stdout, "0\n1\n2\n3\n", "3 is ls itself");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn preserve_fds_keeps_exactly_that_many() {
    let host = Host::new();
    let c = running(&host);
    let call = c.exec_call(&["--preserve-fds", "1"], &["ls", "/proc/self/fd"]);
    let out = call.after("exec 3</dev/null 4</dev/null 9</").output().ok();
    assert_eq!(out.stdout, "0\n1\n2\n3\n4\n", "4 is ls itself");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_works_without_the_bundle() {
    let host = Host::new();
    let c = running(&host);
    let p = c.exec_process(&[], &process(&["echo", "still"]));
    let file = host.dir().join("process.json");
    fs::write(&file, process(&["echo", "still"]).to_string()).unwrap();
    drop(p);
    fs::rename(c.bundle(), host.dir().join("moved")).unwrap();
    let out = host.runtime(&["exec", "--process", file.to_str().unwrap(), c.id()]);
    fs::rename(host.dir().join("moved"), c.bundle()).unwrap();
    assert_eq!(out.ok().stdout, "still\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_process_is_in_its_own_session() {
    let host = Host::new();
    let c = running(&host);
    let out = c.exec_sh("cut -d' ' -f1,6 /proc/$$/stat").ok();
    let (pid, session) = out.text().split_once(' ').unwrap();
    assert_eq!(pid, session);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn signals_to_a_foreground_exec_reach_its_process() {
    let host = Host::new();
    let c = running(&host);
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let exec = c.exec_call(&[], &["sh", "-c", script]).spawn();
    exec.wait_stdout("ready");
    exec.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(exec.wait().code, 5);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn seccomp_of_the_container_holds_for_exec() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
        });
    });
    c.run_detached();
    c.exec(&["mkdir", "/tmp/x"]).fails(1, &["Operation not permitted"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn many_execs_in_a_row_leave_nothing() {
    let host = Host::new();
    let c = running(&host);
    for _ in 0..20 {
        c.exec(&["true"]).ok();
    }
    let procs = fs::read_to_string(host.cgroup("pids", c.id()).join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), c.pid().to_string());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_file_may_be_a_pipe() {
    let host = Host::new();
    let c = running(&host);
    let text = process(&["echo", "from a pipe"]).to_string();
    let exec = host.call(&["exec", "--process", "/dev/fd/5", c.id()]);
    let out = exec.env("TEXT", &text).after("exec 5< <(echo \"$TEXT\")").output().ok();
    assert_eq!(out.text(), "from a pipe");
}
