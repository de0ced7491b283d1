//! containerd in a yard, configured as docs/clients.md says.

use crate::document::snippet;
use crate::image;
use crate::support::{Output, Running};
use crate::yard::{Yard, wait};
use std::fs;

/// What a machine without systemd, CAP_SYS_RESOURCE and registries needs besides.
const HERE: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:latest"
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
"#;

/// Pods get an address in the yard's own network.
const NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "yard",
  "plugins": [{
    "type": "ptp",
    "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "dataDir": "/run/cni"}
  }]
}"#;

/// A running daemon with the images.
#[derive(Debug)]
pub struct Containerd {
    pub yard: Yard,
    daemon: Running,
}

impl Containerd {
    pub fn start() -> Self {
        let yard = Yard::new();
        yard.write("/etc/containerd/config.toml", &(snippet("containerd", "toml") + HERE));
        yard.write("/etc/cni/net.d/10-yard.conflist", NETWORK);
        fs::remove_file(yard.path("/etc/cni/net.d/87-podman-bridge.conflist")).ok();
        let daemon = daemon(&yard);
        image::write(&yard.path("/tmp/images.tar"));
        let this = Self { yard, daemon };
        for namespace in ["default", "k8s.io"] {
            this.yard
                .run(&["ctr", "--namespace", namespace, "images", "import", "/tmp/images.tar"])
                .ok();
        }
        this
    }

    /// Kills the daemon and starts it again.
    pub fn restart_killed(&mut self) {
        self.yard.kill(&["containerd"]);
        self.daemon = daemon(&self.yard);
    }

    /// `ctr args…`
    pub fn ctr(&self, args: &[&str]) -> Output {
        self.yard.run(&[&["ctr"], args].concat())
    }
}

fn daemon(yard: &Yard) -> Running {
    let daemon = yard.call(&["containerd"]).spawn();
    wait("containerd", || {
        let out = yard.run(&["ctr", "version"]);
        if out.code == 0 { Ok(()) } else { Err(daemon.stderr()) }
    });
    daemon
}
