//! Against a server of their own: each says what a bus might, or nothing.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use zbus::wire::serialized::Context;
use zbus::wire::{LE, to_bytes};
use zbus::{OwnedObjectPath, Type, Variant};

use super::super::address::{Address, Place};
use super::super::message;
use super::{Bus, Fault};
use crate::error::Error;

/// Nobody waits for longer where something is expected to come.
const PATIENT: Duration = Duration::from_secs(60);
/// For what never comes.
const SHORT: Duration = Duration::from_millis(50);

/// A socket with somebody behind it, for one connection.
struct Server {
    address: Address,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(place: Place, serve: impl FnOnce(Peer) + Send + 'static) -> Self {
        Self::listening(place, move |listener| serve(Peer(listener.accept().unwrap().0)))
    }

    /// For as many connections as it accepts.
    #[allow(clippy::disallowed_methods, reason = "a thread of the test, not of carob")]
    fn listening(place: Place, serve: impl FnOnce(UnixListener) + Send + 'static) -> Self {
        let path = socket_path();
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || serve(listener));
        Self { address: Address::path(place, path), thread: Some(thread) }
    }

    fn open(&self, limit: Duration) -> Result<Bus, Error> {
        Bus::open(std::slice::from_ref(&self.address), limit)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        std::fs::remove_file(&self.address.path).unwrap();
        let served = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            served.unwrap().unwrap();
        }
    }
}

fn socket_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("carob-bus-{}-{number}", std::process::id()))
}

/// The server's side.
struct Peer(UnixStream);

impl Peer {
    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads the handshake up to its last line.
    fn hear_begin(&mut self) {
        let mut heard = Vec::new();
        while !heard.ends_with(b"BEGIN\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
        assert_eq!(heard, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    }

    fn let_in(&mut self) {
        self.hear_begin();
        self.say(b"DATA\r\nOK 0123456789abcdef\r\n");
    }

    /// A call as bytes.
    fn hear_call(&mut self) -> Vec<u8> {
        let mut start = [0; message::START_BYTES];
        self.0.read_exact(&mut start).unwrap();
        let mut bytes = start.to_vec();
        bytes.resize(message::length(&start).unwrap(), 0);
        self.0.read_exact(&mut bytes[message::START_BYTES..]).unwrap();
        bytes
    }

    /// Waits for the call of a method, and gives its serial.
    fn await_method(&mut self, member: &str) -> u32 {
        loop {
            let bytes = self.hear_call();
            if bytes.windows(member.len()).any(|window| window == member.as_bytes()) {
                return u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            }
        }
    }

    fn send<B: Serialize + Type>(&mut self, kind: u8, fields: &[(u8, Variant)], body: &B) {
        let context = Context::new(LE, 0);
        let body_bytes = to_bytes(context, body).unwrap();
        let length = u32::try_from(body_bytes.len()).unwrap();
        let types = Variant::from(B::SIGNATURE.clone());
        let mut all: Vec<(u8, Variant)> =
            fields.iter().map(|(code, value)| (*code, value.try_clone().unwrap())).collect();
        all.push((8, types));
        let header = (b'l', kind, 0_u8, 1_u8, length, 1_u32, all);
        let mut bytes = to_bytes(context, &header).unwrap().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&body_bytes);
        // In pieces, as a stream may come.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.say(first);
        self.say(second);
    }

    fn answer_job(&mut self, serial: u32, job: &str) {
        let job = OwnedObjectPath::try_from(job).unwrap();
        self.send(2, &[(5, Variant::from(serial)), (7, Variant::from(":1.1"))], &job);
    }

    fn remove_job(&mut self, sender: &str, job: &str, result: &str) {
        let job = OwnedObjectPath::try_from(job).unwrap();
        let fields = [(3, Variant::from("JobRemoved")), (7, Variant::from(sender))];
        self.send_signal(&fields, &(1_u32, job, "c1.scope", result));
    }

    fn send_signal(&mut self, fields: &[(u8, Variant)], body: &(u32, OwnedObjectPath, &str, &str)) {
        let context = Context::new(LE, 0);
        let body_bytes = to_bytes(context, body).unwrap();
        let mut bytes = signal_header(fields, body_bytes.len());
        bytes.extend_from_slice(&body_bytes);
        self.say(&bytes);
    }

    /// Until the other side hangs up.
    fn outlast(&mut self) {
        let mut rest = Vec::new();
        let _hung_up = self.0.read_to_end(&mut rest);
    }
}

/// A header whose signature field has several types: written by hand, unlike carob's.
fn signal_header(fields: &[(u8, Variant)], body: usize) -> Vec<u8> {
    let context = Context::new(LE, 0);
    let all: Vec<(u8, Variant)> =
        fields.iter().map(|(code, value)| (*code, value.try_clone().unwrap())).collect();
    let length = u32::try_from(body).unwrap();
    let header = (b'l', 4_u8, 0_u8, 1_u8, length, 1_u32, all);
    let mut bytes = to_bytes(context, &header).unwrap().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let types = b"\x08\x01g\0\x04uoss\0";
    bytes.extend_from_slice(types);
    let fields = u32::try_from(bytes.len() - 16).unwrap();
    bytes[12..16].copy_from_slice(&fields.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn start(bus: &mut Bus) -> Result<String, Fault> {
    bus.watch_jobs().unwrap();
    bus.run_job("StartTransientUnit", &("c1.scope", "replace"))
}

#[test]
fn a_job_is_over_when_systemd_says_so() {
    for place in [Place::Bus, Place::Manager] {
        let server = Server::new(place, |mut peer| {
            peer.let_in();
            let serial = peer.await_method("StartTransientUnit");
            // Before the answer, and of another job.
            peer.remove_job(":1.1", "/job/1", "done");
            peer.answer_job(serial, "/job/7");
            peer.remove_job(":1.1", "/job/3", "done");
            peer.remove_job(":1.1", "/job/7", "failed");
            peer.outlast();
        });
        let mut bus = server.open(PATIENT).unwrap();
        assert_eq!(start(&mut bus).unwrap(), "failed");
    }
}

#[test]
fn a_job_that_ends_before_the_answer_is_not_waited_for() {
    let server = Server::new(Place::Bus, |mut peer| {
        peer.let_in();
        let serial = peer.await_method("StartTransientUnit");
        peer.remove_job(":1.1", "/job/7", "done");
        peer.answer_job(serial, "/job/7");
        peer.outlast();
    });
    let mut bus = server.open(PATIENT).unwrap();
    assert_eq!(start(&mut bus).unwrap(), "done");
}

#[test]
fn a_refusal_has_its_name_and_text() {
    let server = Server::new(Place::Bus, |mut peer| {
        peer.let_in();
        let serial = peer.await_method("StartTransientUnit");
        let name = Variant::from("org.freedesktop.systemd1.UnitExists");
        peer.send(3, &[(4, name), (5, Variant::from(serial))], &"Unit c1.scope already exists.");
        peer.outlast();
    });
    let mut bus = server.open(PATIENT).unwrap();
    match start(&mut bus).unwrap_err() {
        Fault::Refused { name, text } => {
            assert_eq!(name, "org.freedesktop.systemd1.UnitExists");
            assert_eq!(text, "Unit c1.scope already exists.");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn systemd_that_executes_itself_again_is_asked_again() {
    for place in [Place::Bus, Place::Manager] {
        let server = Server::listening(place, move |listener| {
            let mut first = Peer(listener.accept().unwrap().0);
            first.let_in();
            let serial = first.await_method("StartTransientUnit");
            if place == Place::Bus {
                let name = Variant::from("org.freedesktop.DBus.Error.NoReply");
                let text = "Message recipient disconnected from message bus without replying";
                first.send(3, &[(4, name), (5, Variant::from(serial))], &text);
            }
            drop(first);
            let mut second = Peer(listener.accept().unwrap().0);
            second.let_in();
            let serial = second.await_method("StartTransientUnit");
            second.answer_job(serial, "/job/7");
            second.remove_job(":1.1", "/job/7", "done");
            second.outlast();
        });
        let address = std::slice::from_ref(&server.address);
        assert_eq!(super::super::ask_at(address, PATIENT, start).unwrap(), "done");
    }
}

#[test]
fn a_job_may_be_over_after_systemd_has_another_name() {
    let server = Server::new(Place::Bus, |mut peer| {
        peer.let_in();
        let serial = peer.await_method("StartTransientUnit");
        peer.answer_job(serial, "/job/7");
        for owner in [":1.1", ":1.99"] {
            // First somebody else's, then its own.
            peer.remove_job(":1.99", "/job/7", "done");
            let serial = peer.await_method("GetNameOwner");
            let fields = [(5, Variant::from(serial)), (7, Variant::from("org.freedesktop.DBus"))];
            peer.send(2, &fields, &owner);
        }
        peer.outlast();
    });
    let mut bus = server.open(PATIENT).unwrap();
    assert_eq!(start(&mut bus).unwrap(), "done");
}

#[test]
fn a_bus_that_is_silent_is_given_up() {
    let server = Server::new(Place::Bus, |mut peer| peer.outlast());
    let error = server.open(SHORT).unwrap_err().to_string();
    assert!(error.contains("no answer from the D-Bus at /"), "{error}");
    assert!(error.ends_with(" within 50ms"), "{error}");
}

#[test]
fn a_call_without_an_answer_is_given_up() {
    for answers in [false, true] {
        let server = Server::new(Place::Bus, move |mut peer| {
            peer.let_in();
            let serial = peer.await_method("StartTransientUnit");
            if answers {
                // But the job never ends.
                peer.answer_job(serial, "/job/7");
            }
            peer.outlast();
        });
        let mut bus = server.open(PATIENT).unwrap();
        // Long enough for the server to hear of it, however busy the machine is.
        bus.limit = Duration::from_secs(2);
        let Err(Fault::Broken(error)) = start(&mut bus) else { panic!("an answer") };
        let error = error.to_string();
        assert!(error.starts_with("StartTransientUnit: no answer from"), "{error}");
    }
}

#[test]
fn a_bus_that_does_not_read_is_given_up() {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let server = Server::new(Place::Bus, move |mut peer| {
        peer.let_in();
        let _all_senders_are_gone = is_done.recv();
    });
    let mut bus = server.open(PATIENT).unwrap();
    bus.limit = SHORT;
    let long = "x".repeat(8 << 20);
    let fault = bus.call::<_, ()>("ResetFailedUnit", &(&*long,)).unwrap_err();
    assert!(matches!(fault, Fault::Broken(_)), "{fault:?}");
    drop(done);
}

#[test]
fn who_does_not_let_carob_in_is_named() {
    let server = Server::new(Place::Bus, |mut peer| {
        peer.hear_begin();
        peer.say(b"REJECTED EXTERNAL\r\n");
        peer.outlast();
    });
    let error = server.open(PATIENT).unwrap_err().to_string();
    assert!(error.contains("refuses carob: REJECTED EXTERNAL"), "{error}");
}

#[test]
fn who_speaks_something_else_is_named() {
    for line in ["HTTP/1.1 400 Bad Request\r\n".to_owned(), "x".repeat(2000)] {
        let server = Server::new(Place::Bus, move |mut peer| {
            let _may_have_gone = peer.0.write_all(line.as_bytes());
            peer.outlast();
        });
        let error = server.open(PATIENT).unwrap_err().to_string();
        assert!(error.starts_with("unexpected answer from the D-Bus at /"), "{error}");
    }
    let server = Server::new(Place::Bus, |mut peer| {
        peer.let_in();
        peer.await_method("StartTransientUnit");
        peer.say(&[0xff; 64]);
        peer.outlast();
    });
    let mut bus = server.open(PATIENT).unwrap();
    let Err(Fault::Broken(error)) = start(&mut bus) else { panic!("an answer") };
    assert!(error.to_string().contains("no message of D-Bus"), "{error}");
}

#[test]
fn who_hangs_up_is_named() {
    let server = Server::new(Place::Bus, |mut peer| peer.hear_begin());
    let error = server.open(PATIENT).unwrap_err().to_string();
    assert!(error.ends_with("has hung up"), "{error}");
}

#[test]
fn without_a_bus_the_error_says_where_it_was_looked_for() {
    let (none, deserted) = (socket_path(), socket_path());
    drop(UnixListener::bind(&deserted).unwrap());
    let addresses = [Address::path(Place::Bus, &none), Address::path(Place::Manager, &deserted)];
    let error = Bus::open(&addresses, PATIENT).unwrap_err();
    std::fs::remove_file(&deserted).unwrap();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    let want = format!(
        "there is no D-Bus at {} (there is no socket) nor at {} (nobody listens): start dbus",
        none.display(),
        deserted.display()
    );
    assert!(error.to_string().contains(&want), "{error}");
}

#[test]
fn the_next_address_is_tried() {
    let server = Server::new(Place::Manager, |mut peer| {
        peer.let_in();
        peer.outlast();
    });
    let addresses = [Address::path(Place::Bus, socket_path()), server.address.clone()];
    let bus = Bus::open(&addresses, PATIENT).unwrap();
    assert_eq!(bus.address.place, Place::Manager);
}
