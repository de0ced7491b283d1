//! What comes from outside, as targets of a fuzzer: `scripts/fuzz`. Not for other users.
//!
//! A target panics if something is wrong. Inputs that once made one do so, and some to begin with,
//! are in `tests/fuzz/corpus/<target>/`; the test below replays them.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::Result;
use crate::init::sync::End;
use crate::oci::plan::{Plan, ProcessPlan};
use crate::oci::{load, mount_opts, sysctl, user, validate};
use crate::{cgroup, oci, pod, sys};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("config", config),
    ("process", process),
    ("resources", resources),
    ("mount_options", mount_options),
    ("proc", proc),
    ("handshake", handshake),
    ("user", user),
    ("manifest", manifest),
];

/// An error must say something.
fn told<T>(result: Result<T>) -> Option<T> {
    let told = result.map_err(|error| assert!(error.to_string().len() > 8, "{error:?}"));
    told.ok()
}

/// `config.json`: read, checked, planned.
pub fn config(data: &[u8]) {
    let Some(loaded) = told(load::parse_spec(data.to_vec())) else { return };
    let Some(warnings) = told(validate::validate(&loaded.spec)) else { return };
    warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
    let Some(plan) = told(Plan::new(&loaded.spec, Path::new("/bundle"))) else { return };
    assert!(!plan.process.args.is_empty());
    for mount in &plan.mounts {
        assert!(mount.destination.is_absolute(), "{mount:?}");
    }
    for (key, _value) in &plan.sysctls {
        assert!(!key.split('/').any(|part| part == ".."), "{key}");
    }
}

/// `exec --process`.
pub fn process(data: &[u8]) {
    let Some(loaded) = told(load::parse_process(data, "process file")) else { return };
    if told(validate::validate_process(&loaded.process)).is_some() {
        told(ProcessPlan::new(&loaded.process, &oci_spec::runtime::Spec::default()));
    }
}

/// `update --resources`.
pub fn resources(data: &[u8]) {
    if let Some(resources) = told(load::load_resources(data, "resources")) {
        told(validate::validate_resources(&resources));
    }
}

/// Words of `mounts[].options`, one a line; and a kernel parameter's name.
pub fn mount_options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    let options = mount_opts::parse(&words);
    let both = options.attributes() & options.attributes_cleared() & libc::MOUNT_ATTR_RDONLY;
    assert_eq!(both, 0, "read-only and not: {words:?}");
    if let Some(path) = sysctl::path(&text) {
        assert!(!path.split('/').any(|part| part == ".." || part.is_empty()), "{text:?}");
    }
}

/// Tables of `/proc`; names of programs and of mount points are anybody's choice.
pub fn proc(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(stat) = sys::process::Stat::parse(&text) {
        let _answers = (stat.is_alive(), stat.is_exiting(), stat.exit().map(|exit| exit.code()));
    }
    sys::path::parse_mount_table(&text);
    cgroup::parse_tables(&text);
}

/// A message from a hostile init, and one from a hostile parent.
pub fn handshake(data: &[u8]) {
    let said = |data: &[u8]| -> Option<End> {
        let (ours, theirs): (OwnedFd, OwnedFd) = sys::socket::message_pair().ok()?;
        // An empty one cannot be sent: it is the end of the talk.
        if !data.is_empty() {
            sys::socket::write(&ours, data).ok()?;
        }
        Some(End::from_socket(theirs))
    };
    if let Some(end) = said(data) {
        told(end.hear_child());
    }
    if let Some(end) = said(data) {
        told(end.hear_parent());
    }
    if let Some(end) = streamed(data) {
        told(end.hear_state());
    }
}

/// The far end of a fifo in which a hostile starter has written.
fn streamed(data: &[u8]) -> Option<End> {
    let (from, to) = nix::unistd::pipe().ok()?;
    // What a pipe holds without a reader, or this would wait.
    sys::socket::write(&to, data.get(..data.len().min(1 << 15))?).ok()?;
    let (_ours, theirs) = sys::socket::message_pair().ok()?;
    Some(End::from_fifos(from, theirs))
}

/// `exec --user`.
pub fn user(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(ids) = told(user::parse(&text)) else { return };
    let gid = ids.gid.map(|gid| format!(":{gid}")).unwrap_or_default();
    assert_eq!(oci::user::parse(&format!("{}{gid}", ids.uid)).ok(), Some(ids), "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'), "{text:?}");
}

/// A manifest of a pod.
pub fn manifest(data: &[u8]) {
    told(pod::manifest::load_text(String::from_utf8_lossy(data).into_owned()));
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::path::Path;

    #[test]
    fn known_inputs_break_no_target() {
        for (name, target) in TARGETS {
            let dir = Path::new("tests/fuzz/corpus").join(name);
            let mut count = 0;
            for entry in std::fs::read_dir(&dir).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "nothing in {}", dir.display());
            assert!(Path::new("tests/fuzz/targets").join(format!("{name}.rs")).exists(), "{name}");
        }
    }
}
