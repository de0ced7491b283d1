//! Where systemd is to be reached.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::credentials;

/// Whose manager makes the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Manager {
    /// PID 1.
    System,
    /// `systemd --user` of an ordinary user, or of root in a user namespace.
    User,
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A bus: dbus-daemon, dbus-broker.
    Bus,
    /// systemd itself, where there is no bus.
    Manager,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) path: PathBuf,
    /// Instead of a path.
    pub(super) abstract_name: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.abstract_name {
            Some(name) => write!(f, "@{name}"),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

impl Address {
    pub(super) fn path(place: Place, path: impl Into<PathBuf>) -> Self {
        Self { place, path: path.into(), abstract_name: None }
    }
}

impl Manager {
    /// The manager that is ours to ask.
    pub(super) fn of_caller() -> Self {
        if credentials::is_host_root() { Self::System } else { Self::User }
    }

    /// Sockets to try, in this order.
    pub(super) fn addresses(self) -> Vec<Address> {
        let uid = nix::unistd::geteuid().as_raw();
        candidates(self, uid, |name| env::var_os(name).filter(|value| !value.is_empty()))
    }
}

fn candidates(
    manager: Manager,
    uid: u32,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<Address> {
    let (name, dir, socket) = match manager {
        Manager::System => ("DBUS_SYSTEM_BUS_ADDRESS", None, "/run/dbus/system_bus_socket"),
        Manager::User => ("DBUS_SESSION_BUS_ADDRESS", Some("XDG_RUNTIME_DIR"), "bus"),
    };
    if let Some(list) = variable(name) {
        let given = parse(&list.to_string_lossy());
        if !given.is_empty() {
            return given;
        }
    }
    let dir = match dir {
        None => PathBuf::from("/run"),
        Some(name) => {
            variable(name).map_or_else(|| format!("/run/user/{uid}").into(), PathBuf::from)
        }
    };
    vec![
        Address::path(Place::Bus, dir.join(socket)),
        Address::path(Place::Manager, dir.join("systemd/private")),
    ]
}

/// The Unix sockets of a list of addresses. Source: D-Bus Specification, *Server Addresses*.
fn parse(list: &str) -> Vec<Address> {
    let address = |text: &str| {
        let keys = text.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(Address::path(Place::Bus, unescape(path))),
            ("abstract", name) => Some(Address {
                abstract_name: Some(unescape(name)),
                ..Address::path(Place::Bus, "")
            }),
            _ => None,
        })
    };
    list.split(';').filter_map(address).collect()
}

/// `%20` is a blank.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten();
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_systemd_is_looked_for() {
        let shown = |manager, env: &[(&str, &str)]| {
            let variable = |name: &str| {
                env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            };
            let list = candidates(manager, 1000, variable);
            list.iter().map(|one| format!("{:?} {one}", one.place)).collect::<Vec<_>>().join(", ")
        };
        let (system, user) = (Manager::System, Manager::User);
        let private = "Bus /run/dbus/system_bus_socket, Manager /run/systemd/private";
        assert_eq!(shown(system, &[]), private);
        assert_eq!(shown(system, &[("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=x,port=1")]), private);
        for (list, want) in [
            ("unix:path=/a%20b,guid=12", "Bus /a b"),
            ("tcp:host=x;unix:abstract=/tmp/x", "Bus @/tmp/x"),
            ("unix:guid=1,path=/x;unix:path=/y%", "Bus /x, Bus /y%"),
        ] {
            assert_eq!(shown(system, &[("DBUS_SYSTEM_BUS_ADDRESS", list)]), want);
            assert_eq!(shown(user, &[("DBUS_SESSION_BUS_ADDRESS", list)]), want);
        }
        let dir = ("XDG_RUNTIME_DIR", "/r");
        assert_eq!(shown(user, &[dir]), "Bus /r/bus, Manager /r/systemd/private");
        let home = "Bus /run/user/1000/bus, Manager /run/user/1000/systemd/private";
        assert_eq!(shown(user, &[]), home);
    }
}
