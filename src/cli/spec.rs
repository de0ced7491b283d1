//! `spec`: a `config.json` to start from.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
};

use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::image::bundle::{Network, Wanted};
use super::image::pull::RegistryChoice;
use super::image::run::When;
use super::image::{self, StoreChoice};
use super::{Context, Verb};
use crate::cgroup;
use crate::container::{Entered, MappedTo, enter_own_namespace, own_ids};
use crate::error::{Error, OsContext, Result};
use crate::image::Location;
use crate::pod::member::Root;

/// Write a config.json to start from: it runs `sh` from DIR/rootfs, read-only, with a terminal
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Spec {
    /// Directory to write it to [default: the current directory]
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,
    /// For a caller who is not root: a user namespace in which the caller is root, the host's
    /// network, and no limits
    #[arg(long)]
    rootless: bool,
    /// What an image says instead, and its files in DIR/rootfs
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootless")]
    image: Option<Location>,
    #[command(flatten)]
    registry: RegistryChoice,
    #[command(flatten)]
    store: StoreChoice,
}

const EXAMPLES: &str = "\
Examples:
  mkdir -p hello/rootfs/bin
  cp /bin/busybox hello/rootfs/bin/sh     # a static one: Debian's busybox-static
  carob spec --bundle hello
  carob run --bundle hello hello
  carob spec --image busybox --bundle other";

/// For a host of pure cgroup v2.
const DEFAULT: &str = include_str!("spec.json");

/// Without what an unprivileged caller may not do: foreign ids, a network of its own (there would
/// be nobody to connect it), a fresh sysfs (which belongs to the network namespace), and limits.
const ROOTLESS: &str = include_str!("spec-rootless.json");

/// Left out on a host with cgroup v1, as runc does: programs that look for their cgroups below the
/// hierarchies of v1 expect the names of the host.
const CGROUP_NAMESPACE: &str = ",\n      {\n        \"type\": \"cgroup\"\n      }";

impl Verb for Spec {
    fn run(self, _: &Context) -> Result<i32> {
        if let Some(image) = &self.image {
            return self.of_image(image).map(|()| 0);
        }
        let mut text =
            if self.rootless { rootless(geteuid(), getegid()) } else { DEFAULT.to_owned() };
        if !cgroup::is_host_pure_v2() {
            text = text.replace(CGROUP_NAMESPACE, "");
        }
        let path = self.bundle.join("config.json");
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = path.display();
                return Err(Error::Invalid(format!("file {path} exists, remove it first")));
            }
            other => other.os("create", || path.display())?,
        };
        file.write_all(text.as_bytes()).os("write", || path.display())?;
        Ok(0)
    }
}

impl Spec {
    fn of_image(&self, location: &Location) -> Result<()> {
        let entered = enter_own_namespace()?;
        let store = self.store.store();
        let id = image::run::find(&store, location, When::Missing, &self.registry)?;
        let found = image::bundle::image(&store, location, id.as_deref())?;
        let Root::Layers { layers, .. } = &found.root else {
            return Err(Error::Invalid(
                "a directory with files is no image; leave out --image".into(),
            ));
        };
        let wanted = Wanted {
            command: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            terminal: true,
            hostname: "carob".into(),
            network: Network::None,
            // As they are outside, where the bundle will be run.
            ids: (entered == Entered::Yes).then(|| own_ids(MappedTo::Outside)).transpose()?,
        };
        let spec = image::bundle::spec(&found, &wanted)?;
        let rootfs = self.bundle.join("rootfs");
        match std::fs::create_dir(&rootfs) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.os("mkdir", || rootfs.display())?,
        }
        image::bundle::write_config(&self.bundle, &spec)?;
        crate::image::unpack(&store, layers, &rootfs)
    }
}

fn rootless(uid: Uid, gid: Gid) -> String {
    ROOTLESS.replace("@UID@", &uid.to_string()).replace("@GID@", &gid.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json};

    use super::*;

    #[test]
    fn the_default_is_a_valid_spec() {
        let spec: oci_spec::runtime::Spec = from_str(DEFAULT).unwrap();
        assert_eq!(spec.version(), crate::oci::SPEC_VERSION);
    }

    #[test]
    fn without_a_cgroup_namespace_it_is_the_same_otherwise() {
        let rootless = rootless(Uid::from_raw(1000), Gid::from_raw(100));
        for text in [DEFAULT, &rootless] {
            let mut expected: Value = from_str(text).unwrap();
            let namespaces = expected["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let without = text.replace(CGROUP_NAMESPACE, "");
            assert_ne!(without, text);
            assert_eq!(from_str::<Value>(&without).unwrap(), expected);
        }
    }

    #[test]
    fn rootless_differs_only_where_it_must() {
        let text = rootless(Uid::from_raw(1000), Gid::from_raw(100));
        let _: oci_spec::runtime::Spec = from_str(&text).unwrap();

        let mut expected: Value = from_str(DEFAULT).unwrap();
        let linux = expected["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.insert("uidMappings".into(), json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        linux.insert("gidMappings".into(), json!([{"containerID": 0, "hostID": 100, "size": 1}]));
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
        for mount in expected["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                options.retain(|option| option != "gid=5");
            }
            if mount["type"] == "sysfs" {
                (mount["type"], mount["source"]) = ("none".into(), "/sys".into());
                mount["options"].as_array_mut().unwrap().insert(0, "rbind".into());
            }
        }
        assert_eq!(from_str::<Value>(&text).unwrap(), expected);
    }
}
