//! CNI plugins that are scripts, in a network namespace of the test.

use serde_json::Value;

use crate::scene::Scene;

/// Plugins that are scripts, and what they were told.
pub struct Plugins {
    pub scene: Scene,
    pub configs: String,
    pub programs: String,
}

impl Plugins {
    /// A network `net` with this list of plugins.
    pub fn new(version: &str, plugins: &str) -> Self {
        let scene = Scene::with_own_network();
        let (configs, programs) = (scene.dir().join("net.d"), scene.dir().join("cni"));
        for dir in [&configs, &programs, &scene.dir().join("calls")] {
            std::fs::create_dir(dir).unwrap();
        }
        let list =
            format!(r#"{{"cniVersion": "{version}", "name": "net", "plugins": [{plugins}]}}"#);
        std::fs::write(configs.join("10-net.conflist"), list).unwrap();
        let text = |path: std::path::PathBuf| path.display().to_string();
        let (configs, programs) = (text(configs), text(programs));
        Self { scene, configs, programs }
    }

    /// A plugin that writes down what it is told, runs a script, and says what it was given.
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let calls = self.scene.dir().join("calls");
        let path = format!("{}/{name}", self.programs);
        let text = format!(
            "#!/bin/sh\ncalls={calls}\nexec 9>$calls/lock; flock 9\n\
             n=$(ls $calls | wc -l); file=$calls/$(printf %03d $n).$CNI_COMMAND.{name}\n\
             cat >$file; env | grep ^CNI_ | sort >$calls/env.$CNI_COMMAND.{name}\n\
             flock -u 9\n{script}\n",
            calls = calls.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn try_run(&self, text: &str) -> crate::scene::Output {
        let flags = ["-d", "--cni-conf-dir", &self.configs, "--cni-bin-dir", &self.programs];
        self.scene.try_run_with(&flags, text)
    }

    /// Command and name of each call, in order.
    pub fn calls(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.scene.dir().join("calls")).unwrap().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect();
        names.sort();
        names.iter().map(|name| name.split_once('.').unwrap().1.to_owned()).collect()
    }

    /// What the last call of this kind was told.
    pub fn told(&self, call: &str) -> Value {
        let entries = std::fs::read_dir(self.scene.dir().join("calls")).unwrap().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        let is_it = |path: &&std::path::PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.starts_with("env") && name.ends_with(&format!(".{call}"))
        };
        let path = paths.iter().rfind(is_it).unwrap_or_else(|| panic!("no call {call}"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// What a reboot takes with it of a pod that nobody supervises: containers, state, cgroups.
    #[track_caller]
    pub fn lose_state(&self, pod: &str, uid: &str, containers: &[&str]) {
        for id in containers {
            self.scene.carob(&["delete", "--force", id]).ok();
        }
        let state = self.scene.state(pod);
        let script = format!(
            "umount -R {0}/shm {0}/etc 2>/dev/null || true; rm -rf --one-file-system {0}",
            state.display()
        );
        self.scene.sh_on_machine(&script).ok();
        for hierarchy in crate::support::cgroup::hierarchies() {
            let pod = self.scene.pod_cgroup(&hierarchy, uid);
            crate::support::cgroup::tree(&pod).iter().for_each(|group| {
                let _shared = std::fs::remove_dir(group);
            });
        }
    }

    pub fn environment(&self, call: &str) -> String {
        std::fs::read_to_string(self.scene.dir().join("calls").join(format!("env.{call}"))).unwrap()
    }
}

pub const GIVES_ADDRESS: &str = r#"[ $CNI_COMMAND != ADD ] ||
    echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.7/24"}]}'"#;
pub const ADDS_ONE: &str = r#"[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.0.0",
    "ips": [{"address": "10.9.0.7/24"}, {"address": "fd09::7/64"}]}'"#;

pub fn sleeper(annotations: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: p, uid: u-1, annotations: {{{annotations}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: IMAGE, command: [sleep, '1000']}}]
"
    )
}
