//! The mounts of a container, and the files of `/etc` behind some of them.

use std::os::unix::fs::MetadataExt;

use super::super::testing::Host;
use super::super::{prepare, write_etc};
use super::*;

/// Destination, source below the pod's directories, options.
fn rows(host: &Host) -> std::result::Result<Vec<(String, String, String)>, String> {
    prepare(&host.place()).unwrap();
    let env = [("WHO".to_owned(), "me".to_owned())];
    let container = &host.manifest.pod.spec.as_ref().unwrap().containers[0];
    let mounts = mounts(&host.place(), container, &env, 3).map_err(|failure| failure.message)?;
    let row = |mount: &Mount| {
        let source = mount.source().clone().unwrap();
        let source = source.strip_prefix(&host.root).unwrap_or(&source).to_owned();
        let options = mount.options().clone().unwrap().join(",");
        (
            mount.destination().to_string_lossy().into_owned(),
            source.to_string_lossy().into_owned(),
            options,
        )
    };
    Ok(mounts.iter().map(row).collect())
}

fn pod(container: &str) -> Host {
    let mut host = Host::new(&format!(
        r#"{{"containers":[{{"name":"c",{container}}}],
            "hostAliases":[{{"ip":"10.1.1.1","hostnames":["far"]}}],
            "volumes":[{{"name":"d"}},{{"name":"conf","configMap":{{"name":"conf"}}}},
                {{"name":"h","hostPath":{{"path":"/usr"}}}}]}}"#
    ));
    host.config_map("conf", &[("a", "1")]);
    host
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_has_its_volumes_and_files_by_depth() {
    let host = pod(r#""volumeMounts":[
            {"name":"d","mountPath":"/a/b/c"},
            {"name":"conf","mountPath":"/conf"},
            {"name":"d","mountPath":"/ro","readOnly":true},
            {"name":"d","mountPath":"/rro","readOnly":true,"recursiveReadOnly":"Enabled"},
            {"name":"d","mountPath":"/sub","subPathExpr":"logs/$(WHO)"},
            {"name":"conf","mountPath":"/etc/a.conf","subPath":"a"}]"#);
    let expected = [
        ("/conf", "data/volumes/kubernetes.io~configmap/conf", "rbind,rprivate,ro"),
        ("/ro", "data/volumes/kubernetes.io~empty-dir/d", "rbind,rprivate,ro"),
        ("/rro", "data/volumes/kubernetes.io~empty-dir/d", "rbind,rprivate,rro"),
        ("/sub", "data/volume-subpaths/d/c/4", "rbind,rprivate,rw"),
        ("/etc/a.conf", "data/volume-subpaths/conf/c/5", "rbind,rprivate,ro"),
        ("/etc/hosts", "state/etc/hosts", "rbind,rprivate,rw"),
        ("/etc/hostname", "state/etc/hostname", "rbind,rprivate,rw"),
        ("/etc/resolv.conf", "state/etc/resolv.conf", "rbind,rprivate,rw"),
        ("/dev/shm", "state/shm", "rbind,rprivate,rw"),
        ("/dev/termination-log", "data/containers/c/00000003", "rbind,rprivate,rw"),
        ("/a/b/c", "data/volumes/kubernetes.io~empty-dir/d", "rbind,rprivate,rw"),
    ];
    let rows = rows(&host).unwrap();
    let rows: Vec<_> = rows.iter().map(|(d, s, o)| (d.as_str(), s.as_str(), o.as_str())).collect();
    assert_eq!(rows, expected);
    assert!(host.dirs.volume("empty-dir", "d").join("logs/me").is_dir());
    assert_eq!(host.read("data/volume-subpaths/conf/c/5"), "1");
    let log = host.root.join("data/containers/c/00000003").metadata().unwrap();
    assert_eq!((log.mode(), log.len()), (0o100_666, 0));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_volume_in_its_place_and_a_read_only_root() {
    let host =
        pod(r#""securityContext":{"readOnlyRootFilesystem":true},"terminationMessagePath":"",
           "volumeMounts":[{"name":"conf","mountPath":"/etc/hosts/","subPath":"a"},
                           {"name":"d","mountPath":"/dev/shm"}]"#);
    let rows = rows(&host).unwrap();
    let rows: Vec<_> = rows.iter().map(|(d, s, o)| (d.as_str(), s.as_str(), o.as_str())).collect();
    let expected = [
        ("/etc/hosts/", "data/volume-subpaths/conf/c/0", "rbind,rprivate,ro"),
        ("/dev/shm", "data/volumes/kubernetes.io~empty-dir/d", "rbind,rprivate,rw"),
        ("/etc/hostname", "state/etc/hostname", "rbind,rprivate,ro"),
        ("/etc/resolv.conf", "state/etc/resolv.conf", "rbind,rprivate,ro"),
    ];
    assert_eq!(rows, expected);
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_cannot_be_mounted_is_refused_in_the_words_of_the_kubelet() {
    let cases = [
        (
            r#"{"name":"x","mountPath":"/x"}"#,
            "cannot find volume \"x\" to mount into container \"c\"",
        ),
        (r#"{"name":"d","mountPath":"/x","subPathExpr":"$(NO)"}"#, "missing value for NO"),
        (
            r#"{"name":"d","mountPath":"/x","subPath":"/etc"}"#,
            "error SubPath `/etc` must not be an absolute path",
        ),
        (
            r#"{"name":"d","mountPath":"/x","subPath":"a/../../b"}"#,
            "unable to provision SubPath `a/../../b`: must not contain '..'",
        ),
        (
            r#"{"name":"d","mountPath":"/x","recursiveReadOnly":"Enabled"}"#,
            "volume \"d\" requested recursive read-only mode, but it is not read-only",
        ),
        (
            r#"{"name":"h","mountPath":"/x","readOnly":true,"recursiveReadOnly":"IfPossible",
                "mountPropagation":"HostToContainer"}"#,
            "",
        ),
        (
            r#"{"name":"d","mountPath":"/x","mountPropagation":"Bidirectional"}"#,
            "Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            r#"{"name":"d","mountPath":"/x","mountPropagation":"Some"}"#,
            "invalid mount propagation \"Some\"",
        ),
    ];
    for (mount, expected) in cases {
        let host = pod(&format!(r#""volumeMounts":[{mount}]"#));
        let message = rows(&host).unwrap_err();
        assert!(message == expected || expected.is_empty(), "{mount}: {message}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sub_path_that_leads_out_tells_nothing_of_the_host() {
    let host = pod(r#""volumeMounts":[{"name":"d","mountPath":"/x","subPath":"out"}]"#);
    prepare(&host.place()).unwrap();
    let out = host.dirs.volume("empty-dir", "d").join("out");
    std::os::unix::fs::symlink("/etc", &out).unwrap();
    assert_eq!(
        rows(&host).unwrap_err(),
        "failed to prepare subPath for volumeMount \"d\" of container \"c\""
    );
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn propagation_needs_a_mount_that_lets_through() {
    let host = pod(r#""securityContext":{"privileged":true},
           "volumeMounts":[{"name":"d","mountPath":"/x","mountPropagation":"Bidirectional"}]"#);
    prepare(&host.place()).unwrap();
    // Whatever this machine's root is: a mount of its own decides.
    let data = host.root.join("data");
    let private = Some("none");
    let flags = |word| nix::mount::MsFlags::MS_BIND | word;
    nix::mount::mount(Some(&data), &data, private, flags(nix::mount::MsFlags::empty()), private)
        .unwrap();
    let change = |word| nix::mount::mount(private, &data, private, word, private).unwrap();
    change(nix::mount::MsFlags::MS_PRIVATE);
    let message = rows(&host).unwrap_err();
    assert!(message.ends_with("but it is not a shared mount"), "{message}");
    change(nix::mount::MsFlags::MS_SHARED);
    assert_eq!(rows(&host).unwrap()[0].2, "rbind,rshared,rw");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn ids_are_mapped_for_a_pod_with_its_own_users() {
    let host = pod(r#""volumeMounts":[{"name":"d","mountPath":"/x"}]"#);
    prepare(&host.place()).unwrap();
    let mut place = host.place();
    place.user_namespace_base = Some(131_072);
    let container = &host.manifest.pod.spec.as_ref().unwrap().containers[0];
    let mounts = mounts(&place, container, &[], 0).unwrap();
    let ids = mounts[0].uid_mappings().as_ref().unwrap()[0];
    assert_eq!((ids.container_id(), ids.host_id(), ids.size()), (0, 131_072, 65_536));
    assert_eq!(mounts[0].gid_mappings(), mounts[0].uid_mappings());
    assert_eq!(host.root.join("state/etc/hosts").metadata().unwrap().uid(), 131_072);
    assert!(mounts[1..].iter().all(|mount| mount.uid_mappings().is_none()));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn files_of_etc_are_written_once_and_repaired() {
    let host = pod(r#""image":"x""#);
    write_etc(&host.place()).unwrap();
    let hosts = host.read("state/etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
    assert!(hosts.contains("\n10.0.0.7\tweb\n") && hosts.ends_with("\n10.1.1.1\tfar\n"), "{hosts}");
    assert_eq!(host.read("state/etc/hostname"), "web\n");
    assert_eq!(host.mounts(), [host.root.join("state/etc")]);
    let inode = || host.root.join("state/etc/hosts").metadata().unwrap().ino();
    let before = inode();
    write_etc(&host.place()).unwrap();
    assert_eq!(inode(), before);
    std::fs::write(host.root.join("state/etc/hosts"), "1.1.1.1 evil\n").unwrap();
    write_etc(&host.place()).unwrap();
    assert_eq!(host.read("state/etc/hosts"), hosts);
}

/// CVE-2020-8557: what a container writes to /etc/hosts is bounded, and stops nobody.
#[test]
#[ignore = "needs root: run scripts/test"]
fn a_container_that_fills_etc_hosts_gets_little_room() {
    use std::io::Write;
    let host = pod(r#""image":"x""#);
    write_etc(&host.place()).unwrap();
    let path = host.root.join("state/etc/hosts");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let written = std::iter::repeat_with(|| file.write(&[b'x'; 4096]))
        .take(10_000)
        .take_while(std::result::Result::is_ok)
        .count();
    assert!(written <= 64, "{written} pages");
    write_etc(&host.place()).unwrap();
    assert!(host.read("state/etc/hosts").ends_with("\n10.1.1.1\tfar\n"));
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn old_termination_messages_go_and_links_are_not_followed() {
    let host = pod(r#""image":"x""#);
    let place = host.place();
    for count in 0..4 {
        etc::make_termination_log(&place, "c", count).unwrap();
    }
    let dir = host.root.join("data/containers/c");
    std::fs::create_dir(dir.join("upper")).unwrap();
    let next = etc::termination_log(&host.dirs, "c", 4);
    std::os::unix::fs::symlink(host.root.join("secret"), &next).unwrap();
    etc::make_termination_log(&place, "c", 4).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["00000003", "00000004", "upper"]);
    assert!(next.symlink_metadata().unwrap().is_file() && host.is_whole());
}
