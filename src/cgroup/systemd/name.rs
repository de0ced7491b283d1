//! `linux.cgroupsPath` in systemd's terms. Pure.

use std::path::{Path, PathBuf};

use super::address::Manager;
use crate::error::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";
/// Longest name of a unit. Source: systemd.unit(5).
const LONGEST_NAME: usize = 255;

/// A unit and the slice it is in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) unit: String,
    pub(super) slice: String,
}

/// `slice:prefix:name` as scope `prefix-name.scope` in the slice, or as a slice where the name is
/// that of one. Without a path the scope is `carob-<id>.scope`; without a slice it is in
/// `system.slice`, with a user's manager in `user.slice`.
///
/// # Errors
/// [`Error::Config`] for what is no such path, or names nothing that systemd could have.
pub(super) fn name(cgroups_path: Option<&Path>, id: &str, manager: Manager) -> Result<Name> {
    let given = cgroups_path.unwrap_or(Path::new("")).to_string_lossy();
    let fields: Vec<&str> = given.split(':').collect();
    let (slice, prefix, name) = match fields[..] {
        [""] => ("", "carob", id),
        [slice, prefix, name] => (slice, prefix, name),
        _ => {
            return Err(Error::config(
                FIELD,
                format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, \
                     got {given:?} instead"
                ),
            ));
        }
    };
    let slice = match (slice, manager) {
        // Its own name says where it is.
        ("", _) if name.ends_with(".slice") => above(name),
        ("", Manager::System) => "system.slice".to_owned(),
        ("", Manager::User) => "user.slice".to_owned(),
        (slice, _) => slice.to_owned(),
    };
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.is_empty() || unit.len() > LONGEST_NAME || !unit.chars().all(valid) {
        return Err(Error::config(
            FIELD,
            format!(
                "{unit:?} cannot be the name of a systemd unit: letters, digits and :-_.\\@, at most \
                 {LONGEST_NAME}"
            ),
        ));
    }
    slice_path(&slice)?;
    if unit.ends_with(".slice") {
        slice_path(&unit)?;
    }
    Ok(Name { unit, slice })
}

impl Name {
    /// Where its cgroup is below that of the manager.
    pub(super) fn path(&self) -> Result<PathBuf> {
        if self.unit.ends_with(".slice") {
            return slice_path(&self.unit);
        }
        Ok(slice_path(&self.slice)?.join(&self.unit))
    }
}

/// The slice that a slice is in.
fn above(slice: &str) -> String {
    slice
        .rsplit_once('-')
        .map_or_else(|| "-.slice".to_owned(), |(above, _)| format!("{above}.slice"))
}

/// `a-b.slice` is in `a.slice`: the name of a slice says where it is. Source: systemd.slice(5).
pub(super) fn slice_path(slice: &str) -> Result<PathBuf> {
    let bad = |why: &str| Error::config(FIELD, format!("{slice:?} is no slice of systemd: {why}"));
    let name = slice.strip_suffix(".slice").ok_or_else(|| bad("it must end with .slice"))?;
    if name == "-" {
        return Ok(PathBuf::new());
    }
    if name.contains('/') {
        return Err(bad("its name says where it is, a-b.slice is in a.slice; it has no slash"));
    }
    let mut path = PathBuf::new();
    let mut above = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(bad("there must be something before and after each dash"));
        }
        above.push_str(part);
        path.push(format!("{above}.slice"));
        above.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, manager: Manager) -> Result<String> {
        let name = name(Some(Path::new(path)), "c1", manager)?;
        Ok(format!("{} {}", name.slice, name.path()?.display()))
    }

    #[test]
    fn paths_of_clients() {
        let pod = "kubepods-besteffort-pod12_ab.slice";
        let kubelet = format!(
            "{pod} kubepods.slice/kubepods-besteffort.slice/{pod}/cri-containerd-0123.scope"
        );
        for (path, want) in [
            ("", "system.slice system.slice/carob-c1.scope"),
            ("machine.slice:libpod:0f", "machine.slice machine.slice/libpod-0f.scope"),
            (&format!("{pod}:cri-containerd:0123"), &kubelet),
            ("system.slice:docker:1", "system.slice system.slice/docker-1.scope"),
            (":runc:x", "system.slice system.slice/runc-x.scope"),
            ("-.slice:a:b", "-.slice a-b.scope"),
            ("::x", "system.slice system.slice/x.scope"),
            ("x.slice::a-b.slice", "x.slice a.slice/a-b.slice"),
            ("::a-b.slice", "a.slice a.slice/a-b.slice"),
            ("::a.slice", "-.slice a.slice"),
        ] {
            assert_eq!(shown(path, Manager::System).unwrap(), want, "{path}");
        }
        let user = shown(":a:b", Manager::User).unwrap();
        assert_eq!(user, "user.slice user.slice/a-b.scope");
        let longest = format!("a.slice:p:{}", "x".repeat(247));
        assert!(shown(&longest, Manager::System).is_ok());
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = format!("a.slice:p:{}", "x".repeat(248));
        for (path, why) in [
            ("/carob/c1", "expected cgroupsPath to be of format \"slice:prefix:name\""),
            ("a:b", "format \"slice:prefix:name\" for systemd cgroups, got \"a:b\" instead"),
            ("a.slice:b:c:d", "format"),
            ("system.slice:a:", "\"a-.scope\" cannot be the name of a systemd unit"),
            ("system.slice:a:b/c", "\"a-b/c.scope\" cannot be"),
            ("system.slice:a:x+y", "cannot be"),
            (&long, "cannot be"),
            ("machine:a:b", "\"machine\" is no slice of systemd: it must end with .slice"),
            ("/a.slice:a:b", "no slash"),
            ("a--b.slice:a:b", "before and after each dash"),
            ("a.slice::-b.slice", "before and after each dash"),
            (".slice:a:b", "before and after each dash"),
        ] {
            let error = shown(path, Manager::System).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: ") && error.contains(why), "{error}");
        }
    }
}
