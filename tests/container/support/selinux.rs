//! SELinux with the small policy of `scripts/vm --lsm selinux`.

use super::skip;
use nix::unistd::Pid;
use std::fs;
use std::process::Command;

/// Whether that policy is loaded, whose types are nobody else's; else the running test is reported as
/// skipped.
pub fn is_there() -> bool {
    let known = |label: &str| fs::write("/sys/fs/selinux/context", label).is_ok();
    let there = known("system_u:system_r:barred_t:s0") && known("system_u:object_r:private_t:s0");
    if !there {
        skip("needs the SELinux policy of scripts/vm --lsm selinux");
    }
    there
}

/// A label without the NUL that the kernel leaves at its end, or the blank of busybox.
pub fn trimmed(text: &str) -> &str {
    text.trim_end_matches(['\0', '\n', ' '])
}

/// The label of what a process has at `path`.
pub fn label_of_file(pid: Pid, path: &str) -> String {
    let path = format!("/proc/{pid}/root{path}");
    let out = Command::new("stat").args(["-c", "%C"]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}
