//! Security modules of the running kernel.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Whether AppArmor confines processes here.
#[must_use]
pub fn has_apparmor() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// Whether SELinux does.
#[must_use]
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether the policy of SELinux knows what a label names; also where it does not say.
#[must_use]
pub fn knows_selinux_label(label: &str) -> bool {
    let asked = OpenOptions::new()
        .write(true)
        .open("/sys/fs/selinux/context")
        .and_then(|mut file| file.write_all(label.as_bytes()));
    !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}
