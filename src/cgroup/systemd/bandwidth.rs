//! CPU time as systemd counts it. Pure.

use super::super::settings::{Setting, Value};

/// No limit.
pub(super) const INFINITY: u64 = u64::MAX;
/// `CPUQuota=` is a whole number of percents, for systemd: one is this much of a second.
const PERCENT_USEC: u64 = 10_000;
/// The kernel's, and systemd's.
const DEFAULT_PERIOD_USEC: u64 = 100_000;

/// What `cpu.max`, or v1's two files, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bandwidth {
    /// Microseconds per period; `None` is no limit.
    pub(super) quota: Option<u64>,
    /// Microseconds.
    pub(super) period: u64,
}

impl Bandwidth {
    /// That of a new cgroup.
    pub(super) const DEFAULT: Self = Self { quota: None, period: DEFAULT_PERIOD_USEC };

    /// `cpu.max`, `max 100000`. What is missing stays as it is.
    pub(super) fn with_max(self, text: &str) -> Self {
        let mut words = text.split_whitespace();
        let quota = words.next().map_or(self.quota, |word| word.parse().ok());
        Self {
            quota,
            period: words.next().and_then(|word| word.parse().ok()).unwrap_or(self.period),
        }
    }

    /// Microseconds of a second, and the same rounded up: systemd keeps whole percents, and the
    /// container may have made cgroups below with all that it had.
    pub(super) fn per_second(self) -> Option<(u64, u64)> {
        let exact = u128::from(self.quota?) * 1_000_000 / u128::from(self.period.max(1));
        let exact = u64::try_from(exact).unwrap_or(INFINITY);
        Some((exact, exact.checked_next_multiple_of(PERCENT_USEC).unwrap_or(INFINITY)))
    }

    /// The quota that is a whole percent, if this one is not.
    fn rounded(self) -> Option<u64> {
        let (exact, whole) = self.per_second()?;
        let quota = u128::from(whole) * u128::from(self.period) / 1_000_000;
        u64::try_from(quota).ok().filter(|_| whole != exact)
    }
}

/// Makes quotas of `linux.resources.cpu` those that systemd will write, so that nothing changes when it
/// applies its settings again. What `unified` has stays as it stands. `current`
/// is the bandwidth before.
pub(super) fn round_quotas<'a>(
    settings: impl Iterator<Item = &'a mut Setting>,
    current: Bandwidth,
) {
    let of_cpu = |setting: &Setting| setting.field.starts_with("linux.resources.cpu.");
    let mut files: Vec<_> = settings
        .filter(|setting| of_cpu(setting))
        .flat_map(|setting| &mut setting.files)
        .filter_map(|(file, value)| match value {
            Value::Text(text) => Some((&**file, text)),
            Value::CpuPeriod(_) => None,
        })
        .collect();
    let period = files.iter().find(|(file, _)| *file == "cpu.cfs_period_us");
    let period = period.and_then(|(_, text)| text.parse().ok()).unwrap_or(current.period);
    for (file, text) in &mut files {
        if !matches!(*file, "cpu.max" | "cpu.cfs_quota_us") {
            continue;
        }
        let wanted = Bandwidth { quota: None, period }.with_max(text);
        let quota = wanted.rounded().or(wanted.quota);
        match *file {
            // The period as well: without a quota systemd has written its own.
            "cpu.max" => **text = format!("{} {}", quota_text(quota), wanted.period),
            _ => {
                if let Some(quota) = quota {
                    **text = quota.to_string();
                }
            }
        }
    }
}

/// As `cpu.max` has it.
pub(super) fn quota_text(quota: Option<u64>) -> String {
    quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxResources;

    use super::super::super::controller::Version;
    use super::super::super::settings::settings;
    use super::super::super::v2;
    use super::*;

    #[test]
    fn quotas_are_written_as_systemd_keeps_them() {
        let before = Bandwidth::DEFAULT.with_max("25000 50000\n");
        let cases = [
            (r#"{"cpu":{"quota":12345,"period":50000}}"#, ["12500 50000", "12500"]),
            (r#"{"cpu":{"quota":600000,"period":900000}}"#, ["603000 900000", "603000"]),
            (r#"{"cpu":{"quota":12345}}"#, ["12500 50000", "12500"]),
            (r#"{"cpu":{"quota":12500}}"#, ["12500 50000", "12500"]),
            (r#"{"cpu":{"quota":-1}}"#, ["max 50000", "-1"]),
            // As it stands.
            (r#"{"unified":{"cpu.max":"12345 50000"}}"#, ["12345 50000", ""]),
        ];
        for (json, want) in cases {
            let resources: LinuxResources = serde_json::from_str(json).unwrap();
            for (version, want) in [Version::V2, Version::V1].into_iter().zip(want) {
                let mut all = settings(&resources, |_| version).unwrap();
                if version == Version::V2 {
                    all.extend(v2::unified(&resources).unwrap());
                }
                round_quotas(all.iter_mut(), before);
                let quota = |name: &str| matches!(name, "cpu.max" | "cpu.cfs_quota_us");
                let mut files = all.iter().flat_map(|setting| &setting.files);
                let found = files.find_map(|(file, value)| match value {
                    Value::Text(text) if quota(file) => Some(&**text),
                    _ => None,
                });
                assert_eq!(found.unwrap_or_default(), want, "{json} {version:?}");
            }
        }
    }
}
