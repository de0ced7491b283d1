//! What is written through `/proc`: sysctls and labels.

use crate::support::{Host, Peer, peer};
use serde_json::json;
use std::fs;

#[test]
#[ignore = "needs root: run scripts/test"]
fn sysctl_names_cannot_climb() {
    let host = Host::new();
    for name in ["net.ipv4.../../../kernel/core_pattern", "net/../kernel.core_pattern"] {
        let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
        let c = host.sleeper_with(|s| s["linux"]["sysctl"] = json!({ name: "x" }));
        let out = c.create_call(&[]).output();
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before, "{name}");
        if peer() == Peer::Carob {
            assert_eq!(out.code, 1, "{name}: {out:?}");
        } else if out.code == 0 {
            host.adopt(c.pid());
        }
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_joined_namespace_that_is_the_hosts_takes_no_sysctl() {
    let host = Host::new();
    let key = "net.ipv4.ip_local_port_range";
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    let before = fs::read(file).unwrap();
    let c = host.sleeper_with(|s| {
        let list = s["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "network");
        list.push(json!({"type": "network", "path": "/proc/self/ns/net"}));
        s["linux"]["sysctl"] = json!({key: "1024 2048"});
    });
    c.create_call(&[]).output().fails(1, &["ip_local_port_range"]);
    assert_eq!(fs::read(file).unwrap(), before);
}
