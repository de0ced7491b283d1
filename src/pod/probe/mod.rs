//! Probes: when to run them, how, and what their results add up to. HTTP hooks besides.
//!
//! ```text
//! worker.rs   when an attempt is due and when the verdict flips: pure        ┐
//! target.rs   Probe or LifecycleHandler + container + pod IP → Action: pure  ┘
//! connect.rs  sockets made in the pod's network namespace
//! http.rs     GET; redirect.rs: where a Location leads; tls.rs: any certificate will do
//! tcp.rs      connects
//! grpc.rs     the standard health service
//! exec.rs     waits for a program that the caller has started in the container
//! hook.rs     httpGet and sleep of postStart and preStop
//! ```
//!
//! What an attempt may cost: one socket or one process, 10 KiB of what the container says, and
//! its timeout. A container chooses what it answers, so nothing of it is kept without a bound.

pub mod connect;
pub mod exec;
pub mod grpc;
pub mod hook;
pub mod http;
mod redirect;
pub mod target;
pub mod tcp;
mod tls;
pub mod worker;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Error, Result};
use target::Action;

/// Version in the user agent: of the Kubernetes that carob behaves as.
pub const KUBERNETES: &str = "1.36";
/// Most of a container's answer that is looked at, bytes.
pub const OUTPUT_BYTES: usize = 10 << 10;

/// What one attempt has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is well.
    Success,
    /// As success, but people should know something: event `ProbeWarning`.
    Warning(String),
    /// It is not.
    Failure(String),
    /// The probe could not be run at all; moves no counter.
    Unknown(String),
}

/// Why an attempt did not succeed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The container's fault.
    Failure(String),
    /// As failure: a TLS handshake was answered by something else, most likely HTTP in clear.
    PlainServer(String),
    /// It could not be tried.
    Unknown(String),
    /// The process is in the wrong network namespace and must end.
    Stranded(Error),
}

impl Trouble {
    /// With what was tried in front of the text.
    fn prefixed(self, tried: &str) -> Self {
        match self {
            Self::Failure(text) => Self::Failure(format!("{tried}{text}")),
            Self::PlainServer(text) => Self::PlainServer(format!("{tried}{text}")),
            Self::Unknown(text) => Self::Unknown(format!("{tried}{text}")),
            Self::Stranded(error) => Self::Stranded(error),
        }
    }
}

/// Runs a probe over the network.
///
/// The sockets are made in `netns`, a network namespace; in the process's own if absent.
/// [`Action::Exec`] and [`Action::Sleep`] are not of this kind: they are [`Health::Unknown`].
///
/// # Errors
/// Only if the process could not return to its own network namespace after it made a socket. It
/// must then end at once: whatever it does next would happen in the pod's.
pub async fn check(
    action: &Action,
    netns: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> Result<Health> {
    // Boxed: a waiting TCP probe would otherwise be as large as a TLS handshake.
    let outcome = match action {
        Action::Http(target) => Box::pin(http::probe(target, netns, timeout)).await,
        Action::Tcp(address) => tcp::probe(address, netns, timeout).await,
        Action::Grpc { address, service } => {
            Box::pin(grpc::probe(address, service, netns, timeout)).await
        }
        Action::Exec(_) | Action::Sleep(_) => {
            Err(Trouble::Unknown("not a probe over the network".to_owned()))
        }
    };
    match outcome {
        Ok(health) => Ok(health),
        Err(Trouble::Failure(text) | Trouble::PlainServer(text)) => Ok(Health::Failure(text)),
        Err(Trouble::Unknown(text)) => Ok(Health::Unknown(text)),
        Err(Trouble::Stranded(error)) => Err(error),
    }
}

/// A duration in Go's notation, as the kubelet's texts have it: `1s`, `500ms`, `1m30s`.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if seconds == 0 {
        let (whole, unit) = match nanos {
            0 => return "0s".to_owned(),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{unit}", decimal(u64::from(nanos / whole), nanos % whole, whole));
    }
    let mut text = String::new();
    if seconds >= 3600 {
        text = format!("{}h", seconds / 3600);
    }
    if seconds >= 60 {
        text += &format!("{}m", seconds / 60 % 60);
    }
    text + &decimal(seconds % 60, nanos, 1_000_000_000) + "s"
}

/// `whole` and the fraction `part`/`of` (a power of ten), without zeros at the end.
fn decimal(whole: u64, part: u32, of: u32) -> String {
    if part == 0 {
        return whole.to_string();
    }
    let digits = usize::try_from(of.ilog10()).unwrap_or(0);
    format!("{whole}.{}", format!("{part:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::target::Address;
    use super::*;

    #[test]
    fn an_attempt_is_small_and_can_be_given_to_any_executor() {
        fn is_send<T: Send>(_: &T) {}
        let action = Action::Tcp(Address { host: String::new(), port: 0 });
        let attempt = check(&action, None, Duration::ZERO);
        is_send(&attempt);
        assert!(size_of_val(&attempt) < 1024, "{} bytes", size_of_val(&attempt));
    }

    #[test]
    fn durations_read_as_in_go() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_micros(1500), "1.5ms"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_micros(20), "20µs"),
            (Duration::from_millis(1050), "1.05s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_secs(3690), "1h1m30s"),
        ] {
            assert_eq!(go_duration(duration), text);
        }
    }
}
