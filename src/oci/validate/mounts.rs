//! Mounts and what else is said about paths inside the root filesystem.

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::values::{absolute, fail, id_mappings, no_nul, no_nuls};
use crate::{
    error::Result,
    oci::{
        Warning,
        mount_opts::{self, Bind, IdMap},
        namespaces::{Origin, origin},
    },
};

/// Source: runtime-spec `config-linux.md`, *Rootfs Mount Propagation*; the recursive words are
/// runc's.
const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];

fn mounts(spec: &Spec) -> impl Iterator<Item = (usize, &Mount)> {
    spec.mounts().iter().flatten().enumerate()
}

pub(super) fn destinations(spec: &Spec, warnings: &mut Vec<Warning>) -> Result<()> {
    for (i, mount) in mounts(spec) {
        let field = format_args!("mounts[{i}].destination");
        let destination = mount.destination();
        if destination.as_os_str().is_empty() {
            return fail(field, "must not be empty");
        }
        no_nul(field, destination)?;
        no_longer_than_a_path(field, destination)?;
        if !destination.is_absolute() {
            let text = format_args!("{destination:?} is relative, taken as relative to \"/\"");
            warnings.push(Warning::new(field.to_string(), text));
        }
    }
    Ok(())
}

/// Before it fills an error so that its cause is cut off. Source: PATH_MAX, with its NUL.
fn no_longer_than_a_path(field: impl std::fmt::Display, path: &std::path::Path) -> Result<()> {
    const LONGEST: usize = 4095;
    match path.as_os_str().len() {
        length if length > LONGEST => {
            fail(field, format_args!("has {length} bytes, a path has at most {LONGEST}"))
        }
        _ => Ok(()),
    }
}

/// A mount makes a filesystem of its type, or binds its source, or changes what is there.
pub(super) fn sources(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    for (i, mount) in mounts(spec) {
        no_nuls(format_args!("mounts[{i}].options"), mount.options().as_deref())?;
        let kind = mount.typ().as_deref().unwrap_or_default();
        no_nul(format_args!("mounts[{i}].type"), kind)?;
        let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
        if let Some(source) = source {
            let field = format_args!("mounts[{i}].source");
            no_nul(field, source)?;
            no_longer_than_a_path(field, source)?;
        }
        let options = mount_opts::parse(mount.options().as_deref().unwrap_or_default());
        if options.remount {
            continue;
        }
        if options.bind != Bind::No {
            if source.is_none() {
                return fail(format_args!("mounts[{i}].source"), "a bind mount needs a source");
            }
        } else if matches!(kind, "" | "none" | "bind") {
            let text = format_args!(
                "{kind:?} is no filesystem, and neither \"bind\" nor \"rbind\" is in options"
            );
            return fail(format_args!("mounts[{i}].type"), text);
        }
    }
    Ok(())
}

pub(super) fn id_maps(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    for (i, mount) in mounts(spec) {
        let uids = mount.uid_mappings().as_deref().unwrap_or_default();
        let gids = mount.gid_mappings().as_deref().unwrap_or_default();
        id_mappings(format_args!("mounts[{i}].uidMappings"), uids)?;
        id_mappings(format_args!("mounts[{i}].gidMappings"), gids)?;
        match (uids.is_empty(), gids.is_empty()) {
            (false, false) => continue,
            (true, false) => {
                return fail(format_args!("mounts[{i}].uidMappings"), "missing with gidMappings");
            }
            (false, true) => {
                return fail(format_args!("mounts[{i}].gidMappings"), "missing with uidMappings");
            }
            (true, true) => {}
        }
        let options = mount_opts::parse(mount.options().as_deref().unwrap_or_default());
        if options.idmap != IdMap::No && origin(spec, LinuxNamespaceType::User) == Origin::Inherited
        {
            let text =
                "an id-mapped mount needs uidMappings and gidMappings, or a \"user\" namespace";
            return fail(format_args!("mounts[{i}].options"), text);
        }
    }
    Ok(())
}

pub(super) fn rootfs_propagation(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    match word {
        None | Some("") => Ok(()),
        Some(word) if PROPAGATIONS.contains(&word) => Ok(()),
        Some(word) => {
            let text = format_args!("{word:?} is unknown, allowed are {}", PROPAGATIONS.join(", "));
            fail("linux.rootfsPropagation", text)
        }
    }
}

pub(super) fn masked_and_readonly_paths(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    for (name, paths) in
        [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())]
    {
        for (i, path) in paths.iter().flatten().enumerate() {
            absolute(format_args!("linux.{name}[{i}]"), path.as_ref())?;
        }
    }
    Ok(())
}
