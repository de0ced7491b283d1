//! The options before the verb.

use std::{env, ffi::OsString, path::PathBuf};

use clap::{
    Args, Command, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::quick::Words;
use super::{Context, RootChoice};
use crate::{
    container::{CgroupDriver, Rootless, Runtime},
    error::Result,
    log,
    sys::credentials::in_user_namespace,
};

/// Options that hold for every verb.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Directory for the state of containers [default: /run/carob]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Append errors to a file, besides stderr
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Format of messages
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = log_format())]
    log_format: log::Format,
    /// Also log what is being done
    #[arg(long)]
    debug: bool,
    /// Make cgroups through systemd; linux.cgroupsPath is slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Go on without the cgroups that the caller may not make; auto: unless the caller is root
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = rootless())]
    pub(super) rootless: Rootless,
    // containerd 1.6 passes it to every verb.
    /// Ignored
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(super) version: bool,
}

fn log_format() -> impl TypedValueParser<Value = log::Format> {
    PossibleValuesParser::new(["text", "json"]).map(|format| match format.as_str() {
        "json" => log::Format::Json,
        _ => log::Format::Text,
    })
}

fn rootless() -> impl TypedValueParser<Value = Rootless> {
    PossibleValuesParser::new(["true", "false", "auto"]).map(|when| match when.as_str() {
        "true" => Rootless::True,
        "false" => Rootless::False,
        _ => Rootless::Auto,
    })
}

impl Default for Global {
    fn default() -> Self {
        Self {
            root: None,
            log: None,
            log_format: log::Format::Text,
            debug: false,
            systemd_cgroup: false,
            rootless: Rootless::Auto,
            criu: None,
            version: false,
        }
    }
}

impl Global {
    /// Takes the options in front of the verb.
    pub(super) fn quick(words: &mut Words) -> Option<Self> {
        let mut global = Self::default();
        while let Some(option) = words.option()? {
            match option {
                "root" => global.root = Some(words.value()?.into()),
                "log" => global.log = Some(words.value()?.into()),
                "log-format" => {
                    global.log_format = match words.value()? {
                        "json" => log::Format::Json,
                        "text" => log::Format::Text,
                        _ => return None,
                    }
                }
                "debug" => global.debug = true,
                "criu" => global.criu = Some(words.value()?.into()),
                "systemd-cgroup" => global.systemd_cgroup = true,
                _ => return None,
            }
        }
        Some(global)
    }

    /// Opens the log and decides on the state root.
    pub(super) fn context(self) -> Result<Context> {
        self.open_log()?;
        let cgroup_driver =
            if self.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        let (root, choice) = match self.root {
            // Paths below it end up in the state and in mounts.
            Some(root) => (std::path::absolute(&root).unwrap_or(root), RootChoice::Explicit),
            None => (default_root(&Caller::current()), RootChoice::Default),
        };
        Ok(Context {
            runtime: Runtime { root, cgroup_driver, rootless: self.rootless },
            root: choice,
        })
    }

    fn open_log(&self) -> Result<()> {
        let verbosity = if self.debug { log::Verbosity::Debug } else { log::Verbosity::Quiet };
        log::init(self.log.as_deref(), self.log_format, verbosity)
    }
}

/// Opens the log for a command line that is wrong somewhere else: engines look for the reason
/// there. Whatever is wrong with the log itself comes second to that reason.
pub(super) fn open_log_leniently(args: &[OsString]) {
    let globals = Global::augment_args(Command::new("carob"))
        .args_override_self(true)
        .allow_external_subcommands(true)
        .ignore_errors(true)
        .try_get_matches_from(args);
    if let Ok(global) = globals.and_then(|matches| Global::from_arg_matches(&matches)) {
        drop(global.open_log());
    }
}

/// What the default state root depends on.
struct Caller {
    is_root: bool,
    in_user_namespace: fn() -> bool,
    user: Option<String>,
    runtime_dir: Option<PathBuf>,
}

impl Caller {
    fn current() -> Self {
        Self {
            is_root: nix::unistd::geteuid().is_root(),
            in_user_namespace,
            user: env::var("USER").ok(),
            runtime_dir: env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

/// `/run/carob` for the host's root whatever its environment says: engines call some verbs with
/// and some without `XDG_RUNTIME_DIR`, and all of them must find the same containers.
fn default_root(caller: &Caller) -> PathBuf {
    let own = |dir: &&PathBuf| {
        !dir.as_os_str().is_empty()
            && (!caller.is_root
                || (caller.user.as_deref() != Some("root") && (caller.in_user_namespace)()))
    };
    match caller.runtime_dir.as_ref().filter(own) {
        Some(dir) => dir.join("carob"),
        None => PathBuf::from("/run/carob"),
    }
}

/// The answer to `--version`. dockerd splits the line with `version`, and looks for `commit:`.
pub(super) fn version() -> String {
    let seccomp = libseccomp::ScmpVersion::current()
        .map_or_else(|_| "unknown".to_owned(), |v| format!("{}.{}.{}", v.major, v.minor, v.micro));
    format!(
        "carob version {}\ncommit: {}\nspec: {}\nlibseccomp: {seccomp}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("CAROB_COMMIT").unwrap_or("unknown"),
        crate::oci::SPEC_VERSION,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_root_follows_the_environment_only_without_real_root() {
        let table = [
            (true, false, None, None, "/run/carob"),
            (true, false, None, Some("/x"), "/run/carob"),
            (true, false, Some("me"), Some("/x"), "/run/carob"),
            (true, true, Some("root"), Some("/x"), "/run/carob"),
            (true, true, Some("me"), Some("/x"), "/x/carob"),
            (true, true, None, Some("/x"), "/x/carob"),
            (false, false, Some("me"), Some("/x"), "/x/carob"),
            (false, false, Some("me"), Some(""), "/run/carob"),
            (false, false, Some("me"), None, "/run/carob"),
        ];
        for (is_root, in_user_namespace, user, dir, expected) in table {
            let caller = Caller {
                is_root,
                in_user_namespace: if in_user_namespace { || true } else { || false },
                user: user.map(str::to_owned),
                runtime_dir: dir.map(PathBuf::from),
            };
            assert_eq!(default_root(&caller), PathBuf::from(expected), "{user:?} {dir:?}");
        }
    }

    #[test]
    fn version_has_the_lines_that_docker_looks_for() {
        let version = version();
        let lines: Vec<&str> = version.lines().collect();
        assert!(lines[0].starts_with("carob version "), "{version}");
        assert!(lines[1].starts_with("commit: "), "{version}");
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(lines[3].starts_with("libseccomp: 2."), "{version}");
    }
}
