//! The service manager and its buses.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Check, Status};

const SECTION: &str = "systemd";

pub(super) fn checks() -> Vec<Check> {
    if !Path::new("/run/systemd/system").is_dir() {
        let found = "not running; cgroups are made by carob itself";
        return vec![Check::new(SECTION, "systemd", Status::Ok, found)];
    }
    let mut checks = vec![Check::new(SECTION, "systemd", Status::Ok, "running")];
    checks.push(bus("system bus", Path::new("/run/dbus/system_bus_socket"), "dbus"));
    if !nix::unistd::geteuid().is_root() {
        checks.push(match user_bus() {
            Some(path) => bus("user bus", &path, "dbus-user-session"),
            None => Check::new(SECTION, "user bus", Status::Missing, "XDG_RUNTIME_DIR is not set")
                .advise("log in anew, or `loginctl enable-linger` and set XDG_RUNTIME_DIR"),
        });
    }
    checks
}

/// Source: sd_bus_default(3).
fn user_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let given = address.split(';').find_map(|one| one.strip_prefix("unix:path="));
    let given = given.map(|path| PathBuf::from(path.split(',').next().unwrap_or(path)));
    given.or_else(|| {
        let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
        Some(Path::new(&dir).join("bus"))
    })
}

fn bus(name: &str, path: &Path, package: &str) -> Check {
    let shown = path.display();
    match UnixStream::connect(path) {
        Ok(_) => Check::new(SECTION, name, Status::Ok, shown.to_string()),
        Err(error) => Check::new(SECTION, name, Status::Missing, format!("{shown}: {error}"))
            .advise(format!("--systemd-cgroup needs it; install and start {package}")),
    }
}
