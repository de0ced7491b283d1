//! A pod on a directory of its own, for the tests of volumes.

use std::path::{Path, PathBuf};

use super::Place;
use crate::pod::manifest::{Manifest, Objects};
use crate::pod::member::Node;
use crate::pod::store::PodDirs;

/// A pod's directories and manifest; all is gone when it is dropped.
pub(super) struct Host {
    pub(super) root: PathBuf,
    pub(super) dirs: PodDirs,
    pub(super) manifest: Manifest,
    pub(super) node: Node,
    pub(super) ips: Vec<String>,
}

impl Host {
    /// A pod with this `spec`.
    pub(super) fn new(spec: &str) -> Self {
        let root = std::env::temp_dir().join(format!("carob-volume-{}", uuid::Uuid::new_v4()));
        let dirs = PodDirs {
            state: root.join("state"),
            data: root.join("data"),
            logs: root.join("logs"),
            cgroup: "/none".into(),
        };
        std::fs::create_dir_all(&dirs.state).unwrap();
        std::fs::write(root.join("secret"), "of the host").unwrap();
        let pod = format!(
            r#"{{"metadata":{{"name":"web","namespace":"ns","uid":"u-1","labels":{{"app":"w"}}}},
                "spec":{spec}}}"#
        );
        let pod = serde_json::from_str(&pod).unwrap();
        let manifest = Manifest { pod, objects: Objects::default(), left_out: Vec::new() };
        Self { root, dirs, manifest, node: Node::example(), ips: vec!["10.0.0.7".into()] }
    }

    pub(super) fn config_map(&mut self, name: &str, data: &[(&str, &str)]) {
        let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
        let object = serde_json::json!({ "metadata": { "name": name }, "data": data });
        let object = serde_json::from_value(object).unwrap();
        self.manifest.objects.config_maps.insert(name.into(), object);
    }

    /// Values are base64.
    pub(super) fn secret(&mut self, name: &str, data: &[(&str, &str)]) {
        let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
        let object = serde_json::json!({ "metadata": { "name": name }, "data": data });
        let object = serde_json::from_value(object).unwrap();
        self.manifest.objects.secrets.insert(name.into(), object);
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            manifest: &self.manifest,
            dirs: &self.dirs,
            node: &self.node,
            ips: &self.ips,
            network: None,
            user_namespace_base: None,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        std::fs::read_to_string(self.root.join("secret")).unwrap() == "of the host"
    }

    /// What is mounted below the pod's directories.
    pub(super) fn mounts(&self) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mine = points.map(PathBuf::from).filter(|point| point.starts_with(&self.root));
        mine.collect()
    }

    pub(super) fn read(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let torn = super::teardown(&self.dirs);
        for mount in self.mounts().iter().rev() {
            let _gone = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        std::fs::remove_dir_all(&self.root).unwrap();
        if !std::thread::panicking() {
            torn.unwrap();
        }
    }
}
