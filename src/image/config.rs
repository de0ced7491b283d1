//! What an image says about its process. Pure.

use oci_spec::image::ImageConfiguration;

/// Defaults for a container. All of it is the image maker's choice, and checked where it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, `KEY=value`.
    pub env: Vec<String>,
    /// WORKDIR, or empty.
    pub working_dir: String,
    /// USER, `user[:group]`, each a name or a number, or empty.
    pub user: String,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
    /// VOLUME, sorted.
    pub volumes: Vec<String>,
    /// EXPOSE, `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
    /// LABEL.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Config {
    /// Of a configuration as it is stored.
    #[must_use]
    pub fn of(image: &ImageConfiguration) -> Self {
        let Some(config) = image.config() else { return Self::default() };
        let sorted = |list: &Option<Vec<String>>| {
            let mut list = list.clone().unwrap_or_default();
            list.sort_unstable();
            list
        };
        Self {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            working_dir: config.working_dir().clone().unwrap_or_default(),
            user: config.user().clone().unwrap_or_default(),
            stop_signal: config.stop_signal().clone().filter(|signal| !signal.is_empty()),
            volumes: sorted(config.volumes()),
            exposed_ports: sorted(config.exposed_ports()),
            labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_docker_with_its_nulls() {
        let text = r#"{"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "docker_version": "20.10", "container": "x",
            "config": {"Hostname": "", "Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": null,
                "Volumes": {"/b": {}, "/a": {}}, "ExposedPorts": null, "Labels": null,
                "User": "", "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "OnBuild": null},
            "history": [{"created_by": "x", "empty_layer": true}],
            "rootfs": {"type": "layers", "diff_ids": []}}"#;
        let (config, _) = crate::image::manifest::parse_config(text.as_bytes(), 0).unwrap();
        let config = Config::of(&config);
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.volumes, ["/a", "/b"]);
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert!(config.entrypoint.is_empty() && config.exposed_ports.is_empty());
    }

    #[test]
    fn of_nothing() {
        let text = r#"{"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []}}"#;
        let (config, _) = crate::image::manifest::parse_config(text.as_bytes(), 0).unwrap();
        assert_eq!(Config::of(&config), Config::default());
    }
}
