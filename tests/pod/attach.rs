//! `pod attach` and `pod exec`: streams and terminals of real containers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use carob::sys::{socket, tty};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::probes::status_of;
use crate::scene::Scene;
use crate::support::wait_until;

/// A pod `web` with one container `c`.
fn pod(container: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - {{name: c, image: IMAGE, {container}}}
"
    )
}

const SHELL: &str = "stdin: true, tty: true, command: [sh]";
/// Repeats what it hears.
const ECHO: &str =
    "command: [sh, -c, 'while read line; do echo heard $line; done; echo over; exec sleep 1000']";

/// A call of carob on pipes, or on a terminal of its own.
struct Call {
    child: Child,
    input: Option<File>,
    output: File,
    seen: Mutex<String>,
    /// Kept, so that the terminal outlives the call.
    _slave: Option<OwnedFd>,
}

impl Call {
    fn piped(scene: &Scene, args: &[&str]) -> Self {
        let mut command = scene.command(args);
        let stderr = File::create(scene.dir().join("stderr")).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let input = OwnedFd::from(child.stdin.take().unwrap()).into();
        let output = OwnedFd::from(child.stdout.take().unwrap());
        Self::new(child, Some(input), output, None)
    }

    fn on_terminal(scene: &Scene, args: &[&str]) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let mut command = scene.command(&[]);
        // In a session of its own the terminal is the controlling one, and a new size is a signal.
        let carob = command.get_program().to_owned();
        let root: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(carob).args(root).args(args);
        let copy = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        let input = File::from(pty.master.try_clone().unwrap());
        Self::new(child, Some(input), pty.master, Some(pty.slave))
    }

    fn new(child: Child, input: Option<File>, output: OwnedFd, slave: Option<OwnedFd>) -> Self {
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self { child, input, output: output.into(), seen: Mutex::default(), _slave: slave }
    }

    fn write(&self, text: &str) {
        self.input.as_ref().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until a text has come; gives all that has.
    fn wait(&self, text: &str) -> String {
        wait_until(text, || {
            let mut seen = self.seen.lock().unwrap();
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = (&self.output).read(&mut bytes) {
                seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
            if seen.contains(text) { Ok(seen.clone()) } else { Err(format!("seen: {seen:?}")) }
        })
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn is_raw(&self) -> bool {
        // Of the master: a slave whose session has ended is hung up.
        let modes = tcgetattr(&self.output).unwrap();
        !modes.local_flags.contains(LocalFlags::ICANON)
    }

    fn resize(&self, rows: u16, columns: u16) {
        tty::set_window_size(&self.output, tty::WindowSize { rows, columns }).unwrap();
    }

    #[track_caller]
    fn ends(mut self) -> i32 {
        wait_until("the end of the call", || {
            self.child.try_wait().unwrap().ok_or_else(|| "it goes on".to_owned())
        })
        .code()
        .unwrap_or(-1)
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn attach_shows_output_from_now_on() {
    let scene = Scene::new();
    scene.run(&pod("command: [sh, -c, 'echo before; while [ ! -e /go ]; do sleep 0.1; done; \
         echo out; echo err >&2; sleep 0.2; exit 3']"));
    scene.wait_log("web", "c", "before");
    let mut command = scene.command(&["pod", "attach", "web"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));

    scene.sh("web", "c", "touch /go").ok();

    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "err\n");
    assert_eq!(out.status.code(), Some(0), "it showed what there was");
    scene.wait_phase("web", "Failed");
    scene.pod(&["attach", "web"]).fails(1, &["not running"]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_cannot_be_attached_to_is_named() {
    let scene = Scene::new();
    scene.run(&pod("command: [sleep, '1000']"));
    scene.wait_ready("web");
    scene.pod(&["attach", "-c", "none", "web"]).fails(1, &["\"none\" not found in pod \"web\""]);
    scene.pod(&["attach", "none"]).fails(1, &["\"none\" not found"]);
    let mut command = scene.command(&["pod", "attach", "-it", "web"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    scene.pod(&["stop", "web"]).ok();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("container \"c\" has no stdin"), "{said}");
    assert!(said.contains("Unable to use a TTY - container c did not allocate one"), "{said}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn input_reaches_the_container_and_its_end_does_not() {
    let scene = Scene::new();
    scene.run(&pod(&format!("stdin: true, {ECHO}")));
    scene.wait_ready("web");
    for word in ["one", "two"] {
        let mut call = Call::piped(&scene, &["pod", "attach", "-i", "web"]);
        call.write(&format!("{word}\n"));
        call.wait(&format!("heard {word}\n"));
        call.input = None;
        call.signal(Signal::SIGTERM);
        call.ends();
    }
    let log = scene.pod(&["logs", "web"]).ok().stdout;
    assert_eq!(log, "heard one\nheard two\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn with_stdin_once_the_end_of_the_first_input_is_the_end() {
    let scene = Scene::new();
    scene.run(&pod(&format!("stdin: true, stdinOnce: true, {ECHO}")));
    scene.wait_ready("web");
    let mut call = Call::piped(&scene, &["pod", "attach", "-i", "web"]);
    call.write("one\n");
    call.input = None;
    let seen = call.wait("over\n");
    assert_eq!(seen, "heard one\nover\n");
    call.signal(Signal::SIGTERM);
    call.ends();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_terminal_has_the_size_of_ours_and_lets_go_with_ctrl_p_ctrl_q() {
    let scene = Scene::new();
    scene.run(&pod(SHELL));
    scene.wait_ready("web");
    let call = Call::on_terminal(&scene, &["pod", "attach", "-it", "web"]);
    wait_until("raw mode", || if call.is_raw() { Ok(()) } else { Err(String::new()) });
    call.write("tty; stty size\n");
    call.wait("33 99\r\n");

    call.resize(44, 111);
    wait_until("the new size", || {
        call.write("stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        let seen = call.wait("# ");
        if seen.contains("44 111\r\n") { Ok(()) } else { Err(seen) }
    });

    call.write("x=kept\n");
    call.write("\u{10}\u{11}");
    let master = call.output.try_clone().unwrap();
    assert_eq!(call.ends(), 0);
    let modes = tcgetattr(&master).unwrap();
    assert!(modes.local_flags.contains(LocalFlags::ICANON), "the terminal is as it was");

    // The shell is there, and the next one finds it.
    let call = Call::on_terminal(&scene, &["pod", "attach", "-it", "web"]);
    wait_until("raw mode", || if call.is_raw() { Ok(()) } else { Err(String::new()) });
    call.write("echo is $x; exit 3\n");
    call.wait("is kept\r\n");
    assert_eq!(call.ends(), 0);
    let object = scene.wait_phase("web", "Failed");
    let state = &object["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["exitCode"], 3);
    // Output of a terminal is in the log too.
    assert!(scene.pod(&["logs", "web"]).ok().stdout.contains("is kept"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_has_a_terminal_if_asked_and_passes_the_status_on() {
    let scene = Scene::new();
    scene.run(&pod("command: [sleep, '1000']"));
    scene.wait_ready("web");
    let call = Call::on_terminal(&scene, &["pod", "exec", "-it", "web", "--", "sh"]);
    call.write("stty size; tty\n");
    call.wait("33 99\r\n");
    call.resize(44, 111);
    wait_until("the new size", || {
        call.write("stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        let seen = call.wait("# ");
        if seen.contains("44 111\r\n") { Ok(()) } else { Err(seen) }
    });
    call.write("exit 7\n");
    assert_eq!(call.ends(), 7);

    let mut call = Call::piped(&scene, &["pod", "exec", "-i", "web", "--", "wc", "-c"]);
    call.write("12345");
    call.input = None;
    call.wait("5\n");
    assert_eq!(call.ends(), 0);
    // Without -i the input of a script that runs it is left alone.
    let mut call = Call::piped(&scene, &["pod", "exec", "web", "--", "wc", "-c"]);
    call.wait("0\n");
    assert!(call.input.take().is_some());
    assert_eq!(call.ends(), 0);
    scene.pod(&["exec", "web", "--", "/not/there"]).fails(255, &["exec failed: ", "/not/there"]);
    scene.pod(&["exec", "web", "--", "false"]).fails(1, &[]);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_reader_that_does_not_keep_up_is_skipped() {
    let scene = Scene::new();
    scene.run(&pod(
        "command: [sh, -c, 'while [ ! -e /go ]; do sleep 0.1; done; seq 300000; touch /printed; \
         while [ ! -e /more ]; do sleep 0.1; done; echo more; exec sleep 1000']",
    ));
    scene.wait_ready("web");
    let call = Call::piped(&scene, &["pod", "attach", "web"]);
    std::thread::sleep(Duration::from_millis(200));
    call.signal(Signal::SIGSTOP);
    scene.sh("web", "c", "touch /go").ok();
    wait_until("all printed", || {
        let there = scene.sh("web", "c", "test -e /printed");
        if there.code == 0 { Ok(()) } else { Err(format!("{there:?}")) }
    });

    call.signal(Signal::SIGCONT);
    call.wait("\n1000\n");
    scene.sh("web", "c", "touch /more").ok();

    let seen = call.wait("more\n");
    assert!(seen.len() < 1_000_000, "{} bytes", seen.len());
    let said = std::fs::read_to_string(scene.dir().join("stderr")).unwrap();
    assert!(said.contains(" bytes were skipped]"), "{said}");
    scene.wait_log("web", "c", "300000\nmore\n");
    call.signal(Signal::SIGTERM);
    call.ends();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn attach_ends_with_the_instance_though_another_follows() {
    let scene = Scene::new();
    // Time enough to be attached in, where a machine is emulated.
    let manifest = pod("command: [sh, -c, 'echo begin; sleep 5']");
    scene.run(&manifest.replace("restartPolicy: Never", "restartPolicy: Always"));
    scene.wait_log("web", "c", "begin");
    let call = Call::piped(&scene, &["pod", "attach", "web"]);
    assert_eq!(call.ends(), 0);
    assert_eq!(scene.inspect("web")["status"]["phase"], "Running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn who_was_attached_leaves_nothing_with_the_supervisor() {
    let scene = Scene::new();
    scene.run(&pod("command: [sleep, '1000']"));
    scene.wait_ready("web");
    let supervisor = scene.supervisor("web").unwrap();
    let descriptors =
        || std::fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().flatten().count();
    let before = descriptors();
    let attached = || {
        let dir = File::open(scene.state("web")).unwrap();
        let socket = socket::connect_in(&dir, "control").unwrap();
        let request = br#"{"attach":{"container":"c","stdin":false}}"#;
        socket::send(&socket, request, None).unwrap();
        let mut reply = [0; 256];
        let length = socket::read(&socket, &mut reply).unwrap();
        (socket, String::from_utf8_lossy(&reply[..length]).into_owned())
    };
    let all: Vec<_> = (0..65).map(|_| attached()).collect();
    assert!(all[63].1.contains("attached"), "{}", all[63].1);
    assert!(all[64].1.contains("too many are attached"), "{}", all[64].1);
    assert!(descriptors() >= before + 64);
    drop(all);
    wait_until("no descriptor more", || {
        let now = descriptors();
        if now == before { Ok(()) } else { Err(format!("{now}, was {before}")) }
    });
    assert!(attached().1.contains("attached"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_thousand_half_open_connections_do_not_hurt() {
    let scene = Scene::new();
    scene.run(&pod("command: [sh, -c, 'while :; do echo hello; sleep 0.1; done'], \
         livenessProbe: {exec: {command: ['true']}, periodSeconds: 1, failureThreshold: 1}"));
    scene.wait_ready("web");
    let supervisor = scene.supervisor("web").unwrap();
    let before = status_of(supervisor, "VmHWM");
    let dir = File::open(scene.state("web")).unwrap();
    let idle: Vec<OwnedFd> =
        (0..1000).filter_map(|_| socket::connect_in(&dir, "control").ok()).collect();
    assert!(idle.len() > 100, "{}", idle.len());

    scene.sh("web", "c", "true").ok();
    let call = Call::piped(&scene, &["pod", "attach", "web"]);
    call.wait("hello\n");
    call.signal(Signal::SIGTERM);
    call.ends();
    std::thread::sleep(Duration::from_secs(2));
    let events = scene.events("web");
    assert!(!events.contains(&"c/Unhealthy".to_owned()), "{events:?}");
    let grown = status_of(supervisor, "VmHWM").saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
    scene.pod(&["stop", "web"]).ok();
    drop(idle);
}
