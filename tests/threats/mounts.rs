//! Mounts that would reach the host.

use crate::support::{Host, push};
use serde_json::json;
use std::fs;

#[test]
#[ignore = "needs root: run scripts/test"]
fn a_user_namespace_cannot_mount_on_the_host_through_a_bind() {
    let Some(host) = Host::only_carob("runc 1.1 maps no ids of mounts") else {
        return;
    };
    let data = host.dir().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    for options in [&["rbind", "rw"][..], &["rbind", "idmap"]] {
        let c = host.sh_with("mount -t tmpfs leak /data/sub && echo done; sleep 1000", |s| {
            push(s, "/linux/namespaces", json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                s["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            }
            let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
            s["process"]["capabilities"] =
                json!({"bounding": all, "permitted": all, "effective": all});
            push(
                s,
                "/mounts",
                json!({"destination": "/data", "type": "bind", "source": data,
                "options": options}),
            );
        });
        // As on most hosts, where everything is shared; in a mount namespace of its own.
        let dir = data.display();
        let look = "sleep 0.5; grep -c leak /proc/self/mountinfo >&2";
        let shell = format!(
            "chmod 700 {dir}/..; mount --bind {dir} {dir}; mount --make-rshared /; \"$@\"; {look}"
        );
        let shared = format!("set -- unshare -m bash -c '{shell}' sh \"$@\"");
        let out = c.bundle_verb("run", &["--detach"]).after(&shared).output();
        assert!(out.stderr.ends_with("0\n"), "{options:?}: {out:?}");
        if !out.stderr.contains("map the ids of the mount: Invalid argument") {
            let pid = i32::try_from(c.state()["pid"].as_i64().unwrap()).unwrap();
            host.adopt(nix::unistd::Pid::from_raw(pid));
            assert_eq!(out.stdout.trim(), "done", "{options:?}: {out:?}");
        }
        c.delete_force().ok();
    }
}
