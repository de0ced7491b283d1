//! The layout, its updates, and what a container may have left in it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

/// A directory on the host that is removed with the test, and a volume in it.
struct Host(PathBuf);

impl Host {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("carob-atomic-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(path.join("volume")).unwrap();
        std::fs::write(path.join("secret"), "of the host").unwrap();
        Self(path)
    }

    fn volume(&self) -> PathBuf {
        self.0.join("volume")
    }

    fn write(&self, payload: &Payload) -> Written {
        super::write(&dir::open(&self.volume()).unwrap(), payload, None).unwrap()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.volume().join(path)).unwrap()
    }

    fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.volume())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn is_whole(&self) -> bool {
        std::fs::read_to_string(self.0.join("secret")).unwrap() == "of the host"
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |text: &str| File { data: text.into(), mode: 0o644 };
    files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
}

#[test]
fn paths_that_leave_the_volume_are_refused() {
    let long = "a".repeat(256);
    let deep = "a/".repeat(2100);
    let cases = [
        ("a", true),
        ("a/b.c/d", true),
        ("a..b", true),
        ("a/..b", true),
        ("", false),
        ("/a", false),
        ("..", false),
        ("..a", false),
        ("..data", false),
        ("a/../b", false),
        ("a/..", false),
        ("./a", false),
        ("a//b", false),
        ("a/", false),
        ("a\0b", false),
        (&long, false),
        (&deep, false),
    ];
    for (path, is_good) in cases {
        assert_eq!(check_path(path).is_ok(), is_good, "{path:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_appear_in_the_layout_of_the_kubelet() {
    let host = Host::new();
    assert_eq!(host.write(&payload(&[("a", "1"), ("d/e/f", "2")])), Written::Replaced);

    let entries = host.entries();
    assert_eq!(entries.len(), 4, "{entries:?}");
    let stamp = &entries[0];
    let digits = stamp.trim_matches('.').split(['_', '.']).collect::<Vec<_>>();
    assert_eq!(digits.len(), 7, "{stamp}");
    assert!(digits.iter().all(|part| part.parse::<u64>().is_ok()), "{stamp}");
    assert_eq!(entries[1..], ["..data", "a", "d"]);
    let link = |name: &str| std::fs::read_link(host.volume().join(name)).unwrap();
    assert_eq!(link("..data"), Path::new(stamp));
    assert_eq!(link("a"), Path::new("..data/a"));
    assert_eq!(link("d"), Path::new("..data/d"));
    assert_eq!((host.read("a"), host.read("d/e/f")), ("1".into(), "2".into()));
    let mode = |path: &str| host.volume().join(path).metadata().unwrap().permissions().mode();
    assert_eq!(mode("..data/"), 0o40755);
    assert_eq!(mode("a"), 0o100_644);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn unchanged_content_is_not_written_again() {
    let host = Host::new();
    let first = payload(&[("a", "1"), ("d/e", "2")]);
    host.write(&first);
    let before = (host.entries(), host.volume().metadata().unwrap().mtime_nsec());
    assert_eq!(host.write(&first), Written::Unchanged);
    assert_eq!((host.entries(), host.volume().metadata().unwrap().mtime_nsec()), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn an_update_replaces_adds_and_removes() {
    let host = Host::new();
    host.write(&payload(&[("a", "1"), ("d/e", "2"), ("gone", "3")]));
    assert_eq!(
        host.write(&payload(&[("a", "one"), ("d/e", "2"), ("x/y", "4")])),
        Written::Replaced
    );
    assert_eq!(host.entries()[1..], ["..data", "a", "d", "x"]);
    assert_eq!((host.read("a"), host.read("x/y")), ("one".into(), "4".into()));
    // A file becomes a directory.
    host.write(&payload(&[("a/b", "5")]));
    assert_eq!(host.entries()[1..], ["..data", "a"]);
    assert_eq!(host.read("a/b"), "5");
    host.write(&Payload::new());
    assert_eq!(host.entries().len(), 2, "an empty volume");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_mode_and_a_group_are_part_of_the_content() {
    let host = Host::new();
    let mut files = payload(&[("d/a", "1")]);
    files.get_mut("d/a").unwrap().mode = 0o400;
    let volume = dir::open(&host.volume()).unwrap();
    let write = |group| super::write(&volume, &files, group).unwrap();
    assert_eq!(write(None), Written::Replaced);
    assert_eq!(write(Some(1234)), Written::Replaced);
    assert_eq!(write(Some(1234)), Written::Unchanged);
    let stat = |path: &str| host.volume().join(path).metadata().unwrap();
    assert_eq!((stat("d/a").mode(), stat("d/a").gid()), (0o100_440, 1234));
    assert_eq!((stat("d/").mode(), stat("d/").gid()), (0o42755, 1234));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_a_crash_has_left_is_finished_and_cleaned() {
    let host = Host::new();
    let files = payload(&[("a", "1"), ("b", "2")]);
    host.write(&files);
    std::fs::remove_file(host.volume().join("a")).unwrap();
    std::fs::create_dir(host.volume().join("..2020_01_01_00_00_00.1")).unwrap();
    symlink("..nowhere", host.volume().join("..data_tmp")).unwrap();
    assert_eq!(host.write(&files), Written::Unchanged);
    assert_eq!(host.entries()[1..], ["..data", "a", "b"]);
}

type Plant = fn(&Host);

/// What a container may leave.
const PLANTS: &[(&str, Plant)] = &[
    ("a user's link", |host| {
        std::fs::remove_file(host.volume().join("key")).unwrap();
        symlink(host.0.join("secret"), host.volume().join("key")).unwrap();
    }),
    ("..data leads out", |host| {
        std::fs::remove_file(host.volume().join("..data")).unwrap();
        symlink(&host.0, host.volume().join("..data")).unwrap();
    }),
    ("..data leads up", |host| {
        std::fs::remove_file(host.volume().join("..data")).unwrap();
        symlink("..", host.volume().join("..data")).unwrap();
    }),
    ("..data is a directory", |host| {
        std::fs::remove_file(host.volume().join("..data")).unwrap();
        std::fs::create_dir_all(host.volume().join("..data/key")).unwrap();
    }),
    ("..data_tmp is a directory", |host| {
        std::fs::create_dir_all(host.volume().join("..data_tmp/x")).unwrap();
    }),
    ("the file itself is a link", |host| {
        std::fs::remove_file(host.volume().join("..data/key")).unwrap();
        symlink(host.0.join("secret"), host.volume().join("..data/key")).unwrap();
    }),
    ("the file is a pipe", |host| {
        let path = host.volume().join("..data/key");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
    }),
    ("the directory is a link out", |host| {
        let old = host.volume().join(&host.entries()[0]);
        std::fs::remove_dir_all(&old).unwrap();
        symlink(&host.0, &old).unwrap();
    }),
    ("a stale directory is a link out", |host| {
        symlink(&host.0, host.volume().join("..2020_01_01_00_00_00.1")).unwrap();
    }),
    ("a directory holds links out", |host| {
        let stale = host.volume().join("left/deep");
        std::fs::create_dir_all(&stale).unwrap();
        symlink(&host.0, stale.join("out")).unwrap();
    }),
    ("content was changed", |host| {
        std::fs::write(host.volume().join("key"), "forged").unwrap();
    }),
];

#[test]
#[ignore = "needs root: run scripts/test"]
fn links_that_a_container_left_lead_nowhere() {
    for (what, plant) in PLANTS {
        let host = Host::new();
        let files = payload(&[("key", "mine")]);
        host.write(&files);
        plant(&host);
        host.write(&files);
        assert_eq!(host.read("key"), "mine", "{what}");
        let key = host.volume().join("key").metadata().unwrap();
        assert!(key.is_file() && key.len() == 4, "{what}");
        assert_eq!(host.entries()[1..], ["..data", "key"], "{what}");
        assert!(host.is_whole(), "{what}");
        host.write(&payload(&[("key", "newer")]));
        assert_eq!(host.read("key"), "newer", "{what}");
        assert!(host.is_whole(), "{what}");
    }
}

/// A container with a writable view exchanges names while the volume is updated.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_racing_container_redirects_no_write() {
    let host = Host::new();
    let (volume, outside) = (host.volume(), host.0.clone());
    let running = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in std::fs::read_dir(&volume).unwrap().flatten() {
                    let path = entry.path();
                    let sub = path.join("d");
                    for target in [&sub, &path] {
                        if std::fs::rename(target, outside.join("moved")).is_ok() {
                            let _lost = symlink(&outside, target);
                            let _gone = std::fs::remove_dir_all(outside.join("moved"));
                            let _gone = std::fs::remove_file(outside.join("moved"));
                        }
                    }
                }
            }
        });
        let start = Instant::now();
        let fd = dir::open(&volume).unwrap();
        let mut count = 0;
        while start.elapsed() < Duration::from_millis(1500) {
            count += 1;
            // It may fail; it must not write elsewhere.
            let _raced = super::write(&fd, &payload(&[("d/secret", &count.to_string())]), None);
        }
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(count > 10);
    });
    assert!(host.is_whole());
    // Where the enemy put things aside, out of its own volume.
    let _gone = std::fs::remove_dir_all(host.0.join("moved"));
    let mut left: Vec<_> =
        std::fs::read_dir(&host.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["secret", "volume"]);
}

/// No room: all is as before, and nothing half-written is left.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_full_disk_changes_nothing() {
    let host = Host::new();
    let fs = crate::sys::mount::NewFileSystem {
        kind: "tmpfs",
        source: None,
        options: &["size=64k".to_owned()],
        attributes: 0,
    };
    let tmpfs = crate::sys::mount::create(&fs).unwrap();
    crate::sys::mount::attach_at(&tmpfs, dir::open(&host.0).unwrap(), "volume").unwrap();
    host.write(&payload(&[("a", "1"), ("b", "2")]));
    let before = host.entries();
    let big = payload(&[("a", "new"), ("z", &"x".repeat(1 << 20))]);
    let error = super::write(&dir::open(&host.volume()).unwrap(), &big, None).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC), "{error}");
    assert_eq!(host.entries(), before);
    assert_eq!((host.read("a"), host.read("b")), ("1".into(), "2".into()));
    drop(tmpfs);
    nix::mount::umount(&host.volume()).unwrap();
}

/// A file where another path needs a directory.
#[test]
#[ignore = "needs root: run scripts/test"]
fn paths_that_exclude_each_other_change_nothing() {
    let host = Host::new();
    host.write(&payload(&[("a", "1")]));
    let before = host.entries();
    let both = payload(&[("a", "1"), ("a/b", "2")]);
    assert!(super::write(&dir::open(&host.volume()).unwrap(), &both, None).is_err());
    assert_eq!(host.entries(), before);
}

proptest::proptest! {
    #[test]
    fn a_path_that_is_accepted_stays_inside(path in "[a.]{0,3}(/[a.]{0,3}){0,3}") {
        if check_path(&path).is_ok() {
            let parts: Vec<_> = Path::new(&path).components().collect();
            let is_plain =
                parts.iter().all(|part| matches!(part, std::path::Component::Normal(_)));
            proptest::prop_assert!(is_plain && !parts.is_empty(), "{}", path);
            proptest::prop_assert!(!path.starts_with("..") && !path.contains("//"));
        }
    }

    #[test]
    #[ignore = "needs root: run scripts/test"]
    fn a_volume_holds_what_was_written_last(
        history in proptest::collection::vec(
            proptest::collection::btree_map("[ab](/[cd]){0,2}", "[xy]{0,3}", 0..5),
            1..5,
        ),
    ) {
        let host = Host::new();
        let volume = dir::open(&host.volume()).unwrap();
        let mut expected: std::collections::BTreeMap<String, String> = Default::default();
        for files in history {
            let pairs: Vec<_> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            if super::write(&volume, &payload(&pairs), None).is_ok() {
                expected = files;
            }
            for (path, text) in &expected {
                proptest::prop_assert_eq!(&host.read(path), text);
            }
            let tops: BTreeSet<&str> =
                expected.keys().map(|path| path.split('/').next().unwrap()).collect();
            let links = host.entries().into_iter().filter(|name| !name.starts_with(".."));
            proptest::prop_assert_eq!(
                links.collect::<Vec<_>>(),
                tops.into_iter().map(str::to_owned).collect::<Vec<_>>()
            );
        }
    }
}
