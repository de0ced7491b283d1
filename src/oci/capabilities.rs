//! Capability names and their numbers.
//!
//! Names are exact: `CAP_` and upper case, as in capabilities(7) and the specification. What
//! oci-spec parses more freely is caught here, on the text.

use std::fmt;

use caps::Capability as Cap;
use oci_spec::runtime::{Capabilities, Capability};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use super::load::Document;
use crate::error::{Error, Result};

/// The capability of this exact name.
pub fn from_name(name: &str) -> Option<Cap> {
    name.parse().ok()
}

/// Reads one name from the command line (`exec --cap`).
///
/// # Errors
/// [`Error::Invalid`] if the name is malformed or unknown.
pub fn parse(name: &str) -> Result<Cap> {
    from_name(name).ok_or_else(|| match is_well_formed(name) {
        true => Error::Invalid(format!("unknown capability {name:?}")),
        false => Error::Invalid(format!("capability {}", malformed(name))),
    })
}

/// Whether this is a name, be it of a capability that nobody knows; one that only lacks its `CAP_`
/// is not.
pub(super) fn is_well_formed(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let lacks_prefix = || from_name(&format!("CAP_{name}")).is_some();
    !matches!(name, "" | "CAP_") && name.bytes().all(allowed) && !lacks_prefix()
}

/// What is wrong with a name that is not [`is_well_formed`].
pub(super) fn malformed(name: &str) -> String {
    format!("{name:?} is malformed, must be CAP_ and upper case letters, digits or _")
}

/// A set as the kernel's mask: bit `n` is capability number `n`.
pub fn mask(set: &Capabilities) -> u64 {
    set.iter().fold(0, |mask, capability| mask | from_oci(*capability).bitmask())
}

/// Every known name, in the order of their numbers.
pub fn names() -> impl Iterator<Item = String> {
    in_mask(u64::MAX)
}

/// The known names of a kernel's mask, in the order of their numbers.
pub fn in_mask(mask: u64) -> impl Iterator<Item = String> {
    let mut all: Vec<Cap> = caps::all().into_iter().collect();
    all.sort_by_key(Cap::index);
    all.into_iter().filter(move |cap| mask & cap.bitmask() != 0).map(|cap| cap.to_string())
}

/// The names in a kernel's mask for a text: in one line, in the order of their numbers.
pub fn list(mask: u64) -> String {
    let known = caps::all().iter().fold(0, |known, cap| known | cap.bitmask());
    let unknown = (0..64).filter(|number| mask & !known & (1 << number) != 0);
    let unknown = unknown.map(|number| format!("capability {number}"));
    in_mask(mask).chain(unknown).collect::<Vec<_>>().join(" ")
}

/// oci-spec's capability as the crate `caps` calls it.
pub fn from_oci(capability: Capability) -> Cap {
    match capability {
        Capability::AuditControl => Cap::CAP_AUDIT_CONTROL,
        Capability::AuditRead => Cap::CAP_AUDIT_READ,
        Capability::AuditWrite => Cap::CAP_AUDIT_WRITE,
        Capability::BlockSuspend => Cap::CAP_BLOCK_SUSPEND,
        Capability::Bpf => Cap::CAP_BPF,
        Capability::CheckpointRestore => Cap::CAP_CHECKPOINT_RESTORE,
        Capability::Chown => Cap::CAP_CHOWN,
        Capability::DacOverride => Cap::CAP_DAC_OVERRIDE,
        Capability::DacReadSearch => Cap::CAP_DAC_READ_SEARCH,
        Capability::Fowner => Cap::CAP_FOWNER,
        Capability::Fsetid => Cap::CAP_FSETID,
        Capability::IpcLock => Cap::CAP_IPC_LOCK,
        Capability::IpcOwner => Cap::CAP_IPC_OWNER,
        Capability::Kill => Cap::CAP_KILL,
        Capability::Lease => Cap::CAP_LEASE,
        Capability::LinuxImmutable => Cap::CAP_LINUX_IMMUTABLE,
        Capability::MacAdmin => Cap::CAP_MAC_ADMIN,
        Capability::MacOverride => Cap::CAP_MAC_OVERRIDE,
        Capability::Mknod => Cap::CAP_MKNOD,
        Capability::NetAdmin => Cap::CAP_NET_ADMIN,
        Capability::NetBindService => Cap::CAP_NET_BIND_SERVICE,
        Capability::NetBroadcast => Cap::CAP_NET_BROADCAST,
        Capability::NetRaw => Cap::CAP_NET_RAW,
        Capability::Perfmon => Cap::CAP_PERFMON,
        Capability::Setgid => Cap::CAP_SETGID,
        Capability::Setfcap => Cap::CAP_SETFCAP,
        Capability::Setpcap => Cap::CAP_SETPCAP,
        Capability::Setuid => Cap::CAP_SETUID,
        Capability::SysAdmin => Cap::CAP_SYS_ADMIN,
        Capability::SysBoot => Cap::CAP_SYS_BOOT,
        Capability::SysChroot => Cap::CAP_SYS_CHROOT,
        Capability::SysModule => Cap::CAP_SYS_MODULE,
        Capability::SysNice => Cap::CAP_SYS_NICE,
        Capability::SysPacct => Cap::CAP_SYS_PACCT,
        Capability::SysPtrace => Cap::CAP_SYS_PTRACE,
        Capability::SysRawio => Cap::CAP_SYS_RAWIO,
        Capability::SysResource => Cap::CAP_SYS_RESOURCE,
        Capability::SysTime => Cap::CAP_SYS_TIME,
        Capability::SysTtyConfig => Cap::CAP_SYS_TTY_CONFIG,
        Capability::Syslog => Cap::CAP_SYSLOG,
        Capability::WakeAlarm => Cap::CAP_WAKE_ALARM,
    }
}

/// Whether every capability name in a document that parses is one of the exact known names.
pub(super) fn all_known(raw: &[u8], document: Document) -> bool {
    match document {
        Document::Spec => {
            // To the end, though only `process` is looked at: to stop there is an error for
            // serde_json, and to make one costs more than to read on.
            let mut json = serde_json::Deserializer::from_slice(raw);
            json.deserialize_map(ProcessOnly).unwrap_or(false)
        }
        Document::Process => serde_json::from_slice::<ProcessNames>(raw).is_ok(),
        Document::Resources => true,
    }
}

/// Finds `process` in a `config.json`, and whether its names are known.
struct ProcessOnly;

impl<'de> Visitor<'de> for ProcessOnly {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<bool, A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                // An error of a name's ends it all.
                Key::Process => {
                    map.next_value::<Option<ProcessNames>>()?;
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(true)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Key {
    Process,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ProcessNames {
    #[serde(default, rename = "capabilities")]
    _capabilities: Option<Sets>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sets {
    #[serde(default, rename = "bounding")]
    _bounding: Option<Vec<Known>>,
    #[serde(default, rename = "effective")]
    _effective: Option<Vec<Known>>,
    #[serde(default, rename = "inheritable")]
    _inheritable: Option<Vec<Known>>,
    #[serde(default, rename = "permitted")]
    _permitted: Option<Vec<Known>>,
    #[serde(default, rename = "ambient")]
    _ambient: Option<Vec<Known>>,
}

/// A string that is a known name; takes no memory.
struct Known;

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(KnownVisitor)
    }
}

struct KnownVisitor;

impl Visitor<'_> for KnownVisitor {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a capability name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Known, E> {
        from_name(name).map(|_| Known).ok_or_else(|| E::custom("unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_crates_know_the_same_capabilities() {
        for name in names() {
            let json = serde_json::Value::from(name.clone());
            let parsed: Capability = serde_json::from_value(json).unwrap();
            assert_eq!(from_oci(parsed).to_string(), name);
        }
        assert_eq!(names().next().unwrap(), "CAP_CHOWN");
        assert_eq!(names().last().unwrap(), "CAP_CHECKPOINT_RESTORE");
        assert_eq!(names().count(), 41);
    }

    #[test]
    fn masks_have_the_kernel_s_bits() {
        let set = [Capability::Chown, Capability::Kill, Capability::CheckpointRestore];
        assert_eq!(mask(&set.into_iter().collect()), 1 | 1 << 5 | 1 << 40);
        assert_eq!(mask(&Capabilities::new()), 0);
        assert_eq!(list(1 | 1 << 5 | 1 << 63), "CAP_CHOWN CAP_KILL capability 63");
        assert_eq!(list(0), "");
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(parse("CAP_KILL").unwrap(), Cap::CAP_KILL);
        for (name, word) in [
            ("KILL", "malformed"),
            ("cap_kill", "malformed"),
            ("CAP_", "malformed"),
            ("", "malformed"),
            ("CAP_KILL ", "malformed"),
            ("CAP_CAP_KILL", "unknown"),
            ("UNKNOWN_CAP", "unknown"),
            ("CAP_TELEPORT", "unknown"),
        ] {
            let text = parse(name).unwrap_err().to_string();
            assert!(text.contains(word), "{name}: {text}");
        }
    }
}
