use serde_json::{Value, json};

use super::*;
use crate::pod::member::tests::Fixture;

fn fixture(of_pod: Value, own: Value) -> Fixture {
    Fixture::new(json!({
        "securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}))
}

#[test]
fn capabilities_of_a_container() {
    let node = Node::example();
    let usual = DEFAULT_CAPABILITIES.iter().fold(0, |mask, cap| mask | cap.bitmask());
    // The mask that every container tool shows for it.
    assert_eq!(usual, 0xa804_25fb);
    let bit = |name: &str| capabilities::parse(name).unwrap().bitmask();
    let (admin, kill) = (bit("CAP_NET_ADMIN"), bit("CAP_KILL"));
    for (own, expected) in [
        (json!({}), usual),
        (json!({"capabilities": {}}), usual),
        (json!({"capabilities": {"add": ["NET_ADMIN"]}}), usual | admin),
        (json!({"capabilities": {"add": ["net_admin"]}}), usual | admin),
        (json!({"capabilities": {"drop": ["KILL"]}}), usual & !kill),
        (json!({"capabilities": {"drop": ["ALL"]}}), 0),
        (json!({"capabilities": {"drop": ["all"], "add": ["KILL"]}}), kill),
        (json!({"capabilities": {"add": ["ALL"]}}), node.capabilities),
        (json!({"capabilities": {"add": ["ALL"], "drop": ["KILL"]}}), node.capabilities & !kill),
        (json!({"capabilities": {"add": ["KILL", "ALL"], "drop": ["ALL"]}}), kill),
        (json!({"capabilities": {"add": ["KILL"], "drop": ["KILL"]}}), usual & !kill),
        (json!({"privileged": true}), node.capabilities),
        (json!({"privileged": true, "capabilities": {"drop": ["ALL"]}}), node.capabilities),
    ] {
        let fixture = fixture(json!({}), own.clone());
        assert_eq!(capability_mask(fixture.app(), &node).unwrap(), expected, "{own}");
    }
    for own in [
        json!({"capabilities": {"add": ["CAP_KILL"]}}),
        json!({"capabilities": {"drop": ["TELEPORT"]}}),
        json!({"capabilities": {"add": [""]}}),
    ] {
        let error = capability_mask(fixture(json!({}), own).app(), &node).unwrap_err();
        assert_eq!(error.reason, "CreateContainerError");
        assert!(error.message.starts_with("unknown capability"), "{}", error.message);
    }
}

#[test]
fn capability_sets_leave_nothing_to_inherit() {
    let sets = capability_sets(1 | 1 << 40);
    let names: Vec<_> = sets.bounding().iter().flatten().map(ToString::to_string).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(sets.bounding(), sets.effective());
    assert_eq!(sets.bounding(), sets.permitted());
    assert!(sets.inheritable().is_none() && sets.ambient().is_none());
    // None may get lost on the way.
    assert_eq!(capability_sets((1 << 41) - 1).bounding().iter().flatten().count(), 41);
}

#[test]
fn seccomp_profiles() {
    let root = std::env::temp_dir().join(format!("carob-seccomp-{}", std::process::id()));
    let dir = root.join("seccomp");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("good.json"), r#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
    std::fs::write(dir.join("sub/good.json"), r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#).unwrap();
    std::fs::write(dir.join("empty.json"), "").unwrap();
    std::fs::write(dir.join("object.json"), "{}").unwrap();
    std::fs::write(dir.join("list.json"), "[]").unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let profile = |kind: &str, name: &str| json!({"seccompProfile": {"type": kind, "localhostProfile": name}});
    let run = |of_pod: Value, own: Value| {
        let mut fixture = fixture(of_pod, own);
        fixture.dirs.data = root.join("pods/u1");
        seccomp(&fixture.manifest.pod, fixture.app(), &fixture.dirs, 0)
    };
    let (default, none) = (profile("RuntimeDefault", ""), json!({}));
    let mut privileged = default.clone();
    privileged["privileged"] = true.into();
    for (of_pod, own, expected) in [
        (&none, &none, None),
        (&profile("Unconfined", ""), &none, None),
        (&default, &none, Some("SCMP_ACT_ERRNO")),
        (&default, &profile("Unconfined", ""), None),
        (&profile("Unconfined", ""), &default, Some("SCMP_ACT_ERRNO")),
        (&none, &privileged, None),
        (&none, &profile("Localhost", "good.json"), Some("SCMP_ACT_LOG")),
        (&none, &profile("Localhost", "sub/good.json"), Some("SCMP_ACT_ERRNO")),
    ] {
        let found = run(of_pod.clone(), own.clone()).unwrap();
        let action = found.map(|profile| profile.default_action().to_string());
        assert_eq!(action.as_deref(), expected, "{of_pod} {own}");
    }
    for (name, reason) in [
        ("", "CreateContainerConfigError"),
        ("../good.json", "CreateContainerConfigError"),
        ("/etc/passwd", "CreateContainerConfigError"),
        ("missing.json", "CreateContainerError"),
        ("empty.json", "CreateContainerError"),
        ("object.json", "CreateContainerError"),
        ("list.json", "CreateContainerError"),
        ("fifo", "CreateContainerError"),
        ("sub", "CreateContainerError"),
    ] {
        let error = run(json!({}), profile("Localhost", name)).unwrap_err();
        assert_eq!(error.reason, reason, "{name}: {}", error.message);
    }
    assert!(run(json!({}), profile("Nonsense", "")).is_err());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn admission() {
    let (with, without) = (
        {
            let mut node = Node::example();
            (node.apparmor, node.selinux) = (true, true);
            node
        },
        Node::example(),
    );
    let apparmor = |kind: &str| json!({"appArmorProfile": {"type": kind, "localhostProfile": "x"}});
    let selinux = json!({"seLinuxOptions": {"level": "s0:c1,c2"}});
    let mut privileged = apparmor("RuntimeDefault");
    privileged["privileged"] = true.into();
    let none = json!({});
    for (node, of_pod, own, expected) in [
        (&without, &none, &none, None),
        (&without, &apparmor("Unconfined"), &none, None),
        (&without, &apparmor("Localhost"), &apparmor("Unconfined"), None),
        (&without, &apparmor("RuntimeDefault"), &none, Some("AppArmor")),
        (&without, &none, &apparmor("Localhost"), Some("AppArmor")),
        (&with, &none, &apparmor("Localhost"), None),
        (&with, &none, &apparmor("RuntimeDefault"), Some("AppArmor")),
        (&with, &none, &privileged, None),
        (&without, &selinux, &none, Some("SELinux")),
        (&without, &none, &selinux, Some("SELinux")),
        (&with, &selinux, &none, None),
        (&with, &none, &json!({"procMount": "Default"}), None),
        (&with, &none, &json!({"procMount": "Unmasked"}), Some("UnexpectedAdmissionError")),
        (
            &with,
            &json!({"sysctls": [{"name": "kernel.sem", "value": "1"}]}),
            &none,
            Some("SysctlForbidden"),
        ),
    ] {
        let fixture = fixture(of_pod.clone(), own.clone());
        let found = admit(&fixture.manifest.pod, node).err();
        let reason = found.as_ref().map(|error| error.reason.as_str());
        assert_eq!(reason, expected, "{of_pod} {own}: {found:?}");
    }
}

#[test]
fn labels() {
    let options = json!({"seLinuxOptions": {"type": "my_t", "level": "s0:c1,c2"}});
    let mut one = fixture(options, json!({}));
    let found = selinux(&one.manifest.pod, one.app()).unwrap();
    assert_eq!(found.process, "system_u:system_r:my_t:s0:c1,c2");
    assert_eq!(found.mount, "system_u:object_r:container_file_t:s0:c1,c2");
    one = fixture(json!({}), json!({}));
    assert_eq!(selinux(&one.manifest.pod, one.app()), None);
    let unknown = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "no one"}});
    one = fixture(unknown, json!({}));
    let error = apparmor(&one.manifest.pod, one.app()).unwrap_err();
    assert_eq!(error.message, "apparmor profile not found no one");
}

#[test]
fn hidden() {
    let mut node = Node::example();
    let of = |own: Value, node: &Node| hidden_paths(fixture(json!({}), own).app(), node);
    let (masked, read_only) = of(json!({}), &node);
    assert!(masked.contains(&"/proc/kcore".to_owned()));
    assert!(read_only.contains(&"/proc/sys".to_owned()));
    assert!(!masked.iter().any(|path| path.contains("thermal")));
    node.thermal_throttle = true;
    let (masked, _) = of(json!({"procMount": "Default"}), &node);
    assert_eq!(masked.iter().filter(|path| path.contains("thermal")).count(), 4);
    for own in [json!({"privileged": true}), json!({"procMount": "Unmasked"})] {
        assert_eq!(of(own, &node), (vec![], vec![]));
    }
}
