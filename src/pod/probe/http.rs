//! `httpGet`.
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::target::HttpTarget;
use super::{Health, Trouble};

pub(super) async fn probe(
    _target: &HttpTarget,
    _netns: Option<BorrowedFd<'_>>,
    _timeout: Duration,
) -> Result<Health, Trouble> {
    Err(Trouble::Unknown("todo".to_owned()))
}
