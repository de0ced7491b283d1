//! What engines and shims do beyond the verbs: sockets, keyrings, odd standard streams.

use crate::support::{Host, wait_until};
use serde_json::json;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

#[test]
#[ignore = "needs root: run scripts/test"]
fn sd_notify_messages_are_forwarded_and_start_waits_for_ready() {
    let host = Host::new();
    let socket = host.dir().join("notify");
    let receiver = UnixDatagram::bind(&socket).unwrap();
    receiver.set_nonblocking(true).unwrap();
    // busybox has no client for datagram sockets; that the socket is there is what can be seen.
    let c = host.sh_with("echo $NOTIFY_SOCKET; ls $NOTIFY_SOCKET; sleep 1000", |s| {
        s["root"]["path"] = json!(host.own_rootfs());
    });
    c.create_call(&[]).env("NOTIFY_SOCKET", &socket).output().ok();
    host.adopt(c.pid());
    let start = c.verb("start", &[]).env("NOTIFY_SOCKET", &socket).spawn();
    let path = wait_until("the process", || {
        let environ = fs::read(format!("/proc/{}/environ", c.pid())).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let name = environ.split('\0').find_map(|v| v.strip_prefix("NOTIFY_SOCKET="));
        // Before its execve the process has the environment of the runtime.
        let name = name.filter(|path| Path::new(path) != socket);
        match name {
            Some(path) => Ok(format!("/proc/{}/root{path}", c.pid())),
            None => Err(environ),
        }
    });
    let sender = UnixDatagram::unbound().unwrap();
    wait_until("the socket", || sender.send_to(b"READY=1\n", &path).map_err(|e| e.to_string()));
    let message = wait_until("READY", || {
        let mut bytes = [0; 256];
        let len = receiver.recv(&mut bytes).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    });
    assert!(message.contains("READY=1"), "{message}");
    start.wait().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_session_keyring_is_new_unless_told_otherwise() {
    let host = Host::new();
    for (flags, inherited) in [(&[][..], false), (&["--no-new-keyring"][..], true)] {
        // All keyrings of the user are listed, those of other containers too.
        let id = format!("{}{}", host.marker(), flags.len());
        let c = host.container_named(&id, |s| {
            s["process"]["args"] = json!(["cat", "/proc/keys"]);
            s["linux"]["maskedPaths"] = json!([]);
        });
        let out = c.bundle_verb("run", flags).output().ok();
        let own = out.stdout.contains(&format!("_ses.{}", c.id()));
        assert_eq!(own, !inherited, "{flags:?}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn standard_streams_that_are_dev_null_opened_for_reading_work() {
    let host = Host::new();
    let c = host.sh("echo lost; echo lost >&2; exit 5");
    let null = || Stdio::from(fs::File::open("/dev/null").unwrap());
    let out = c.bundle_verb("run", &[]).stdio([null(), null(), null()]).output();
    assert_eq!(out.code, 5, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn standard_streams_of_a_user_can_be_opened_again() {
    let host = Host::new();
    let c = host.sh_with("echo through > /dev/stdout", |s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    assert_eq!(c.run().ok().stdout, "through\n");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_preserved_descriptor_that_is_not_open_is_an_error() {
    let host = Host::new();
    let c = host.sleeper();
    for count in ["5", "4294967295"] {
        let out = c.create_call(&["--preserve-fds", count]).output();
        assert_eq!(out.code, 1, "{out:?}");
    }
    c.run_detached();
    let call = c.exec_call(&["--preserve-fds", "4294967295"], &["true"]);
    assert_eq!(call.output().code, 255);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_may_run_in_a_cgroup_below_the_containers() {
    let host = Host::new();
    let c = host.sleeper();
    c.run_detached();
    let sub = host.cgroup("pids", c.id()).join("sub");
    fs::create_dir(&sub).unwrap();
    let spec = if crate::support::cgroup::is_v2() { "sub" } else { "pids:sub" };
    let out = c.exec_call(&["--cgroup", spec], &["cat", "/proc/self/cgroup"]).output().ok();
    assert!(out.stdout.lines().any(|l| l.ends_with("/sub")), "{out:?}");
    let out = c.exec_call(&["--cgroup", "pids:../.."], &["true"]).output();
    assert_ne!(out.code, 0, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn flags_are_taken_with_a_space_with_an_equals_sign_and_short() {
    let host = Host::new();
    for form in 0..3 {
        let c = host.sh("true");
        let bundle = c.bundle().to_str().unwrap();
        let call = match form {
            0 => host.call(&["run", "--bundle", bundle, c.id()]),
            1 => host.call(&["run", &format!("--bundle={bundle}"), c.id()]),
            _ => host.call(&["run", "-b", bundle, c.id()]),
        };
        call.output().ok();
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn kill_takes_a_signal_in_every_form_that_clients_send() {
    let host = Host::new();
    for args in [&["9"][..], &["KILL"], &["SIGKILL"], &["kill"]] {
        let c = host.sleeper();
        c.run_detached();
        host.call(&["kill", c.id()]).args(args).output().ok();
        assert_eq!(c.exit_code(), 137, "{args:?}");
        c.delete().ok();
    }
    let c = host.sleeper();
    c.run_detached();
    host.runtime(&["kill", "--all", c.id(), "9"]).ok();
    assert_eq!(c.exit_code(), 137);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_shims_sequence_of_kill_and_two_deletes_works() {
    let host = Host::new();
    let c = host.sleeper();
    c.create().start();
    // runc's own init, which start does not wait for to be gone, would die of it.
    let comm = format!("/proc/{}/comm", c.pid());
    wait_until("sleep", || match fs::read_to_string(&comm).unwrap() {
        name if name == "sleep\n" => Ok(()),
        other => Err(other),
    });
    c.kill("15").ok(); // PID 1 without a handler ignores it
    c.kill("9").ok();
    assert_eq!(c.exit_code(), 137);
    host.runtime(&["kill", "--all", c.id(), "9"]).ok();
    c.delete().ok();
    c.delete_force().ok();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn errors_are_one_line_on_stderr_in_the_log_file_or_both() {
    let host = Host::new();
    let log = host.dir().join("log");
    let out = host.call(&["--log", log.to_str().unwrap(), "--log-format", "json", "start", "no"]);
    let out = out.output().fails(1, &["does not exist"]);
    assert_eq!(out.stderr.trim().lines().count(), 1, "{out:?}");
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 1);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_has_not_the_callers_keyring() {
    let Some(host) = Host::only_carob("runc joins the container's by its name") else {
        return;
    };
    let c = host.container_named(host.marker(), |s| {
        s["process"]["args"] = json!(["sleep", "1000"]);
        s["linux"]["maskedPaths"] = json!([]);
    });
    c.run_detached();
    let rings = |text: &str| text.matches(&format!("_ses.{}", c.id())).count();
    let before = rings(&fs::read_to_string("/proc/keys").unwrap());
    let out = c.exec(&["cat", "/proc/keys"]).ok();
    assert!(rings(&out.stdout) > before, "{out:?}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn annotations_as_long_as_kubernetes_allows_do_not_hinder_the_start() {
    let host = Host::new();
    let c = host.sleeper_with(|s| s["annotations"] = json!({"long": "x".repeat(230_000)}));
    c.create();
    c.start();
    assert_eq!(c.status(), "running");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_runtimes_own_descriptors_are_not_taken_for_preserved_ones() {
    let Some(host) = Host::only_carob("runc passes its log file on") else {
        return;
    };
    let c = host.sh("true");
    let log = host.dir().join("log");
    let call = host.bare_call(&["--log", log.to_str().unwrap(), "--root"]);
    let call = call.args(&[host.state_root().as_os_str()]);
    let call = call.args(&["run", "--preserve-fds", "1", "--bundle"]).args(&[c.bundle()]);
    call.args(&[c.id()]).after("exec 3>&-").output().fails(1, &["descriptor 3"]);
}
