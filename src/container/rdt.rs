//! `linux.intelRdt`: the class of cache and memory bandwidth that a container's processes run in.
//!
//! A class is a directory of the resctrl file system, its limits are lines of the file `schemata`
//! there, its processes those in `tasks`. A process enters by itself; its children are born there.
//!
//! Source: runtime-spec, config-linux.md, IntelRdt; the kernel's resctrl.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, OsContext, Result};
use crate::sys::{fd, path};

const TASKS: &str = "tasks";
const SCHEMATA: &str = "schemata";

/// What a container is to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class {
    dir: PathBuf,
    /// Whether its name comes from the configuration: it stays then, whoever has made it.
    is_named: bool,
    exists: bool,
    schemata: Vec<String>,
    /// The directory in which the container is counted apart.
    monitor: Option<PathBuf>,
}

/// What a container has, for its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Membership {
    /// The files that its processes enter by.
    pub(super) tasks: Vec<PathBuf>,
    /// The directories that go with it, in this order.
    own: Vec<PathBuf>,
}

impl Class {
    /// Finds the class for a container; changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] with the JSON path: no resctrl is mounted, a class that is named is not
    /// there and has no schemata, or it has others.
    pub(super) fn find(rdt: &LinuxIntelRdt, id: &str) -> Result<Self> {
        let mounted = path::mount_table()?.into_iter().rev().find(|row| row.kind == "resctrl");
        let Some(mounted) = mounted else {
            let reason = "no resctrl file system is mounted on this host: its processor has no \
                          such classes, or mount it (mount -t resctrl resctrl /sys/fs/resctrl)";
            return Err(Error::config("linux.intelRdt", reason));
        };
        Self::find_in(&mounted.point, rdt, id)
    }

    fn find_in(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<Self> {
        let dir = match rdt.clos_id().as_deref() {
            None => root.join(id),
            Some("/") => root.to_owned(),
            Some(name) => root.join(name),
        };
        let (is_named, exists) = (rdt.clos_id().is_some(), dir.is_dir());
        // In the order of the specification: the last word on a resource counts.
        let lines = rdt.l3_cache_schema().iter().chain(rdt.mem_bw_schema());
        let lines = lines.chain(rdt.schemata().iter().flatten());
        let schemata: Vec<_> = lines.filter(|line| !line.trim().is_empty()).cloned().collect();
        match (is_named, exists) {
            (true, false) if schemata.is_empty() => {
                let reason = format!("{} is not there, and nothing says what it is", dir.display());
                return Err(Error::config("linux.intelRdt.closID", reason));
            }
            (false, true) => {
                let reason = format!("{} is there already; name it in closID", dir.display());
                return Err(Error::config("linux.intelRdt", reason));
            }
            (true, true) => compare(&dir, &schemata)?,
            (true | false, false) => {}
        }
        let monitor = rdt.enable_monitoring().unwrap_or(false);
        let monitor = monitor.then(|| dir.join("mon_groups").join(id));
        Ok(Self { dir, is_named, exists, schemata, monitor })
    }

    /// What the container will have.
    pub(super) fn membership(&self) -> Membership {
        let own = self.monitor.iter().chain((!self.is_named).then_some(&self.dir));
        // The class before the part of it that is counted.
        let dirs = std::iter::once(&self.dir).chain(&self.monitor);
        Membership { tasks: dirs.map(|dir| dir.join(TASKS)).collect(), own: own.cloned().collect() }
    }

    /// Makes what is missing; returns that, for [`remove`]. A failure takes itself back.
    pub(super) fn make(&self) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        let result = self.make_into(&mut made);
        // The last one first.
        made.reverse();
        match result {
            Ok(()) => Ok(made),
            Err(error) => {
                let _as_good_as_possible = remove(&made);
                Err(error)
            }
        }
    }

    fn make_into(&self, made: &mut Vec<PathBuf>) -> Result<()> {
        if !self.exists {
            make_one(&self.dir)?;
            made.push(self.dir.clone());
            if !self.schemata.is_empty() {
                let text: String = self.schemata.iter().map(|line| format!("{line}\n")).collect();
                write_schemata(&self.dir, &text)?;
            }
        }
        if let Some(monitor) = &self.monitor {
            make_one(monitor)?;
            made.push(monitor.clone());
        }
        Ok(())
    }
}

impl Membership {
    /// Takes away what was the container's alone.
    pub(super) fn end(&self) -> Result<()> {
        remove(&self.own)
    }
}

/// Removes directories; what is not there is fine.
pub(super) fn remove(dirs: &[PathBuf]) -> Result<()> {
    dirs.iter().try_for_each(|dir| match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.os("rmdir", || dir.display()),
    })
}

fn make_one(dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(|error| {
        let reason = match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::ENOSPC => format!("the processor has no more than there are: {}", dir.display()),
            _ => format!("mkdir {}: {error}", dir.display()),
        };
        Error::config("linux.intelRdt", reason)
    })
}

fn write_schemata(dir: &Path, text: &str) -> Result<()> {
    // All lines at once, as the kernel takes them.
    fd::write_file(dir.join(SCHEMATA), text).map_err(|error| {
        // The kernel says more than a number here; `info` is in the root.
        let info = dir.parent().unwrap_or(dir).join("info/last_cmd_status");
        let status = fs::read_to_string(info).unwrap_or_default();
        Error::config("linux.intelRdt", format!("{error}; {}", status.trim()))
    })
}

/// A class that is there must be what the configuration says: others may be running in it.
fn compare(dir: &Path, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let path = dir.join(SCHEMATA);
    let text = fs::read_to_string(&path).os("read", || path.display())?;
    let there: Vec<_> = text.lines().filter_map(line).collect();
    let differs = wanted.iter().find(|wanted| {
        let Some((resource, domains)) = line(wanted) else { return true };
        let found = there.iter().find(|(name, _)| *name == resource);
        !found.is_some_and(|(_, all)| domains.iter().all(|domain| all.contains(domain)))
    });
    differs.map_or(Ok(()), |wanted| {
        let reason =
            format!("{} is there with other schemata than {wanted:?}: {text:?}", dir.display());
        Err(Error::config("linux.intelRdt.closID", reason))
    })
}

/// `L3:0=7f0;1=1f`: a resource, and domains with values. Zeros in front mean nothing.
fn line(text: &str) -> Option<(&str, Vec<(&str, String)>)> {
    let (resource, domains) = text.trim().split_once(':')?;
    let domains = domains.split(';').map(|domain| {
        let (domain, value) = domain.trim().split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((domain.trim(), value))
    });
    Some((resource.trim(), domains.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::{Class, line, remove};
    use oci_spec::runtime::LinuxIntelRdt;
    use serde_json::{Value, json};
    use std::fs;
    use std::path::PathBuf;

    /// A directory that stands for the file system: names and texts only, the kernel does the rest.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("carob-rdt-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("there/mon_groups")).unwrap();
            fs::create_dir(path.join("mon_groups")).unwrap();
            fs::write(path.join("there/schemata"), "    MB:0= 20;1=  70\n    L3:0=7f0;1=01f\n")
                .unwrap();
            Self(path)
        }

        fn find(&self, rdt: Value) -> Result<Class, String> {
            let rdt: LinuxIntelRdt = serde_json::from_value(rdt).unwrap();
            Class::find_in(&self.0, &rdt, "c1").map_err(|error| error.to_string())
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_class_without_a_name_is_the_containers_and_goes_with_it() {
        let root = Root::new("own");
        let class = root.find(json!({"memBwSchema": "MB:0=50", "schemata": ["L3:0=f"],
            "l3CacheSchema": "L3:0=ff"}));
        let class = class.unwrap();
        assert_eq!(class.schemata, ["L3:0=ff", "MB:0=50", "L3:0=f"]);
        let dir = root.0.join("c1");
        // No kernel makes the file in a new directory here: what was made goes again.
        assert!(class.make().is_err());
        assert!(!dir.exists());
        let class = root.find(json!({})).unwrap();
        let made = class.make().unwrap();
        assert_eq!(made, std::slice::from_ref(&dir));
        let membership = class.membership();
        assert_eq!(membership.tasks, [dir.join("tasks")]);
        membership.end().unwrap();
        assert!(!dir.exists());
        membership.end().unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(root.find(json!({})).unwrap_err().contains("already"));
    }

    #[test]
    fn a_class_with_a_name_stays() {
        let root = Root::new("named");
        let class = root.find(json!({"closID": "new", "schemata": ["L3:0=f"]})).unwrap();
        fs::create_dir(root.0.join("new")).unwrap();
        class.membership().end().unwrap();
        assert!(root.0.join("new").exists());
        let class = root.find(json!({"closID": "there"})).unwrap();
        assert_eq!(class.make().unwrap(), Vec::<PathBuf>::new());
        assert!(root.find(json!({"closID": "other"})).unwrap_err().contains("closID"));
        let default = root.find(json!({"closID": "/"})).unwrap().membership();
        assert_eq!(default.tasks, [root.0.join("tasks")]);
    }

    #[test]
    fn a_class_that_is_there_must_be_as_the_configuration_says() {
        let root = Root::new("compare");
        for same in ["L3:0=7f0;1=1f", "L3:1=1F", "MB:0=20;1=70", " L3:0=07f0"] {
            root.find(json!({"closID": "there", "schemata": [same]})).unwrap();
        }
        for other in ["L3:0=7f", "MB:0=20;1=71", "L2:0=1", "nonsense", "L3:2=1f"] {
            let told = root.find(json!({"closID": "there", "schemata": [other]})).unwrap_err();
            assert!(told.contains("other schemata"), "{told}");
        }
    }

    #[test]
    fn monitoring_has_a_directory_of_its_own_below_the_class() {
        let root = Root::new("monitor");
        let class = root.find(json!({"closID": "there", "enableMonitoring": true})).unwrap();
        let group = root.0.join("there/mon_groups/c1");
        assert_eq!(class.make().unwrap(), std::slice::from_ref(&group));
        let membership = class.membership();
        assert_eq!(membership.tasks, [root.0.join("there/tasks"), group.join("tasks")]);
        membership.end().unwrap();
        assert!(!group.exists() && root.0.join("there").exists());
        // What is made before a failure is taken back.
        fs::create_dir(&group).unwrap();
        assert!(class.make().is_err());
        remove(&[group]).unwrap();
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(" L3:0=0f; 1 = 00"),
            Some(("L3", vec![("0", "f".into()), ("1", String::new())]))
        );
        assert_eq!(line("L3"), None);
        assert_eq!(line("L3:0"), None);
    }
}
