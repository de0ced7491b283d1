//! hostPath: a path of the host, which its type says what to expect of.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use crate::error::{Error, OsContext, Result};

/// What a type promises.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Whether what is found is it. Links are followed.
    is: fn(&std::fs::FileType) -> bool,
    /// The kubelet's words for what is not.
    called: &'static str,
    create: Option<fn(&Path) -> std::io::Result<()>>,
}

const KINDS: &[Kind] = {
    const fn kind(
        name: &'static str,
        is: fn(&std::fs::FileType) -> bool,
        called: &'static str,
        create: Option<fn(&Path) -> std::io::Result<()>>,
    ) -> Kind {
        Kind { name, is, called, create }
    }
    &[
        kind("Directory", std::fs::FileType::is_dir, "a directory", None),
        kind("DirectoryOrCreate", std::fs::FileType::is_dir, "a directory", Some(make_directory)),
        kind("File", std::fs::FileType::is_file, "a file", None),
        kind("FileOrCreate", std::fs::FileType::is_file, "a file", Some(make_file)),
        kind("Socket", FileTypeExt::is_socket, "a socket file", None),
        kind("CharDevice", FileTypeExt::is_char_device, "a character device", None),
        kind("BlockDevice", FileTypeExt::is_block_device, "a block device", None),
    ]
};

/// Checks a path against its type, and makes what is to be made.
pub(super) fn check(path: &Path, kind: &str) -> Result<()> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::Invalid(format!(
            "hostPath {path:?} must be an absolute path without '..'"
        )));
    }
    if kind.is_empty() {
        return make_missing(path);
    }
    let Some(kind) = KINDS.iter().find(|row| row.name == kind) else {
        return Err(Error::Invalid(format!("{kind} is an invalid volume type")));
    };
    let found = match (std::fs::metadata(path), kind.create) {
        (Err(error), Some(create)) if error.kind() == ErrorKind::NotFound => {
            create(path).os("create", || path.display())?;
            std::fs::metadata(path)
        }
        (found, _) => found,
    };
    if found.is_ok_and(|found| (kind.is)(&found.file_type())) {
        return Ok(());
    }
    let called = kind.called;
    Err(Error::Invalid(format!("hostPath type check failed: {} is not {called}", path.display())))
}

/// Without a type nothing is checked, and what is missing is a directory.
fn make_missing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_directory(path).os("create", || path.display())
        }
        _ => Ok(()),
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// The directory it is in is not made.
fn make_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let root = std::env::temp_dir().join(format!("carob-hostpath-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("f"), "").unwrap();
        std::os::unix::fs::symlink("d", root.join("l")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.join("s")).unwrap();
        let not = |path: &str, what: &str| {
            let path = root.join(path);
            format!("hostPath type check failed: {} is not {what}", path.display())
        };
        let good = String::new;
        let cases = [
            ("d", "Directory", good()),
            ("l", "Directory", good()),
            ("f", "Directory", not("f", "a directory")),
            ("x", "Directory", not("x", "a directory")),
            ("f", "File", good()),
            ("d", "File", not("d", "a file")),
            ("s", "File", not("s", "a file")),
            ("s", "Socket", good()),
            ("f", "Socket", not("f", "a socket file")),
            ("f", "CharDevice", not("f", "a character device")),
            ("f", "BlockDevice", not("f", "a block device")),
            ("new/deep", "DirectoryOrCreate", good()),
            ("new/deep", "Directory", good()),
            ("f", "DirectoryOrCreate", not("f", "a directory")),
            ("new/file", "FileOrCreate", good()),
            ("new/file", "File", good()),
            ("d", "FileOrCreate", not("d", "a file")),
            ("any/thing", "", good()),
            ("any/thing", "Directory", good()),
            ("f", "", good()),
            ("f", "Fifo", "Fifo is an invalid volume type".into()),
        ];
        for (path, kind, expected) in cases {
            let result = check(&root.join(path), kind);
            let text = result.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(text, expected, "{path} {kind}");
        }
        assert!(check(&root.join("no/file"), "FileOrCreate").is_err(), "its parent is not made");
        assert!(check(&root.join("d/../d"), "").is_err());
        assert!(check(Path::new("/dev/null"), "CharDevice").is_ok());
        drop(socket);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
