//! What goes in and out of a pod while it runs: exec, attach, port forwarding.

use super::client::{Cri, strings};
use super::messages::*;
use super::stream::{RESIZE, RESULT, STDERR, STDIN, STDOUT};
use crate::containerd::Containerd;
use crate::yard::{LIMIT, wait};
use std::time::Instant;

fn exec(id: &str, script: &str, tty: bool) -> Exec {
    let command = strings(&["sh", "-c", script]);
    Exec { id: id.into(), command, tty, stdin: true, stdout: true, stderr: !tty }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_sync_gives_output_and_status_and_keeps_its_time() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("sync", |_| {});
    let c = pod.run("c", |_| {});
    let ask = |words: &[&str], timeout| {
        let question = ExecSync { id: c.clone(), command: strings(words), timeout };
        cri.ask::<_, ExecSyncResponse>("ExecSync", question)
    };
    let answer = ask(&["sh", "-c", "echo out; echo err >&2; exit 4"], 60).unwrap();
    assert_eq!((answer.stdout, answer.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(answer.exit_code, 4);

    let error = ask(&["/nonexistent"], 60).unwrap_err();
    assert!(error.message().contains("no such file or directory"), "{error:?}");

    let error = ask(&["sleep", "4321"], 1).unwrap_err();
    assert!(error.message().contains("deadline exceeded"), "{error:?}");
    wait("the process to be gone", || match cri.sh(&c, "ps -o args").1 {
        seen if seen.contains("sleep 4321") => Err(seen),
        _ => Ok(()),
    });

    // As probes come: many, one after the other.
    for n in 0..20 {
        assert_eq!(cri.sh(&c, &format!("echo {n}")), (0, n.to_string()));
    }
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn exec_streams_both_ways_and_tells_the_status() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("streams", |_| {});
    let c = pod.run("c", |_| {});
    let mut stream =
        cri.stream("Exec", exec(&c, "read x; echo got $x; echo oh >&2; exit 6", false));
    stream.send(STDIN, b"this\n");
    let result = stream.end();
    assert_eq!(stream.text(STDOUT), "got this\n");
    assert_eq!(stream.text(STDERR), "oh\n");
    assert_eq!(result["reason"], "NonZeroExitCode", "{result}");
    assert_eq!(result["details"]["causes"][0]["message"], "6", "{result}");

    let script = "tty; until stty size | grep '17 91'; do read x; done";
    let mut stream = cri.stream("Exec", exec(&c, script, true));
    stream.wait(STDOUT, "/dev/pts/");
    stream.send(RESIZE, br#"{"Width": 91, "Height": 17}"#);
    // The size is told by another way than input: it may come after the line.
    let end = Instant::now() + LIMIT;
    while !stream.text(STDOUT).contains("17 91") {
        let echoed = stream.text(STDOUT).len();
        stream.send(STDIN, b"\n");
        stream.wait_longer(STDOUT, echoed);
        assert!(Instant::now() < end, "{:?}", stream.text(STDOUT));
    }
    assert_eq!(stream.end()["status"], "Success", "{:?}", stream.text(RESULT));
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn attach_reaches_the_containers_own_streams() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("attached", |_| {});
    let c = pod.run("c", |c| {
        c.command = strings(&["sh", "-c", "while read x; do echo heard $x; done"]);
        c.stdin = true;
    });
    let question = Attach { id: c.clone(), stdin: true, tty: false, stdout: true, stderr: true };
    let mut stream = cri.stream("Attach", question);
    stream.send(STDIN, b"hello\n");
    stream.wait(STDOUT, "heard hello\n");
    drop(stream);
    assert_eq!(cri.status(&c).state, RUNNING);
    pod.remove();
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_port_of_the_pod_is_forwarded() {
    let on = Containerd::start();
    let cri = Cri::connect(&on);
    let pod = cri.pod("served", |_| {});
    let c = pod.run_sh("web", "echo served > /tmp/index.html; httpd -f -p 8080 -h /tmp");
    wait("the server", || match cri.sh(&c, "wget -qO- http://127.0.0.1:8080/index.html") {
        (0, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let question = PortForward { pod: pod.id.clone(), ports: vec![8080] };
    let mut stream = cri.stream("PortForward", question);
    // Channel 0 is the connection to the first port, 1 its errors; each begins with the port.
    stream.send(0, b"GET /index.html HTTP/1.0\r\n\r\n");
    stream.wait(0, "served\n");
    pod.remove();
}
