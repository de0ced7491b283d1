//! What clients require of runc's command line beyond what the topics' own files test.
//!
//! The list of all requirements, each with its tests, is in docs/clients.md.

use crate::support::socket::{listen, receive};
use crate::support::{Host, named_tests, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const RULES: usize = 24;

#[test]
fn every_rule_in_the_documentation_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let doc = fs::read_to_string(root.join("docs/clients.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        doc.lines().filter(|l| l.starts_with("| ")).map(|l| l.split('|').collect()).collect();
    let tests = named_tests::all();
    for number in 1..=RULES {
        let row = rows.iter().find(|cells| cells[1].trim() == number.to_string());
        let row = row.unwrap_or_else(|| panic!("rule {number} is not in docs/clients.md"));
        let named: Vec<&str> = named_tests::quoted(row[3]).collect();
        assert!(!named.is_empty(), "rule {number} has no test");
        for name in named {
            assert!(tests.contains(name), "rule {number}: there is no test {name}");
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pid_file_takes_the_place_of_what_was_there() {
    let host = Host::new();
    let c = host.sleeper();
    let other = host.dir().join("other");
    fs::write(&other, "untouched").unwrap();
    symlink(&other, c.bundle().join("pid")).unwrap();
    c.create();
    assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
    assert!(fs::symlink_metadata(c.bundle().join("pid")).unwrap().is_file());
    assert!(!c.bundle().join(".pid").exists(), "the file it was made as");
}

/// The runtime as shims call it, with a log file; gives the lines that this call has added.
fn logged(host: &Host, args: &[&str]) -> (i32, Vec<Value>) {
    let log = host.dir().join("log.json");
    let before = fs::read_to_string(&log).unwrap_or_default().len();
    let flags = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    let out = host.call(&flags).args(args).output();
    let text = fs::read_to_string(&log).unwrap_or_default();
    (out.code, text[before..].lines().map(|l| serde_json::from_str(l).unwrap()).collect())
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn each_failure_is_one_error_in_the_log_file() {
    let host = Host::new();
    let broken = host.container(|s| s["process"]["args"] = json!(["/nonexistent"]));
    let running = host.sleeper();
    running.run_detached();
    let bundle = broken.bundle().to_str().unwrap();
    let calls: [(&[&str], i32, &str); 7] = [
        (&["create", "--bundle", bundle, broken.id()], 1, "no such file or directory"),
        (&["start", running.id()], 1, "already running"),
        (&["exec", running.id(), "/nonexistent"], 255, "no such file or directory"),
        (&["resume", running.id()], 1, "not paused"),
        (&["delete", running.id()], 1, "not stopped"),
        (&["kill", "nobody", "9"], 1, "does not exist"),
        (&["delete", "nobody"], 1, "does not exist"),
    ];
    for (args, code, word) in calls {
        let (found, lines) = logged(&host, args);
        assert_eq!(found, code, "{args:?}");
        let [line] = lines.as_slice() else { panic!("{args:?}: {lines:?}") };
        assert_eq!(line["level"], "error", "{args:?}");
        assert!(line["msg"].as_str().unwrap().contains(word), "{args:?}: {line}");
        let time = line["time"].as_str().unwrap();
        // RFC 3339, with `Z` or an offset.
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{args:?}: {line}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_warning_does_not_reach_the_log_file() {
    let Some(host) = Host::only_carob("runc 1.1 writes warnings there") else {
        return;
    };
    let c = host.sleeper_with(|s| {
        s["process"]["capabilities"]["bounding"] = json!(["CAP_OF_THE_FUTURE"]);
    });
    let bundle = c.bundle().to_str().unwrap();
    let pid_file = c.bundle().join("pid");
    let flags = ["--pid-file", pid_file.to_str().unwrap(), "--bundle", bundle, c.id()];
    let (code, lines) = logged(&host, &[&["create"], &flags[..]].concat());
    host.adopt(c.pid());
    assert_eq!((code, lines), (0, vec![]));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_pipe_that_nobody_reads_crashes_no_verb() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let calls: [&[&str]; 6] = [
        &["state", c.id()],
        &["list"],
        &["ps", "--format", "json", c.id()],
        &["events", "--stats", c.id()],
        &["features"],
        &["start", c.id()],
    ];
    for args in calls {
        let stdio = [Stdio::null(), closed(), closed()];
        let out = host.call(args).stdio(stdio).output();
        // Not by a panic (101) or an abort (134); by SIGPIPE it may be.
        assert!([0, 1, 141].contains(&out.code), "{args:?}: {out:?}");
    }
    assert_eq!(c.status(), "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_caller_that_reads_to_the_end_is_not_kept_waiting_by_a_terminal() {
    let host = Host::new();
    let c = host.sleeper_with(|s| s["process"]["terminal"] = json!(true));
    let socket = host.dir().join("console");
    let listener = listen(&socket);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
    let call = c.create_call(&["--console-socket", socket.to_str().unwrap()]);
    call.stdio(stdio).output().ok();
    host.adopt(c.pid());
    let _master = receive(&listener);
    // Ends only when no process has the other end any more; the container has its terminal.
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!((said.as_str(), c.status().as_str()), ("", "created"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_inherits_no_ignored_or_blocked_signal() {
    let Some(host) = Host::only_carob("runc 1.1 passes the blocked ones on to exec") else {
        return;
    };
    let c = host.sleeper();
    c.run_detached();
    let show = ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"];
    let blocked = "set -- env --block-signal=USR1 --ignore-signal=PIPE \"$@\"";
    let out = c.exec_call(&[], &show).after(blocked).output().ok();
    let masks = out.stdout.lines().map(|l| u64::from_str_radix(&l[8..], 16).unwrap());
    // Signals 32 and 33 are the C library's own: its posix_spawn ignores them in our children.
    let ours = !(0b11 << 31);
    assert_eq!(masks.map(|m| m & ours).collect::<Vec<_>>(), [0, 0], "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_does_not_die_with_a_caller_that_dies_with_its_parent() {
    let host = Host::new();
    let c = host.sleeper();
    // The shim and conmon ask for SIGKILL when they die, for the runtime they start.
    let call = c.create_call(&[]).after("set -- setpriv --pdeathsig KILL \"$@\"");
    call.output().ok();
    host.adopt(c.pid());
    c.start();
    assert_eq!(c.status(), "running");
    let at = format!("/proc/{}", c.pid());
    let seen = fs::read_to_string(format!("{at}/stat")).unwrap();
    assert!(!seen.contains(") Z "), "{seen}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_is_running_when_start_returns() {
    let host = Host::new();
    for _ in 0..5 {
        let c = host.sleeper();
        c.create().start();
        assert_eq!(c.status(), "running");
    }
}

/// A process that says so and stays, as a file for `exec --process`.
fn process_file(host: &Host) -> PathBuf {
    let file = host.dir().join("process.json");
    let script = "echo up; sleep 1000";
    let env = ["PATH=/bin", &host.env_mark()];
    let process =
        json!({"args": ["sh", "-c", script], "cwd": "/", "env": env, "user": {"uid": 0, "gid": 0}});
    fs::write(&file, process.to_string()).unwrap();
    file
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_process_file_may_go_when_exec_has_returned() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let file = process_file(&host);
    let pid_file = host.dir().join("exec.pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap(), "--process"];
    let call = host.call(&["exec"]).args(&flags).args(&[file.as_os_str()]).args(&[c.id()]);
    let out = call.output().ok();
    fs::remove_file(&file).unwrap();
    let pid = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    host.adopt(nix::unistd::Pid::from_raw(pid));
    wait_until("the process", || match fs::read_to_string(&out.stdout_file).unwrap() {
        text if text == "up\n" => Ok(()),
        other => Err(other),
    });
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_of_a_command_line_works_without_the_bundle() {
    let Some(host) = Host::only_carob("runc reads the bundle's config.json again") else {
        return;
    };
    let c = host.sleeper();
    c.run_detached();
    fs::remove_file(c.bundle().join("config.json")).unwrap();
    assert_eq!(c.exec(&["echo", "still"]).ok().stdout, "still\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_annotation_keeps_the_groups_of_the_caller() {
    let Some(host) = Host::only_carob("runc does not know it") else {
        return;
    };
    let caller = "set -- setpriv --groups 4711,4712 \"$@\"";
    let c = host.container(|s| {
        s["process"]["args"] = json!(["id", "-G"]);
        s["annotations"]["run.oci.keep_original_groups"] = json!("1");
    });
    let out = c.bundle_verb("run", &[]).after(caller).output().ok();
    assert_eq!(out.text(), "0 4711 4712");
    let c = host.sleeper_with(|s| s["annotations"]["run.oci.keep_original_groups"] = json!("1"));
    c.run_detached();
    let out = c.exec_call(&[], &["id", "-G"]).after(caller).output().ok();
    assert_eq!(out.text(), "0 4711 4712");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn verbs_that_podman_calls_need_no_environment() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let pid = c.pid();
    for args in [&["state"][..], &["pause"], &["resume"]] {
        c.verb(args[0], &[]).empty_env().output().ok();
    }
    host.call(&["kill", c.id(), "9"]).empty_env().env("XDG_RUNTIME_DIR", "").output().ok();
    assert_eq!(crate::support::container::exit_code(pid), 137);
    c.verb("delete", &["--force"]).empty_env().output().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_unknown_global_option_ends_with_1() {
    let host = Host::new();
    let out = host.bare_call(&["--no-such-option", "list"]).output();
    assert_eq!(out.code, 1, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn options_are_taken_with_one_dash() {
    let host = Host::new();
    let c = host.sh("echo through");
    let bundle = c.bundle().to_str().unwrap();
    let out = host.call(&["run", "-no-subreaper", "-bundle", bundle, c.id()]).output().ok();
    assert_eq!(out.stdout, "through\n");
}
