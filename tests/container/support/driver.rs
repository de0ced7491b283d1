//! Who makes the cgroups of a test's containers: the runtime itself, or systemd.

use super::user::UID;
use super::{cgroup, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The cgroup driver of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Cgroupfs,
    /// `--systemd-cgroup`: a slice for the test, a scope for each container.
    Systemd,
}

impl Driver {
    /// `CAROB_TEST_CGROUP_DRIVER=systemd` runs every test with that driver.
    pub fn chosen() -> Self {
        match std::env::var("CAROB_TEST_CGROUP_DRIVER").as_deref() {
            Ok("systemd") => Self::Systemd,
            Ok("cgroupfs") | Err(_) => Self::Cgroupfs,
            Ok(other) => panic!("CAROB_TEST_CGROUP_DRIVER={other}: systemd or cgroupfs"),
        }
    }

    /// As `carob pod` chooses where nothing is said.
    pub fn of_pods() -> Self {
        if has_systemd() { Self::Systemd } else { Self::Cgroupfs }
    }

    /// Options before the verb.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Cgroupfs => &[],
            Self::Systemd => &["--systemd-cgroup"],
        }
    }

    /// `linux.cgroupsPath` of a container of the test with this marker.
    pub fn cgroups_path(self, marker: &str, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/{marker}/{id}"),
            Self::Systemd => format!("{}:{}:{id}", slice(marker), word(marker)),
        }
    }

    /// Where that is below the root of each hierarchy.
    pub fn cgroup(self, marker: &str, id: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => Path::new(marker).join(id),
            Self::Systemd => Path::new(&slice(marker)).join(scope(marker, id)),
        }
    }

    /// The cgroup of the test, for all others: as options name it, and where it is.
    pub fn top(self, marker: &str) -> (String, PathBuf) {
        match self {
            Self::Cgroupfs => (format!("/{marker}"), marker.into()),
            Self::Systemd => (slice(marker), slice(marker).into()),
        }
    }

    /// Where a container of a pod is, by the place of the pod's cgroup.
    pub fn member(self, pod: &Path, name: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => pod.join(name),
            Self::Systemd => {
                let slice = pod.file_stem().unwrap().to_str().unwrap();
                pod.join(format!("{slice}-{name}.scope"))
            }
        }
    }

    /// A cgroup of the test for other cgroups: as options name it, and where it is below the root of
    /// each hierarchy.
    pub fn parent(self, marker: &str, name: &str) -> (String, PathBuf) {
        match self {
            Self::Cgroupfs => (format!("/{marker}/{name}"), Path::new(marker).join(name)),
            Self::Systemd => {
                let parent = format!("{}-{}.slice", word(marker), word(name));
                let place = Path::new(&slice(marker)).join(&parent);
                (parent, place)
            }
        }
    }

    /// `linux.cgroupsPath` of a container in such a cgroup.
    pub fn cgroups_path_in(self, parent: &str, marker: &str, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("{parent}/{id}"),
            Self::Systemd => format!("{parent}:{}:{id}", word(marker)),
        }
    }
}

/// Whether this host was booted by systemd.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The marker in names of units: dashes would nest slices.
pub fn word(marker: &str) -> String {
    marker.replace('-', "_")
}

/// The slice of a test.
pub fn slice(marker: &str) -> String {
    format!("{}.slice", word(marker))
}

/// The scope of a container.
pub fn scope(marker: &str, id: &str) -> String {
    format!("{}-{id}.scope", word(marker))
}

/// `systemctl args…`, which must succeed.
pub fn systemctl(args: &[&str]) -> String {
    succeed(Command::new("systemctl").args(args))
}

/// Runs it until it succeeds: while systemd executes itself again, in another test, it answers nobody.
fn succeed(command: &mut Command) -> String {
    wait_until("systemctl", || {
        let out = command.output().unwrap();
        if out.status.success() {
            return Ok(String::from_utf8(out.stdout).unwrap());
        }
        Err(format!("{command:?}: {out:?}"))
    })
}

/// Has systemd execute itself again, as an update of its package does.
pub fn execute_systemd_again() {
    let _alone = present();
    systemctl(&["daemon-reexec"]);
    systemctl(&["show", "--property", "Version"]);
}

/// As long as this is held, systemd does not execute itself again: for what cannot wait for it.
pub fn present() -> MutexGuard<'static, ()> {
    static PRESENT: Mutex<()> = Mutex::new(());
    PRESENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `systemctl --user args…` of the user of the tests, which must succeed.
pub fn systemctl_of_user(args: &[&str]) -> String {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), "--clear-groups"])
        .args(["systemctl", "--user"])
        .args(args)
        .env("XDG_RUNTIME_DIR", runtime_dir_of_user());
    succeed(&mut command)
}

/// Where logind has the sockets of the user of the tests.
pub fn runtime_dir_of_user() -> PathBuf {
    Path::new("/run/user").join(UID.to_string())
}

/// Starts the systemd of the user of the tests, if the host has both; it stays. Whether it runs.
pub fn start_manager_of_user() -> bool {
    let start = || {
        let unit = format!("user@{UID}.service");
        let is_known = fs::read_to_string("/etc/passwd").is_ok_and(|text| {
            text.lines().any(|line| line.split(':').nth(2) == Some(&*UID.to_string()))
        });
        if has_systemd() && is_known {
            systemctl(&["start", &unit]);
        }
        has_systemd() && is_known
    };
    static RUNS: OnceLock<bool> = OnceLock::new();
    *RUNS.get_or_init(start)
}

/// The scopes of a test that systemd still knows, in whatever state.
pub fn scopes(marker: &str) -> Vec<String> {
    if !has_systemd() {
        return Vec::new();
    }
    let pattern = format!("{}-*.scope", word(marker));
    let list = systemctl(&["list-units", "--all", "--plain", "--no-legend", &pattern]);
    list.lines().map(str::to_owned).collect()
}

/// Takes the slice of a test away, and whatever is in it.
pub fn stop_slice(marker: &str) {
    let slice = slice(marker);
    if has_systemd() && cgroup::hierarchies().iter().any(|root| root.join(&slice).exists()) {
        systemctl(&["stop", &slice]);
    }
}
