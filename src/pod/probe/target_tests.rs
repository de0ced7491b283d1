//! Manifest to action, row by row.

use super::*;
use serde_json::{Value, json};

fn container(extra: &Value) -> Container {
    let mut container = json!({
        "name": "web",
        "ports": [
            { "name": "http", "containerPort": 8080 },
            { "containerPort": 9090 },
            { "name": "80", "containerPort": 81 },
        ],
        "env": [
            { "name": "A", "value": "1" },
            { "name": "FROM", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "A", "value": "last $(FROM)" },
        ],
    });
    for (key, value) in extra.as_object().unwrap() {
        container[key] = value.clone();
    }
    serde_json::from_value(container).unwrap()
}

fn probe(probe: Value) -> std::result::Result<Action, String> {
    of_probe(&serde_json::from_value(probe).unwrap(), &container(&json!({})), "10.0.0.1")
}

fn hook(hook: Value) -> std::result::Result<Action, String> {
    of_hook(&serde_json::from_value(hook).unwrap(), &container(&json!({})), "10.0.0.1")
}

fn url(get: Value) -> String {
    match probe(json!({ "httpGet": get })) {
        Ok(Action::Http(target)) => target.url(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_of_http_probes() {
    for (get, expected) in [
        (json!({ "port": 80 }), "http://10.0.0.1:80/"),
        (json!({ "port": "http", "path": "/a?b=c" }), "http://10.0.0.1:8080/a?b=c"),
        (json!({ "port": "9", "path": "x#frag" }), "http://10.0.0.1:9/x"),
        (json!({ "port": "80" }), "http://10.0.0.1:81/"),
        (json!({ "port": 80, "scheme": "HTTPS", "host": "db" }), "https://db:80/"),
        (json!({ "port": 80, "host": "::1" }), "http://[::1]:80/"),
        (json!({ "port": 80, "host": "[::1]" }), "http://[::1]:80/"),
        (json!({ "port": 80, "host": "" }), "http://10.0.0.1:80/"),
        (
            json!({ "port": 80, "path": "/ä b\r\nX: y" }),
            "http://10.0.0.1:80/%C3%A4%20b%0D%0AX:%20y",
        ),
        (json!({ "port": 80, "path": "/%20" }), "http://10.0.0.1:80/%20"),
    ] {
        assert_eq!(url(get), expected);
    }
}

#[test]
fn ports_that_do_not_exist_are_errors() {
    for (port, text) in [
        (json!("web"), "container \"web\" has no port named \"web\""),
        (json!(0), "invalid port number: 0"),
        (json!(65536), "invalid port number: 65536"),
        (json!("-1"), "invalid port number: -1"),
    ] {
        for kind in ["httpGet", "tcpSocket"] {
            assert_eq!(probe(json!({ kind: { "port": port } })), Err(text.to_owned()));
        }
    }
    assert!(probe(json!({})).unwrap_err().contains("missing probe handler"));
}

#[test]
fn tcp_and_grpc() {
    let address = |host: &str, port| Address { host: host.to_owned(), port };
    assert_eq!(
        probe(json!({ "tcpSocket": { "port": "http" } })),
        Ok(Action::Tcp(address("10.0.0.1", 8080)))
    );
    assert_eq!(
        probe(json!({ "tcpSocket": { "port": 1, "host": "h" } })),
        Ok(Action::Tcp(address("h", 1)))
    );
    assert_eq!(
        probe(json!({ "grpc": { "port": 5, "service": "s" } })),
        Ok(Action::Grpc { address: address("10.0.0.1", 5), service: "s".to_owned() })
    );
}

#[test]
fn commands_of_probes_are_expanded_from_the_manifest_alone() {
    for (given, expected) in [
        ("plain", "plain"),
        ("$(A)", "last $(FROM)"),
        ("x$(A)y$(NO)z", "xlast $(FROM)y$(NO)z"),
        ("<$(FROM)>", "<>"),
        ("$$(A) $$ $", "$(A) $ $"),
        ("$(A", "$(A"),
        ("$A ${A}", "$A ${A}"),
        ("$$$(A)", "$last $(FROM)"),
        ("ä$(A)ö", "älast $(FROM)ö"),
    ] {
        let action = probe(json!({ "exec": { "command": ["test", given] } }));
        assert_eq!(action, Ok(Action::Exec(vec!["test".to_owned(), expected.to_owned()])));
    }
}

#[test]
fn hooks() {
    let command = vec!["echo".to_owned(), "$(A)".to_owned()];
    assert_eq!(hook(json!({ "exec": { "command": command } })), Ok(Action::Exec(command)));
    assert_eq!(
        hook(json!({ "sleep": { "seconds": 3 } })),
        Ok(Action::Sleep(Duration::from_secs(3)))
    );
    let Ok(Action::Http(target)) = hook(json!({ "httpGet": {
        "port": "http", "httpHeaders": [{ "name": "X-A", "value": "1" }],
    } })) else {
        panic!("not an HTTP hook");
    };
    assert_eq!(target.headers, [("X-A".to_owned(), "1".to_owned())]);
    assert!(hook(json!({ "tcpSocket": { "port": 1 } })).unwrap_err().contains("invalid handler"));
}
