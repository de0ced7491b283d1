//! Volumes on a real file system: made, made again, and removed.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::testing::Host;
use super::*;

const ALL: &str = r#"{
    "securityContext":{"fsGroup":4321},
    "containers":[{"name":"c"}],
    "volumes":[
        {"name":"disk","emptyDir":{"sizeLimit":"1Mi"}},
        {"name":"none"},
        {"name":"mem","emptyDir":{"medium":"Memory","sizeLimit":"64Ki"}},
        {"name":"conf","configMap":{"name":"conf"}},
        {"name":"keys","secret":{"secretName":"keys","defaultMode":256}},
        {"name":"all","projected":{"sources":[{"configMap":{"name":"conf"}},
            {"downwardAPI":{"items":[{"path":"me","fieldRef":{"fieldPath":"metadata.name"}}]}}]}}
    ]}"#;

fn host() -> Host {
    let mut host = Host::new(ALL);
    host.config_map("conf", &[("a", "1")]);
    host.secret("keys", &[("pass", "c2VjcmV0")]);
    host
}

fn state(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = path.as_ref().metadata().unwrap();
    (meta.mode() & 0o7777, meta.gid())
}

/// Inode numbers and times of all there is.
fn snapshot(root: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = path.symlink_metadata().unwrap();
        all.push((path.clone(), meta.ino(), meta.ctime_nsec()));
        if meta.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn all_kinds_are_made_and_nothing_is_done_twice() {
    let host = host();
    prepare(&host.place()).unwrap();
    let disk = host.dirs.volume("empty-dir", "disk");
    assert_eq!(state(&disk), (0o2777, 4321));
    assert_eq!(state(host.dirs.volume("empty-dir", "none")), (0o2777, 4321));
    let memory = host.dirs.state.join("memory");
    assert_eq!(state(memory.join("mem")), (0o2777, 4321));
    let size = nix::sys::statvfs::statvfs(&memory.join("mem")).unwrap();
    assert_eq!(size.blocks() * size.fragment_size(), 64 << 10);
    let conf = host.dirs.volume("configmap", "conf");
    assert_eq!(std::fs::read_to_string(conf.join("a")).unwrap(), "1");
    assert_eq!(state(memory.join("keys/pass")), (0o440, 4321));
    assert_eq!(std::fs::read_to_string(memory.join("all/me")).unwrap(), "web");
    assert_eq!(host.mounts().len(), 2, "{:?}", host.mounts());
    for secret in ["keys", "all"] {
        let kind = nix::sys::statfs::statfs(&memory.join(secret)).unwrap().filesystem_type();
        assert_eq!(kind, nix::sys::statfs::TMPFS_MAGIC, "{secret} reaches no disk");
    }

    std::fs::write(disk.join("work"), "of a container").unwrap();
    std::fs::write(memory.join("mem/work"), "of a container").unwrap();
    let before = (snapshot(&host.root), host.mounts());
    prepare(&host.place()).unwrap();
    assert_eq!((snapshot(&host.root), host.mounts()), before);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn changed_data_arrives_in_place() {
    let mut host = host();
    prepare(&host.place()).unwrap();
    let conf = dir::open(&host.dirs.volume("configmap", "conf")).unwrap();
    let read = || {
        let flags = nix::fcntl::OFlag::O_RDONLY;
        let file = nix::fcntl::openat(&conf, "a", flags, nix::sys::stat::Mode::empty()).unwrap();
        std::io::read_to_string(std::fs::File::from(file)).unwrap()
    };
    host.config_map("conf", &[("a", "2")]);
    prepare(&host.place()).unwrap();
    assert_eq!(read(), "2", "through a descriptor from before, as a mount is one");
    // One that is gone is an error, and the old data stays.
    host.manifest.objects.config_maps.clear();
    let error = prepare(&host.place()).unwrap_err();
    assert_eq!(error.reason, "FailedMount");
    assert_eq!(
        error.message,
        "MountVolume.SetUp failed for volume \"conf\" : configmap \"conf\" not found"
    );
    assert_eq!(read(), "2");
}

#[test]
fn what_cannot_be_resolved_is_a_failed_mount() {
    let host = Host::new(
        r#"{"containers":[],"volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"p"}}]}"#,
    );
    let error = prepare(&host.place()).unwrap_err();
    assert_eq!(error.reason, "FailedMount");
    assert_eq!(
        error.message,
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], \
         failed to process volumes=[v]: error processing PVC ns/p: failed to fetch PVC from API \
         server: persistentvolumeclaims \"p\" not found"
    );
}

/// A name in the way of a volume, as a container of a run before could leave it.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_volume_that_is_a_link_is_refused() {
    let host = host();
    let conf = host.dirs.volume("configmap", "conf");
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    symlink(&host.root, &conf).unwrap();
    assert!(prepare(&host.place()).is_err());
    assert!(host.is_whole() && !host.root.join("a").exists());
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_local_volume_is_given_to_the_group_once() {
    let mut host = Host::new(
        r#"{"securityContext":{"fsGroup":4321},"containers":[],
            "volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"p","readOnly":false}}]}"#,
    );
    std::fs::create_dir_all(host.root.join("local")).unwrap();
    std::fs::write(host.root.join("local/f"), "").unwrap();
    let path = host.root.join("local").to_string_lossy().into_owned();
    let volume = serde_json::json!({"metadata":{"name":"pv"},"spec":{"local":{"path":path}}});
    let claim = serde_json::json!({"metadata":{"name":"p"},"spec":{"volumeName":"pv"}});
    let objects = &mut host.manifest.objects;
    objects.volumes.insert("pv".into(), serde_json::from_value(volume).unwrap());
    objects.claims.insert("p".into(), serde_json::from_value(claim).unwrap());
    prepare(&host.place()).unwrap();
    assert_eq!(state(host.root.join("local")), (0o2775, 4321));
    assert_eq!(state(host.root.join("local/f")).1, 4321);
    std::os::unix::fs::chown(host.root.join("local/f"), None, Some(0)).unwrap();
    prepare(&host.place()).unwrap();
    assert_eq!(state(host.root.join("local/f")).1, 0);
    teardown(&host.dirs).unwrap();
    assert!(host.root.join("local/f").exists(), "it outlives the pod");
}

/// CVE-2017-1002102: what a container leaves in a volume leads the removal nowhere.
#[test]
#[ignore = "needs root: run scripts/test"]
fn teardown_removes_all_of_the_pod_and_nothing_else() {
    let host = host();
    prepare(&host.place()).unwrap();
    write_etc(&host.place()).unwrap();
    let disk = host.dirs.volume("empty-dir", "disk");
    symlink(&host.root, disk.join("out")).unwrap();
    symlink("../../../../secret", disk.join("file-out")).unwrap();
    let mut deep = dir::open(&disk).unwrap();
    for _ in 0..2000 {
        deep = dir::make_new(&deep, "d", 0o700).unwrap();
    }
    // A mount that came through Bidirectional, of a directory of the host.
    std::fs::create_dir_all(host.root.join("kept/sub")).unwrap();
    std::fs::create_dir(disk.join("mounted")).unwrap();
    let tree =
        crate::sys::mount::clone_tree(&host.root.join("kept"), crate::sys::mount::Subtree::Alone)
            .unwrap();
    let at = dir::open(&disk).unwrap();
    crate::sys::mount::attach_at(&tree, &at, "mounted").unwrap();
    drop((tree, at));
    assert_eq!(host.mounts().len(), 4);

    teardown(&host.dirs).unwrap();
    assert_eq!(host.mounts(), Vec::<PathBuf>::new());
    assert!(!host.dirs.data.exists());
    assert!(std::fs::read_dir(&host.dirs.state).unwrap().next().is_none());
    assert!(host.is_whole() && host.root.join("kept/sub").exists());
    teardown(&host.dirs).unwrap();
}

/// What is bound into the pod is a peer of the host's mount: detaching it detaches nothing there.
#[test]
#[ignore = "needs root: run scripts/test"]
fn teardown_leaves_the_peers_of_a_mount_alone() {
    use crate::sys::mount::{self, Attributes, Subtree};
    use std::os::fd::AsFd;
    let host = Host::new(r#"{"containers":[]}"#);
    let mount = |path: &Path| {
        std::fs::create_dir_all(path).unwrap();
        let tmpfs = empty_dir::tmpfs(0o755, None, Some(1 << 20)).unwrap();
        let shared = Attributes {
            propagation: nix::mount::MsFlags::MS_SHARED.bits(),
            ..Attributes::default()
        };
        mount::set_attributes(tmpfs.as_fd(), shared, Subtree::Alone).unwrap();
        let parent = dir::open(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        mount::attach_at(&tmpfs, &parent, name).unwrap();
    };
    mount(&host.root.join("outer"));
    mount(&host.root.join("outer/inner"));
    let tree = mount::clone_tree(&host.root.join("outer"), Subtree::Recursive).unwrap();
    let at = host.dirs.volume("empty-dir", "v");
    std::fs::create_dir_all(at.join("bound")).unwrap();
    mount::attach_at(&tree, dir::open(&at).unwrap(), "bound").unwrap();
    drop(tree);
    teardown(&host.dirs).unwrap();
    let left: Vec<_> = ["outer", "outer/inner"].iter().map(|path| host.root.join(path)).collect();
    assert_eq!(host.mounts(), left);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn limits_are_those_of_directories_on_disk() {
    let host = host();
    let limits = size_limits(&host.place());
    assert_eq!(limits.len(), 1);
    assert_eq!(limits[0].bytes, 1 << 20);
    assert_eq!(limits[0].path, host.dirs.volume("empty-dir", "disk"));
    assert_eq!(limits[0].message, "Usage of EmptyDir volume \"disk\" exceeds the limit \"1Mi\". ");
}
