//! `tcpSocket`: it is well if it connects.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::target::Address;
use super::{Health, Trouble, connect};

/// Connects and closes at once.
pub(super) async fn probe(
    address: &Address,
    netns: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> Result<Health, Trouble> {
    match tokio::time::timeout(timeout, connect::connect(address, netns)).await {
        Ok(connected) => connected.map(|_closed| Health::Success),
        Err(_elapsed) => Err(Trouble::Failure(format!("dial tcp {address}: i/o timeout"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn it_connects_and_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let address = Address { host: host.to_owned(), port };
            let health = probe(&address, None, Duration::from_secs(20)).await.unwrap();
            assert_eq!(health, Health::Success);
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "an orderly end, no reset");
        }
        drop(listener);
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let Err(Trouble::Failure(text)) = probe(&address, None, Duration::from_secs(20)).await
        else {
            panic!("nobody listens");
        };
        assert_eq!(text, format!("dial tcp {address}: connect: connection refused"));
    }

    #[tokio::test]
    async fn a_full_backlog_times_out() {
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _listener = listener.listen(1).unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let mut waiting = Vec::new();
        let text = loop {
            assert!(waiting.len() < 100, "the backlog never fills");
            let connected = connect::connect(&address, None);
            match tokio::time::timeout(Duration::from_millis(300), connected).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => break probe(&address, None, Duration::from_millis(100)).await,
            }
        };
        let Err(Trouble::Failure(text)) = text else { panic!("{text:?}") };
        assert_eq!(text, format!("dial tcp {address}: i/o timeout"));
    }
}
