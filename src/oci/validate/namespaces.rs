//! Namespaces, and what only makes sense inside one.

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType as Kind, Spec};

use super::values::{absolute, fail, id_mappings, interface_name, no_nul};
use crate::{
    error::Result,
    oci::{
        Warning,
        namespaces::{Origin, of, origin, path},
        sysctl,
    },
};

/// Longest host or domain name, in bytes. Source: sethostname(2), `__NEW_UTS_LEN`.
const MAX_HOST_NAME: usize = 64;

pub(super) fn kinds(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let all = all.unwrap_or_default();
    for (i, namespace) in all.iter().enumerate() {
        if all[..i].iter().any(|before| before.typ() == namespace.typ()) {
            let word = of(namespace.typ()).word;
            let field = format_args!("linux.namespaces[{i}].type");
            return fail(field, format_args!("{word:?} is there twice"));
        }
        if let Some(path) = path(namespace) {
            absolute(format_args!("linux.namespaces[{i}].path"), path)?;
        }
    }
    match (origin(spec, Kind::Mount), origin(spec, Kind::User)) {
        (Origin::Inherited, Origin::New | Origin::Joined(_)) => fail(
            "linux.namespaces",
            "\"mount\" is missing: who is in a \"user\" namespace may not mount anything in the \
             mount namespace of the host",
        ),
        _ => Ok(()),
    }
}

fn maps(spec: &Spec) -> [(&'static str, &[LinuxIdMapping]); 2] {
    let linux = spec.linux().as_ref();
    let uids = linux.and_then(|linux| linux.uid_mappings().as_deref());
    let gids = linux.and_then(|linux| linux.gid_mappings().as_deref());
    [("uidMappings", uids.unwrap_or_default()), ("gidMappings", gids.unwrap_or_default())]
}

pub(super) fn user_mappings(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let user = origin(spec, Kind::User);
    for (name, mappings) in maps(spec) {
        let field = format_args!("linux.{name}");
        match user {
            Origin::Inherited if !mappings.is_empty() => {
                return fail(field, "needs a \"user\" namespace in linux.namespaces");
            }
            Origin::New if mappings.is_empty() => {
                return fail(field, "must not be empty with a new \"user\" namespace");
            }
            Origin::Inherited | Origin::New | Origin::Joined(_) => id_mappings(field, mappings)?,
        }
    }
    Ok(())
}

/// In a user namespace of its own the process can only have ids that the maps contain.
pub(super) fn process_ids_are_mapped(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let (Origin::New, Some(process)) = (origin(spec, Kind::User), spec.process()) else {
        return Ok(());
    };
    let [(_, uids), (_, gids)] = maps(spec);
    let user = process.user();
    mapped("process.user.uid", user.uid(), "linux.uidMappings", uids)?;
    mapped("process.user.gid", user.gid(), "linux.gidMappings", gids)?;
    for (i, gid) in user.additional_gids().iter().flatten().enumerate() {
        let field = format!("process.user.additionalGids[{i}]");
        mapped(&field, *gid, "linux.gidMappings", gids)?;
    }
    Ok(())
}

fn mapped(field: &str, id: u32, map: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let contains = |m: &LinuxIdMapping| {
        id.checked_sub(m.container_id()).is_some_and(|offset| offset < m.size())
    };
    match mappings.iter().any(contains) {
        true => Ok(()),
        false => fail(field, format_args!("{id} is in no range of {map}")),
    }
}

pub(super) fn host_name(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    uts_name(spec, "hostname", spec.hostname().as_deref())
}

pub(super) fn domain_name(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    uts_name(spec, "domainname", spec.domainname().as_deref())
}

fn uts_name(spec: &Spec, field: &str, name: Option<&str>) -> Result<()> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
    if origin(spec, Kind::Uts) == Origin::Inherited {
        return fail(field, format_args!("{name:?} needs a \"uts\" namespace in linux.namespaces"));
    }
    if name.len() > MAX_HOST_NAME {
        let text = format_args!("has {} bytes, allowed are at most {MAX_HOST_NAME}", name.len());
        return fail(field, text);
    }
    no_nul(field, name)
}

/// Source: time_namespaces(7): offsets are fixed once a process is inside.
pub(super) fn time_offsets(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else { return Ok(()) };
    if origin(spec, Kind::Time) != Origin::New {
        return fail("linux.timeOffsets", "needs a new \"time\" namespace in linux.namespaces");
    }
    for (clock, offset) in offsets {
        let field = format_args!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return fail(field, "is no clock of a time namespace, only monotonic and boottime are");
        }
        if let Some(nanosecs @ 1_000_000_000..) = offset.nanosecs() {
            let text = format_args!("{nanosecs}, allowed are 0 to 999999999");
            return fail(format_args!("{field}.nanosecs"), text);
        }
    }
    Ok(())
}

/// A parameter that no namespace separates would change the host.
pub(super) fn sysctls(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let all = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    for (key, value) in all.into_iter().flatten() {
        let field = format_args!("linux.sysctl.{key}");
        let Some(path) = sysctl::path(key) else {
            let text = format_args!("{key:?} is no parameter, must be like net.ipv4.ip_forward");
            return fail("linux.sysctl", text);
        };
        no_nul(field, value)?;
        if value.trim_end_matches('\n').contains('\n') {
            return fail(field, format_args!("{value:?} has more than one line"));
        }
        let Some(kind) = sysctl::namespace(&path) else {
            return fail(field, "is not separate in any namespace, it would change the host");
        };
        if origin(spec, kind) == Origin::Inherited {
            let word = of(kind).word;
            let text = format_args!("needs a {word:?} namespace, it would change the host");
            return fail(field, text);
        }
        let set = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        match path.as_ref() {
            "kernel/hostname" => return fail(field, "is not allowed, use hostname"),
            "kernel/domainname" if set(spec.domainname()) => {
                return fail(field, "is not allowed together with domainname");
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn net_devices(spec: &Spec, _: &mut Vec<Warning>) -> Result<()> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Ok(()) };
    if origin(spec, Kind::Network) == Origin::Inherited {
        return fail("linux.netDevices", "needs a \"network\" namespace in linux.namespaces");
    }
    for (name, device) in devices {
        interface_name("linux.netDevices", name)?;
        if let Some(new) = device.name().as_deref().filter(|new| !new.is_empty()) {
            interface_name(format_args!("linux.netDevices.{name}.name"), new)?;
        }
    }
    Ok(())
}
