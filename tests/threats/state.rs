//! What carob keeps on the host, and by which names.

use crate::canary::Canary;
use crate::support::Host;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
#[ignore = "needs root: run scripts/test"]
fn the_state_directory_is_closed_to_others() {
    let host = Host::new();
    let c = host.sleeper();
    c.create();
    let mode = fs::metadata(host.state_root().join(c.id())).unwrap().permissions().mode();
    assert_eq!(mode & 0o066, 0, "{mode:o}");
    for entry in fs::read_dir(host.state_root().join(c.id())).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        // The start fifo may be written by the container's user.
        let is_file = entry.file_type().unwrap().is_file();
        assert!(!is_file || mode & 0o022 == 0, "{}: {mode:o}", entry.path().display());
    }
}

/// An id is a name below the state root, and of a cgroup.
#[test]
#[ignore = "needs root: run scripts/test"]
fn an_id_that_is_a_path_is_refused() {
    let Some(host) = Host::only_carob("runc 1.1.5 takes some of these") else { return };
    let canary = Canary::new(&host);
    let bundle = host.sleeper();
    let long = "x".repeat(1025);
    for id in ["../x", "a/b", "/", ".", "..", "", "a\nb", "a b", "\u{e9}", "a\u{202e}b", &long] {
        let at = ["--bundle", bundle.bundle().to_str().unwrap(), "--", id];
        for verb in ["create", "run"] {
            let out = host.call(&[verb]).args(&at).output();
            assert_eq!(out.code, 1, "{id:?}: {out:?}");
        }
        for verb in ["state", "start", "kill", "delete", "pause"] {
            let out = host.call(&[verb, "--", id]).output();
            assert_eq!(out.code, 1, "{verb} {id:?}: {out:?}");
        }
    }
    canary.is_untouched(&"ids");
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_sub_cgroup_of_exec_cannot_climb() {
    let Some(host) = Host::only_carob("runc 1.1.5 has other words") else { return };
    let c = host.sleeper();
    c.run_detached();
    for sub in ["../..", "/../x", "a/../../..", ".."] {
        let out = c.exec_call(&["--cgroup", sub], &["cat", "/proc/self/cgroup"]).output();
        let own = format!("/{}/{}", host.marker(), c.id());
        let inside = out.stdout.lines().all(|line| line.ends_with(":/") || line.contains(&own));
        assert!(out.code != 0 || inside, "{sub}: {out:?}");
    }
}

#[test]
#[ignore = "needs root: run scripts/test"]
fn what_is_given_twice_or_unknown_is_refused() {
    let Some(host) = Host::only_carob("runc 1.1.5 takes the last one") else { return };
    let c = host.sleeper_with(|s| {
        let list = s["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "pid", "path": "/proc/1/ns/pid"}));
    });
    c.create_call(&[]).output().fails(1, &["linux.namespaces"]);
    let c = host.sleeper_with(|s| s["linux"]["namespaces"][0]["type"] = json!("nonsense"));
    c.create_call(&[]).output().fails(1, &["namespaces"]);
}
