//! A connection to systemd: through the bus of the system or of a user, or straight to the manager.
//!
//! One thread, one call at a time, and none waits longer than its limit.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::Type;

use super::address::{Address, Place};
use super::message::{self, Body, Method, Received};
use crate::error::Error;

const MANAGER: &str = "org.freedesktop.systemd1";
const HUNG_UP: &str = "has hung up";
/// Lines of the handshake are short; whoever sends more speaks something else.
const LONGEST_LINE: usize = 512;

/// What systemd says about a job, and more.
const BUFFER_BYTES: usize = 4096;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is one: no. The name of the error, and the text for people.
    Refused { name: String, text: String },
    /// systemd has left the bus with the call: it executes itself again, and will be back.
    Away(Error),
    /// No connection, none in time, or nonsense.
    Broken(Error),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    /// Buffered, as lines and short messages come many at once.
    stream: BufReader<UnixStream>,
    address: Address,
    limit: Duration,
    deadline: Instant,
    serial: u32,
    /// Signals that came while an answer was awaited: member, sender, arguments.
    signals: Vec<(String, String, Body)>,
}

impl Bus {
    /// Connects to the first of the addresses where somebody listens. `limit` holds for this, and
    /// then for each call.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if nobody listens anywhere; [`Error::Invalid`] for one who listens
    /// and does not let carob in, or says nothing.
    pub(super) fn open(addresses: &[Address], limit: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        let mut causes = Vec::new();
        for address in addresses {
            match dial(address, limit) {
                Ok(stream) => {
                    let mut bus = Self {
                        stream: BufReader::with_capacity(BUFFER_BYTES, stream),
                        address: address.clone(),
                        limit,
                        deadline,
                        serial: 0,
                        signals: Vec::new(),
                    };
                    bus.authenticate()?;
                    return Ok(bus);
                }
                Err(errno) => causes.push(format!("{address} ({})", words(errno))),
            }
        }
        Err(Error::Unsupported(format!(
            "cannot reach systemd for --systemd-cgroup, there is no D-Bus at {}: start dbus, or run \
             without --systemd-cgroup",
            causes.join(" nor at ")
        )))
    }

    /// The peer's credentials say who carob is: an identity is not sent, because in a user
    /// namespace carob does not know the one that counts. Nothing is waited for in between.
    ///
    /// Source: D-Bus Specification, *Authentication Protocol*.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next().unwrap_or_default() {
                "OK" => break,
                "DATA" => {}
                "REJECTED" | "ERROR" => {
                    return Err(Error::Invalid(format!(
                        "the D-Bus at {} refuses carob: {line}",
                        self.address
                    )));
                }
                _ => return Err(self.nonsense(&format!("{line:?} in the handshake"))),
            }
        }
        if self.address.place == Place::Bus {
            // The answer, which tells carob's name on the bus, is not needed.
            self.post(bus_method("Hello"), &())?;
        }
        Ok(())
    }

    /// Asks to be told of jobs that end. To be called before there is one.
    pub(super) fn watch_jobs(&mut self) -> Result<(), Error> {
        const RULE: &str = "type='signal',sender='org.freedesktop.systemd1',\
            path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager',\
            member='JobRemoved'";
        match self.address.place {
            // Refused, that shows as the answer to whatever is called next.
            Place::Bus => self.post(bus_method("AddMatch"), &(RULE,)).map(drop),
            Place::Manager => Ok(()),
        }
    }

    /// Calls a method of systemd's manager and waits for the answer.
    pub(super) fn call<B, R>(&mut self, member: &str, body: &B) -> Result<R, Fault>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        self.call_of("org.freedesktop.systemd1.Manager", member, body).map(|(answer, _)| answer)
    }

    /// As [`Bus::call`], for a property of the manager.
    pub(super) fn property(&mut self, name: &str) -> Result<String, Fault> {
        let body = ("org.freedesktop.systemd1.Manager", name);
        let interface = "org.freedesktop.DBus.Properties";
        let ((value,), _): ((zbus::OwnedVariant,), _) = self.call_of(interface, "Get", &body)?;
        match &*value {
            zbus::Variant::Str(text) => Ok(text.as_str().to_owned()),
            other => Err(Fault::Broken(self.nonsense(&format!("{other:?} as {name}")))),
        }
    }

    /// Calls a method that makes a job and waits for the end of that; returns the job's result,
    /// `done` if all went well.
    pub(super) fn run_job<B: Serialize + Type>(
        &mut self,
        member: &str,
        body: &B,
    ) -> Result<String, Fault> {
        let manager = "org.freedesktop.systemd1.Manager";
        self.signals.clear();
        let ((job,), systemd): ((zbus::OwnedObjectPath,), String) =
            self.call_of(manager, member, body)?;
        loop {
            for (name, sender, body) in std::mem::take(&mut self.signals) {
                if name != "JobRemoved" {
                    continue;
                }
                let Ok((_, removed, _, result)) =
                    body.read::<(u32, zbus::OwnedObjectPath, String, String)>()
                else {
                    continue;
                };
                // Anybody may send signals to anybody. One that has executed itself again meanwhile
                // has another name.
                if removed == job && (sender == systemd || self.is_systemd(&sender)?) {
                    return Ok(result);
                }
            }
            match self.receive().map_err(|error| self.late(error, member))? {
                Received::Signal { member, sender, body } => {
                    self.signals.push((member, sender, body));
                }
                Received::Error { name, text } => return Err(refusal(name, text)),
                Received::Return { .. } | Received::Other => {}
            }
        }
    }

    /// Whether this name is systemd's on the bus.
    fn is_systemd(&mut self, sender: &str) -> Result<bool, Fault> {
        if self.address.place == Place::Manager {
            return Ok(false);
        }
        match self.answer::<_, (String,)>(bus_method("GetNameOwner"), &(MANAGER,)) {
            Ok(((owner,), _)) => Ok(owner == sender),
            Err(Fault::Refused { .. } | Fault::Away(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// The answer of systemd, and who has sent it.
    fn call_of<B, R>(
        &mut self,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<(R, String), Fault>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        self.deadline = Instant::now() + self.limit;
        let destination = (self.address.place == Place::Bus).then_some(MANAGER);
        let path = "/org/freedesktop/systemd1";
        self.answer(Method { destination, path, interface, member }, body)
    }

    fn answer<B, R>(&mut self, method: Method, body: &B) -> Result<(R, String), Fault>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        let member = method.member;
        let serial = self.post(method, body).map_err(|error| self.late(error, member))?;
        loop {
            match self.receive().map_err(|error| self.late(error, member))? {
                Received::Return { to, sender, body } if to == serial => {
                    let answer = body.read();
                    let answer = answer.map_err(|why| Fault::Broken(self.nonsense(&why)))?;
                    return Ok((answer, sender));
                }
                // Also to what was posted before without waiting.
                Received::Error { name, text } => return Err(refusal(name, text)),
                Received::Signal { member, sender, body } => {
                    self.signals.push((member, sender, body));
                }
                Received::Return { .. } | Received::Other => {}
            }
        }
    }

    /// Sends a call without waiting for its answer; returns its serial.
    fn post<B: Serialize + Type>(&mut self, method: Method, body: &B) -> Result<u32, Error> {
        self.serial += 1;
        let bytes = message::call(method, self.serial, body)
            .map_err(|why| Error::Invalid(format!("{}: {why}", method.member)))?;
        self.send(&bytes)?;
        Ok(self.serial)
    }

    fn receive(&mut self) -> Result<Received, Error> {
        let mut start = [0; message::START_BYTES];
        self.fill(&mut start)?;
        let length = message::length(&start).map_err(|why| self.nonsense(&why))?;
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        self.fill(&mut bytes[message::START_BYTES..])?;
        message::parse(bytes).map_err(|why| self.nonsense(&why))
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        // Byte by byte: what follows the last line are messages.
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LONGEST_LINE {
                return Err(self.nonsense("a line without end"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Sends all of it before the deadline.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let limit = self.time_left()?;
            let mut stream = self.stream.get_ref();
            let sent = stream.set_write_timeout(Some(limit)).and_then(|()| {
                let sent = stream.write(bytes)?;
                if sent == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(sent) }
            });
            match sent {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) => self.may_go_on(error)?,
            }
        }
        Ok(())
    }

    /// Receives as much as fits before the deadline.
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            if self.stream.buffer().is_empty() {
                let limit = self.time_left()?;
                let limited = self.stream.get_ref().set_read_timeout(Some(limit));
                limited.or_else(|error| self.may_go_on(error))?;
            }
            let read = match self.stream.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                read => read,
            };
            match read {
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) => self.may_go_on(error)?,
            }
        }
        Ok(())
    }

    fn time_left(&self) -> Result<Duration, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A socket's limit of less than a microsecond would be none.
        if left < Duration::from_millis(1) { Err(self.too_late()) } else { Ok(left) }
    }

    /// Whether a failed read or write is to be tried again.
    fn may_go_on(&self, error: std::io::Error) -> Result<(), Error> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            // The next look at the clock says whether it was the deadline.
            ErrorKind::WouldBlock => Ok(()),
            ErrorKind::UnexpectedEof => {
                Err(Error::Invalid(format!("the D-Bus at {} {HUNG_UP}", self.address)))
            }
            _ => Err(Error::Os {
                op: "talk to systemd",
                target: format!("at {}", self.address),
                source: error,
            }),
        }
    }

    fn too_late(&self) -> Error {
        let limit = humantime::format_duration(self.limit);
        Error::Invalid(format!("no answer from the D-Bus at {} within {limit}", self.address))
    }

    /// Adds to a failure what was waited for.
    fn late(&self, error: Error, member: &str) -> Fault {
        match error {
            // To its own socket nobody else answers.
            Error::Invalid(text)
                if self.address.place == Place::Manager && text.ends_with(HUNG_UP) =>
            {
                Fault::Away(Error::Invalid(format!("{member}: {text}")))
            }
            Error::Invalid(text) => Fault::Broken(Error::Invalid(format!("{member}: {text}"))),
            other => Fault::Broken(other),
        }
    }

    fn nonsense(&self, why: &str) -> Error {
        Error::Invalid(format!("unexpected answer from the D-Bus at {}: {why}", self.address))
    }
}

/// What the bus says for somebody who is not there (any more) is not that one's answer.
fn refusal(name: String, text: String) -> Fault {
    let of_bus = name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
    match of_bus {
        "NoReply" | "NameHasNoOwner" | "ServiceUnknown" => {
            Fault::Away(Error::Invalid(format!("systemd is not there: {text} ({name})")))
        }
        _ => Fault::Refused { name, text },
    }
}

fn bus_method(member: &str) -> Method<'_> {
    Method {
        destination: Some("org.freedesktop.DBus"),
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
    }
}

/// A full queue of connections makes connect(2) wait, too.
fn dial(address: &Address, limit: Duration) -> nix::Result<UnixStream> {
    let to = match &address.abstract_name {
        Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
        None => UnixAddr::new(&address.path)?,
    };
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&fd, sockopt::SendTimeout, &limit)?;
    connect(fd.as_raw_fd(), &to)?;
    Ok(UnixStream::from(fd))
}

/// Not the errno's own words for a file that is not there: clients take them for a missing program.
fn words(errno: nix::errno::Errno) -> String {
    use nix::errno::Errno;
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => "there is no socket".to_owned(),
        Errno::ECONNREFUSED => "nobody listens".to_owned(),
        Errno::EAGAIN => "too busy".to_owned(),
        other => other.desc().to_owned(),
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
