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
