//! Ids for user namespaces: what is granted, and the programs that map it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, Status, read};
use crate::container::{granted_ids, id_map_helper};

const SECTION: &str = "ids";

pub(super) fn checks() -> Vec<Check> {
    if nix::unistd::geteuid().is_root() {
        let map = read("/proc/self/uid_map").unwrap_or_default();
        let map = map.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = match map.as_str() {
            "0 0 4294967295" => "root, who may map all of them".to_owned(),
            map => format!("root of a user namespace with the map {map}"),
        };
        return vec![Check::new(SECTION, "user ids", Status::Ok, found)];
    }
    let pairs = [("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")];
    let helpers = pairs.iter().map(|(helper, _)| check_helper(helper));
    helpers.chain(pairs.iter().map(|(_, file)| check_grants(file))).collect()
}

fn check_helper(name: &'static str) -> Check {
    let Some(path) = id_map_helper(name) else {
        return Check::new(SECTION, name, Status::Missing, "not in PATH").advise(
            "install uidmap (shadow-utils elsewhere); without it only your own id can be mapped",
        );
    };
    let shown = path.display();
    if has_privileges(&path) {
        return Check::new(SECTION, name, Status::Ok, shown.to_string());
    }
    Check::new(SECTION, name, Status::Warn, format!("{shown} is not setuid and has no capability"))
        .advise(format!("as root: chmod u+s {shown}"))
}

/// Set-user-id root, or file capabilities.
fn has_privileges(path: &Path) -> bool {
    let setuid =
        path.metadata().is_ok_and(|meta| meta.mode() & libc::S_ISUID != 0 && meta.uid() == 0);
    setuid || crate::sys::fd::has_attribute(path, c"security.capability")
}

fn check_grants(file: &'static str) -> Check {
    match granted_ids(file) {
        Some(ranges) => Check::new(SECTION, file, Status::Ok, ranges),
        None => Check::new(SECTION, file, Status::Missing, "grants you nothing").advise(
            "containers have one id, your own; root can grant more with usermod --add-subuids \
             100000-165535 --add-subgids 100000-165535 USER",
        ),
    }
}
