//! Durations for people who look for fractions of a second; ages are [`super::phase::human_duration`].

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// A duration with tenths or hundredths of a second while it is short: `0.35s`, `12.3s`, `2m05s`, `3h02m`.
#[must_use]
pub fn exact_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_millis() {
        0..995 => format!("{:.2}s", duration.as_secs_f64()),
        995..100_000 => format!("{:.1}s", duration.as_secs_f64()),
        _ if seconds < HOUR => format!("{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
        _ => format!("{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_durations_keep_their_fractions() {
        for (millis, text) in [
            (0, "0.00s"),
            (4, "0.00s"),
            (348, "0.35s"),
            (999, "1.0s"),
            (1_000, "1.0s"),
            (12_340, "12.3s"),
            (125_000, "2m05s"),
            (7_380_000, "2h03m"),
        ] {
            assert_eq!(exact_duration(Duration::from_millis(millis)), text, "{millis}");
        }
    }
}
