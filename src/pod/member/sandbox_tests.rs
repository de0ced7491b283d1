use serde_json::{Value, json};

use super::*;
use crate::pod::member::tests::Fixture;

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([]);
    let metadata = json!({"name": name, "namespace": "ns"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

#[test]
fn names() {
    let long = "a".repeat(62);
    let cut = format!("{}-.-{}", "b".repeat(61), "c");
    for (name, spec, host, domain, kernel) in [
        ("web", json!({}), "web", "", Some("web")),
        ("web", json!({"hostname": "box"}), "box", "", Some("box")),
        ("web", json!({"hostname": ""}), "web", "", Some("web")),
        (&*format!("{long}xyz"), json!({}), &*format!("{long}x"), "", Some(&*format!("{long}x"))),
        (&*cut, json!({}), &*"b".repeat(61), "", Some(&*"b".repeat(61))),
        ("web", json!({"subdomain": "sub"}), "web", "sub.ns.svc.cluster.local", Some("web")),
        (
            "web",
            json!({"subdomain": "sub", "setHostnameAsFQDN": true}),
            "web",
            "sub.ns.svc.cluster.local",
            Some("web.sub.ns.svc.cluster.local"),
        ),
        ("web", json!({"setHostnameAsFQDN": true}), "web", "", Some("web")),
        ("web", json!({"hostNetwork": true}), "web", "", None),
        (
            "web",
            json!({"hostnameOverride": "host.example", "subdomain": "sub", "hostname": "x"}),
            "host.example",
            "",
            Some("host.example"),
        ),
    ] {
        let expected = Hostname {
            host: host.into(),
            domain: domain.into(),
            kernel: kernel.map(str::to_owned),
        };
        assert_eq!(hostname(&pod(name, spec.clone())).unwrap(), expected, "{name} {spec}");
    }
    let spec = json!({"subdomain": "s".repeat(40), "setHostnameAsFQDN": true});
    let error = hostname(&pod("web", spec)).unwrap_err();
    assert_eq!(error.reason, "CreatePodSandboxError");
    let text = "is too long (64 characters is the max, 65 characters requested)";
    assert!(error.message.ends_with(text), "{}", error.message);
}

fn made(spec: Value, base: Option<u32>) -> Spec {
    let mut spec = spec;
    spec["containers"] = json!([]);
    let fixture = Fixture::new(spec);
    let Fixture { manifest, dirs, node, .. } = &fixture;
    let place = SandboxPlace { manifest, dirs, node, user_namespace_base: base };
    let spec = sandbox_spec(&place).unwrap();
    crate::pod::member::spec::tests::checked(&spec);
    spec
}

#[test]
fn the_pause_container() {
    let spec = made(json!({}), None);
    assert_eq!(spec.hostname().as_deref(), Some("p"));
    assert!(spec.mounts().as_ref().unwrap().is_empty());
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.oom_score_adj(), Some(-998));
    assert_eq!(process.no_new_privileges(), Some(true));
    assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_some());
    assert_eq!(linux.cgroups_path().as_deref(), Some(std::path::Path::new("/carob/podu1/POD")));
    let limits = linux.resources().as_ref().unwrap();
    assert_eq!(limits.cpu().as_ref().unwrap().shares(), Some(2));
    assert!(linux.sysctl().as_ref().unwrap().contains_key("net.ipv4.ping_group_range"));
    let annotations = spec.annotations().as_ref().unwrap();
    assert_eq!(annotations["io.kubernetes.cri.container-type"], "sandbox");
}

#[test]
fn namespaces() {
    use Kind::{Ipc, Mount, Network, Pid, User, Uts};
    for (spec, base, expected) in [
        (json!({}), None, vec![Mount, Ipc, Network, Uts, Pid]),
        (json!({"hostNetwork": true}), None, vec![Mount, Ipc, Pid]),
        (json!({"hostIPC": true}), None, vec![Mount, Network, Uts, Pid]),
        (json!({"hostPID": true}), None, vec![Mount, Ipc, Network, Uts]),
        (json!({"hostUsers": false}), Some(65_536), vec![Mount, User, Ipc, Network, Uts, Pid]),
    ] {
        let made = made(spec.clone(), base);
        let all = made.linux().as_ref().unwrap().namespaces().clone().unwrap();
        assert!(all.iter().all(|one| one.path().is_none()));
        let kinds: Vec<_> = all.iter().map(|one| one.typ()).collect();
        assert_eq!(kinds, expected, "{spec}");
        assert_eq!(made.hostname().is_some(), kinds.contains(&Uts), "{spec}");
        let mounts = made.mounts().as_ref().unwrap();
        assert_eq!(mounts.len(), usize::from(base.is_some()), "{spec}");
    }
}
