//! Parts of volumes that containers play with.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use super::super::testing::Host;
use super::*;

fn volume(host: &Host) -> OwnedFd {
    let path = host.root.join("v");
    std::fs::create_dir_all(&path).unwrap();
    dir::open(&path).unwrap()
}

fn host() -> Host {
    Host::new(r#"{"containers":[]}"#)
}

#[test]
fn an_expression_needs_all_its_variables() {
    let env = [("A", "1"), ("EMPTY", ""), ("DOTS", "..")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let cases = [
        ("logs/$(A)", Ok("logs/1")),
        ("$$(A)/x", Ok("$(A)/x")),
        ("$(A", Ok("$(A")),
        ("$(DOTS)/etc", Ok("../etc")),
        ("$(EMPTY)", Err("missing value for EMPTY")),
        ("$(B)/$(A)/$(EMPTY)/$(B)", Err("missing value for B, EMPTY")),
    ];
    for (expression, expected) in cases {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(expand(expression, &env), expected, "{expression}");
    }
    assert!(check("../etc").is_err() && check("a/../../b").is_err() && check("/etc").is_err());
    assert!(check("a/b..c").is_ok());
}

#[test]
fn what_is_missing_is_made_with_the_mode_of_the_volume() {
    let host = host();
    let fd = volume(&host);
    std::fs::set_permissions(host.root.join("v"), PermissionsExt::from_mode(0o777)).unwrap();
    find(&fd, "a/b/c").unwrap();
    let mode = |path: &str| host.root.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("v/a"), mode("v/a/b/c")), (0o777, 0o777));
    std::fs::write(host.root.join("v/file"), "x").unwrap();
    assert!(find(&fd, "file").is_ok());
    assert_eq!(find(&fd, "file/below").unwrap_err(), Errno::ENOTDIR);
}

#[test]
fn a_link_is_followed_only_inside() {
    let host = host();
    let fd = volume(&host);
    std::fs::create_dir_all(host.root.join("v/real/sub")).unwrap();
    let planted = [
        ("inside", "real"),
        ("real/back", "../real/sub"),
        ("out", "../secret"),
        ("up", ".."),
        ("deep", "real/../../secret"),
        ("root", "/"),
        ("etc", "/etc"),
        ("proc", "/proc/self/root"),
        ("loop", "loop"),
        ("dangling", "../new"),
        ("dangling-abs", "/tmp/carob-never-made"),
    ];
    for (name, target) in planted {
        symlink(target, host.root.join("v").join(name)).unwrap();
    }
    for path in ["inside", "inside/sub", "real/back", "inside/back", "inside/new", "./inside"] {
        assert!(find(&fd, path).is_ok(), "{path}");
    }
    let outside = [
        "out",
        "up",
        "up/secret",
        "up/new",
        "deep",
        "root",
        "root/tmp/x",
        "etc",
        "etc/passwd",
        "proc",
        "loop",
        "loop/x",
        "dangling",
        "dangling/x",
        "dangling-abs/x",
    ];
    for path in outside {
        assert!(find(&fd, path).is_err(), "{path}");
    }
    assert!(!host.root.join("new").exists() && !Path::new("/tmp/carob-never-made").exists());
    assert!(host.is_whole());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_part_is_pinned_and_found_again() {
    let host = host();
    let fd = volume(&host);
    std::fs::create_dir_all(host.root.join("v/a")).unwrap();
    std::fs::write(host.root.join("v/a/f"), "one").unwrap();
    let at = pin_path(&host.dirs.data, "v", "c", 0);
    let repin = |path: &str| {
        let part = find(&fd, path).unwrap();
        super::pin(&part, &at, Reach::Inward).unwrap();
    };
    repin("a");
    assert_eq!(std::fs::read_to_string(at.join("f")).unwrap(), "one");
    repin("a");
    assert_eq!(host.mounts().len(), 1, "not twice");
    // The container exchanges it: the next instance gets what is there then.
    std::fs::rename(host.root.join("v/a"), host.root.join("v/b")).unwrap();
    std::fs::write(host.root.join("v/a"), "a file now").unwrap();
    assert_eq!(std::fs::read_to_string(at.join("f")).unwrap(), "one", "still pinned");
    repin("a");
    assert_eq!(std::fs::read_to_string(&at).unwrap(), "a file now");
    assert_eq!(host.mounts().len(), 1);
    teardown::teardown(&host.dirs).unwrap();
    assert_eq!(host.mounts().len(), 0);
    assert_eq!(host.read("v/b/f"), "one", "the volume was not the pod's");
}

/// A container exchanges a directory for a link to the host's, without pause.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_flipper_gets_nothing_of_the_host_pinned() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let host = host();
    let fd = volume(&host);
    let root = host.root.join("v");
    std::fs::create_dir_all(root.join("a/part")).unwrap();
    std::fs::write(root.join("a/part/mark"), "mine").unwrap();
    std::fs::create_dir_all(host.root.join("victim/part")).unwrap();
    std::fs::write(host.root.join("victim/part/mark"), "of the host").unwrap();
    symlink(host.root.join("victim"), root.join("absolute")).unwrap();
    symlink("../victim", root.join("relative")).unwrap();
    let running = AtomicBool::new(true);
    let exchange = |one: &str, other: &str| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&fd, one, &fd, other, flags).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                exchange("a", "relative");
                exchange("a", "relative");
                exchange("a", "absolute");
                exchange("a", "absolute");
            }
        });
        let start = Instant::now();
        let (mut pinned, mut refused) = (0_u32, 0_u32);
        let at = pin_path(&host.dirs.data, "v", "c", 0);
        while start.elapsed() < Duration::from_secs(2) {
            match find(&fd, "a/part") {
                Ok(part) => {
                    super::pin(&part, &at, Reach::Inward).unwrap();
                    assert_eq!(std::fs::read_to_string(at.join("mark")).unwrap(), "mine");
                    pinned += 1;
                }
                Err(_) => refused += 1,
            }
            // What is missing is not made outside either.
            drop(find(&fd, "a/made/deep"));
            assert!(!host.root.join("victim/made").exists());
        }
        running.store(false, Ordering::Relaxed);
        assert!(pinned > 0 && refused > 0, "{pinned} pinned, {refused} refused");
    });
}
