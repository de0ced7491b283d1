//! Which devices a container may use: `linux.resources.devices` and what every container needs.
//!
//! The rules are a list. For each of read, write and mknod the last rule that names the device
//! decides; a device that none names is refused. A request is granted if each of its accesses is.
//! Pure: `device_program.rs` makes an eBPF program of the list, [`exceptions`] the v1 form.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result};

/// Bits of access, as in `BPF_DEVCG_ACC_*`.
pub(super) const MKNOD: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
pub(super) const ALL: u32 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Block,
    Char,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

/// The devices a rule names; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

impl Devices {
    const ANY: Self = Self { kind: None, major: None, minor: None };

    fn covers(&self, other: &Self) -> bool {
        fn one<T: PartialEq>(mine: Option<T>, other: Option<T>) -> bool {
            mine.is_none() || mine == other
        }
        one(self.kind, other.kind) && one(self.major, other.major) && one(self.minor, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        fn one<T: PartialEq>(mine: Option<T>, other: Option<T>) -> bool {
            mine.is_none() || other.is_none() || mine == other
        }
        one(self.kind, other.kind) && one(self.major, other.major) && one(self.minor, other.minor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verdict: Verdict,
    pub(super) devices: Devices,
    pub(super) access: u32,
}

impl Rule {
    /// A rule after which nothing before it matters.
    pub(super) fn decides_all(&self) -> bool {
        self.devices == Devices::ANY && self.access == ALL
    }
}

/// What every container may do, whatever the configuration denies: make device nodes (using them
/// is another matter) and use the default devices of the runtime specification, `/dev/console`
/// being a pty. Type, major, minor, access.
///
/// Source: runtime-spec, config-linux.md, "Default Devices".
const DEFAULTS: &[(Kind, Option<u32>, Option<u32>, u32)] = &[
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL), // null
    (Kind::Char, Some(1), Some(5), ALL), // zero
    (Kind::Char, Some(1), Some(7), ALL), // full
    (Kind::Char, Some(1), Some(8), ALL), // random
    (Kind::Char, Some(1), Some(9), ALL), // urandom
    (Kind::Char, Some(5), Some(0), ALL), // tty
    (Kind::Char, Some(5), Some(2), ALL), // ptmx
    (Kind::Char, Some(136), None, ALL),  // pts
];

/// The configured rules, then [`DEFAULTS`].
///
/// # Errors
/// [`Error::Config`] with the JSON path of a type, number or access that is none.
pub(super) fn rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(configured.len() + DEFAULTS.len());
    for (index, device) in configured.iter().enumerate() {
        rules.push(rule(index, device)?);
    }
    rules.extend(DEFAULTS.iter().map(|&(kind, major, minor, access)| Rule {
        verdict: Verdict::Allow,
        devices: Devices { kind: Some(kind), major, minor },
        access,
    }));
    Ok(rules)
}

fn rule(index: usize, device: &LinuxDeviceCgroup) -> Result<Rule> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let kind = match device.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
        LinuxDeviceType::P => {
            return Err(Error::config(field("type"), "\"p\" is no device; must be a, b or c"));
        }
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::config(
                field(name),
                format!("{value} must be -1 (any) or a device number"),
            )),
        },
    };
    let devices = Devices {
        kind,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
    };
    let mut access = 0;
    for letter in device.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // Validation has warned.
            'a' => 0,
            _ => {
                return Err(Error::config(
                    field("access"),
                    format!("{letter:?} must be r, w or m"),
                ));
            }
        };
    }
    // "All devices" without more words means all of their accesses too.
    if access == 0 && devices == Devices::ANY {
        access = ALL;
    }
    let verdict = if device.allow() { Verdict::Allow } else { Verdict::Deny };
    Ok(Rule { verdict, devices, access })
}

/// The form of the v1 controller: one verdict for all devices, and the exceptions to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub(super) default: Verdict,
    pub(super) exceptions: Vec<(Devices, u32)>,
}

impl Exceptions {
    /// The file the exceptions go to.
    pub(super) fn file(&self) -> &'static str {
        match self.default {
            Verdict::Allow => "devices.deny",
            Verdict::Deny => "devices.allow",
        }
    }

    /// The file that sets the default and drops all exceptions, when `a` is written to it.
    pub(super) fn reset_file(&self) -> &'static str {
        match self.default {
            Verdict::Allow => "devices.allow",
            Verdict::Deny => "devices.deny",
        }
    }

    /// The exceptions as the controller reads them, `c 1:3 rwm`.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.exceptions.iter().map(|(devices, access)| line(devices, *access))
    }

    /// Adds accesses of devices, in one entry per set of devices as the kernel keeps them.
    fn add(&mut self, devices: Devices, access: u32) {
        match self.exceptions.iter_mut().find(|(known, _)| *known == devices) {
            Some((_, known)) => *known |= access,
            None if access != 0 => self.exceptions.push((devices, access)),
            None => {}
        }
    }

    /// Takes accesses back; `Err` is an exception that would have to lose some of its devices.
    fn remove(&mut self, devices: &Devices, access: u32) -> std::result::Result<(), Devices> {
        for (known, bits) in &mut self.exceptions {
            if devices.covers(known) {
                *bits &= !access;
            } else if devices.overlaps(known) && *bits & access != 0 {
                return Err(*known);
            }
        }
        self.exceptions.retain(|(_, bits)| *bits != 0);
        Ok(())
    }
}

fn line(devices: &Devices, access: u32) -> String {
    let kind = match devices.kind {
        None => 'a',
        Some(Kind::Block) => 'b',
        Some(Kind::Char) => 'c',
    };
    let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
    let mut text = format!("{kind} {}:{} ", number(devices.major), number(devices.minor));
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    text.extend(letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter));
    text
}

/// The rules as a default and its exceptions.
///
/// # Errors
/// [`Error::Config`] where a rule takes back a part of what another one gave: the v1 controller
/// can only take back the whole.
pub(super) fn exceptions(rules: &[Rule]) -> Result<Exceptions> {
    let mut state = Exceptions { default: Verdict::Deny, exceptions: Vec::new() };
    for rule in rules {
        if rule.decides_all() {
            state = Exceptions { default: rule.verdict, exceptions: Vec::new() };
            continue;
        }
        // The controller knows "all types" only together with all numbers and accesses.
        let kinds = match rule.devices.kind {
            Some(kind) => vec![kind],
            None => vec![Kind::Block, Kind::Char],
        };
        for kind in kinds {
            let devices = Devices { kind: Some(kind), ..rule.devices };
            if rule.verdict == state.default {
                state.remove(&devices, rule.access).map_err(|known| {
                    Error::config(
                        "linux.resources.devices",
                        format!(
                            "cgroup v1 cannot take {:?} out of the earlier rule for {:?}",
                            line(&devices, rule.access),
                            line(&known, ALL)
                        ),
                    )
                })?;
            } else {
                state.add(devices, rule.access);
            }
        }
    }
    Ok(state)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::cgroup) fn from_json(json: &str) -> Result<Vec<Rule>> {
        let devices: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        rules(&devices)
    }

    /// The definition, word for word: the last rule that names device and access decides.
    pub(in crate::cgroup) fn granted(
        rules: &[Rule],
        kind: Kind,
        major: u32,
        minor: u32,
        access: u32,
    ) -> bool {
        let device = Devices { kind: Some(kind), major: Some(major), minor: Some(minor) };
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let deciding = |rule: &&Rule| rule.access & bit != 0 && rule.devices.covers(&device);
            let rule = rules.iter().rev().find(deciding);
            rule.is_some_and(|rule| rule.verdict == Verdict::Allow)
        })
    }

    pub(in crate::cgroup) fn any_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Char))];
        let number = || prop::option::of(0_u32..3);
        let verdict = prop_oneof![Just(Verdict::Allow), Just(Verdict::Deny)];
        (verdict, kind, number(), number(), 0_u32..8).prop_map(
            |(verdict, kind, major, minor, access)| Rule {
                verdict,
                devices: Devices { kind, major, minor },
                access,
            },
        )
    }

    /// Every request among the devices that [`any_rule`] can name, and some it cannot.
    pub(in crate::cgroup) fn requests() -> impl Iterator<Item = (Kind, u32, u32, u32)> {
        [Kind::Block, Kind::Char].into_iter().flat_map(|kind| {
            (0..4).flat_map(move |major| {
                (0..4).flat_map(move |minor| (1..8).map(move |access| (kind, major, minor, access)))
            })
        })
    }

    #[test]
    fn defaults_follow_and_win() {
        let rules = from_json(r#"[{"allow":false,"type":"c","major":1,"minor":3,"access":"rwm"}]"#);
        let rules = rules.unwrap();
        assert!(granted(&rules, Kind::Char, 1, 3, ALL), "/dev/null stays");
        assert!(granted(&rules, Kind::Block, 8, 0, MKNOD));
        assert!(!granted(&rules, Kind::Block, 8, 0, READ));
        assert!(!granted(&rules, Kind::Char, 1, 1, READ), "/dev/mem is nobody's");
    }

    #[test]
    fn v1_form_of_the_usual_configurations() {
        let deny_all = from_json(r#"[{"allow":false,"access":"rwm"}]"#).unwrap();
        let form = exceptions(&deny_all).unwrap();
        assert_eq!(form.default, Verdict::Deny);
        let lines: Vec<_> = form.lines().collect();
        assert_eq!(lines[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(lines.last().unwrap(), "c 136:* rwm");

        let privileged = from_json(r#"[{"allow":true,"access":"rwm"}]"#).unwrap();
        let form = exceptions(&privileged).unwrap();
        assert_eq!((form.default, form.exceptions.len()), (Verdict::Allow, 0));

        let no_access = from_json(r#"[{"allow":true}]"#).unwrap();
        assert_eq!(exceptions(&no_access).unwrap().default, Verdict::Allow);
    }

    #[test]
    fn the_letter_a_among_others_is_no_access() {
        let rules = from_json(r#"[{"allow":false,"type":"c","major":1,"access":"rwa"}]"#);
        assert_eq!(rules.unwrap()[0].access, READ | WRITE);
    }

    #[test]
    fn v1_cannot_take_back_a_part() {
        let rules = from_json(
            r#"[{"allow":true,"type":"c","major":7,"access":"rw"},
                {"allow":false,"type":"c","major":7,"minor":1,"access":"w"}]"#,
        );
        let error = exceptions(&rules.unwrap()).unwrap_err().to_string();
        assert!(error.contains("\"c 7:1 w\""), "{error}");
    }

    #[test]
    fn mistakes_name_the_path() {
        for (json, want) in [
            (r#"[{"allow":true,"type":"p"}]"#, "linux.resources.devices[0].type: "),
            (
                r#"[{"allow":true},{"allow":true,"access":"rx"}]"#,
                "linux.resources.devices[1].access: 'x'",
            ),
            (r#"[{"allow":true,"major":-2}]"#, "linux.resources.devices[0].major: -2"),
            (r#"[{"allow":true,"minor":4294967296}]"#, "linux.resources.devices[0].minor: "),
        ] {
            let error = from_json(json).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    proptest! {
        /// Where the v1 form exists it grants nothing that the rules refuse, and every single
        /// access that they grant.
        #[test]
        fn v1_form_agrees_with_the_rules(rules in prop::collection::vec(any_rule(), 0..8)) {
            let Ok(form) = exceptions(&rules) else { return Ok(()) };
            for (kind, major, minor, access) in requests() {
                let device = Devices { kind: Some(kind), major: Some(major), minor: Some(minor) };
                let named = |bit: u32| {
                    let hit = |(devices, bits): &(Devices, u32)| devices.covers(&device) && bits & bit != 0;
                    form.exceptions.iter().any(hit)
                };
                let v1 = [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
                    named(*bit) == (form.default == Verdict::Deny)
                });
                prop_assert_eq!(v1, granted(&rules, kind, major, minor, access));
            }
        }
    }
}
