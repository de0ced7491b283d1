//! The two clocks of a pod: one to decide by, one to show.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of CLOCK_BOOTTIME, nanoseconds since boot: setting the clock does not move it, it
/// goes on during suspend, and it means the same to every process until the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    /// The boot itself.
    pub const BOOT: Self = Self(0);

    /// That many nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The present; the only reading of the clock there is.
    #[must_use]
    pub fn now() -> Self {
        let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Self(0) };
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero if it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Later by `delay`; stays at the end of time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// For decisions.
    pub at: Moment,
    /// For people: UTC, as the clock of the machine showed it then.
    pub wall: Timestamp,
}

impl Stamp {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Moment::now(), wall: Timestamp::now() }
    }
}
