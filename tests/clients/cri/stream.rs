//! The streaming half of the CRI: WebSocket channels, as `kubectl exec` has them.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::yard::LIMIT;

/// Numbers of channels of exec and attach.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// How it ended, as a Kubernetes Status.
pub const RESULT: u8 = 3;
pub const RESIZE: u8 = 4;

/// An open stream.
#[derive(Debug)]
pub struct Channels {
    socket: WebSocket<TcpStream>,
    seen: Vec<(u8, Vec<u8>)>,
}

impl Channels {
    /// Opens `url`, an address in the network namespace `network`.
    pub fn open(url: &str, network: &Path) -> Self {
        let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let stream = connect(address, network);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "v4.channel.k8s.io".parse().unwrap());
        headers.insert("Origin", "http://localhost".parse().unwrap());
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        Self { socket, seen: Vec::new() }
    }

    pub fn send(&mut self, channel: u8, text: &[u8]) {
        let frame = [&[channel], text].concat();
        self.socket.send(Message::binary(frame)).unwrap();
    }

    /// All that has come on `channel`.
    pub fn text(&self, channel: u8) -> String {
        let of = self.seen.iter().filter(|(number, _)| *number == channel);
        let bytes: Vec<u8> = of.flat_map(|(_, bytes)| bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until `text` has come on `channel`.
    #[track_caller]
    pub fn wait(&mut self, channel: u8, text: &str) {
        while !self.text(channel).contains(text) {
            assert!(self.next(), "{text:?} has not come: {:?}", self.seen);
        }
    }

    /// Reads until more than `len` bytes have come on `channel`.
    #[track_caller]
    pub fn wait_longer(&mut self, channel: u8, len: usize) {
        while self.text(channel).len() <= len {
            assert!(self.next(), "no more than {:?}", self.seen);
        }
    }

    /// Reads to the end; gives the status that came last.
    pub fn end(&mut self) -> serde_json::Value {
        while self.next() {}
        serde_json::from_str(&self.text(RESULT)).unwrap_or_default()
    }

    /// Takes one frame; false at the end.
    fn next(&mut self) -> bool {
        match self.socket.read() {
            Ok(Message::Close(_)) => false,
            Ok(message) => {
                if let Some((channel, bytes)) = message.into_data().split_first() {
                    self.seen.push((*channel, bytes.to_vec()));
                }
                true
            }
            Err(tungstenite::Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing for {LIMIT:?}; seen {:?}", self.seen)
            }
            Err(_) => false,
        }
    }
}

/// A socket stays in the namespace it was made in; a thread of its own goes there for it.
fn connect(address: &str, network: &Path) -> TcpStream {
    let (address, network) = (address.to_owned(), File::open(network).unwrap());
    let there = std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        TcpStream::connect(address).unwrap()
    });
    there.join().unwrap()
}
