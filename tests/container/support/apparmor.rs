//! Profiles of AppArmor, of the tests' own.

use super::skip;
use std::fs;
use std::path::Path;
use std::process::Command;

const FILES: &str = "/sys/kernel/security/apparmor";

/// Whether it confines processes here.
pub fn is_enabled() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.starts_with('Y')) && Path::new(FILES).exists()
}

/// Whether it does, and profiles can be loaded; else the running test is reported as skipped.
pub fn is_there() -> bool {
    if !is_enabled() {
        skip("AppArmor is not enabled here");
        return false;
    }
    let parses = Command::new("apparmor_parser").arg("--version").output().is_ok();
    if !parses {
        skip("apparmor_parser is not installed");
    }
    parses
}

/// A profile that is loaded for as long as this lives: it forbids to write `/tmp/NAME`, no more.
#[derive(Debug)]
pub struct Profile {
    pub name: String,
}

impl Profile {
    /// The profile's text is kept in `dir`; its name begins with `marker`.
    pub fn load(dir: &Path, marker: &str, forbidden: &str) -> Self {
        let name = format!("{marker}-{forbidden}");
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  capability,\n  \
             file,\n  mount,\n  network,\n  ptrace,\n  signal,\n  umount,\n  unix,\n  \
             deny /tmp/{forbidden} w,\n}}\n"
        );
        let file = dir.join(&name);
        fs::write(&file, text).unwrap();
        let out = Command::new("apparmor_parser").args(["-r", "-K"]).arg(&file).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Self { name }
    }

    /// As a process under it sees itself.
    pub fn seen(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        fs::write(format!("{FILES}/.remove"), &self.name).unwrap();
    }
}
