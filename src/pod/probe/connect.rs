//! TCP connections out of a network namespace, and the names of hosts.
//!
//! A socket belongs for its whole life to the network namespace it was made in. So the one
//! thread of the supervisor goes into the pod's namespace, makes the socket and goes back, with
//! nothing in between that could wait: no other task ever runs in there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::Trouble;
use super::target::Address;
use crate::sys::fd;
use crate::sys::net::{Abroad, within};

const HOSTS: &str = "/etc/hosts";
const HOSTS_BYTES: u64 = 1 << 20;

/// Connects to the first address of the host that answers; if none does, the first one's
/// trouble is told.
///
/// Texts are those of Go: `dial tcp 127.0.0.1:80: connect: connection refused`.
pub(in crate::pod) async fn connect(
    address: &Address,
    netns: Option<BorrowedFd<'_>>,
) -> Result<TcpStream, Trouble> {
    let mut first = None;
    for ip in addresses(&address.host)? {
        let to = SocketAddr::new(ip, address.port);
        let failed = |text: String| Trouble::Failure(format!("dial tcp {to}: {text}"));
        let trouble = match make_socket(to, netns)? {
            Ok(socket) => match socket.connect(to).await {
                Ok(stream) => {
                    // A small message held back until the peer's late ACK costs 40 ms.
                    stream.set_nodelay(true).unwrap_or(());
                    return Ok(stream);
                }
                Err(error) => failed(format!("connect: {}", errno_text(&error))),
            },
            Err(error) => failed(format!("socket: {}", errno_text(&error))),
        };
        first.get_or_insert(trouble);
    }
    Err(first.unwrap_or_else(|| Trouble::Unknown(format!("dial tcp {address}: no address"))))
}

/// The errno as Go words it: lower case, without the number.
pub(super) fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        // The two that a probe meets and where the C library differs from Go.
        Some(Errno::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        Some(Errno::EHOSTDOWN) => "host is down".to_owned(),
        Some(errno) => errno.desc().to_ascii_lowercase(),
        None => error.to_string(),
    }
}

/// A socket for this address in `netns`. The inner error is that of socket(2).
fn make_socket(
    to: SocketAddr,
    netns: Option<BorrowedFd<'_>>,
) -> Result<io::Result<TcpSocket>, Trouble> {
    let make = || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let Some(netns) = netns else { return Ok(make()) };
    within(netns, make).map_err(|abroad| match abroad {
        Abroad::Refused(error) => Trouble::Unknown(error.to_string()),
        Abroad::Stranded(error) => Trouble::Stranded(error),
    })
}

/// The addresses of a host: itself, if it is one; loopback; what the machine's `/etc/hosts` says.
/// No name server is asked.
fn addresses(host: &str) -> Result<Vec<IpAddr>, Trouble> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let hosts = fd::read_file(HOSTS, HOSTS_BYTES).unwrap_or_default();
    let found = in_hosts(&String::from_utf8_lossy(&hosts), host);
    if found.is_empty() {
        return Err(Trouble::Unknown(format!(
            "lookup {host}: not an IP address and not in {HOSTS} (no name server is asked)"
        )));
    }
    Ok(found)
}

/// Source: hosts(5).
fn in_hosts(hosts: &str, host: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
    };
    lines.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_any_of_their_names() {
        let hosts =
            "# 10.0.0.9 web\n10.0.0.1 db web # not: cache\n::1\tip6\n\nx web\n10.0.0.2 WEB\n";
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(in_hosts(hosts, "web"), [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(in_hosts(hosts, "ip6"), [ip("::1")]);
        assert!(in_hosts(hosts, "cache").is_empty());
        assert!(matches!(addresses("no.such.host"), Err(Trouble::Unknown(_))));
        assert_eq!(addresses("::1").unwrap(), [ip("::1")]);
    }

    /// A network namespace with a server on port 80 of its loopback, made in a thread that ends.
    #[allow(clippy::disallowed_methods, reason = "a thread of the test, not of carob")]
    fn elsewhere() -> (std::fs::File, std::net::TcpListener) {
        let make = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            crate::sys::net::loopback_up().unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
            (std::fs::File::open("/proc/thread-self/ns/net").unwrap(), listener)
        };
        std::thread::spawn(make).join().unwrap()
    }

    fn own() -> std::path::PathBuf {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[tokio::test]
    #[ignore = "needs root: run scripts/test"]
    async fn sockets_are_made_in_the_namespace_and_nothing_else_is() {
        use std::os::fd::AsFd;
        let (netns, listener) = elsewhere();
        let before = own();
        let address = Address { host: "127.0.0.1".to_owned(), port: 80 };
        let stream = connect(&address, Some(netns.as_fd())).await.unwrap();
        assert_eq!(own(), before);
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        let nobody = Address { port: 81, ..address };
        assert!(matches!(connect(&nobody, Some(netns.as_fd())).await, Err(Trouble::Failure(_))));
        assert_eq!(own(), before);
        // Something that is no network namespace: the probe cannot be run, and we stay at home.
        let mount = std::fs::File::open("/proc/self/ns/mnt").unwrap();
        let trouble = connect(&nobody, Some(mount.as_fd())).await;
        assert!(matches!(trouble, Err(Trouble::Unknown(_))), "{trouble:?}");
        assert_eq!(own(), before);
    }
}
