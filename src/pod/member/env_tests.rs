use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pod::member::tests::Fixture;

fn fixture(spec: Value) -> Fixture {
    let mut fixture = Fixture::new(spec);
    let objects = json!({
        "config_maps": {
            "web": {"data": {"A": "1", "B": "two", "bad=name": "x", "with space": "ok"}},
            "more": {"data": {"B": "2", "REF": "$(A)"}},
            "empty": {},
        },
        "secrets": {
            "keys": {"data": {"K": "c2VjcmV0", "bin": "/w==", "nul": "AA=="}},
            "fine": {"data": {"K": "c2VjcmV0"}},
        },
        "claims": {}, "volumes": {},
    });
    fixture.manifest.objects = serde_json::from_value(objects).unwrap();
    fixture
}

fn env_of(container: Value) -> Result<Vec<(String, String)>, StartFailure> {
    let mut container = container;
    container["name"] = "c".into();
    let fixture = fixture(json!({"containers": [container], "serviceAccountName": "robot"}));
    let place = fixture.place();
    environment(&place, fixture.app())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn merging() {
    let from = |name: &str| json!({"configMapRef": {"name": name}});
    for (container, expected) in [
        (json!({}), vec![]),
        (json!({"envFrom": [from("web")]}), vec![("A", "1"), ("B", "two"), ("with space", "ok")]),
        (
            json!({"envFrom": [from("web"), from("more")]}),
            vec![("A", "1"), ("B", "2"), ("with space", "ok"), ("REF", "$(A)")],
        ),
        (
            json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "more"}}]}),
            vec![("P_B", "2"), ("P_REF", "$(A)")],
        ),
        (json!({"envFrom": [{"secretRef": {"name": "fine"}}]}), vec![("K", "secret")]),
        (json!({"envFrom": [from("empty")]}), vec![]),
        (
            json!({"envFrom": [{"configMapRef": {"name": "no", "optional": true}},
                               {"secretRef": {"name": "no", "optional": true}}]}),
            vec![],
        ),
        (
            json!({"envFrom": [from("more")], "env": [{"name": "B", "value": "mine"}]}),
            vec![("B", "mine"), ("REF", "$(A)")],
        ),
        (
            json!({"env": [{"name": "X", "value": "1"}, {"name": "X", "value": "$(X)2"}]}),
            vec![("X", "12")],
        ),
        (json!({"env": [{"name": "X"}]}), vec![("X", "")]),
    ] {
        assert_eq!(env_of(container.clone()).unwrap(), pairs(&expected), "{container}");
    }
}

#[test]
fn references_see_what_came_before() {
    let container = json!({
    "envFrom": [{"configMapRef": {"name": "web"}}],
    "env": [
        {"name": "EARLY", "value": "$(LATE) $(A) $$(A) $(B"},
        {"name": "LATE", "value": "<$(EARLY)>"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "USES", "value": "$(NODE)"},
    ]});
    let env = env_of(container).unwrap();
    let value = |name: &str| &env.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(value("EARLY"), "$(LATE) 1 $(A) $(B");
    assert_eq!(value("LATE"), "<$(LATE) 1 $(A) $(B>");
    assert_eq!(value("USES"), "node1");
}

#[test]
fn keys() {
    let config_map = |name: &str, key: &str, optional: bool| json!({"configMapKeyRef": {"name": name, "key": key, "optional": optional}});
    let secret = |name: &str, key: &str, optional: bool| json!({"secretKeyRef": {"name": name, "key": key, "optional": optional}});
    for (source, expected) in [
        (config_map("web", "A", false), Ok(vec![("X", "1")])),
        (secret("keys", "K", false), Ok(vec![("X", "secret")])),
        (config_map("web", "no", true), Ok(vec![])),
        (config_map("no", "A", true), Ok(vec![])),
        (secret("keys", "no", true), Ok(vec![])),
        (secret("no", "K", true), Ok(vec![])),
        (config_map("no", "A", false), Err("configmap \"no\" not found")),
        (secret("no", "A", false), Err("secret \"no\" not found")),
        (config_map("web", "no", false), Err("couldn't find key no in ConfigMap ns/web")),
        (config_map("empty", "no", false), Err("couldn't find key no in ConfigMap ns/empty")),
        (secret("keys", "no", false), Err("couldn't find key no in Secret ns/keys")),
        (secret("keys", "bin", false), Err("is not UTF-8")),
        (secret("keys", "nul", false), Err("holds a NUL byte")),
        (json!({"fieldRef": {"fieldPath": "spec.nope"}}), Err("unsupported fieldPath: spec.nope")),
        (
            json!({"fieldRef": {"fieldPath": "metadata.labels"}}),
            Err("unsupported fieldPath: metadata.labels"),
        ),
        (
            json!({"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}),
            Err("env X: fileKeyRef is not supported"),
        ),
    ] {
        let container = json!({"env": [{"name": "X", "valueFrom": source}]});
        match (env_of(container.clone()), expected) {
            (Ok(env), Ok(expected)) => assert_eq!(env, pairs(&expected), "{container}"),
            (Err(error), Err(text)) => {
                assert_eq!(error.reason, "CreateContainerConfigError");
                assert!(error.message.contains(text), "{container}: {}", error.message);
                assert!(!error.message.contains("secret\n"), "{}", error.message);
            }
            (found, expected) => panic!("{container}: {found:?}, expected {expected:?}"),
        }
    }
    for kind in ["configMapRef", "secretRef"] {
        let error = env_of(json!({"envFrom": [{kind: {"name": "no"}}]})).unwrap_err();
        assert!(error.message.ends_with("\"no\" not found"), "{}", error.message);
    }
}

#[test]
fn fields() {
    for (path, expected) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a.b/c']", "note"),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "192.0.2.7"),
        ("status.hostIPs", "192.0.2.7,2001:db8::7"),
        ("status.podIP", "10.0.0.5"),
        ("status.podIPs", "10.0.0.5,fd00::5"),
    ] {
        let source = json!({"fieldRef": {"fieldPath": path}});
        let env = env_of(json!({"env": [{"name": "X", "valueFrom": source}]})).unwrap();
        assert_eq!(env, pairs(&[("X", expected)]), "{path}");
    }
    let field = json!([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    let fixture =
        fixture(json!({"hostNetwork": true, "containers": [{"name": "c", "env": field}]}));
    let env = environment(&fixture.place(), fixture.app()).unwrap();
    assert_eq!(env, pairs(&[("X", "192.0.2.7")]));
}

#[test]
fn resource_fields() {
    let mine = json!({
        "requests": {"cpu": "1250m", "memory": "65Mi", "hugepages-2Mi": "4Mi"},
        "limits": {"memory": "100M", "ephemeral-storage": "1Gi"}});
    let other = json!({"limits": {"cpu": "2"}});
    let node = Node::example();
    for (resource, container, divisor, expected) in [
        ("requests.cpu", "", "", "2"),
        ("requests.cpu", "", "1", "2"),
        ("requests.cpu", "", "1m", "1250"),
        ("requests.memory", "", "1Mi", "65"),
        ("requests.memory", "", "1Gi", "1"),
        ("requests.memory", "", "0", "68157440"),
        ("limits.memory", "", "1Mi", "96"),
        ("limits.memory", "", "1k", "100000"),
        ("limits.cpu", "", "1m", "4000"),
        ("limits.cpu", "other", "1", "2"),
        ("requests.cpu", "other", "1", "2"),
        ("limits.memory", "other", "1", &node.memory_bytes.to_string()),
        ("limits.ephemeral-storage", "", "1Mi", "1024"),
        ("requests.ephemeral-storage", "other", "1", "0"),
        ("requests.hugepages-2Mi", "", "1Mi", "4"),
        ("limits.hugepages-2Mi", "other", "1", "0"),
    ] {
        let field = json!({"resource": resource, "containerName": container, "divisor": divisor});
        let env = json!([{"name": "X", "valueFrom": {"resourceFieldRef": field}}]);
        let fixture = fixture(json!({
            "containers": [{"name": "c", "resources": mine, "env": env}],
            "initContainers": [{"name": "other", "resources": other}]}));
        let env = environment(&fixture.place(), fixture.app()).unwrap();
        assert_eq!(env, pairs(&[("X", expected)]), "{field}");
    }
    for (resource, container, text) in [
        ("limits.gpu", "", "unsupported container resource"),
        ("cpu", "", "unsupported container resource"),
        ("limits.cpu", "nobody", "container nobody not found"),
    ] {
        let field = json!({"resource": resource, "containerName": container});
        let source = json!({"resourceFieldRef": field});
        let error = env_of(json!({"env": [{"name": "X", "valueFrom": source}]})).unwrap_err();
        assert!(error.message.contains(text), "{}", error.message);
    }
    let whole = fixture(json!({
        "containers": [{"name": "c"}], "resources": {"limits": {"cpu": "3"}}}));
    let value = {
        let spec = whole.manifest.pod.spec.as_ref().unwrap();
        resource_value(spec, &whole.node, whole.app(), "limits.cpu", None)
    };
    assert_eq!(value.as_deref(), Some("3"));
}

#[test]
fn expansion() {
    let env = pairs(&[("A", "1"), ("B", "$(A)"), ("", "none"), ("C", "x")]);
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$(A)", "1"),
        ("$(B)", "$(A)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(A)$(C)", "1x"),
        ("$(NO)", "$(NO)"),
        ("$(A", "$(A"),
        ("$(", "$("),
        ("$", "$"),
        ("a$", "a$"),
        ("$A", "$A"),
        ("${A}", "${A}"),
        ("$()", "none"),
        ("$($(A))", "$($(A))"),
        ("ä$(A)ö", "ä1ö"),
    ] {
        assert_eq!(expand_with(text, &env), expected, "{text:?}");
    }
}

#[test]
fn command_lines() {
    let env = pairs(&[("A", "1")]);
    let line = |container: Value, image: &Image| {
        let container: Container = serde_json::from_value(container).unwrap();
        command(&container, image, &env).map_err(|error| error.message)
    };
    let mut image = Image::example("");
    for (container, expected) in [
        (json!({}), vec!["/entry", "default"]),
        (json!({"command": ["sh"]}), vec!["sh"]),
        (json!({"args": ["$(A)"]}), vec!["/entry", "1"]),
        (json!({"command": ["sh", "$(B)"], "args": ["$$(A)"]}), vec!["sh", "$(B)", "$(A)"]),
        (json!({"command": [], "args": []}), vec!["/entry", "default"]),
    ] {
        let mut named = container.clone();
        named["name"] = "c".into();
        assert_eq!(line(named, &image).unwrap(), expected, "{container}");
    }
    image.entrypoint.clear();
    image.cmd.clear();
    assert_eq!(line(json!({"name": "c"}), &image), Err("no command specified".to_owned()));
}

proptest! {
    #[test]
    fn text_without_dollars_stays(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, |_| Some("x".into())), text);
    }

    #[test]
    fn unknown_names_leave_text_as_it_is_but_for_double_dollars(text in "[$()Aa$]{0,40}") {
        // Not a naive replacement: "$($$)" names the variable "$$".
        let expanded = expand(&text, |_| None);
        prop_assert!(expanded.len() <= text.len());
        if !text.contains("$$") {
            prop_assert_eq!(expanded, text);
        }
    }

    #[test]
    fn escaped_text_comes_back(text in ".{0,40}") {
        let escaped = text.replace('$', "$$");
        prop_assert_eq!(expand(&escaped, |_| Some("x".into())), text);
    }

    #[test]
    fn values_are_put_in_whole(before in "[^$]{0,9}", value in ".{0,20}", after in "[^$]{0,9}") {
        let text = format!("{before}$(NAME){after}");
        let expanded = expand(&text, |name| (name == "NAME").then(|| value.clone()));
        prop_assert_eq!(expanded, format!("{before}{value}{after}"));
    }
}
