use serde_json::{Value, json};

use super::*;
use crate::pod::member::tests::Fixture;

fn member<'a>(fixture: &'a Fixture, image: &'a Image) -> Member<'a> {
    Member {
        container: fixture.app(),
        image,
        env: &[],
        mounts: Vec::new(),
        devices: Vec::new(),
        restart_count: 3,
    }
}

/// The specification of the app of a pod, checked as a bundle's would be.
fn made(fixture: &Fixture, member: Member<'_>) -> Spec {
    let spec = spec(&fixture.place(), member).unwrap();
    checked(&spec);
    spec
}

pub(crate) fn checked(spec: &Spec) {
    let text = serde_json::to_vec(spec).unwrap();
    let loaded = crate::oci::load::parse_spec(text).unwrap();
    assert_eq!(&loaded.spec, spec);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let warnings = crate::oci::validate::validate(spec).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

fn simple(spec: Value) -> (Fixture, Image) {
    let mut image = Image::example("7:7");
    image.root = super::super::Root::Directory(std::env::temp_dir());
    (Fixture::new(spec), image)
}

fn namespaces_of(spec: &Spec) -> Vec<String> {
    let all = spec.linux().as_ref().unwrap().namespaces().iter().flatten();
    all.map(|one| match one.path() {
        Some(path) => format!("{}", path.display()),
        None => namespaces::of(one.typ()).word.to_owned(),
    })
    .collect()
}

#[test]
fn a_plain_container() {
    let (fixture, image) = simple(json!({"containers": [{"name": "c"}]}));
    let spec = made(&fixture, member(&fixture, &image));
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["/entry", "default"]);
    assert_eq!(process.env().as_ref().unwrap(), &["HOSTNAME=p", "PATH=/bin", "LANG=C"]);
    assert_eq!(process.cwd(), Path::new("/"));
    assert_eq!(process.user().uid(), 7);
    assert_eq!(process.no_new_privileges(), Some(false));
    assert_eq!(process.terminal(), Some(false));
    assert_eq!(process.oom_score_adj(), Some(1000));
    assert!(process.rlimits().is_none());
    assert!(spec.hostname().is_none());
    let root = spec.root().as_ref().unwrap();
    assert_eq!((root.path().as_path(), root.readonly()), (Path::new("rootfs"), Some(false)));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/carob/podu1/c_3")));
    assert!(linux.seccomp().is_none() && linux.devices().is_none());
    let destinations: Vec<_> = spec.mounts().iter().flatten().map(Mount::destination).collect();
    let expected = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    assert_eq!(destinations, expected.map(Path::new).iter().collect::<Vec<_>>());
    let annotations = spec.annotations().as_ref().unwrap();
    assert_eq!(annotations["io.kubernetes.pod.uid"], "u1");
    assert_eq!(annotations["io.kubernetes.container.restartCount"], "3");
    assert!(!annotations.contains_key("a.b/c"));
}

#[test]
fn no_annotation_of_the_manifest_gets_through() {
    let (mut fixture, image) = simple(json!({"containers": [{"name": "c"}]}));
    let evil = [("org.systemd.property.ExecStart", "x"), ("run.oci.handler", "krun")];
    let evil = evil.map(|(name, value)| (name.to_owned(), value.to_owned()));
    fixture.manifest.pod.metadata.annotations = Some(evil.into_iter().collect());
    let spec = made(&fixture, member(&fixture, &image));
    let allowed = ["io.kubernetes.", "carob."];
    for name in spec.annotations().iter().flatten().map(|(name, _)| name) {
        assert!(allowed.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

#[test]
fn namespaces() {
    let pause = |names: &[&str]| -> Vec<String> {
        names
            .iter()
            .map(|name| match name.strip_prefix('*') {
                Some(name) => format!("/proc/4242/ns/{name}"),
                None => (*name).to_owned(),
            })
            .collect()
    };
    for (spec, expected) in [
        (json!({}), vec!["mount", "*ipc", "*net", "*uts", "pid"]),
        (json!({"shareProcessNamespace": true}), vec!["mount", "*ipc", "*net", "*uts", "*pid"]),
        (json!({"hostPID": true}), vec!["mount", "*ipc", "*net", "*uts"]),
        (json!({"hostIPC": true}), vec!["mount", "*net", "*uts", "pid"]),
        (json!({"hostNetwork": true}), vec!["mount", "*ipc", "pid"]),
        (json!({"hostNetwork": true, "hostPID": true, "hostIPC": true}), vec!["mount"]),
    ] {
        let mut with = spec.clone();
        with["containers"] = json!([{"name": "c"}]);
        let (mut fixture, image) = simple(with);
        let found = namespaces_of(&made(&fixture, member(&fixture, &image)));
        assert_eq!(found, pause(&expected), "{spec}");
        fixture.node = Node::example_v2();
        let found = namespaces_of(&made(&fixture, member(&fixture, &image)));
        assert_eq!(found.last().unwrap(), "cgroup", "{spec}");
    }

    let (mut fixture, image) = simple(json!({"hostUsers": false, "containers": [{"name": "c"}]}));
    fixture.sandbox.user_namespace_base = Some(131_072);
    let spec = made(&fixture, member(&fixture, &image));
    let expected = ["mount", "*user", "*ipc", "*net", "*uts", "pid"];
    assert_eq!(namespaces_of(&spec), pause(&expected));
    let maps = spec.linux().as_ref().unwrap().uid_mappings().clone().unwrap();
    let map = (maps[0].container_id(), maps[0].host_id(), maps[0].size());
    assert_eq!(map, (0, 131_072, 65_536));
}

#[test]
fn privileged() {
    let (mut fixture, image) = simple(json!({"containers": [{
        "name": "c", "securityContext": {"privileged": true}}]}));
    fixture.node = Node::example_v2();
    fixture.node.capabilities = Node::read().unwrap().capabilities;
    let spec = made(&fixture, member(&fixture, &image));
    assert!(!namespaces_of(&spec).contains(&"cgroup".to_owned()));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert_eq!(linux.readonly_paths().as_deref(), Some(&[][..]));
    assert!(!linux.devices().as_ref().unwrap().is_empty());
    let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
    assert!(rules.len() == 1 && rules[0].allow());
    for mount in spec.mounts().iter().flatten() {
        let options = mount.options().clone().unwrap_or_default();
        assert!(!options.contains(&"ro".to_owned()), "{}", mount.destination().display());
    }
}

#[test]
fn what_a_container_asks_for() {
    let (fixture, image) = simple(json!({
        "hostname": "box", "containers": [{
        "name": "c", "tty": true, "workingDir": "/srv", "command": ["sh", "-c", "$(X)"],
        "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                            "seccompProfile": {"type": "RuntimeDefault"},
                            "capabilities": {"drop": ["ALL"]}}}]}));
    let env = [("X".to_owned(), "1".to_owned()), ("LANG".to_owned(), "de".to_owned())];
    let mut node = LinuxDevice::default();
    node.set_path("/dev/xvda".into())
        .set_typ(oci_spec::runtime::LinuxDeviceType::B)
        .set_major(8)
        .set_minor(0);
    let device = Device { node, access: "r" };
    let with = Member { env: &env, devices: vec![device], ..member(&fixture, &image) };
    let spec = made(&fixture, with);
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["sh", "-c", "1"]);
    let expected = ["HOSTNAME=box", "TERM=xterm", "PATH=/bin", "LANG=de", "X=1"];
    assert_eq!(process.env().as_ref().unwrap(), &expected);
    assert_eq!(process.cwd(), Path::new("/srv"));
    assert_eq!(process.terminal(), Some(true));
    assert_eq!(process.no_new_privileges(), Some(true));
    assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_some());
    let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
    assert_eq!((rules.len(), rules[0].allow()), (2, false));
    assert_eq!(rules[1].access().as_deref(), Some("r"));
}

#[test]
fn a_path_is_added_where_there_is_none() {
    let (fixture, mut image) = simple(json!({"hostNetwork": true, "containers": [{"name": "c"}]}));
    image.env = vec!["no equals sign".to_owned()];
    image.working_dir = "relative".to_owned();
    let spec = made(&fixture, member(&fixture, &image));
    let process = spec.process().as_ref().unwrap();
    let expected = ["HOSTNAME=node1".to_owned(), format!("PATH={PATH}")];
    assert_eq!(process.env().as_ref().unwrap(), &expected);
    assert_eq!(process.cwd(), Path::new("/relative"));
}

#[test]
fn mounts_are_in_order_and_replace_the_default_ones() {
    let (fixture, image) = simple(json!({"containers": [{"name": "c"}]}));
    let bind = |path: &str| mount(path, "bind", "/tmp", &["rbind"]);
    for (given, expected) in [
        (
            vec!["/a/b/c", "/z", "/a/b", "/dev/shm"],
            vec![
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/mqueue",
                "/sys",
                "/sys/fs/cgroup",
                "/z",
                "/a/b",
                "/dev/shm",
                "/a/b/c",
            ],
        ),
        (vec!["/dev"], vec!["/proc", "/sys", "/sys/fs/cgroup", "/dev"]),
        (
            vec!["/sys/fs/cgroup"],
            vec!["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"],
        ),
    ] {
        let mounts = given.iter().map(|path| bind(path)).collect();
        let spec = spec(&fixture.place(), Member { mounts, ..member(&fixture, &image) }).unwrap();
        let found: Vec<_> = spec.mounts().iter().flatten().map(Mount::destination).collect();
        let expected: Vec<_> = expected.iter().map(Path::new).collect();
        assert_eq!(found, expected, "{given:?}");
    }
}

#[test]
fn propagation_follows_the_mounts() {
    let with = |options: &[&str]| mount("/a", "bind", "/b", options);
    for (mounts, expected) in [
        (vec![], None),
        (vec![with(&["rbind", "rprivate"])], None),
        (vec![with(&["rbind", "rslave"])], Some("rslave")),
        (vec![with(&["rbind", "rslave"]), with(&["rbind", "rshared"])], Some("rshared")),
    ] {
        assert_eq!(propagation(&mounts).as_deref(), expected);
    }
}

#[test]
fn refusals() {
    for (container, reason) in [
        (json!({"command": ["a\0b"]}), "CreateContainerConfigError"),
        (
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            "CreateContainerConfigError",
        ),
        (json!({"securityContext": {"capabilities": {"add": ["NOPE"]}}}), "CreateContainerError"),
    ] {
        let mut named = container.clone();
        named["name"] = "c".into();
        let (fixture, image) = simple(json!({"containers": [named]}));
        let error = spec(&fixture.place(), member(&fixture, &image)).unwrap_err();
        assert_eq!(error.reason, reason, "{container}: {}", error.message);
    }
}

#[test]
fn stop_signals() {
    for (own, of_image, expected) in [
        (None, None, 15),
        (None, Some("SIGQUIT"), 3),
        (None, Some("9"), 9),
        (Some("SIGUSR1"), Some("SIGQUIT"), 10),
        (Some("SIGNOPE"), Some("SIGQUIT"), 3),
        (None, Some(""), 15),
        (None, Some("0"), 15),
        (None, Some("RTMIN+3"), 37),
    ] {
        let container = json!({"name": "c", "lifecycle": {"stopSignal": own}});
        let container: Container = serde_json::from_value(container).unwrap();
        let mut image = Image::example("");
        image.stop_signal = of_image.map(str::to_owned);
        assert_eq!(stop_signal(&container, &image).number(), expected, "{own:?} {of_image:?}");
    }
}
