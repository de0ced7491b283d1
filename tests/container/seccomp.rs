//! linux.seccomp: actions, arguments, flags, notification.

use crate::support::socket::{listen, receive};
use crate::support::{Cgroups, Host, Ids, Peer, User, peer};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

fn filter(spec: &mut Value, names: &[&str], rule: Value) {
    let mut rule = rule;
    rule["names"] = json!(names);
    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

#[test]
#[ignore = "needs root: run scripts/test"]
fn errno_refuses_with_eperm_or_the_given_number() {
    let host = Host::new();
    for (errno, words) in [(None, "Operation not permitted"), (Some(28), "No space left on device")]
    {
        let c = host.sh_with("mkdir /dev/shm/x", |s| {
            let mut rule = json!({"action": "SCMP_ACT_ERRNO"});
            if let Some(n) = errno {
                rule["errnoRet"] = json!(n);
            }
            filter(s, &MKDIR, rule);
        });
        let out = c.run();
        assert!(out.code != 0 && out.stderr.contains(words), "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_ends_the_process_with_sigsys() {
    let host = Host::new();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        let c = host.container(|s| {
            s["process"]["args"] = json!(["mkdir", "/dev/shm/x"]);
            filter(s, &MKDIR, json!({"action": action}));
        });
        assert_eq!(c.run().code, 128 + 31, "{action}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn trap_raises_sigsys_and_log_lets_pass() {
    let host = Host::new();
    let trapped = host.sh_with("mkdir /dev/shm/x; echo $?", |s| {
        filter(s, &MKDIR, json!({"action": "SCMP_ACT_TRAP"}));
    });
    assert_eq!(trapped.run().text(), "159");
    let logged = host.sh_with("mkdir /dev/shm/x", |s| {
        filter(s, &MKDIR, json!({"action": "SCMP_ACT_LOG"}));
    });
    logged.run().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn arguments_are_compared() {
    let host = Host::new();
    let script = "kill -0 $$ && echo zero; kill -10 $$ || echo ten refused";
    let c = host.sh_with(script, |s| {
        filter(
            s,
            &["kill"],
            json!({
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
            }),
        );
    });
    assert_eq!(c.run().ok().stdout, "zero\nten refused\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_list_of_allowed_calls_with_a_refusing_default_runs_a_program() {
    let host = Host::new();
    let c = host.container(|s| {
        s["process"]["args"] = json!(["echo", "allowed"]);
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": [
                "execve", "exit", "exit_group", "write", "writev", "brk", "mmap", "munmap",
                "mprotect", "arch_prctl", "set_tid_address", "set_robust_list", "rseq",
                "prlimit64", "readlink", "readlinkat", "getrandom", "uname", "fstat", "newfstatat",
                "getuid", "geteuid", "getgid", "getegid", "prctl", "rt_sigaction",
                // The runtime's own way to execve, after the filter is loaded.
                "read", "close", "openat", "futex", "fcntl", "getpid", "gettid", "tgkill",
                "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "epoll_pwait", "nanosleep",
                "sched_yield", "madvise", "setresuid", "setresgid", "setgroups", "capset", "getcwd",
                "chdir", "getppid", "seccomp", "fstatfs", "faccessat", "faccessat2", "close_range",
                "getdents64",
            ]}],
        });
    });
    assert_eq!(c.run().ok().stdout, "allowed\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn unknown_system_calls_are_left_out() {
    let host = Host::new();
    let c = host.sh_with("echo runs", |s| {
        filter(s, &["mkdir", "call_of_tomorrow"], json!({"action": "SCMP_ACT_ERRNO"}));
    });
    assert_eq!(c.run().ok().stdout, "runs\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn it_holds_with_and_without_no_new_privileges() {
    let host = Host::new();
    for value in [true, false] {
        let c = host.sh_with("grep Seccomp: /proc/self/status; mkdir /dev/shm/x", |s| {
            s["process"]["noNewPrivileges"] = json!(value);
            filter(s, &MKDIR, json!({"action": "SCMP_ACT_ERRNO"}));
        });
        let out = c.run();
        assert!(out.stdout.contains("\t2") && out.code != 0, "{out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_filter_is_no_obstacle_to_the_runtime_itself() {
    let host = Host::new();
    // What init needs until the last step; none of it is needed by the program.
    let c = host.container(|s| {
        s["process"]["args"] = json!(["echo", "runs"]);
        let names = ["mount", "pivot_root", "umount2", "setns", "unshare", "sethostname", "clone3"];
        filter(s, &names, json!({"action": "SCMP_ACT_KILL_PROCESS"}));
    });
    assert_eq!(c.run().ok().stdout, "runs\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn flags_of_the_spec_are_accepted() {
    let host = Host::new();
    let c = host.sh_with("echo runs", |s| {
        filter(s, &MKDIR, json!({"action": "SCMP_ACT_ERRNO"}));
        s["linux"]["seccomp"]["flags"] =
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    });
    let out = c.run();
    if out.code != 0 && peer() == Peer::Runc {
        return crate::support::skip("this runc was built with an old libseccomp");
    }
    assert_eq!(out.ok().stdout, "runs\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn notify_hands_the_listener_to_the_agent() {
    let host = Host::new();
    for no_new_privileges in [true, false] {
        the_agent_answers(&host, no_new_privileges);
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn notify_hands_the_listener_to_a_users_agent() {
    let Some(_) = Host::only_carob("runc 1.1 wants cgroups of its own here") else { return };
    let host = Host::of(User::new(Ids::Own, Cgroups::None));
    for no_new_privileges in [true, false] {
        the_agent_answers(&host, no_new_privileges);
    }
}

fn the_agent_answers(host: &Host, no_new_privileges: bool) {
    let socket = host.dir().join(format!("agent-{no_new_privileges}"));
    let listener = listen(&socket);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let c = host.sh_with("mkdir /dev/shm/x", |s| {
        s["process"]["noNewPrivileges"] = json!(no_new_privileges);
        filter(s, &["mkdir"], json!({"action": "SCMP_ACT_NOTIFY"}));
        s["linux"]["seccomp"]["listenerPath"] = json!(socket);
        s["linux"]["seccomp"]["listenerMetadata"] = json!("for the agent");
    });
    let run = c.bundle_verb("run", &[]).spawn();
    let (bytes, fds) = receive(&listener);
    let state: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(state["metadata"], "for the agent", "{state}");
    assert_eq!(state["fds"], json!(["seccompFd"]), "{state}");
    assert_eq!(state["state"]["id"], c.id(), "{state}");
    assert!(state["pid"].as_i64().unwrap() > 0, "{state}");
    assert_eq!(fds.len(), 1);
    let fd = fds[0].as_raw_fd();
    let request = libseccomp::ScmpNotifReq::receive(fd).unwrap();
    let errno = libc::EDQUOT;
    let flags = libseccomp::ScmpNotifRespFlags::empty();
    libseccomp::ScmpNotifResp::new_error(request.id, -errno, flags).respond(fd).unwrap();
    let out = run.wait();
    assert!(out.stderr.contains("quota exceeded"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn notify_without_an_agent_is_an_error() {
    let host = Host::new();
    let c = host.sleeper_with(|s| {
        filter(s, &["mkdir"], json!({"action": "SCMP_ACT_NOTIFY"}));
        s["linux"]["seccomp"]["listenerPath"] = json!("/nowhere/agent");
    });
    // Either verb may be the one that loads the filter.
    let out = c.run();
    assert!(out.code != 0 && out.stderr.contains("/nowhere/agent"), "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_filter_holds_for_start_container_hooks() {
    let Some(host) = Host::only_carob("runc 1.1 does not name the kind of hook") else {
        return;
    };
    let c = host.container(|s| {
        s["process"]["args"] = json!(["true"]);
        s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
        s["hooks"]["startContainer"] =
            json!([{"path": "/bin/mkdir", "args": ["mkdir", "/dev/shm/made"]}]);
    });
    c.run().fails(1, &["startContainer hook", "not permitted"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_filter_may_forbid_what_init_needs_before() {
    let host = Host::new();
    let c = host.sh_with("echo ok", |s| {
        s["process"]["noNewPrivileges"] = json!(false);
        s["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["close_range", "sched_setaffinity", "unlinkat", "faccessat2"],
            "action": "SCMP_ACT_ERRNO"
        }]});
    });
    assert_eq!(c.run().ok().stdout, "ok\n");
}

/// Init waits between `create` and `start` under the filter, unless that needs no privileges.
#[test]
#[ignore = "needs root: run scripts/test"]
fn start_works_whichever_call_the_profile_refuses_that_true_does_without() {
    let host = Host::new();
    let both = [
        "accept4",
        "accept",
        "recvmsg",
        "sendmsg",
        "sendto",
        "recvfrom",
        "poll",
        "ppoll",
        "socket",
        "connect",
        "fcntl",
        "ioctl",
        "rt_sigaction",
        "umask",
        "faccessat",
        "faccessat2",
        "unlinkat",
    ];
    let ours: &[&str] = &["close", "openat", "close_range", "setgroups"];
    let ours = if peer() == Peer::Runc { &[] } else { ours };
    for call in both.iter().chain(ours) {
        let c = host.container(|s| {
            s["process"]["args"] = json!(["true"]);
            s["process"]["noNewPrivileges"] = json!(false);
            filter(s, &[call], json!({"action": "SCMP_ACT_ERRNO"}));
        });
        c.create();
        let out = c.verb("start", &[]).output();
        assert_eq!(out.code, 0, "{call}: {out:?}");
        assert_eq!(c.exit_code(), 0, "{call}");
        c.delete().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn start_says_that_the_profile_refuses_to_execute() {
    let Some(host) = Host::only_carob("runc's start prints it and succeeds") else { return };
    let c = host.container(|s| {
        s["process"]["args"] = json!(["true"]);
        s["process"]["noNewPrivileges"] = json!(false);
        filter(s, &["execve", "accept4", "sendmsg"], json!({"action": "SCMP_ACT_ERRNO"}));
    });
    c.create();
    c.verb("start", &[]).output().fails(1, &["exec: \"true\": operation not permitted"]);
    assert_eq!(c.exit_code(), 1);
    c.delete().ok();
}
