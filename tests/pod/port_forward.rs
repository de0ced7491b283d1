//! `pod port-forward`: connections into a pod that has no network but its loopback device.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use crate::scene::Scene;

/// Greets, and counts what it hears; says so when the client has sent all.
const SERVER: &str = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: count
    image: IMAGE
    command: [nc, -ll, -p, '7000', -e, sh, -c, 'echo hello; wc -c']
    ports: [{name: count, containerPort: 7000}]
    readinessProbe: {periodSeconds: 1, tcpSocket: {port: count}}
";

/// A forward that runs until it is dropped.
struct Forward {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Forward {
    fn new(scene: &Scene, args: &[&str]) -> Self {
        let args = [&["pod", "port-forward"], args].concat();
        let mut command = scene.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// The port that `Forwarding from ADDRESS:PORT -> REMOTE` names.
    fn port(&mut self, remote: &str) -> u16 {
        let line = self.line();
        let (from, to) = line.trim().split_once(" -> ").unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(to, remote, "{line:?}");
        let address = from.strip_prefix("Forwarding from ").unwrap_or_else(|| panic!("{line:?}"));
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Connected to the server, not only to the queue before it, which is short.
fn greeted(port: u16) -> TcpStream {
    let mut stream = connect(port);
    let mut greeting = [0; 6];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello\n");
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_hundred_connections_at_once_each_half_closed() {
    let scene = Scene::new();
    scene.run(SERVER);
    scene.wait_ready("web");
    let mut forward = Forward::new(&scene, &["pod/web", "--address", "127.0.0.1", ":count"]);
    let port = forward.port("7000");
    let mut streams: Vec<_> = (0..100).map(|_| greeted(port)).collect();
    // All are open before the first has sent its last byte.
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&vec![b'x'; 1000 * (number + 1)]).unwrap();
    }
    for (number, stream) in streams.into_iter().enumerate() {
        // The answer comes only when the server has heard the end, on a connection still open.
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream).trim(), (1000 * (number + 1)).to_string());
    }
    for _ in 0..100 {
        assert_eq!(forward.line(), format!("Handling connection for {port}\n"));
    }
    // More than fits into any buffer on the way.
    let mut stream = greeted(port);
    let megabyte = vec![b'x'; 1 << 20];
    (0..16).for_each(|_| stream.write_all(&megabyte).unwrap());
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream).trim(), (16 << 20).to_string());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn nobody_listening_is_told_and_ends_only_that_connection() {
    let scene = Scene::new();
    scene.run(SERVER);
    scene.wait_ready("web");
    let args = ["web", ":7001", ":7000", "--address", "127.0.0.1"];
    let mut forward = Forward::new(&scene, &args);
    let (nobody, count) = (forward.port("7001"), forward.port("7000"));
    assert_ne!(nobody, count);
    assert_eq!(rest(connect(nobody)), "");
    let stream = greeted(count);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(stream).trim(), "0");
    let mut open = greeted(count);

    scene.pod(&["stop", "web"]).ok();

    // Who is connected hears of the end.
    let end = open.read(&mut [0; 8]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
    let status = forward.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut said = String::new();
    forward.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let refused = format!(
        "an error occurred forwarding {nobody} -> 7001: dial tcp 127.0.0.1:7001: connect: \
         connection refused"
    );
    assert!(said.contains(&refused), "{said}");
    assert!(said.contains("lost connection to pod \"web\""), "{said}");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_cannot_be_forwarded_is_refused() {
    let scene = Scene::new();
    scene.run(SERVER);
    scene.wait_ready("web");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = format!("{}:7000", busy.local_addr().unwrap().port());
    for (args, words) in [
        (vec!["web", "x:80"], "port \"x:80\": \"x\" must be a number from 1 to 65535"),
        (vec!["web", "80:http"], "or one of the manifest's names: count"),
        (vec!["web", "0:70000"], "\"70000\" must be a number"),
        (vec!["web", ":80", "--address", "here"], "--address \"here\": must be an IP address"),
        (vec!["web", &local, "--address", "127.0.0.1"], "Address already in use"),
        (vec!["none", "80"], "pods \"none\" not found"),
    ] {
        let args = [vec!["port-forward"], args].concat();
        scene.pod(&args).fails(1, &[words]);
    }
    drop(busy);
    scene.pod(&["stop", "web"]).ok();
    scene.pod(&["port-forward", "web", ":80"]).fails(1, &["pod \"web\" is not running"]);
}
