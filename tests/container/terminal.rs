//! process.terminal: the console socket, /dev/console, sizes, `run` on a terminal.

use crate::support::socket::{listen, receive};
use crate::support::{Container, Host, Running, wait_until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::termios::tcgetattr;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The master of a pseudoterminal, read without blocking.
struct Master {
    file: File,
    seen: Mutex<String>,
}

impl Master {
    fn new(fd: OwnedFd) -> Self {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self { file: fd.into(), seen: Mutex::default() }
    }

    /// Waits until `text` has come; gives all that has.
    fn wait(&self, text: &str) -> String {
        wait_until(&format!("{text:?} on the terminal"), || {
            let mut bytes = [0; 4096];
            let mut seen = self.seen.lock().unwrap();
            // EIO: the last holder of the slave has gone.
            if let Ok(n) = (&self.file).read(&mut bytes) {
                seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
            if seen.contains(text) { Ok(seen.clone()) } else { Err(format!("seen: {seen:?}")) }
        })
    }

    fn type_in(&self, text: &str) {
        (&self.file).write_all(text.as_bytes()).unwrap();
    }
}

fn on_terminal(spec: &mut Value) {
    spec["process"]["terminal"] = json!(true);
}

/// Creates the container with a console socket and receives its terminal.
fn create(host: &Host, c: &Container<'_>) -> Master {
    let socket = host.dir().join("console");
    let listener = listen(&socket);
    c.create_with(&["--console-socket", socket.to_str().unwrap()]);
    let (bytes, mut fds) = receive(&listener);
    assert!(!bytes.is_empty() && bytes.len() < 4096, "{bytes:?}");
    assert_eq!(fds.len(), 1);
    Master::new(fds.pop().unwrap())
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_console_socket_receives_the_terminal() {
    let host = Host::new();
    let c = host.sh_with("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three", on_terminal);
    let master = create(&host, &c);
    c.start();
    let seen = master.wait("all three");
    assert!(seen.contains("/dev/pts/0") || seen.contains("/dev/console"), "{seen:?}");
    assert_eq!(c.exit_code(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_terminal_is_dev_console_and_the_controlling_one() {
    let host = Host::new();
    let c = host.sh_with("echo to-tty > /dev/tty; echo to-console > /dev/console", on_terminal);
    let master = create(&host, &c);
    c.start();
    let seen = master.wait("to-console");
    assert!(seen.contains("to-tty"), "{seen:?}");
    assert_eq!(c.exit_code(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_console_has_the_given_size() {
    let host = Host::new();
    let c = host.sh_with("stty size", |s| {
        on_terminal(s);
        s["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    });
    let master = create(&host, &c);
    c.start();
    master.wait("33 77");
    assert_eq!(c.exit_code(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_terminal_belongs_to_the_user() {
    let host = Host::new();
    let c = host.sh_with("stat -c %u $(tty)", |s| {
        on_terminal(s);
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let master = create(&host, &c);
    c.start();
    master.wait("1000");
    assert_eq!(c.exit_code(), 0);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn input_reaches_the_process_and_ctrl_c_interrupts_it() {
    let host = Host::new();
    let script = "trap 'echo interrupted; exit 4' INT; read x; echo got $x; \
                  while :; do sleep 0.02; done";
    let c = host.sh_with(script, on_terminal);
    let master = create(&host, &c);
    c.start();
    master.type_in("hello\n");
    master.wait("got hello");
    master.type_in("\x03");
    master.wait("interrupted");
    assert_eq!(c.exit_code(), 4);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_gets_a_terminal_of_its_own() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let socket = host.dir().join("console");
    let listener = listen(&socket);
    let pid_file = host.dir().join("exec.pid");
    let flags = [
        "--tty",
        "--detach",
        "--console-socket",
        socket.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    c.exec_call(&flags, &["sh", "-c", "tty; read x"]).output().ok();
    let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    host.adopt(nix::unistd::Pid::from_raw(pid));
    let master = Master::new(receive(&listener).1.pop().unwrap());
    master.wait("/dev/pts/");
    master.type_in("\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_detached_terminal_needs_a_console_socket() {
    let host = Host::new();
    let c = host.sleeper_with(on_terminal);
    c.create_call(&[]).output().fails(1, &["console socket"]);
    let c = host.sleeper();
    let out = c.create_call(&["--console-socket", "/nowhere/socket"]).output();
    assert_eq!(out.code, 1, "a socket without a terminal: {out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_console_socket_that_nobody_listens_on_is_an_error() {
    let host = Host::new();
    let c = host.sleeper_with(on_terminal);
    let flags = ["--console-socket", "/nowhere/console"];
    c.create_call(&flags).output().fails(1, &["/nowhere/console"]);
}

/// `run` on a pseudoterminal of ours.
fn run_on_terminal(c: &Container<'_>) -> (Running, Master, OwnedFd) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let run = c.bundle_verb("run", &[]).stdio([slave(), slave(), slave()]).spawn();
    (run, Master::new(pty.master), pty.slave)
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn run_on_a_terminal_relays_both_ways_and_restores_it() {
    let host = Host::new();
    let c = host.sh_with("tty; read x; echo got $x; exit 6", on_terminal);
    let pty = nix::pty::openpty(None, None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    drop(pty);
    let (run, master, slave) = run_on_terminal(&c);
    master.wait("/dev/");
    master.type_in("hello\r");
    master.wait("got hello");
    assert_eq!(run.wait().code, 6);
    let after = tcgetattr(&slave).unwrap();
    assert_eq!(before.local_flags, after.local_flags);
    assert_eq!(before.output_flags, after.output_flags);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_terminal_is_restored_when_the_container_cannot_start() {
    let host = Host::new();
    let c = host.container(|s| {
        on_terminal(s);
        s["process"]["args"] = json!(["/nonexistent"]);
    });
    let pty = nix::pty::openpty(None, None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap().local_flags;
    drop(pty);
    let (run, _master, slave) = run_on_terminal(&c);
    assert_eq!(run.wait().code, 1);
    assert_eq!(tcgetattr(&slave).unwrap().local_flags, before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_resize_is_passed_on() {
    let host = Host::new();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done";
    let c = host.sh_with(script, on_terminal);
    let (run, master, slave) = run_on_terminal(&c);
    master.wait("ready");
    let mut stty = Command::new("stty");
    stty.args(["rows", "31", "cols", "71"]).stdin(Stdio::from(slave.try_clone().unwrap()));
    assert!(stty.status().unwrap().success());
    run.signal(Signal::SIGWINCH);
    master.wait("31 71");
    c.kill("KILL").ok();
    assert_eq!(run.wait().code, 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn output_of_a_terminal_into_a_file_has_plain_lines() {
    let Some(host) = Host::only_carob("runc wants a terminal of its own") else {
        return;
    };
    let c = host.sh_with("echo one; echo two", on_terminal);
    let out = c.run().ok();
    assert_eq!(out.stdout, "one\ntwo\n");
}
