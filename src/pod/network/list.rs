//! A network configuration list: what it is read from, and what is left of it.
//!
//! Source: CNI specification 1.1, section 1.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::Version;
use crate::error::{Error, OsContext, Result};
use crate::sys::fd;

/// Longest file, bytes.
const FILE_BYTES: u64 = 1 << 20;
/// What files of configurations are called.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];

/// A network: plugins that are called one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkList {
    /// Its name; also part of a path.
    pub name: String,
    /// The highest of the versions that it and carob know, or that its plugins know as well.
    pub version: Version,
    /// All that it and carob know, if it names more than one.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// `disableCheck`.
    pub disable_check: bool,
    /// `disableGC`.
    pub disable_gc: bool,
    /// In the order of `ADD`; never empty once all of its files have been read.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// `type`: the name of its program.
    pub kind: String,
    /// What it can be told about a pod.
    pub capabilities: BTreeSet<String>,
    /// The rest of its configuration, `type` included.
    pub config: Map<String, Value>,
}

impl Plugin {
    /// The program that it calls for addresses, if it calls one.
    #[must_use]
    pub fn ipam(&self) -> Option<&str> {
        self.config.get("ipam")?.get("type")?.as_str().filter(|kind| !kind.is_empty())
    }
}

impl NetworkList {
    /// Whether one of its plugins can be told this.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.contains(capability))
    }

    /// Reads a list, or a single plugin, which is a list of one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| Error::Invalid(format!("not JSON: {error}")))?;
        let Value::Object(mut object) = value else {
            return Err(Error::Invalid("must be a JSON object".into()));
        };
        let versions = Version::of_config(&object)?;
        let name = text_of(&object, "name")?;
        check_name(&name)?;
        let switch = |key: &str| match object.get(key) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            // libcni takes these as well.
            Some(Value::String(on)) if on == "true" || on == "false" => Ok(on == "true"),
            Some(other) => Err(Error::config(key, format!("{other} must be true or false"))),
        };
        let (disable_check, disable_gc) = (switch("disableCheck")?, switch("disableGC")?);
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            None if object.contains_key("type") => vec![Value::Object(object)],
            None => Vec::new(),
            Some(_) => return Err(Error::config("plugins", "must be a list")),
        };
        let plugins = plugins.into_iter().enumerate();
        let plugins = plugins.map(|(index, value)| plugin(value, &format!("plugins[{index}]")));
        let plugins = plugins.collect::<Result<Vec<_>>>()?;
        let version = versions.iter().copied().max().unwrap_or(Version::new(0, 1, 0));
        Ok(Self { name, version, versions, disable_check, disable_gc, plugins })
    }
}

fn plugin(value: Value, at: &str) -> Result<Plugin> {
    let Value::Object(mut config) = value else {
        return Err(Error::config(at, "must be a JSON object"));
    };
    let kind = match config.get("type") {
        Some(Value::String(kind)) if is_file_name(kind) => kind.clone(),
        _ => return Err(Error::config(format!("{at}.type"), "must be the name of a program")),
    };
    if let Some(ipam) = config.get("ipam").and_then(|ipam| ipam.get("type"))
        && !ipam.as_str().is_some_and(|kind| kind.is_empty() || is_file_name(kind))
    {
        return Err(Error::config(format!("{at}.ipam.type"), "must be the name of a program"));
    }
    let capabilities = match config.remove("capabilities") {
        None | Some(Value::Null) => BTreeSet::new(),
        Some(Value::Object(all)) => {
            let on = all.into_iter().filter(|(_, on)| *on == Value::Bool(true));
            on.map(|(name, _)| name).collect()
        }
        Some(_) => {
            return Err(Error::config(format!("{at}.capabilities"), "must be a JSON object"));
        }
    };
    Ok(Plugin { kind, capabilities, config })
}

fn text_of(object: &Map<String, Value>, key: &str) -> Result<String> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(Error::config(key, "must be a string")),
    }
}

/// The rule of the specification for names and ids.
///
/// # Errors
/// [`Error::Config`].
pub(super) fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    let rule = "must begin with a letter or digit, and consist of those and of _ . -";
    Err(Error::config("name", format!("{name:?} {rule}")))
}

fn is_file_name(kind: &str) -> bool {
    !matches!(kind, "" | "." | "..") && !kind.contains(['/', '\\', '\0']) && kind.len() <= 255
}

/// The list of a directory that has this name; without a name the first by the names of the files.
///
/// # Errors
/// [`Error::Invalid`] with the file that is wrong; [`Error::Os`] if the directory cannot be read. A
/// directory that is missing has no lists.
pub(super) fn find(dir: &Path, name: Option<&str>) -> Result<Option<NetworkList>> {
    for path in files(dir, &EXTENSIONS)? {
        let list = read(&path)?;
        if name.is_none_or(|name| name == list.name) {
            return with_more_plugins(list, dir, &path).map(Some);
        }
    }
    Ok(None)
}

/// The names of all lists of a directory; those that are wrong are left out.
///
/// # Errors
/// [`Error::Os`].
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let files = files(dir, &EXTENSIONS)?;
    Ok(files.iter().filter_map(|path| Some(read(path).ok()?.name)).collect())
}

fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.os("read", || dir.display())?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<std::io::Result<Vec<_>>>().os("read", || dir.display())?;
    let wanted = |path: &Path| {
        path.extension().and_then(OsStr::to_str).is_some_and(|own| extensions.contains(&own))
    };
    paths.retain(|path| wanted(path) && path.is_file());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<NetworkList> {
    NetworkList::parse(&fd::read_file(path, FILE_BYTES)?).map_err(|error| in_file(path, &error))
}

fn in_file(path: &Path, error: &Error) -> Error {
    Error::Invalid(format!("{}: {error}", path.display()))
}

/// Plugins can also lie in a directory that is called as the network, a file each.
fn with_more_plugins(mut list: NetworkList, dir: &Path, path: &Path) -> Result<NetworkList> {
    let text = fd::read_file(path, FILE_BYTES)?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| Error::Invalid(error.to_string()))?;
    let beside = dir.join(&list.name);
    let only_own = value.get("loadOnlyInlinedPlugins") == Some(&Value::Bool(true));
    let more = if only_own { Vec::new() } else { files(&beside, &["conf"])? };
    for path in more {
        let value = serde_json::from_slice(&fd::read_file(&path, FILE_BYTES)?);
        let value =
            value.map_err(|error| in_file(&path, &Error::Invalid(format!("not JSON: {error}"))))?;
        list.plugins.push(plugin(value, "plugin").map_err(|error| in_file(&path, &error))?);
    }
    if list.plugins.is_empty() {
        let reason = format!("must have a plugin, or {} a file of one", beside.display());
        return Err(in_file(path, &Error::config("plugins", reason)));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkList> {
        NetworkList::parse(text.as_bytes())
    }

    #[test]
    fn a_list_and_a_single_plugin() {
        let list = parse(
            r#"{"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0", "9.0.0"], "name": "db.net",
                "disableCheck": "true", "plugins": [
                {"type": "bridge", "ipam": {"type": "host-local"}, "x": [1]},
                {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}}]}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.version), ("db.net", Version::new(1, 0, 0)));
        assert!(list.disable_check && !list.disable_gc);
        assert!(list.has("portMappings") && !list.has("mac"));
        assert_eq!(list.plugins[0].ipam(), Some("host-local"));
        assert_eq!(list.plugins[0].config["x"], serde_json::json!([1]));
        assert_eq!(list.plugins[1].config.get("capabilities"), None);
        let single = parse(r#"{"name": "n", "type": "ptp", "mtu": 9}"#).unwrap();
        assert_eq!((single.version, single.plugins.len()), (Version::new(0, 1, 0), 1));
        assert_eq!(single.plugins[0].config["mtu"], 9);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "not JSON"),
            ("[]", "must be a JSON object"),
            (r#"{"plugins": [{"type": "x"}]}"#, "name: must be a string"),
            (r#"{"name": "../x", "plugins": [{"type": "x"}]}"#, "name: \"../x\" must begin"),
            (r#"{"name": "x", "plugins": {}}"#, "plugins: must be a list"),
            (r#"{"name": "x", "plugins": [{}]}"#, "plugins[0].type: must be the name"),
            (r#"{"name": "x", "plugins": [{"type": "../sh"}]}"#, "plugins[0].type: must be"),
            (
                r#"{"name": "x", "plugins": [{"type": "a", "ipam": {"type": "b/c"}}]}"#,
                "plugins[0].ipam.type: must be the name",
            ),
            (r#"{"name": "x", "disableGC": 1, "type": "y"}"#, "disableGC: 1 must be true"),
            (r#"{"cniVersion": "7.0.0", "name": "x", "type": "y"}"#, "cniVersion: \"7.0.0\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_file_by_name_counts_or_the_one_that_is_asked_for() {
        let dir = std::env::temp_dir().join(format!("carob-lists-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("two")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("20-b.conflist", r#"{"name": "two", "plugins": [{"type": "x"}]}"#);
        write("10-a.conf", r#"{"name": "one", "type": "y"}"#);
        write("00-readme.txt", "no list");
        write("two/more.conf", r#"{"type": "z"}"#);
        std::fs::create_dir(dir.join("four")).unwrap();
        write("30-c.conflist", r#"{"name": "four"}"#);
        write("four/all.conf", r#"{"type": "z"}"#);
        let found = |name| find(&dir, name).unwrap().map(|list| (list.name, list.plugins.len()));
        assert_eq!(found(None), Some(("one".into(), 1)));
        assert_eq!(found(Some("two")), Some(("two".into(), 2)));
        assert_eq!(found(Some("three")), None);
        assert_eq!(found(Some("four")), Some(("four".into(), 1)));
        std::fs::remove_file(dir.join("four/all.conf")).unwrap();
        let error = find(&dir, Some("four")).unwrap_err().to_string();
        assert!(error.contains("30-c.conflist: plugins: must have a plugin, or"), "{error}");
        assert_eq!(names(&dir).unwrap(), ["one", "two", "four"]);
        write("05-bad.conf", "{");
        assert!(find(&dir, None).unwrap_err().to_string().contains("05-bad.conf: not JSON"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(find(&dir, None).unwrap(), None);
    }
}
