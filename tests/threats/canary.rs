//! A piece of the host that no container may change or read.

use crate::support::{Host, runtime};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the files of a canary hold, and what no output of a container may.
pub const SECRET: &str = "secret-of-the-host";

/// Parameters of the host's own namespaces, and such as everybody shares.
const PARAMETERS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/net/ipv4/ip_default_ttl",
];

/// A directory with files, a directory and a node in it, and all that was true of the host.
#[derive(Debug)]
pub struct Canary {
    dir: PathBuf,
    marker: String,
    before: String,
}

impl Canary {
    pub fn new(host: &Host) -> Self {
        let dir = host.dir().join("canary");
        fs::create_dir_all(dir.join("deep/deeper")).unwrap();
        for name in ["file", "deep/file", "passwd", "null", "console"] {
            fs::write(dir.join(name), SECRET).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let marker = host.marker().to_owned();
        let before = seen(&dir, &marker);
        Self { dir, marker, before }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where a link in a rootfs points that wants to leave it upwards.
    pub fn climb(&self) -> String {
        format!("../../../../../../../../../../..{}", self.dir.display())
    }

    /// Fails the test if anything of the host is not as it was.
    #[track_caller]
    pub fn is_untouched(&self, after: &dyn std::fmt::Debug) {
        let now = seen(&self.dir, &self.marker);
        assert!(now == self.before, "before:\n{}\nnow:\n{now}\nafter {after:?}", self.before);
    }
}

/// Files with modes, owners and contents; parameters; mounts; carob's own file.
fn seen(dir: &Path, marker: &str) -> String {
    let mut text = String::new();
    list(dir, &mut text);
    for path in PARAMETERS {
        let value = fs::read_to_string(path).unwrap_or_default();
        writeln!(text, "{path}: {}", value.trim()).unwrap();
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|row| row.contains(marker)).for_each(|row| {
        writeln!(text, "mount {row}").unwrap();
    });
    let binary = fs::metadata(runtime()).unwrap();
    writeln!(text, "{} bytes, written at {}", binary.len(), binary.mtime()).unwrap();
    text
}

fn list(path: &Path, text: &mut String) {
    let stat = fs::symlink_metadata(path).unwrap();
    let (mode, owner, kind) = (stat.mode(), (stat.uid(), stat.gid()), stat.file_type());
    let content = if kind.is_file() { fs::read_to_string(path).unwrap() } else { String::new() };
    writeln!(text, "{} {mode:o} {owner:?} {content:?}", path.display()).unwrap();
    if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| list(entry, text));
    }
}
