//! Where a verb looks for networks.

use std::path::PathBuf;

use crate::pod::network::Sources;

/// Where CNI configurations and plugins are.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PluginChoice {
    /// Where CNI configurations are
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Where CNI plugins are [default: the variable CNI_PATH, else /usr/lib/cni:/opt/cni/bin]
    #[arg(long, value_name = "DIR[:DIR]", value_delimiter = ':')]
    cni_bin_dir: Vec<PathBuf>,
}

impl PluginChoice {
    /// With absolute paths: others read them as well.
    pub(super) fn sources(&self) -> Sources {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let plugins = match std::env::var_os("CNI_PATH").filter(|path| !path.is_empty()) {
            _ if !self.cni_bin_dir.is_empty() => self.cni_bin_dir.clone(),
            Some(path) => std::env::split_paths(&path).collect(),
            None => Sources::default().plugins,
        };
        let plugins = plugins.iter().map(absolute).collect();
        Sources { configs: absolute(&self.cni_conf_dir), plugins }
    }
}
