//! Limits and device rules as properties of a unit. Pure.
//!
//! carob writes the files of the cgroup itself. What systemd knows it is told as well, so that it
//! writes the same whenever it applies its settings again: after a reload, or when a unit beside this
//! one changes. Source: systemd.resource-control(5), org.freedesktop.systemd1(5).

use zbus::{Array, Signature, Variant};

use super::super::controller::Version;
use super::super::device_rules::{ALL, Devices, Exceptions, Kind, MKNOD, READ, Verdict, WRITE};
use super::super::settings::{Setting, Value};
use super::bandwidth::{Bandwidth, INFINITY, quota_text};
use crate::error::{Error, Result};

/// Name and value.
pub(super) type Property = (String, Variant<'static>);

/// Properties that older versions of systemd do not have, and can do without: carob writes the
/// files. The version that has them.
pub(super) const OPTIONAL: &[&str] = &[
    "CollectMode",        // 236
    "CPUQuotaPeriodUSec", // 242
    "AllowedCPUs",        // 244
    "AllowedMemoryNodes", // 244
];

/// No machine has more CPUs or memory nodes.
const LARGEST_INDEX: usize = 1 << 16;

/// Files whose value is a property, with its name.
const NUMBERS: &[(&str, &str)] = &[
    ("cpu.weight", "CPUWeight"),
    ("io.weight", "IOWeight"),
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
    ("cpu.shares", "CPUShares"),
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("blkio.weight", "BlockIOWeight"),
];

/// The properties that say what these settings say, as far as there are such properties. `current`
/// is the bandwidth before.
///
/// # Errors
/// [`Error::Config`] for a list of CPUs or nodes that is none.
pub(super) fn of<'a>(
    settings: impl Iterator<Item = &'a Setting>,
    version: Version,
    current: Bandwidth,
) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    let mut bandwidth = None;
    for setting in settings {
        for (file, value) in &setting.files {
            let before = bandwidth.unwrap_or(current);
            match (&**file, value) {
                ("cpu.max", Value::Text(text)) => bandwidth = Some(before.with_max(text)),
                ("cpu.max", Value::CpuPeriod(period)) => {
                    bandwidth = Some(Bandwidth { period: *period, ..before });
                }
                ("cpu.cfs_quota_us", Value::Text(text)) => {
                    bandwidth = Some(Bandwidth { quota: text.parse().ok(), ..before });
                }
                ("cpu.cfs_period_us", Value::Text(text)) => {
                    bandwidth =
                        Some(before.with_max(&format!("{} {text}", quota_text(before.quota))));
                }
                // v1's cpusets are not systemd's.
                ("cpuset.cpus", Value::Text(list)) if version == Version::V2 => {
                    properties.push(("AllowedCPUs".to_owned(), set(&setting.field, list)?));
                }
                ("cpuset.mems", Value::Text(list)) if version == Version::V2 => {
                    properties.push(("AllowedMemoryNodes".to_owned(), set(&setting.field, list)?));
                }
                (file, Value::Text(text)) => properties.extend(number(file, text)),
                (_, Value::CpuPeriod(_)) => {}
            }
        }
    }
    properties.extend(bandwidth.into_iter().flat_map(of_bandwidth));
    Ok(properties)
}

/// Nothing for what systemd has no property, or the kernel will refuse.
fn number(file: &str, text: &str) -> Option<Property> {
    let (_, name) = NUMBERS.iter().find(|(known, _)| *known == file)?;
    let number = match text {
        "max" | "-1" => INFINITY,
        digits => digits.parse().ok()?,
    };
    Some(((*name).to_owned(), Variant::U64(number)))
}

fn of_bandwidth(bandwidth: Bandwidth) -> [Property; 2] {
    let per_second = bandwidth.per_second().map_or(INFINITY, |(_, whole)| whole);
    [
        ("CPUQuotaPeriodUSec".to_owned(), Variant::U64(bandwidth.period)),
        ("CPUQuotaPerSecUSec".to_owned(), Variant::U64(per_second)),
    ]
}

/// `0-2,5` as bits, the lowest of the first byte first.
fn set(field: &str, list: &str) -> Result<Variant<'static>> {
    let bad = || Error::config(field, format!("{list:?} is not a list such as 0-3,7"));
    let mut bits = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let index = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LARGEST_INDEX);
        let (first, last) = index(first).zip(index(last)).ok_or_else(bad)?;
        if first > last {
            return Err(bad());
        }
        for number in first..=last {
            if bits.len() <= number / 8 {
                bits.resize(number / 8 + 1, 0_u8);
            }
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    Ok(Variant::from(bits))
}

/// Device rules of the v1 controller, which systemd writes anew each time that it applies a unit's
/// settings. On v2 each side attaches its own program and leaves the other's alone: systemd gets none.
///
/// `majors` is `/proc/devices`: systemd names a driver where the kernel has a number for all of its
/// devices. What systemd cannot say is left out; carob's own rules have it.
pub(super) fn of_devices(rules: &Exceptions, majors: &str) -> [Property; 2] {
    let mut allowed = Vec::new();
    if rules.default == Verdict::Deny {
        for (devices, access) in &rules.exceptions {
            allowed
                .extend(specifiers(devices, majors).into_iter().map(|of| (of, letters(*access))));
        }
    }
    let policy = match rules.default {
        Verdict::Allow => "auto",
        Verdict::Deny => "strict",
    };
    let list = if allowed.is_empty() {
        let pair = Signature::structure([Signature::Str, Signature::Str]);
        Variant::Array(Array::new(&pair))
    } else {
        Variant::from(allowed)
    };
    [("DevicePolicy".to_owned(), Variant::from(policy)), ("DeviceAllow".to_owned(), list)]
}

fn letters(access: u32) -> String {
    debug_assert!(access & !ALL == 0, "{access}");
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// `/dev/char/1:3`, `char-pts`, `char-*`; two where the kind is any.
fn specifiers(devices: &Devices, majors: &str) -> Vec<String> {
    let kinds = match devices.kind {
        Some(kind) => vec![kind],
        None => vec![Kind::Char, Kind::Block],
    };
    let specifier = |kind: Kind| {
        let word = match kind {
            Kind::Char => "char",
            Kind::Block => "block",
        };
        match (devices.major, devices.minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{word}/{major}:{minor}")),
            (Some(major), None) => Some(format!("{word}-{}", driver(kind, major, majors)?)),
            (None, None) => Some(format!("{word}-*")),
            (None, Some(_)) => None,
        }
    };
    kinds.into_iter().filter_map(specifier).collect()
}

/// The name of a major number. Source: proc_devices(5).
fn driver(kind: Kind, major: u32, majors: &str) -> Option<&str> {
    let (chars, blocks) = majors.split_once("Block devices:")?;
    let lines = match kind {
        Kind::Char => chars,
        Kind::Block => blocks,
    };
    lines.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name.trim())
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxResources;

    use super::super::super::device_rules;
    use super::super::super::settings::settings;
    use super::super::super::v2;
    use super::*;

    fn shown(json: &str, version: Version, current: Bandwidth) -> Result<Vec<String>> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let mut all = settings(&resources, |_| version)?;
        all.extend(v2::unified(&resources)?);
        let properties = of(all.iter(), version, current)?;
        Ok(properties.iter().map(|(name, value)| show(name, value)).collect())
    }

    fn show(name: &str, value: &Variant) -> String {
        match value {
            Variant::U64(INFINITY) => format!("{name}=max"),
            Variant::U64(number) => format!("{name}={number}"),
            Variant::Array(bytes) => {
                let byte = |byte: &Variant| match byte {
                    Variant::U8(byte) => format!("{byte:02x}"),
                    other => other.to_string(),
                };
                let bytes = bytes.inner().iter().map(byte).collect::<Vec<_>>();
                format!("{name}=[{}]", bytes.join(" "))
            }
            other => format!("{name}={other}"),
        }
    }

    #[test]
    fn limits_of_v2() {
        let cases: &[(&str, &[&str])] = &[
            ("{}", &[]),
            (
                r#"{"memory":{"limit":1000,"swap":1500,"reservation":10}}"#,
                &["MemorySwapMax=500", "MemoryMax=1000", "MemoryLow=10"],
            ),
            (r#"{"memory":{"limit":-1}}"#, &["MemorySwapMax=max", "MemoryMax=max"]),
            (r#"{"memory":{"limit":9,"swap":9}}"#, &["MemorySwapMax=0", "MemoryMax=9"]),
            (r#"{"cpu":{"shares":1024}}"#, &["CPUWeight=100"]),
            (
                r#"{"cpu":{"quota":20000,"period":50000}}"#,
                &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=400000"],
            ),
            (
                r#"{"cpu":{"quota":20000}}"#,
                &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=200000"],
            ),
            // Up to the next percent.
            (
                r#"{"cpu":{"quota":20001}}"#,
                &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=210000"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=max"]),
            (
                r#"{"cpu":{"period":50000}}"#,
                &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=max"],
            ),
            (
                r#"{"cpu":{"cpus":"0-2,9","mems":"0"}}"#,
                &["AllowedCPUs=[07 02]", "AllowedMemoryNodes=[01]"],
            ),
            (r#"{"pids":{"limit":7}}"#, &["TasksMax=7"]),
            (r#"{"pids":{"limit":-1}}"#, &["TasksMax=max"]),
            (r#"{"blockIO":{"weight":1000}}"#, &["IOWeight=10000"]),
            (
                r#"{"unified":{"memory.high":"5","memory.min":"max","cpu.max":"1000 10000","memory.oom.group":"1"}}"#,
                &[
                    "MemoryHigh=5",
                    "MemoryMin=max",
                    "CPUQuotaPeriodUSec=10000",
                    "CPUQuotaPerSecUSec=100000",
                ],
            ),
        ];
        for (json, want) in cases {
            let got = shown(json, Version::V2, Bandwidth::DEFAULT).unwrap();
            assert_eq!(got, *want, "{json}");
        }
    }

    #[test]
    fn limits_of_v1() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"memory":{"limit":1000,"swap":1500}}"#, &["MemoryLimit=1000"]),
            (r#"{"cpu":{"shares":512}}"#, &["CPUShares=512"]),
            (
                r#"{"cpu":{"quota":5000,"period":50000}}"#,
                &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=100000"],
            ),
            (r#"{"cpu":{"cpus":"0"}}"#, &[]),
            (r#"{"blockIO":{"weight":100}}"#, &["BlockIOWeight=100"]),
        ];
        for (json, want) in cases {
            let got = shown(json, Version::V1, Bandwidth::DEFAULT).unwrap();
            assert_eq!(got, *want, "{json}");
        }
    }

    #[test]
    fn what_an_update_leaves_out_stays() {
        let before = Bandwidth::DEFAULT.with_max("25000 50000\n");
        for version in [Version::V1, Version::V2] {
            let period = shown(r#"{"cpu":{"period":100000}}"#, version, before).unwrap();
            assert_eq!(period, ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=250000"]);
            let quota = shown(r#"{"cpu":{"quota":5000}}"#, version, before).unwrap();
            assert_eq!(quota, ["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=100000"]);
        }
        assert_eq!(before.with_max("max 9"), Bandwidth { quota: None, period: 9 });
        assert_eq!(before.with_max(""), before);
    }

    #[test]
    fn lists_that_are_none() {
        for list in ["a", "1-", "3-1", "0,,1", "99999999", "-1"] {
            let json = format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#);
            let error = shown(&json, Version::V2, Bandwidth::DEFAULT).unwrap_err().to_string();
            assert!(error.starts_with("linux.resources.cpu.cpus: "), "{error}");
        }
    }

    #[test]
    fn devices_of_v1() {
        let majors = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        let shown = |json: &str| {
            let resources: LinuxResources = serde_json::from_str(json).unwrap();
            let rules = device_rules::rules(resources.devices().as_deref().unwrap_or_default());
            let exceptions = device_rules::exceptions(&rules.unwrap()).unwrap();
            let [(_, policy), (_, list)] = of_devices(&exceptions, majors);
            format!("{policy} {list}")
        };
        let denied = shown(
            r#"{"devices":[{"allow":false,"access":"rwm"},
               {"allow":true,"type":"b","major":8,"access":"rw"},
               {"allow":true,"type":"c","major":77,"access":"rw"}]}"#,
        );
        assert!(denied.starts_with("\"strict\" "), "{denied}");
        for part in [
            "(\"/dev/char/1:3\", \"rwm\")",
            "(\"char-pts\", \"rwm\")",
            "(\"char-*\", \"m\")",
            "(\"block-sd\", \"rw\")",
        ] {
            assert!(denied.contains(part), "{part} in {denied}");
        }
        assert!(!denied.contains("77"), "{denied}");
        let allowed = shown(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
        assert_eq!(allowed, "\"auto\" @a(ss) []");
    }
}
