//! A way to a registry that loses, spoils or holds back what comes from it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of the bytes that a registry sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// They arrive.
    Through,
    /// A connection ends after this many; so many connections do, then they arrive.
    CutAfter(usize, usize),
    /// The byte at this place of a connection is another one.
    Spoil(usize),
    /// After this many nothing more comes, and the connection stays open.
    StallAfter(usize),
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    registry: SocketAddr,
    way: Mutex<Way>,
    requests: Mutex<Vec<u8>>,
    ended: AtomicBool,
}

impl Proxy {
    pub fn new(registry: SocketAddr, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            registry,
            way: Mutex::new(way),
            requests: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if of_thread.ended.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(client) = client {
                    let shared = Arc::clone(&of_thread);
                    thread::spawn(move || serve(&shared, client));
                }
            }
        });
        Self { address, shared }
    }

    pub fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap() = way;
    }

    /// All that clients have sent.
    pub fn requests(&self) -> String {
        String::from_utf8_lossy(&self.shared.requests.lock().unwrap()).into_owned()
    }

    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _wakes_the_listener = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Arc<Shared>, mut client: TcpStream) {
    let Ok(mut server) = TcpStream::connect(shared.registry) else { return };
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let recorder = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            recorder.requests.lock().unwrap().extend(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _closed = to.shutdown(Shutdown::Write);
    });
    let way = *shared.way.lock().unwrap();
    let mut passed = 0;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        match way {
            Way::CutAfter(limit, times @ 1..) if passed + count > limit => {
                let next = if times == 1 { Way::Through } else { Way::CutAfter(limit, times - 1) };
                *shared.way.lock().unwrap() = next;
                let _sent = client.write_all(&bytes[..limit.saturating_sub(passed)]);
                break;
            }
            Way::Spoil(at) if (passed..passed + count).contains(&at) => bytes[at - passed] ^= 0xff,
            Way::StallAfter(limit) if passed + count > limit => {
                let _sent = client.write_all(&bytes[..limit.saturating_sub(passed)]);
                // Until the client goes.
                while let Ok(1..) = client.read(&mut [0; 16]) {}
                break;
            }
            _ => {}
        }
        passed += count;
        if client.write_all(bytes).is_err() {
            break;
        }
    }
    let _closed = client.shutdown(Shutdown::Both);
    let _closed = server.shutdown(Shutdown::Both);
}
