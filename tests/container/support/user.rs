//! An ordinary user of the machine, who exists only for one test.
//!
//! Each call of the runtime is in a mount namespace of its own, where `/etc/passwd` knows the user
//! and `/etc/subuid` grants ids, and where runtime and root filesystem are in reach wherever the
//! checkout is. Nothing of that is seen outside.

use super::call::Call;
use super::{cgroup, driver, leaks, rootfs, runtime};
use nix::unistd::{Gid, Pid, Uid, chown};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The user's id, and its group's.
pub const UID: u32 = 61_211;
/// The first of the ids that are granted to it.
pub const FIRST_SUBID: u32 = 700_000;
/// How many these are.
pub const SUBIDS: u32 = 65_536;

/// What goes before every call, or in its place where `SCRIPT_OF_USER` is a script: `$1` is the test's directory, `$2` the runtime, `$3` the rootfs,
/// `$4` the cgroups to go to.
const BECOME: &str = r#"
dir=$1 runtime=$2 rootfs=$3 cgroups=$4; shift 4
for cgroup in $cgroups; do echo $$ >"$cgroup/cgroup.procs" || exit 99; done
for file in passwd group; do mount --bind "$dir/etc/$file" /etc/$file || exit 99; done
mount --bind "$dir/etc/subids" /etc/subuid && mount --bind "$dir/etc/subids" /etc/subgid || exit 99
mount --bind "$runtime" "$dir/bin/${runtime##*/}" && mount --bind "$rootfs" "$dir/rootfs" || exit 99
if [ -n "$SCRIPT_OF_USER" ]; then
  export CAROB="$dir/bin/${runtime##*/}"
  exec setpriv --reuid 61211 --regid 61211 --clear-groups sh -c "$SCRIPT_OF_USER"
fi
exec setpriv --reuid 61211 --regid 61211 --clear-groups \
  env "PATH=${PATH_OF_USER:-$PATH}" "$dir/bin/${runtime##*/}" "$@"
"#;

/// Which ids are mapped into the user's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Only its own, as root.
    Own,
    /// The granted ones, too.
    Granted,
}

/// What the user may do with cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Nothing.
    None,
    /// A cgroup in each of the hierarchies of these controllers is delegated to it.
    Delegated(&'static [&'static str]),
    /// It has a systemd of its own, which makes them.
    Managed,
}

/// The user, and where its calls start.
#[derive(Debug)]
pub struct User {
    ids: Ids,
    cgroups: Cgroups,
    places: Vec<PathBuf>,
}

impl User {
    pub fn new(ids: Ids, cgroups: Cgroups) -> Self {
        Self { ids, cgroups, places: Vec::new() }
    }

    /// Whether a systemd of its own makes its cgroups.
    pub fn is_managed(&self) -> bool {
        self.cgroups == Cgroups::Managed
    }

    /// Makes what the user needs in the test's directory.
    pub fn move_in(&mut self, dir: &Path, marker: &str) {
        for name in ["etc", "bin", "rootfs", "run"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for (file, line) in [("passwd", "x:61211:61211::/:/bin/sh"), ("group", "x:61211:")] {
            let text = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            fs::write(dir.join("etc").join(file), format!("{text}carobtest:{line}\n")).unwrap();
        }
        let grant = format!("carobtest:{FIRST_SUBID}:{SUBIDS}\n");
        fs::write(dir.join("etc/subids"), grant).unwrap();
        fs::write(dir.join("bin").join(runtime().file_name().unwrap()), "").unwrap();
        self.own(&dir.join("state"));
        self.own(&dir.join("run"));
        if let Cgroups::Delegated(controllers) = self.cgroups {
            self.places = controllers.iter().map(|name| self.delegate(name, marker)).collect();
        }
    }

    /// Gives the user a cgroup, and one below it for its calls.
    fn delegate(&self, controller: &str, marker: &str) -> PathBuf {
        let root = cgroup::hierarchy(controller);
        let mut given = root.join(marker);
        if cgroup::is_v2() {
            // Others may be in use on the host, and are not for the user.
            fs::create_dir(&given).unwrap();
            for dir in [&root, &given] {
                fs::write(dir.join("cgroup.subtree_control"), "+pids +memory").unwrap();
            }
            given.push("user");
        }
        let place = given.join(format!("calls-{}", leaks::unique()));
        fs::create_dir_all(&place).unwrap();
        for dir in [&given, &place] {
            self.own(dir);
            for file in ["cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"] {
                if dir.join(file).exists() {
                    self.own(&dir.join(file));
                }
            }
        }
        place
    }

    /// Removes the cgroups in which the calls were, and on v2 the one that was given.
    pub fn move_out(&self) {
        for place in &self.places {
            fs::remove_dir(place).ok();
            if let Some(given) = place.parent().filter(|_| cgroup::is_v2()) {
                fs::remove_dir(given).ok();
            }
        }
    }

    /// Gives a file to the user.
    pub fn own(&self, path: &Path) {
        chown(path, Some(Uid::from_raw(UID)), Some(Gid::from_raw(UID))).unwrap();
    }

    /// Makes of the default config one that a user may use.
    pub fn adapt(&self, spec: &mut Value, dir: &Path) {
        spec["root"]["path"] = json!(dir.join("rootfs"));
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let mut map = vec![json!({"containerID": 0, "hostID": UID, "size": 1})];
        if self.ids == Ids::Granted {
            map.push(json!({"containerID": 1, "hostID": FIRST_SUBID, "size": SUBIDS}));
        }
        linux.insert("uidMappings".into(), json!(map));
        linux.insert("gidMappings".into(), json!(map));
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                options.retain(|option| option != "gid=5");
            }
        }
    }

    /// The runtime, called by the user.
    pub fn call(&self, dir: &Path, files: PathBuf, groups: &Arc<Mutex<Vec<Pid>>>) -> Call {
        let places: Vec<_> = self.places.iter().map(|place| place.to_str().unwrap()).collect();
        let call = Call::new("unshare", files, groups);
        call.args(&["--mount", "--propagation", "private", "sh", "-c", BECOME, "sh"])
            .args(&[dir, &runtime(), &rootfs(), Path::new(&places.join(" "))])
            .env("XDG_RUNTIME_DIR", self.runtime_dir(dir))
    }

    /// `$XDG_RUNTIME_DIR`, where the user's systemd is reached.
    fn runtime_dir(&self, dir: &Path) -> PathBuf {
        if self.is_managed() { driver::runtime_dir_of_user() } else { dir.join("run") }
    }
}
